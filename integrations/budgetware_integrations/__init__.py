"""Adapters of agent frameworks, one module each, built on budgetware's public names alone.

Importing this package imports no framework: take the module named after yours. `instrument()`
makes all model clients of the process hold for their calls, `uninstrument()` undoes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._instrumentation import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _instrumentation

    return getattr(_instrumentation, name)

"""All clients of a process at once: each is instrumented when the program first imports it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module, reload
from importlib.util import find_spec
from typing import Final, Unpack

from budgetware.errors import ConfigurationError
from budgetware.imports import when_imported

from ._options import Options
from ._requirements import MissingFramework

CLIENTS: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google_genai": "google.genai",
    "litellm": "litellm",
}
"""Modules here that have `instrument` and `uninstrument`, and what they are for."""
_take_back: Final[dict[str, Callable[[], None]]] = {}
_put: Final[dict[str, object]] = {}
"""What each was last put on: the module of the client."""


def instrument(*names: str, **options: Unpack[Options]) -> None:
    """Make model clients hold for their calls, everywhere in the process. Twice is once.

    One that is imported already is instrumented now, others when they are first imported, and
    again if they are taken out of `sys.modules`; nothing is imported for it. Where
    one cannot be instrumented, importing it fails.

    Args:
        *names: some of `openai`, `anthropic`, `google_genai`, `litellm`; none: all there are.
        **options: of all of them: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.

    Raises:
        ConfigurationError: a name that is none of these, or is not installed.
    """
    for name in names:
        _check(name)
    for name in names or CLIENTS:
        _forget(name)
        put_on = partial(_put_on, name, options)
        _take_back[name] = when_imported(CLIENTS[name], put_on, always=True)


def uninstrument() -> None:
    """Undo `instrument`; clients that were wrapped one by one stay as they are."""
    for name in list(_take_back):
        _forget(name)
        module = sys.modules.get(_module_of(name))
        if module is not None:
            module.uninstrument()


def _check(name: str) -> None:
    if name not in CLIENTS:
        raise ConfigurationError(
            f"instrument({str(name)[:60]!r}): there is no such client; give some of "
            f"{', '.join(CLIENTS)}, or nothing for all"
        )
    if CLIENTS[name] not in sys.modules and not _is_installed(CLIENTS[name]):
        raise MissingFramework(
            f"instrument({name!r}): it is not installed: pip install 'budgetware[{_extra(name)}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


def _extra(name: str) -> str:
    return name.replace("_", "-")


def _forget(name: str) -> None:
    take_back = _take_back.pop(name, None)
    if take_back is not None:
        take_back()


def _put_on(name: str, options: Options, client: object) -> None:
    known, _put[name] = _put.get(name), client
    module = import_module(_module_of(name))
    if known is not None and known is not client:  # imported anew: its classes are others
        module = reload(module)
    module.instrument(**options)


def _module_of(name: str) -> str:
    return f"{__package__}.{name}"

"""What the calls around this one hold, as far as somebody might wait for it.

A call that waited for what its own caller holds would wait for ever. Context variables carry this
into child tasks and worker threads. Not here: holding.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from .kernel.nodes import Cell

_MAX_REMEMBERED = 256
_open: ContextVar[tuple[Any, ...]] = ContextVar("budgetware_holding", default=())
"""The holds that are open in this context, innermost last."""

Holding = Token[tuple[Any, ...]]


def enter_hold(hold: Any) -> Holding:
    """Note that what runs in this context now holds these units; undo with `leave_hold`."""
    still = [other for other in _open.get() if other.state == "held"]
    return _open.set((*still[-_MAX_REMEMBERED:], hold))


def leave_hold(token: Holding) -> None:
    """The opposite; in another context than it was entered in, nothing is to be undone."""
    try:
        _open.reset(token)
    except ValueError:
        return


def own_units(cell: Cell) -> int:
    """How many units of a cell this context holds itself."""
    units = 0
    for hold in _open.get():
        if hold.state == "held":
            units += sum(n for _dim, n, (cells, _above, _special) in hold.items if cell in cells)
    return units

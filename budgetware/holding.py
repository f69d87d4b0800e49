"""What the calls around this one hold, as far as somebody might wait for it.

A call that waited for what its own caller holds would wait for ever. Only calls of the same task,
or the same thread without one, are its callers: what another task holds it may give back. Not
here: holding.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from .kernel.nodes import Cell
from .loops import current_stack

_MAX_REMEMBERED = 256
_Open = tuple[tuple[object, Any], ...]
_open: ContextVar[_Open] = ContextVar("budgetware_holding", default=())
"""The stack (task or thread) and hold of what is open in this context, innermost last."""

Holding = Token[_Open]


def enter_hold(hold: Any) -> Holding:
    """Note that what runs in this context now holds these units; undo with `leave_hold`."""
    still = [pair for pair in _open.get() if pair[1].state == "held"]
    return _open.set((*still[-_MAX_REMEMBERED:], (current_stack(), hold)))


def leave_hold(token: Holding) -> None:
    """The opposite; in another context than it was entered in, nothing is to be undone."""
    try:
        _open.reset(token)
    except ValueError:
        return


def own_units(cell: Cell) -> int:
    """How many units of a cell the calls around this one hold."""
    held = _open.get()
    if not held:
        return 0
    stack = current_stack()
    units = 0
    for holder, hold in held:
        if hold.state == "held" and holder == stack:
            units += sum(n for _dim, n, (cells, _above, _special) in hold.items if cell in cells)
    return units

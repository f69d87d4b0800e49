"""What the calls around this one hold, as far as somebody might wait for it.

A call that waited for what its own caller holds would wait for ever. Its callers are decorated
functions, whose bodies end after what they start, and the blocks of the same task, or of the same
thread without one: what another task holds by a block it may give back. Not here: holding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Any

from .kernel.nodes import Cell
from .loops import current_stack

_MAX_REMEMBERED = 256
_ANY = "any"
"""Stands for every task and thread that a call starts."""
_Open = tuple[tuple[object, Any], ...]
_open: ContextVar[_Open] = ContextVar("budgetware_holding", default=())
"""The stack (task or thread) and hold of what is open in this context, innermost last."""

Holding = tuple[Token[_Open], Any]


def enter_hold(hold: Any, *, is_call: bool = False) -> Holding:
    """Note that what runs in this context now holds these units; undo with `leave_hold`.

    The body of a call waits for all that it starts, as a rule; a block may be left before.
    """
    still = [pair for pair in _open.get() if pair[1].state == "held"]
    stack = _ANY if is_call else current_stack()
    return _open.set((*still[-_MAX_REMEMBERED:], (stack, hold))), hold


def leave_hold(holding: Holding) -> None:
    """The opposite; in another context than it was entered in, nothing is to be undone."""
    token, hold = holding
    inside = _open.get()
    try:
        _open.reset(token)
    except ValueError:
        return
    if inside and inside[-1][1] is not hold:  # a bare one that was made inside goes on
        outside = _open.get()
        more = [pair for pair in inside if pair[1] is not hold and pair not in outside]
        _open.set((*outside, *more))


def own_holds() -> Sequence[Any]:
    """What the calls around this one hold."""
    held = _open.get()
    if not held:
        return ()
    stack = current_stack()
    return [hold for holder, hold in held if holder in (stack, _ANY) and hold.state == "held"]


def units_in(holds: Sequence[Any], cell: Cell) -> int:
    """How many units of a cell these hold now; of a rate none, for that comes back by itself."""
    if cell.refill is not None:
        return 0
    units = 0
    for hold in holds:
        if hold.state == "held":
            units += sum(n for _dim, n, (cells, _above, _special) in hold.items if cell in cells)
    return units

"""What a run holds of CPU time and memory: what it names, else what its payers have left.

Not here: holding it (`reservations`), and keeping the child to it (`warden`).
"""

from __future__ import annotations

from ..accounts import acquire, release
from ..admission.decisions import bring_up_to_date
from ..admission.lending import policy_of
from ..frames import Frame, current_frame
from ..kernel.nodes import Cell
from ..kernel.tree import left_of
from ..principals import is_exempt

LEAST_CPU_MICROS = 1_000
LEAST_MEMORY = 1 << 20
"""A run that could not have so much is refused, and not started to be killed at once."""
TURN_CPU_MICROS = 1_000_000
"""What a run that names no CPU time waits for, where a payer lets it wait."""


def cpu_share(frame: Frame | None = None) -> int | None:
    """The CPU time, in microseconds, that a run may have that names none; None: no limit.

    That is what the poorest of its payers has left. One that throttles, and has less than a
    second left, is waited for until it has that.
    """
    return _share(frame or current_frame(), "cpu_micros", LEAST_CPU_MICROS, TURN_CPU_MICROS)


def memory_share(frame: Frame | None = None) -> int | None:
    """The same of memory, in bytes. One that throttles is waited for until it has all of it."""
    return _share(frame or current_frame(), "memory", LEAST_MEMORY, None)


def _share(frame: Frame, dim: str, least: int, turn: int | None) -> int | None:
    items = frame.items_of(((dim, 0),))
    exempt = is_exempt(frame.principal)
    try:
        acquire()
        bring_up_to_date(items, frame.now_ns())
        cells = [
            cell
            for cell in items[0][2][0]
            if cell.limit is not None and not (exempt and cell.spares_exempt)
        ]
        shares = [_share_of(cell, frame, turn) for cell in cells]
    finally:
        release()
    return max(least, min(shares)) if shares else None


def _share_of(cell: Cell, frame: Frame, turn: int | None) -> int:
    left = left_of(cell, frame.finishing)
    if policy_of(cell).severity > 0:
        return left
    limit = cell.limit or 0
    at_most = (
        limit if cell.level or cell.refill is not None else limit - cell.spent - cell.elsewhere
    )
    return max(left, at_most if turn is None else min(turn, at_most))

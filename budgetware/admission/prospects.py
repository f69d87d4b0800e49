"""What time may bring to a call that was not granted: refills, and the ends of pauses.

Plain code under the lock. Not here: what others give back.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..kernel.nodes import Cell, Item, Node
from ..kernel.tree import Shortage, left_of, room_of
from .lending import may_be_asked


def could_ever(cell: Cell, n: int, own: int, finishing: frozenset[Node], now_ns: int = 0) -> bool:
    """Whether waiting may help: others may give back, and time refills a rate.

    Not, without a top-up, above limit - spent of a budget, the burst of a rate or the slots of a
    concurrency; nor for what the waiting call's own context holds.
    """
    limit = cell.limit
    if limit is None:
        return True
    if cell.lease is not None and cell.lease.is_question(now_ns):
        return n <= limit
    if cell.refill is not None:
        return n <= limit
    spent = 0 if cell.level else cell.spent + cell.elsewhere
    keep = 0 if cell.node in finishing else cell.keep
    return n <= limit - spent - keep - own


def shortage_of(
    cell: Cell, n: int, finishing: frozenset[Node], now_ns: int, *, exempt: bool
) -> Shortage:
    """What stands in the way at one payer: it is short, or has room, or may, but is paused."""
    if cell.paused_ns:
        may_have = (exempt and cell.spares_exempt) or may_be_asked(cell, now_ns)
        if may_have or room_of(cell, finishing) >= n:
            return Shortage(cell, n, 0, is_pause=True)
    return Shortage(cell, n, left_of(cell, finishing))


def paused(
    items: Iterable[Item],
    short: list[Shortage],
    finishing: frozenset[Node],
    now_ns: int,
    *,
    exempt: bool,
) -> list[Shortage]:
    """Add to the short payers those that are paused, of whatever call."""
    asked: dict[Cell, int] = {}
    for _dim, n, (cells, _above, _special) in items:
        for cell in cells:
            if cell.paused_ns and n > 0:
                asked[cell] = asked.get(cell, 0) + n
    if not asked:
        return short
    pauses = [shortage_of(c, n, finishing, now_ns, exempt=exempt) for c, n in asked.items()]
    return [s for s in short if s.cell not in asked] + pauses


def retry_after(obstacles: Iterable[Shortage], now_ns: int) -> float | None:
    """Seconds until time alone would let the call pass, with the queue ahead; None: never.

    Not before the end of a pause; after that, others may still hold what comes back.
    """
    longest = 0.0
    for shortage in obstacles:
        after = _refilled_after(shortage, now_ns)
        if shortage.cell.paused_ns:
            after = _after_pause(shortage, after, now_ns)
        if after is None:
            return None
        longest = max(longest, after)
    return longest


def _after_pause(shortage: Shortage, after: float | None, now_ns: int) -> float | None:
    cell = shortage.cell
    pause_seconds = max(0, cell.paused_ns - now_ns) / 1e9
    if after is not None:
        return max(after, pause_seconds)
    comes_back = cell.level and cell.limit is not None and shortage.requested <= cell.limit
    return pause_seconds if shortage.is_pause or comes_back else None


def _refilled_after(shortage: Shortage, now_ns: int) -> float | None:
    cell = shortage.cell
    if cell.limit is None or shortage.requested > cell.limit:
        return None
    if cell.lease is not None:
        after: float | None = cell.lease.retry_after(shortage.requested, now_ns)
        return after
    if cell.refill is None:
        return None
    ahead = 0
    if cell.queue is not None:
        first, ahead = cell.queue.first(), cell.queue.units
        blamed = None if first is None else first.waiter.blamed
        if blamed is not None and blamed.cell is not cell:
            return None  # it waits for something else, and nobody knows how long
    deficit = ahead + shortage.requested - cell.free
    return cell.refill.wait_seconds(deficit, now_ns)

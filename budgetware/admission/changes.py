"""What reaches those who wait from outside: room that comes back, limits that change, ends.

Plain code under the lock. Not here: whose turn it is (`waiters`).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..accounts import waiting
from ..errors import BudgetwareError
from ..kernel.nodes import Cell, Item, Node
from ..kernel.tree import Shortage, left_of, settle
from ..ledgers.leases import Lease
from ..policies import severity
from .decisions import refuse, stopped_by
from .lending import is_question, policy_of, stays
from .places import leave
from .refusals import Refusal
from .waiters import Waiter, advance, finish, give_up, pump, stirred


def withdraw(waiter: Waiter, now_ns: int) -> None:
    """Its task was cancelled: give the turn on, and what it may have been granted already."""
    if waiter.state == "waiting":
        pump(finish(waiter, "refused", now_ns), now_ns)
    elif waiter.state == "granted":
        settle(waiter.items, [0] * len(waiter.items))
        pump_items(waiter.items, now_ns)


def pump_items(items: Iterable[Item], now_ns: int) -> None:
    """Serve whoever waits for what these payers have got back."""
    pump(
        [c for _d, _n, (cells, above, _s) in items for c in (*cells, *(c for c, _v in above))],
        now_ns,
    )
    for _dim, _n, (cells, _above, _special) in items:
        for cell in cells:
            if cell.node.waiters and cell.limit is not None and _is_spent(cell):
                _turn_away_from(cell, now_ns)


def _is_spent(cell: Cell) -> bool:
    is_lasting = cell.refill is None and not cell.level
    return is_lasting and (cell.limit or 0) <= cell.spent + cell.elsewhere + cell.keep


def _turn_away_from(cell: Cell, now_ns: int) -> None:
    """A payer has nothing left, for good: whoever needs it waits in vain, wherever he waits."""
    for waiter in [w for w in waiting if cell.node in w.nodes]:
        units = sum(n for _d, n, (cells, _a, _s) in waiter.items if cell in cells)
        is_needed = units > 0 and not waiter.is_free_of(cell) and waiter.state == "waiting"
        if is_needed and waiter.is_in_vain(cell, units, 0, now_ns):
            short = Shortage(cell, units, left_of(cell, waiter.frame.finishing))
            left = leave(waiter.places)
            frame, items = waiter.frame, waiter.items
            waiter.refusal = refuse(frame, items, waiter.call, [short], now_ns)
            pump(left + finish(waiter, "refused", now_ns), now_ns)


def dismiss(node: Node, now_ns: int) -> None:
    """Refuse all who wait below a node that takes no more reservations."""
    for waiter in [w for w in waiting if node in w.nodes] if node.waiters else ():
        stopped = stopped_by(waiter.frame)
        if stopped is not None and waiter.state == "waiting":
            waiter.refusal = Refusal(waiter.frame, waiter.call, waiter.items, stopped, None)
            pump(finish(waiter, "refused", now_ns), now_ns)


def turn_away(waiter: Waiter, now_ns: int, reason: BudgetwareError) -> None:
    """Refuse one that waits, for a reason of its own."""
    if waiter.state == "waiting":
        node = waiter.places[0].cell.node
        waiter.refusal = Refusal(waiter.frame, waiter.call, waiter.items, node, None, reason=reason)
        pump(finish(waiter, "refused", now_ns), now_ns)


def recheck(node: Node, now_ns: int) -> None:
    """A definition has changed: who may wait no longer, or need not?"""
    for waiter in [w for w in waiting if node in w.nodes] if node.waiters else ():
        _reconsider(waiter, now_ns)
    pump(list(node.cells.values()), now_ns)


def _reconsider(waiter: Waiter, now_ns: int) -> None:
    for place in waiter.places:
        if waiter.state != "waiting":
            return
        cell = place.cell
        if waiter.is_free_of(cell):
            continue
        is_strict = severity(policy_of(cell)) and not is_question(cell, now_ns)
        if is_strict or waiter.is_in_vain(cell, place.units, place.own, now_ns):
            pump(give_up(waiter, place, now_ns), now_ns)
    if waiter.state == "waiting":
        pump(advance(waiter, now_ns), now_ns)


def served(leases: Iterable[Lease], now_ns: int) -> None:
    """A ledger has answered, or does not: serve who waits for that, and refuse who must not."""
    for lease in leases:
        cell = lease.cell
        queue = cell.queue
        if queue is not None and lease.error is not None and lease.on_error == "open":
            lease.lend(max(0, queue.units - cell.free))
        pump([cell], now_ns)
        if queue is None or not queue.count or lease.is_question(now_ns):
            continue
        for waiter in [w for w in waiting if _waits_at(w, cell)]:
            if waiter.state != "waiting":
                continue
            if lease.error is not None or not stays(waiter, cell):
                pump(advance(waiter, now_ns), now_ns)
            elif waiter.parking is not None and waiter.parking.loop is None:
                stirred.append(waiter)  # a thread that runs an event loop waits no longer


def _waits_at(waiter: Waiter, cell: Cell) -> bool:
    return any(place.cell is cell and place.queue is not None for place in waiter.places)

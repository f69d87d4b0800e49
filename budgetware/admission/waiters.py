"""Who waits for what, and whose turn it is. Plain code under the lock.

A waiter takes a place in the queue of every payer that is short or has a queue already, in the
order of their ranks, and keeps it until it is served: it never holds units meanwhile, but nobody
passes it there. It takes the next place only when it is first in all earlier ones, so no two
waiters can block each other for ever. If an earlier payer runs short in between, it gives up its
later places, and takes them again by its ticket, in front of all who came after it.

When room comes back, the first of that queue is looked at again, and if nothing is in its way the
units are held for it there and then: whoever gives back serves. Not here: sleeping (`parking`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Literal

from ..accounts import waiting
from ..calls import Call
from ..frames import Frame
from ..kernel.nodes import Cell, Item, Node, QuotaCell
from ..kernel.quota import inherit
from ..kernel.tree import shortages
from ..ledgers.leases import Lease
from ..principals import is_exempt
from ..stakes import Stake
from ..tallies import Tally
from .decisions import bring_up_to_date, grant, refuse, stopped_by
from .lending import is_question, may_be_waited_for, policy_of, refuse_away, stays
from .places import Place, alarm_ns, goes_first, has_room, is_first, join, leave
from .prospects import could_ever, paused, shortage_of
from .refusals import Refusal

MAX_WAITERS = 100_000
_tickets = count(1)
_inside: dict[Waiter, None] = {}
"""Those among the waiting who are called inside other calls, which hold something."""
stirred: deque[Waiter] = deque()
"""Waiters whose state or alarm has changed, to be told without the lock."""


class Waiter:
    """A call that waits for its turn. `alarm_ns` is when a rate will have refilled for it."""

    __slots__ = (
        "alarm_ns",
        "blamed",
        "call",
        "crossed",
        "expires_ns",
        "frame",
        "has_waited",
        "holds",
        "items",
        "nodes",
        "parking",
        "places",
        "polls",
        "priced",
        "refusal",
        "since_ns",
        "state",
        "tally",
        "ticket",
        "waited_ns",
    )

    def __init__(
        self,
        frame: Frame,
        items: Sequence[Item],
        call: Call,
        tally: Tally,
        now_ns: int,
        *,
        holds: Sequence[Any],
        priced: bool,
    ) -> None:
        self.frame = frame
        self.items = items
        self.call = call
        self.tally = tally
        self.priced = priced
        self.since_ns = now_ns
        self.waited_ns = 0
        self.polls = False
        self.has_waited = False
        self.ticket = next(_tickets)
        self.holds = holds
        self.state: Literal["waiting", "granted", "refused"] = "waiting"
        self.crossed: list[Cell] = []
        self.refusal: Refusal | None = None
        self.parking: Any = None
        self.alarm_ns: int | None = None
        self.blamed: Place | None = None
        self.nodes = self._find_nodes()
        self.places = self._find_places()
        self.expires_ns = self._expires_ns()

    def _find_places(self) -> list[Place]:
        """Every payer of it that lets calls wait, in the order of rank."""
        units: dict[QuotaCell, int] = {}  # one payer may be asked for several dimensions
        for _dim, n, (cells, _above, _special) in self.items:
            for cell in cells:
                if isinstance(cell, QuotaCell) and n > 0 and may_be_waited_for(cell):
                    units[cell] = units.get(cell, 0) + n
        places = [Place(self, cell, n) for cell, n in units.items() if cell.limit is not None]
        if len(places) > 1:
            places.sort(key=lambda place: place.cell.rank)
        return places

    @property
    def is_exempt(self) -> bool:
        """Whether quotas refuse it nothing, as things stand now."""
        return self.frame.principal is not None and is_exempt(self.frame.principal)

    def is_free_of(self, cell: Cell) -> bool:
        """Whether a payer refuses it nothing, or nothing any more. A pause spares nobody."""
        return cell.limit is None or (not cell.paused_ns and self._is_spared_by(cell))

    def _is_spared_by(self, cell: Cell) -> bool:
        return cell.spares_exempt and self.is_exempt

    def is_in_vain(self, cell: Cell, units: int, own: int, now_ns: int) -> bool:
        """Whether a payer can never give it so much."""
        finishing = self.frame.finishing
        return not (self._is_spared_by(cell) or could_ever(cell, units, own, finishing, now_ns))

    def _expires_ns(self) -> int | None:
        """When the shortest of the longest waits is over; the call's own is one of them."""
        bounds = [self.call.wait_seconds, getattr(self.call.policy, "wait_seconds", None)]
        for place in self.places:
            cell = place.cell
            if not self.is_free_of(cell):
                bounds += [cell.wait_seconds, getattr(policy_of(cell), "wait_seconds", None)]
        given = [seconds for seconds in bounds if seconds is not None]
        return self.since_ns + int(min(given) * 1e9) if given else None

    @property
    def waited_for(self) -> Node | None:
        """Whose turn it waits, or waited, for in the end."""
        return None if self.blamed is None else self.blamed.cell.node

    @property
    def only_asked(self) -> bool:
        """Whether it waited for nothing but the answer of a ledger."""
        return self.blamed is not None and not self.has_waited

    def _find_nodes(self) -> frozenset[Node]:
        """Those whose end, or change, may end the wait; the same for all who ask for the same."""
        known = self.frame.waited_on
        if known is not None and known[0] is self.items:
            return known[1]
        nodes = {c.node for _dim, _n, (cells, _above, _s) in self.items for c in cells}
        nodes.update(self.frame.chain)
        if self.frame.principal is not None:
            nodes.update(self.frame.principal.node.chain)
        self.frame.waited_on = self.items, frozenset(nodes)
        return self.frame.waited_on[1]

    def count_on_nodes(self, more: int) -> None:
        """Count it, or no more, on every node that it has to do with."""
        for node in self.nodes:
            node.waiters += more

    def stake_of(self, cell: Cell) -> Stake | None:
        """The right by which it draws on a payer, if that is by a quota token."""
        frame = self.frame
        draws = frame.draws if frame.aim is None else (frame.aim, *frame.draws)
        return next((d.stake for d in draws if d.stake is not None and cell in d.cells), None)

    def renew(self, place: Place) -> Place:
        """A place that was given up, to be taken again."""
        again = Place(self, place.cell, place.units)
        self.places[self.places.index(place)] = again
        return again

    def next_ns(self) -> int | None:
        """When to look again if nothing happens before."""
        times = [self.alarm_ns, self.expires_ns, self.frame.deadline_ns or None]
        return min((ns for ns in times if ns is not None), default=None)


def line_up(waiter: Waiter, now_ns: int) -> None:
    """Begin to wait; it may be served at once."""
    waiting[waiter] = None
    if waiter.holds:
        _inside[waiter] = None
    waiter.count_on_nodes(1)
    pump(advance(waiter, now_ns), now_ns)
    _expire(waiter, now_ns)


def pump(cells: Iterable[Cell], now_ns: int) -> None:
    """Serve whoever is first for these payers, and whoever is then, as far as there is room."""
    todo = deque(cells)
    while todo:
        cell: Cell | None = todo.popleft()
        while cell is not None:
            todo.extend(_serve(cell, now_ns))
            if cell.heir is not None and cell.node.ended:
                inherit(cell)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                cell = cell.heir
            else:
                cell = None


def _serve(cell: Cell, now_ns: int) -> list[Cell]:
    """Look at the first of one queue until it has to go on waiting; the cells to look at next."""
    queue = cell.queue
    touched: list[Cell] = []
    while queue is not None and queue.count:
        entry = queue.first()
        assert entry is not None
        touched += advance(entry.waiter, now_ns)
        if queue.first() is entry:
            break
    return touched


def advance(waiter: Waiter, now_ns: int) -> list[Cell]:
    """Let a waiter go as far as it gets; returns payers whose next in line is to be looked at."""
    frame = waiter.frame
    if waiter.parking is not None and waiter.parking.is_gone:
        return finish(waiter, "refused", now_ns)
    bring_up_to_date(waiter.items, now_ns)
    before, waiter.alarm_ns = waiter.alarm_ns, None
    left: list[Cell] = []
    for at, place in enumerate(waiter.places):
        if waiter.is_free_of(place.cell):
            left += leave([place])
            continue
        if waiter.is_in_vain(place.cell, place.units, place.own, now_ns):
            return left + give_up(waiter, place, now_ns)
        is_enough = has_room(place, frame.finishing)
        if place.queue is None:
            queue = place.cell.queue
            is_clear = queue is None or not queue.count or goes_first(waiter.holds, place.cell)
            if is_enough and is_clear:
                continue
            left += leave(waiter.places[at + 1 :])
            place = join(waiter, place)  # noqa: PLW2901 - it may be a new one
        if is_enough and is_first(place):
            continue
        if place.cell.lease is not None and not _goes_on_asking(waiter, place, now_ns):
            return left + give_up(waiter, place, now_ns)
        return left + _go_on_waiting(waiter, at, before)
    return left + _decide(waiter, now_ns)


def _goes_on_asking(waiter: Waiter, place: Place, now_ns: int) -> bool:
    """It waits for a ledger, or, after its answer or in a pause, as its policies say."""
    lease: Lease = place.cell.lease
    if place.cell.paused_ns:
        waiter.has_waited = stays(waiter, place.cell)
        return waiter.has_waited
    if lease.error is not None:
        return False
    if not lease.is_question(now_ns):
        if not stays(waiter, place.cell):
            return False
        waiter.has_waited = True
        lease.ask_again()
        return True
    if not has_room(place, waiter.frame.finishing):
        lease.ask()
    return True


def _go_on_waiting(waiter: Waiter, at: int, before: int | None) -> list[Cell]:
    """It has to wait at one of its places; `before` was its alarm."""
    place = waiter.places[at]
    waiter.has_waited = waiter.has_waited or place.cell.lease is None
    passed: list[Cell] = []
    if waiter.blamed is not place:
        waiter.blamed = place
        if any(other.queue is not None for other in waiter.places[:at]):
            passed = _let_pass()  # it is first in one line, and waits in another
    if is_first(place):
        waiter.alarm_ns = alarm_ns(place)
    if waiter.alarm_ns != before and waiter.parking is not None:
        stirred.append(waiter)
    return passed


def _let_pass() -> list[Cell]:
    """Put those first whom others have begun to wait for; returns where they are first now."""
    passed: list[Cell] = []
    for waiter in list(_inside):
        for place in list(waiter.places):
            if place.queue is None or place.is_favoured:
                continue
            if goes_first(waiter.holds, place.cell):
                leave([place])
                join(waiter, place)
                passed.append(place.cell)
    return passed


def _decide(waiter: Waiter, now_ns: int) -> list[Cell]:
    """It is first everywhere, and there is room: what do the others say?"""
    frame, items = waiter.frame, waiter.items
    stopped = stopped_by(frame)
    if stopped is not None:
        waiter.refusal = Refusal(frame, waiter.call, items, stopped, None)
        return finish(waiter, "refused", now_ns)
    exempt, finishing = waiter.is_exempt, frame.finishing
    short = shortages(items, finishing, exempt=exempt)
    short = paused(items, short, finishing, now_ns, exempt=exempt)
    if short:
        waiter.refusal = refuse(frame, items, waiter.call, short, now_ns)
        return finish(waiter, "refused", now_ns)
    waiter.crossed = grant(frame, items)
    return finish(waiter, "granted", now_ns)


def finish(waiter: Waiter, state: Literal["granted", "refused"], now_ns: int) -> list[Cell]:
    """End a wait; returns payers whose next in line is to be looked at."""
    waiter.state = state
    del waiting[waiter]
    _inside.pop(waiter, None)
    waiter.count_on_nodes(-1)
    waiter.waited_ns = max(1, now_ns - waiter.since_ns)
    if waiter.refusal is not None:
        waiter.refusal.waited_ns = 0 if waiter.only_asked else waiter.waited_ns
    if waiter.parking is not None:
        stirred.append(waiter)
    return leave(waiter.places, served=state == "granted")


def give_up(waiter: Waiter, place: Place, now_ns: int) -> list[Cell]:
    """Waiting helps no more: others have used what it waited for, or the limit was lowered."""
    frame = waiter.frame
    lease: Lease | None = place.cell.lease
    is_away = lease is not None and (lease.error is not None or lease.recovery is not None)
    if lease is not None and is_away and not place.cell.paused_ns:
        waiter.blamed = place
        waiter.refusal = refuse_away(frame, waiter.call, waiter.items, lease)
        return finish(waiter, "refused", now_ns)
    is_exempt, finishing = waiter.is_exempt, frame.finishing
    short = shortage_of(place.cell, place.units, finishing, now_ns, exempt=is_exempt)
    is_vain = waiter.is_in_vain(place.cell, place.units, place.own, now_ns)
    waiter.blamed = place
    left = leave(waiter.places)  # whoever tries again will not have itself ahead of it
    waiter.refusal = refuse(frame, waiter.items, waiter.call, [short], now_ns)
    if is_vain:
        waiter.refusal.retry_after = None
    return left + finish(waiter, "refused", now_ns)


def look_again(waiter: Waiter, now_ns: int) -> None:
    """Its alarm went off: its time may be over, or a rate may have refilled."""
    if waiter.state != "waiting":
        return
    bring_up_to_date(waiter.items, now_ns)
    pump([place.cell for place in waiter.places if place.queue is not None], now_ns)
    if waiter.alarm_ns is not None and now_ns >= waiter.alarm_ns:
        waiter.alarm_ns = None  # it is first no more, or this would have been set anew
    _expire(waiter, now_ns)


def _expire(waiter: Waiter, now_ns: int) -> None:
    """Refuse it if its longest wait is over."""
    is_over = waiter.expires_ns is not None and now_ns >= waiter.expires_ns
    if is_over and waiter.expires_ns == waiter.since_ns and asks(waiter, now_ns):
        return  # it does not wait for others, but what there is must be known
    if waiter.state == "waiting" and is_over:
        place = waiter.blamed or waiter.places[0]
        pump(give_up(waiter, place, now_ns), now_ns)


def asks(waiter: Waiter, now_ns: int) -> bool:
    """Whether it waits for nothing but the answer of a ledger."""
    place = waiter.blamed
    return place is not None and is_question(place.cell, now_ns)


def is_behind_another(waiter: Waiter) -> bool:
    """Whether the first in its line, who has the alarm, is on another event loop or thread."""
    place = waiter.blamed
    first = None if place is None or place.queue is None else place.queue.first()
    if first is None or first is place:
        return False
    loop = waiter.parking.loop
    return loop is None or first.waiter.parking is None or first.waiter.parking.loop is not loop


def _forget_in_child() -> None:
    """Whoever waited when the process forked waits in the parent, not in the child."""
    for waiter in list(waiting):
        waiter.parking = None
        finish(waiter, "refused", waiter.since_ns)
    stirred.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has none
    os.register_at_fork(after_in_child=_forget_in_child)

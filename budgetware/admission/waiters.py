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
from ..errors import BudgetwareError
from ..frames import Frame
from ..holding import own_units
from ..kernel.nodes import Cell, Item, Node, QuotaCell, refloor
from ..kernel.queue import Entry, Queue
from ..kernel.quota import inherit
from ..kernel.tree import Shortage, room_of, settle, shortages
from ..policies import severity
from ..principals import is_exempt
from ..resources import Stake
from ..tallies import Tally
from .decisions import bring_up_to_date, could_ever, grant, policy_of, refuse, stopped_by
from .refusals import Refusal

MAX_WAITERS = 100_000
_tickets = count(1)
stirred: deque[Waiter] = deque()
"""Waiters whose state or alarm has changed, to be told without the lock."""


class Place(Entry):
    """A payer that a waiter may have to wait for. `own`: units its callers hold there."""

    __slots__ = ("cell", "own")

    def __init__(self, waiter: Waiter, cell: QuotaCell, units: int) -> None:
        super().__init__(waiter, waiter.ticket, units)
        self.cell = cell
        self.own = 0 if cell.refill is not None else own_units(cell)

    @property
    def is_taken(self) -> bool:
        return self.queue is not None


class Waiter:
    """A call that waits for its turn. `alarm_ns` is when a rate will have refilled for it."""

    __slots__ = (
        "alarm_ns",
        "blamed",
        "call",
        "crossed",
        "expires_ns",
        "frame",
        "items",
        "parking",
        "places",
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
        priced: bool,
    ) -> None:
        self.frame = frame
        self.items = items
        self.call = call
        self.tally = tally
        self.priced = priced
        self.since_ns = now_ns
        self.waited_ns = 0
        self.ticket = next(_tickets)
        self.state: Literal["waiting", "granted", "refused"] = "waiting"
        self.crossed: list[Cell] = []
        self.refusal: Refusal | None = None
        self.parking: Any = None
        self.alarm_ns: int | None = None
        self.blamed: Place | None = None
        self.places = self._find_places()
        self.expires_ns = self._expires_ns()

    def _find_places(self) -> list[Place]:
        """Every payer of it that lets calls wait, in the order of rank."""
        exempt = self.frame.principal is not None and is_exempt(self.frame.principal)
        places = [
            Place(self, cell, n)
            for _dim, n, (cells, _above, _special) in self.items
            for cell in cells
            if isinstance(cell, QuotaCell)
            and n > 0
            and cell.limit is not None
            and severity(policy_of(cell)) == 0
            and not (exempt and cell.spares_exempt)
        ]
        if len(places) > 1:
            places.sort(key=lambda place: place.cell.rank)
        return places

    def _expires_ns(self) -> int | None:
        """When the shortest of the longest waits is over; the call's own is one of them."""
        bounds = [self.call.wait_seconds, getattr(self.call.policy, "wait_seconds", None)]
        for place in self.places:
            bounds += [
                place.cell.wait_seconds,
                getattr(policy_of(place.cell), "wait_seconds", None),
            ]
        given = [seconds for seconds in bounds if seconds is not None]
        return self.since_ns + int(min(given) * 1e9) if given else None

    @property
    def waited_for(self) -> Node | None:
        """Whose turn it waits, or waited, for in the end."""
        return None if self.blamed is None else self.blamed.cell.node

    def count_on_nodes(self, more: int) -> None:
        """Count it, or no more, on every node whose end would end the wait."""
        for node in self.frame.chain:
            node.waiters += more
        for _dim, _n, (cells, _above, _special) in self.items:
            for cell in cells:
                if cell.node.kind != "task":
                    cell.node.waiters += more

    def is_below(self, node: Node) -> bool:
        """Whether the end of a node ends the wait."""
        if node.kind == "task":
            return node in self.frame.chain
        return any(cell.node is node for _d, _n, (cells, _a, _s) in self.items for cell in cells)

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
    waiter.count_on_nodes(1)
    pump(_advance(waiter, now_ns), now_ns)


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
        touched += _advance(entry.waiter, now_ns)
        if queue.first() is entry:
            break
    return touched


def _advance(waiter: Waiter, now_ns: int) -> list[Cell]:
    """Let a waiter go as far as it gets; returns payers whose next in line is to be looked at."""
    frame = waiter.frame
    bring_up_to_date(waiter.items, now_ns)
    before, waiter.alarm_ns = waiter.alarm_ns, None
    left: list[Cell] = []
    for at, place in enumerate(waiter.places):
        if not could_ever(place.cell, place.units, place.own):
            return left + _give_up(waiter, place, now_ns)
        room = room_of(place.cell, frame.finishing)
        if place.queue is None:
            queue = place.cell.queue
            if room >= place.units and (queue is None or not queue.count or place.own):
                continue
            left += _leave(waiter.places[at + 1 :])
            place = _join(waiter, place)  # noqa: PLW2901 - it may be a new one
        if room >= place.units and _is_first(place):
            continue
        waiter.blamed = place
        refill = place.cell.refill
        if refill is not None and _is_first(place):
            waiter.alarm_ns = refill.ready_ns(place.units - place.cell.free)
        if waiter.alarm_ns != before and waiter.parking is not None:
            stirred.append(waiter)
        return left
    return left + _decide(waiter, now_ns)


def _is_first(place: Place) -> bool:
    queue = place.cell.queue
    return queue is not None and queue.first() is place


def _join(waiter: Waiter, place: Place) -> Place:
    cell = place.cell
    queue = cell.queue
    if queue is None:
        queue = cell.queue = Queue()
    stake = waiter.stake_of(cell)
    weight = None if stake is None else stake.weight()
    if place.is_left:  # it was given up before: the old one stays where it is, crossed out
        place = waiter.renew(place)
    queue.join(place, stake, weight, favoured=place.own > 0)
    refloor(cell)
    return place


def _leave(places: Iterable[Place], *, served: bool = False) -> list[Cell]:
    """Give up places; returns the payers for which somebody else may be first now."""
    left: list[Cell] = []
    for place in places:
        queue, place.queue = place.queue, None
        if queue is None:
            continue
        if served:
            queue.serve(place)
        else:
            queue.leave(place)
        refloor(place.cell)
        left.append(place.cell)
    return left


def _decide(waiter: Waiter, now_ns: int) -> list[Cell]:
    """It is first everywhere, and there is room: what do the others say?"""
    frame, items = waiter.frame, waiter.items
    stopped = stopped_by(frame)
    if stopped is not None:
        waiter.refusal = Refusal(frame, waiter.call, items, stopped, None)
        return _finish(waiter, "refused", now_ns)
    exempt = frame.principal is not None and is_exempt(frame.principal)
    short = shortages(items, frame.finishing, exempt=exempt)
    if short:
        waiter.refusal = refuse(frame, items, waiter.call, short, now_ns)
        return _finish(waiter, "refused", now_ns)
    waiter.crossed = grant(frame, items)
    return _finish(waiter, "granted", now_ns)


def _finish(waiter: Waiter, state: Literal["granted", "refused"], now_ns: int) -> list[Cell]:
    waiter.state = state
    del waiting[waiter]
    waiter.count_on_nodes(-1)
    waiter.waited_ns = max(1, now_ns - waiter.since_ns)
    if waiter.refusal is not None:
        waiter.refusal.waited_ns = waiter.waited_ns
    if waiter.parking is not None:
        stirred.append(waiter)
    return _leave(waiter.places, served=state == "granted")


def _give_up(waiter: Waiter, place: Place, now_ns: int) -> list[Cell]:
    """Waiting helps no more: others have used what it waited for, or the limit was lowered."""
    frame = waiter.frame
    room = max(0, room_of(place.cell, frame.finishing))
    short = Shortage(place.cell, place.units, room)
    waiter.blamed = place
    waiter.refusal = refuse(frame, waiter.items, waiter.call, [short], now_ns)
    return _finish(waiter, "refused", now_ns)


def look_again(waiter: Waiter, now_ns: int) -> None:
    """Its alarm went off: its time may be over, or a rate may have refilled."""
    if waiter.state != "waiting":
        return
    bring_up_to_date(waiter.items, now_ns)
    pump([place.cell for place in waiter.places if place.queue is not None], now_ns)
    if waiter.state != "waiting":
        return
    if waiter.expires_ns is not None and now_ns >= waiter.expires_ns:
        place = waiter.blamed or waiter.places[0]
        pump(_give_up(waiter, place, now_ns), now_ns)


def withdraw(waiter: Waiter, now_ns: int) -> None:
    """Its task was cancelled: give the turn on, and what it may have been granted already."""
    if waiter.state == "waiting":
        pump(_finish(waiter, "refused", now_ns), now_ns)
    elif waiter.state == "granted":
        settle(waiter.items, [0] * len(waiter.items))
        pump_items(waiter.items, now_ns)


def pump_items(items: Iterable[Item], now_ns: int) -> None:
    """Serve whoever waits for what these payers have got back."""
    pump(
        [c for _d, _n, (cells, above, _s) in items for c in (*cells, *(c for c, _v in above))],
        now_ns,
    )


def dismiss(node: Node, now_ns: int) -> None:
    """Refuse all who wait below a node that takes no more reservations."""
    for waiter in [w for w in waiting if w.is_below(node)] if node.waiters else ():
        stopped = stopped_by(waiter.frame)
        if stopped is not None and waiter.state == "waiting":
            waiter.refusal = Refusal(waiter.frame, waiter.call, waiter.items, stopped, None)
            pump(_finish(waiter, "refused", now_ns), now_ns)


def turn_away(waiter: Waiter, now_ns: int, reason: BudgetwareError) -> None:
    """Refuse one that waits, for a reason of its own."""
    if waiter.state == "waiting":
        node = waiter.places[0].cell.node
        waiter.refusal = Refusal(waiter.frame, waiter.call, waiter.items, node, None, reason=reason)
        pump(_finish(waiter, "refused", now_ns), now_ns)


def recheck(node: Node, now_ns: int) -> None:
    """A definition has changed: who may wait no longer, or need not?"""
    for waiter in [w for w in waiting if w.is_below(node)] if node.waiters else ():
        for place in waiter.places:
            if waiter.state != "waiting":
                break
            if severity(policy_of(place.cell)) > 0:
                pump(_give_up(waiter, place, now_ns), now_ns)
                break
    pump(list(node.cells.values()), now_ns)


def _forget_in_child() -> None:
    """Whoever waited when the process forked waits in the parent, not in the child."""
    for waiter in list(waiting):
        waiter.parking = None
        _finish(waiter, "refused", waiter.since_ns)
    stirred.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

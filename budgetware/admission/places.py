"""Places in the lines of payers, and who goes before others there. Not here: whose turn it is.

A call inside the block of another one holds units while it waits. Somebody may wait for those, so
it must not wait behind him, or both would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..holding import units_in
from ..kernel.nodes import Cell, Node, QuotaCell, refloor
from ..kernel.queue import Entry, Queue
from ..kernel.refill import NEVER_NS
from ..kernel.tree import room_of


class Place(Entry):
    """A payer that a waiter may have to wait for, and its place in the line there, if taken."""

    __slots__ = ("cell", "is_favoured")

    def __init__(self, waiter: Any, cell: QuotaCell, units: int) -> None:
        super().__init__(waiter, waiter.ticket, units)
        self.cell = cell
        self.is_favoured = False

    @property
    def own(self) -> int:
        """The units that its callers hold there now."""
        return units_in(self.waiter.holds, self.cell)


def goes_first(holds: Sequence[Any], cell: Cell) -> bool:
    """Whether calls inside these go before others in the line for a cell.

    They do if they hold some of it, and if the first in that line waits elsewhere for what they
    hold, itself or behind others who do.
    """
    if not holds:
        return False
    seen: set[Cell] = set()
    while cell not in seen:
        if units_in(holds, cell):
            return True
        seen.add(cell)
        entry = None if cell.queue is None else cell.queue.first()
        if entry is None or entry.waiter.blamed is None:
            return False
        cell = entry.waiter.blamed.cell
    return False


def join(waiter: Any, place: Place) -> Place:
    """Take a place; returns it, or another one instead of one that was given up."""
    cell = place.cell
    queue = cell.queue
    if queue is None:
        queue = cell.queue = Queue()
    stake = waiter.stake_of(cell)
    weight = None if stake is None else stake.weight()
    if place.is_left:  # it was given up before: the old one stays where it is, crossed out
        place = waiter.renew(place)
    place.is_favoured = goes_first(waiter.holds, cell)
    queue.join(place, stake, weight, favoured=place.is_favoured)
    refloor(cell)
    return place


def has_room(place: Place, finishing: frozenset[Node]) -> bool:
    """Whether there is enough, and it is to be had."""
    return not place.cell.paused_ns and room_of(place.cell, finishing) >= place.units


def is_first(place: Place) -> bool:
    """Whether nobody goes before it."""
    queue = place.cell.queue
    return queue is not None and queue.first() is place


def alarm_ns(place: Place) -> int | None:
    """When time alone may serve the first in a line.

    A rate refills, a pause or a reservation ends.
    """
    cell = place.cell
    expiry_ns: int | None = place.waiter.frame.runtime.next_expiry_ns
    if cell.paused_ns:
        ready_ns = cell.paused_ns
    elif cell.refill is None:
        return expiry_ns
    else:
        ready_ns = cell.refill.ready_ns(place.units - cell.free)
    if ready_ns >= NEVER_NS:  # it has no share of its rate yet, and is woken by the answer
        return expiry_ns
    return ready_ns if expiry_ns is None else min(ready_ns, expiry_ns)


def leave(places: Iterable[Place], *, served: bool = False) -> list[Cell]:
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

"""Who is next: first come, first served within a flow, by weight between flows.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a request of n units in a flow of weight w
starts, in virtual time, when the one before it in its flow ended, or now if that was earlier, and
ends n / w later. The one that starts earliest is next; ties go to the earlier ticket. Its own
size does not delay a request, so a big one is not starved; and a flow that was away gains nothing.

Not here: waiting, and whether there is room.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any

_SCALE = 1 << 80
"""Virtual time is in 2**-80 of a unit per weight, so that it stays an int."""
MAX_FLOWS = 1_024
"""So many flows are remembered while they have nobody waiting."""
_SLACK = 16
"""So many who have left may stay in a line before it is cleared of them."""


class Entry:
    """A place in one queue, for `waiter`, who asks for `units`; made before it is taken."""

    __slots__ = ("flow", "is_left", "queue", "ticket", "units", "waiter")

    def __init__(self, waiter: Any, ticket: int, units: int) -> None:
        self.flow: Flow | None = None
        self.queue: Queue | None = None
        self.waiter = waiter
        self.ticket = ticket
        self.units = units
        self.is_left = False


class Flow:
    """Those who share one weight, in the order of their tickets; `count` of them wait.

    `key` is where the heap has it: (start, ticket of the first), or what that was before.
    """

    __slots__ = ("count", "entries", "key", "start", "weight")

    def __init__(self) -> None:
        self.count = 0
        self.entries: deque[Entry] = deque()
        self.key: tuple[int, int] | None = None
        self.start = 0
        self.weight: int | None = None

    def first(self) -> Entry | None:
        """Who is next in this flow."""
        entries = self.entries
        while entries and entries[0].is_left:
            entries.popleft()
        return entries[0] if entries else None

    def insert(self, entry: Entry) -> None:
        """Take a place by its ticket: nearly always the last, or the first."""
        self.count += 1
        entries = self.entries
        if not entries or entries[-1].ticket < entry.ticket:
            entries.append(entry)
            return
        at = 0
        while entries[at].ticket < entry.ticket:
            at += 1
        entries.insert(at, entry)

    def remove(self) -> None:
        """One has left, wherever it stood."""
        self.count -= 1
        if not self.count:
            self.entries.clear()
        elif len(self.entries) > 2 * self.count + _SLACK:
            self.entries = deque([entry for entry in self.entries if not entry.is_left])


class Queue:
    """The queue for one cell. `count` and `units`: how many wait, and for how much."""

    __slots__ = (
        "_favoured",
        "_flows",
        "_heap",
        "_listed",
        "_now",
        "_serials",
        "_weighted",
        "_weights",
        "count",
        "units",
    )

    def __init__(self) -> None:
        self.count = 0
        self.units = 0
        self._favoured = Flow()
        self._flows: dict[Any, Flow] = {}
        self._heap: list[tuple[int, int, int, Flow]] = []
        self._listed = 0  # flows in which somebody waits
        self._now = 0
        self._serials = count()
        self._weighted = 0  # of those, the ones with a weight of their own, and its sum
        self._weights = 0

    def join(self, entry: Entry, flow: Any, weight: int | None, *, favoured: bool = False) -> None:
        """Take a place; `favoured` ones go before all others.

        A flow without a weight of its own has the mean of those that wait.
        """
        entry.queue = self
        self.count += 1
        self.units += entry.units
        if favoured:
            entry.flow = self._favoured
            self._favoured.insert(entry)
            return
        found = self._flows.get(flow)
        if found is None:
            if len(self._flows) - self._listed >= MAX_FLOWS:
                self._forget()
            found = self._flows[flow] = Flow()
        if found.count:
            self._unlist(found)
        else:
            found.start = max(found.start, self._now)
        found.weight = None if weight is None else max(1, weight)
        self._list(found)
        entry.flow = found
        found.insert(entry)
        key = (found.start, entry.ticket)
        if found.key is None or key < found.key:
            self._push(found, key)

    def _list(self, flow: Flow) -> None:
        self._listed += 1
        if flow.weight is not None:
            self._weighted += 1
            self._weights += flow.weight

    def _unlist(self, flow: Flow) -> None:
        self._listed -= 1
        if flow.weight is not None:
            self._weighted -= 1
            self._weights -= flow.weight

    def _push(self, flow: Flow, key: tuple[int, int]) -> None:
        """Put it into the heap, where what it had there before counts no more."""
        flow.key = key
        heap = self._heap
        heappush(heap, (*key, next(self._serials), flow))
        if len(heap) > 2 * self._listed + _SLACK:
            found = {id(item[3]): item for item in heap if item[:2] == item[3].key}
            self._heap = list(found.values())
            heapify(self._heap)

    def _forget(self) -> None:
        """Drop the flows that have nobody waiting and nothing to make up for."""
        flows = self._flows
        self._flows = {k: f for k, f in flows.items() if f.count or f.start > self._now}
        if len(self._flows) - self._listed > MAX_FLOWS // 2:
            self._flows = {k: f for k, f in flows.items() if f.count}

    def first(self) -> Entry | None:
        """Who is next; None: nobody waits."""
        entry = self._favoured.first()
        if entry is not None:
            return entry
        heap = self._heap  # what is not as it was is put right when it comes to the top
        while heap:
            start, ticket, _serial, flow = heap[0]
            entry = flow.first()
            if entry is None or (start, ticket) != flow.key:
                heappop(heap)
            elif flow.key == (flow.start, entry.ticket):
                return entry
            else:
                flow.key = (flow.start, entry.ticket)
                heapreplace(heap, (*flow.key, next(self._serials), flow))
        return None

    def leave(self, entry: Entry) -> None:
        """Give up a place without having been served."""
        flow = entry.flow
        if flow is None or entry.is_left:
            return
        entry.is_left = True
        self.count -= 1
        self.units -= entry.units
        flow.remove()
        if not flow.count and flow is not self._favoured:
            flow.key = None
            self._unlist(flow)

    def serve(self, entry: Entry) -> None:
        """The one that `first` gave was served: its flow pays for that.

        One without a weight pays nothing while nobody waits who has one: no mean is known that
        would be fair to those who come later.
        """
        flow = entry.flow
        if flow is not None and flow is not self._favoured:
            self._now = max(self._now, flow.start)
            weight = flow.weight
            if weight is None and self._weighted:
                weight = self._weights // self._weighted
            if weight is not None:
                flow.start += entry.units * _SCALE // weight
        self.leave(entry)

"""Who is next: first come, first served within a flow, by weight between flows.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a request of n units in a flow of weight w
starts, in virtual time, when the one before it in its flow ended, or now if that was earlier, and
ends n / w later. The one that starts earliest is next; ties go to the earlier ticket. Its own
size does not delay a request, so a big one is not starved; and a flow that was away gains nothing.

Not here: waiting, and whether there is room.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, heapreplace
from typing import Any

_SCALE = 1 << 40
"""Virtual time is in 2**-40 of a unit per weight, so that it stays an int."""
MAX_FLOWS = 1_024
"""So many flows are remembered while they have nobody waiting."""


class Entry:
    """A place in one queue, for `waiter`, who asks for `units`; made before it is taken."""

    __slots__ = ("is_left", "queue", "ticket", "units", "waiter")

    def __init__(self, waiter: Any, ticket: int, units: int) -> None:
        self.queue: Queue | None = None
        self.waiter = waiter
        self.ticket = ticket
        self.units = units
        self.is_left = False


class Flow:
    """Those who share one weight, in the order of their tickets."""

    __slots__ = ("entries", "is_listed", "start", "weight")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.start = 0
        self.weight = 0
        self.is_listed = False

    def first(self) -> Entry | None:
        """Who is next in this flow."""
        entries = self.entries
        while entries and entries[0].is_left:
            entries.popleft()
        return entries[0] if entries else None

    def insert(self, entry: Entry) -> None:
        """Take a place by its ticket: nearly always the last, or the first."""
        entries = self.entries
        if not entries or entries[-1].ticket < entry.ticket:
            entries.append(entry)
            return
        at = 0
        while entries[at].ticket < entry.ticket:
            at += 1
        entries.insert(at, entry)


class Queue:
    """The queue for one cell. `count` and `units`: how many wait, and for how much."""

    __slots__ = ("_favoured", "_flows", "_heap", "_now", "_weights", "count", "units")

    def __init__(self) -> None:
        self.count = 0
        self.units = 0
        self._favoured: deque[Entry] = deque()
        self._flows: dict[Any, Flow] = {}
        self._heap: list[tuple[int, int, Flow]] = []
        self._now = 0
        self._weights = 0

    def join(self, entry: Entry, flow: Any, weight: int | None, *, favoured: bool = False) -> None:
        """Take a place; `favoured` ones go before all others.

        A flow without a weight of its own has the mean of those that wait.
        """
        entry.queue = self
        self.count += 1
        self.units += entry.units
        if favoured:
            self._favoured.append(entry)
            return
        found = self._flows.get(flow)
        if found is None:
            if len(self._flows) >= MAX_FLOWS:
                self._forget()
            found = self._flows[flow] = Flow()
        self._weigh(found, weight)
        found.insert(entry)
        if not found.is_listed:
            found.is_listed = True
            self._weights += found.weight
            found.start = max(found.start, self._now)
            heappush(self._heap, (found.start, entry.ticket, found))

    def _weigh(self, flow: Flow, weight: int | None) -> None:
        if flow.is_listed:
            self._weights -= flow.weight
        listed = max(1, len(self._heap))
        flow.weight = max(1, self._weights // listed) if weight is None else max(1, weight)
        if flow.is_listed:
            self._weights += flow.weight

    def _forget(self) -> None:
        """Drop the flows that have nobody waiting and nothing to make up for."""
        flows = self._flows
        self._flows = {k: f for k, f in flows.items() if f.is_listed or f.start > self._now}
        if len(self._flows) >= MAX_FLOWS:
            self._flows = {k: f for k, f in flows.items() if f.is_listed}

    def first(self) -> Entry | None:
        """Who is next; None: nobody waits."""
        favoured = self._favoured
        while favoured:
            if not favoured[0].is_left:
                return favoured[0]
            favoured.popleft()
        heap = self._heap  # one item for each flow, put right when it comes to the top
        while heap:
            start, ticket, flow = heap[0]
            entry = flow.first()
            if entry is None:
                heappop(heap)
                flow.is_listed = False
                self._weights -= flow.weight
            elif (start, ticket) == (flow.start, entry.ticket):
                return entry
            else:
                heapreplace(heap, (flow.start, entry.ticket, flow))
        return None

    def leave(self, entry: Entry) -> None:
        """Give up a place without having been served."""
        if not entry.is_left:
            entry.is_left = True
            self.count -= 1
            self.units -= entry.units

    def serve(self, entry: Entry) -> None:
        """The one that `first` gave was served: its flow pays for that."""
        is_favoured = bool(self._favoured) and self._favoured[0] is entry
        if not is_favoured:
            flow = self._heap[0][2]
            self._now = max(self._now, flow.start)
            flow.start += entry.units * _SCALE // flow.weight
        self.leave(entry)

"""Usage events of a service without a ledger: the newest ones, and what all of them add up to.

They are added up many at a time, by whoever brings the last of them. Nearly all are of calls that
completed, of few call sites: what those have in common is worked out once. Not here: what an event
adds (`usage_sums`).
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, cast

from .accounts import drain
from .clock import Clock
from .events import UsageEvent
from .ids import id_of
from .kernel.dims import from_units
from .kernel.nodes import Item
from .ledgers.sums import Sums, add, between
from .ledgers.terms import KEEP_SECONDS, KEEP_SUMS_SECONDS, UsageSum
from .usage_sums import (
    HOUR,
    LEVELS,
    CallGroup,
    CountGroup,
    Groups,
    count_sums,
    count_text,
    hour_end,
    sums_of,
)

if TYPE_CHECKING:
    from .recording import Recorded

PAGE = 1_000
MOST_EVENTS = 5_000
"""So many usage events are kept in memory."""
_BATCH = 256
_MOST_SITES = 256

_log = logging.getLogger("budgetware")


class Facts(Protocol):
    """What an event is made of, as far as it is looked at here."""

    frame: Any
    call: Any
    items: Sequence[Item]
    number: int
    timestamp: float
    duration_ns: int
    charged: Sequence[int] | None
    outcome: Any
    usage: Any
    waited_ns: int


class MemoryRecords:
    """The newest events, and what all of them add up to, in this process.

    Args:
        keep_seconds: how long an event is kept; there may be room for less.
    """

    def __init__(self, clock: Clock, keep_seconds: float = KEEP_SECONDS) -> None:
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._new: deque[Callable[[], UsageEvent] | Count] = deque()
        self._ring: deque[tuple[int, float, Any]] = deque(maxlen=MOST_EVENTS)
        self._number = 0
        self._sums: Sums = {}
        self._groups = Groups()
        self._sites: dict[int, Site] = {}
        self._ends = 0
        self._lock = Lock()

    def put(self, event: Callable[[], UsageEvent]) -> None:
        """See `Records.put`."""
        new = self._new
        new.append(event)
        if len(new) >= _BATCH:
            self._try_add()

    def count(
        self, principal: str | None, task: str, counter: str, counts: Mapping[str, int]
    ) -> None:
        """See `Records.count`."""
        self._new.append(Count(CountGroup(principal, task, counter), self._clock.time(), counts))
        if len(self._new) >= _BATCH:
            self._try_add()

    def close(self) -> None:
        """Take no more; what was recorded can still be read."""
        with self._lock:
            self._add()
            self._new = deque(maxlen=0)

    def _try_add(self) -> None:
        """Add them up, unless somebody else is about it."""
        if self._lock.acquire(blocking=False):
            try:
                self._add()
            finally:
                self._lock.release()

    def _add(self) -> None:
        """Add up those that have come. Under the lock."""
        new, ring = self._new, self._ring
        for _ in range(len(new)):  # not those that come meanwhile: that might never end
            try:
                one = new.popleft()
                kept = self._take(one)
            except Exception:
                _log.exception("a usage event cannot be added up")
                continue
            self._number += 1
            ring.append((self._number, kept.timestamp, kept))

    def _take(self, one: Callable[[], UsageEvent] | Count) -> Brief | UsageEvent | Count:
        """Add one up; returns what is kept of it."""
        if isinstance(one, Count):
            self._add_sums(one.sums(self._groups))
            return one
        facts = cast("Facts", one)
        if getattr(one, "outcome", None) == "completed" and not (facts.usage or facts.waited_ns):
            if not self._ends - HOUR < facts.timestamp <= self._ends:
                self._turn_hour(facts.timestamp)
            site = self._sites.get(id(facts.items))
            if site is None or not site.is_of(facts):
                site = self._site(facts)
            if site.is_plain:
                return site.take(facts)
        event = one()
        self._add_sums(sums_of(event, self._groups))
        return event

    def _add_sums(self, sums: Sequence[UsageSum]) -> None:
        before = len(self._sums)
        add(sums, self._sums)
        if len(self._sums) > before:
            self._forget()

    def _turn_hour(self, timestamp: float) -> None:
        """Another hour has begun: sites add to other sums."""
        self._ends = hour_end(timestamp)
        self._sites.clear()

    def _site(self, facts: Facts) -> Site:
        if len(self._sites) >= _MOST_SITES:
            self._sites.clear()
        site = Site(facts)
        key = self._ends, self._groups.text(site.group(), self._ends)
        if key not in self._sums:
            self._sums[key] = {}
            self._forget()
        site.sums = self._sums[key]
        self._sites[id(facts.items)] = site
        return site

    def _forget(self) -> None:
        """Drop what is too old, whenever there is a new group or hour."""
        now = self._clock.time()
        while self._ring and self._ring[0][1] < now - self._keep_seconds:
            self._ring.popleft()
        for key in [key for key in self._sums if 0 < key[0] < now - KEEP_SUMS_SECONDS]:
            del self._sums[key]

    def usage(self, since: float, until: float, *, after: int = 0) -> list[Recorded]:
        """See `Records.usage`."""
        drain()
        with self._lock:
            self._add()
            found = [
                (number, kept)
                for number, timestamp, kept in self._ring
                if number > after and since <= timestamp < until
            ]
        return [(number, kept.to_dict()) for number, kept in found[:PAGE]]

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Records.sums`."""
        drain()
        with self._lock:
            self._add()
            return [each for each in between(self._sums, first, last) if each.units]

    def last(self) -> int:
        """See `Records.last`."""
        drain()
        with self._lock:
            self._add()
            return self._number


class Site:
    """What completed calls of one place in one task have in common, and where they are added up."""

    __slots__ = (
        "_call",
        "_frame",
        "_items",
        "_units",
        "dims",
        "is_plain",
        "path",
        "principal",
        "sums",
    )

    def __init__(self, facts: Facts) -> None:
        frame = facts.frame
        self._items, self._frame, self._call = facts.items, frame, facts.call
        self.dims = tuple((dim, n) for dim, n, _payers in facts.items)
        self.principal: str | None = None if frame.principal is None else frame.principal.name
        self.path: str = frame.path
        held = [(f"d:{dim}", n) for dim, n in self.dims if n and dim not in LEVELS]
        self._units = (("events", 1), ("calls", 1), *held)
        self.is_plain = all(dim != "cpu_micros" for dim, _n in self.dims)  # summed of all time, too
        self.sums: dict[str, int] = {}

    def is_of(self, facts: Facts) -> bool:
        """Whether a call is of this site."""
        return (
            self._items is facts.items
            and self._frame is facts.frame
            and self._call is facts.call
        )  # fmt: skip

    def group(self) -> CallGroup:
        """What these calls are added up under."""
        call = self._call
        return CallGroup(
            self.principal, self.path, call.kind, call.name, call.model, call.provider, "completed"
        )

    def take(self, facts: Facts) -> Brief:
        """Add a call up; returns what is kept of it."""
        sums, charged = self.sums, facts.charged
        if charged is None:
            for what, n in self._units:
                sums[what] = sums.get(what, 0) + n
        else:
            sums["events"] = sums.get("events", 0) + 1
            sums["calls"] = sums.get("calls", 0) + 1
            for (dim, _held), n in zip(self.dims, charged, strict=True):
                if n and dim not in LEVELS:
                    what = f"d:{dim}"
                    sums[what] = sums.get(what, 0) + n
        duration_us = facts.duration_ns // 1_000
        if duration_us:
            sums["duration_us"] = sums.get("duration_us", 0) + duration_us
        return Brief(self, facts)


class Brief:
    """A completed call as it is kept: without the task that it was in."""

    __slots__ = (
        "_call",
        "_charged",
        "_dims",
        "_duration_ns",
        "_number",
        "_path",
        "_principal",
        "timestamp",
    )

    def __init__(self, site: Site, facts: Facts) -> None:
        self.timestamp = facts.timestamp
        self._principal, self._path, self._dims = site.principal, site.path, site.dims
        self._call = facts.call
        self._number = facts.number
        self._charged = facts.charged
        self._duration_ns = facts.duration_ns

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        call, dims = self._call, self._dims
        reserved = {dim: from_units(dim, n) for dim, n in dims}
        charged = dict(reserved)
        if self._charged is not None:
            pairs = zip(dims, self._charged, strict=True)
            charged = {dim: from_units(dim, n) for (dim, _held), n in pairs}
        return UsageEvent(
            self.timestamp, id_of(self._number), self._principal, self._path, call.kind, call.name,
            call.model, call.provider, None, None, reserved, charged, self._duration_ns / 1e6, 0.0,
            200, "completed", None,
        ).to_dict()  # fmt: skip


class Count:
    """What was added to a counter at a time."""

    __slots__ = ("_counts", "_group", "timestamp")

    def __init__(self, group: CountGroup, timestamp: float, counts: Mapping[str, int]) -> None:
        self._group = group
        self._counts = counts
        self.timestamp = timestamp

    def sums(self, groups: Groups) -> tuple[UsageSum, ...]:
        """What it adds."""
        return count_sums(self._group, self.timestamp, self._counts, groups)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = json.loads(count_text(self._group, self.timestamp, self._counts))
        return found

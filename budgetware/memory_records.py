"""Usage events of a service without a ledger: the newest ones, and what all of them add up to.

They are added up many at a time, by whoever brings the last of them. Nearly all are of calls that
completed, of few call sites: what those have in common is worked out once. Not here: what an event
adds (`usage_sums`).
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from .accounts import drain
from .clock import Clock
from .events import QuickEvent, UsageEvent
from .ids import id_of
from .kernel.dims import from_units
from .ledgers.sums import Sums, add, between
from .ledgers.terms import EVER, KEEP_SECONDS, KEEP_SUMS_SECONDS, UsageSum
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
MOST_SUMS = 100_000
"""So many groups of hours are kept: older hours are dropped."""
_MOST_SITES = 256

_log = logging.getLogger("budgetware")


class MemoryRecords:
    """The newest events, and what all of them add up to, in this process.

    Args:
        keep_seconds: how long an event is kept; there may be room for less.
    """

    def __init__(self, clock: Clock, keep_seconds: float = KEEP_SECONDS) -> None:
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._new: deque[Callable[[], UsageEvent] | Count] = deque()
        self._ring: deque[tuple[int, float, Kept]] = deque(maxlen=MOST_EVENTS)
        self._number = 0
        self._sums: Sums = {}
        self._groups = Groups()
        self._sites: dict[int, Site] = {}
        self._ends = self._newest = 0
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
        new, ring, sites = self._new, self._ring, self._sites
        for _ in range(len(new)):  # not those that come meanwhile: that might never end
            one = new.popleft()
            if not isinstance(one, QuickEvent):
                self._take(one)
                continue
            _make, plan, call, number, timestamp, duration_ns = one
            site = sites.get(id(plan))
            is_now = self._ends - HOUR < timestamp <= self._ends
            if site is None or not is_now or not site.is_of(plan, call):
                site = self._site(plan, call, timestamp)
                if site is None:
                    self._take(one)
                    continue
            site.calls += 1
            site.duration_ns += duration_ns
            self._number += 1
            ring.append((self._number, timestamp, (site.shape, number, duration_ns)))
        for site in sites.values():
            if site.calls:
                site.flush()

    def _take(self, one: Callable[[], UsageEvent] | Count) -> None:
        """Add one up, which may be anything, and keep it."""
        try:
            kept = one if isinstance(one, Count) else one()
            if isinstance(kept, Count):
                sums = kept.sums(self._groups)
            else:
                sums = sums_of(kept, self._groups)
        except Exception:
            _log.exception("a usage event cannot be added up")
            return
        for ends, _group, _units in sums:
            if ends > self._newest:
                self._forget(ends)
        add(sums, self._sums)
        self._number += 1
        self._ring.append((self._number, kept.timestamp, kept))

    def _site(self, plan: Any, call: Any, timestamp: float) -> Site | None:
        """The site of a call; None: its calls are added up one by one."""
        is_now = self._ends - HOUR < timestamp <= self._ends
        if not is_now or len(self._sites) >= _MOST_SITES:
            for site in self._sites.values():
                site.flush()
            self._sites.clear()
            self._ends = hour_end(timestamp)
        site = Site(plan, call)
        if not site.shape.is_plain:
            return None
        if self._ends > self._newest:
            self._forget(self._ends)
        key = self._ends, self._groups.text(site.shape.group(), self._ends)
        site.sums = self._sums.setdefault(key, {})
        self._sites[id(plan)] = site
        return site

    def _forget(self, ends: int) -> None:
        """Another hour has begun: drop what is too old, and the oldest hours of too many."""
        self._newest = ends
        now = self._clock.time()
        while self._ring and self._ring[0][1] < now - self._keep_seconds:
            self._ring.popleft()
        hours = sorted(key for key in self._sums if key[0] != EVER)
        too_many = max(0, len(hours) - MOST_SUMS)
        for number, key in enumerate(hours):
            if number < too_many or key[0] < now - KEEP_SUMS_SECONDS:
                del self._sums[key]

    def usage(self, since: float, until: float, *, after: int = 0) -> list[Recorded]:
        """See `Records.usage`."""
        drain()
        with self._lock:
            self._add()
            found = [
                (number, timestamp, kept)
                for number, timestamp, kept in self._ring
                if number > after and since <= timestamp < until
            ]
        return [(number, _event(timestamp, kept)) for number, timestamp, kept in found[:PAGE]]

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


def _event(timestamp: float, kept: Kept) -> dict[str, Any]:
    if isinstance(kept, tuple):
        shape, number, duration_ns = kept
        return shape.event(timestamp, number, duration_ns).to_dict()
    return kept.to_dict()


class Site:
    """What the calls of one plan have in common, and how many there were since the last sums."""

    __slots__ = ("_call", "_held", "_plan", "calls", "duration_ns", "shape", "sums")

    def __init__(self, plan: Any, call: Any) -> None:
        frame = plan.frame
        self._plan, self._call = plan, call
        dims = tuple((dim, n) for dim, n, _payers in plan.items)
        principal = None if frame.principal is None else frame.principal.name
        self.shape = Shape(principal, frame.path, call, dims)
        self._held = [(f"d:{dim}", n) for dim, n in dims if n and dim not in LEVELS]
        self.calls = self.duration_ns = 0
        self.sums: dict[str, int] = {}

    def is_of(self, plan: Any, call: Any) -> bool:
        """Whether a call is of this site."""
        return self._plan is plan and self._call is call

    def flush(self) -> None:
        """Add up the calls there were."""
        sums, calls = self.sums, self.calls
        for what in ("events", "calls"):
            sums[what] = sums.get(what, 0) + calls
        for what, n in self._held:
            sums[what] = sums.get(what, 0) + n * calls
        sums["duration_us"] = sums.get("duration_us", 0) + self.duration_ns // 1_000
        self.calls, self.duration_ns = 0, self.duration_ns % 1_000


class Shape:
    """What is kept of the calls of a site: not the task that they were in."""

    __slots__ = ("_call", "_dims", "_path", "_principal")

    def __init__(
        self, principal: str | None, path: str, call: Any, dims: tuple[tuple[str, int], ...]
    ) -> None:
        self._principal = principal
        self._path = path
        self._call = call
        self._dims = dims

    @property
    def is_plain(self) -> bool:
        """Whether the hour's sums are all there is to it: CPU time is summed of all time, too."""
        return all(dim != "cpu_micros" for dim, _n in self._dims)

    def group(self) -> CallGroup:
        """What these calls are added up under."""
        call = self._call
        return CallGroup(
            self._principal, self._path, call.kind, call.name, call.model, call.provider,
            "completed",
        )  # fmt: skip

    def event(self, timestamp: float, number: int, duration_ns: int) -> UsageEvent:
        """One of these calls."""
        call = self._call
        held = {dim: from_units(dim, n) for dim, n in self._dims}
        return UsageEvent(
            timestamp, id_of(number), self._principal, self._path, call.kind, call.name,
            call.model, call.provider, None, None, held, dict(held), duration_ns / 1e6, 0.0, 200,
            "completed", None,
        )  # fmt: skip


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


Kept = tuple[Shape, int, int] | UsageEvent | Count
"""What is kept of an event: of a quick one its shape, its number, and how long it took."""

"""From what a ledger has added up by the hour to a `UsageReport`.

Only the first and the last hour of a window may need the events themselves. Not here: what an event
adds (`usage_sums`).
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast, get_args

from ..errors import InvalidAmount
from ..events import event_of
from ..kernel.dims import check_name, nearest, show
from ..ledgers.sums import Sums, add
from ..ledgers.terms import EVER, UsageSum
from ..usage_sums import (
    HOUR,
    SESSIONS,
    CallGroup,
    CountGroup,
    Group,
    Groups,
    count_sums,
    hour_end,
    read_group,
    sums_of,
)
from .resources import below
from .tallies import Compute, Sessions, UsageTally, UsageTotals
from .times import Time, as_seconds, as_time
from .usage import Bucket, UsageBucket, UsageGroup, UsageReport

if TYPE_CHECKING:
    from ..recording import Recorded, Records
    from ..runtime import Runtime

DAY = 24 * HOUR
DEFAULT_DAYS = 7
MAX_BUCKETS = 10_000
BY = ("principal", "model", "provider", "kind", "name", "task", "outcome", "day", "hour")
Row = tuple[int, Group, dict[str, int]]
Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a report is asked for, checked.

    Attributes:
        since, until: seconds since the epoch.
        by: what groups of calls are to have in common.
        names: whose calls count; None: everybody's.
    """

    principal: str | None
    since: float
    until: float
    by: tuple[str, ...]
    bucket: Bucket
    names: frozenset[str] | None


def report(
    runtime: Runtime,
    records: Records,
    principal: str | None,
    since: Time | None,
    until: Time | None,
    by: str | Iterable[str],
    bucket: Bucket,
) -> UsageReport:
    """Check what is asked for, and make it. Reading may block."""
    now = runtime.clock.time()
    names = None if principal is None else below(runtime, check_name("principal", principal))
    return fold(ask(principal, since, until, by, bucket, names, now), records, now)


def ask(
    principal: str | None,
    since: Time | None,
    until: Time | None,
    by: str | Iterable[str],
    bucket: Bucket,
    names: frozenset[str] | None,
    now: float,
) -> Request:
    """Check what is asked for; raises `InvalidAmount`."""
    end = now if until is None else as_seconds("until", until)
    start = max(0.0, end - DEFAULT_DAYS * DAY) if since is None else as_seconds("since", since)
    if start > end:
        raise InvalidAmount(
            f"the window ends before it begins: since={as_time(start)}, until={as_time(end)}"
        )
    if bucket not in get_args(Bucket):
        raise InvalidAmount(f"bucket={show(bucket)}: give 'day' or 'hour'")
    if (end - start) / (DAY if bucket == "day" else HOUR) > MAX_BUCKETS:
        raise InvalidAmount(f"a report has at most {MAX_BUCKETS:,} {bucket}s: ask for less time")
    keys = tuple(dict.fromkeys((by,) if isinstance(by, str) else _listed(by)))
    for key in keys:
        if key not in BY:
            near = nearest(str(key), BY)
            hint = f"did you mean {near!r}?" if near else f"give some of {', '.join(BY)}"
            raise InvalidAmount(f"by={show(key)}: {hint}")
    return Request(principal, start, end, keys, bucket, names)


def _listed(by: object) -> Iterable[str]:
    if not isinstance(by, tuple | list | set | frozenset):
        raise InvalidAmount(f"by={show(by)}: give some of {', '.join(BY)}")
    return cast("Iterable[str]", by)


def fold(request: Request, records: Records, now: float) -> UsageReport:
    """Make the report. Reading may block."""
    edges = _Edges(request, records, now)
    spans = _spans(edges.since, edges.until, request.bucket)
    ends = [end.timestamp() for _start, end in spans]
    parts = [_Part() for _ in spans]
    groups: dict[Key, dict[str, int]] = {}
    for hour, group, units in edges.rows():
        if request.names is not None and group.principal not in request.names:
            continue
        parts[min(bisect_left(ends, hour), len(parts) - 1)].take(group, units)
        if request.by and isinstance(group, CallGroup):
            key = tuple(_value(name, hour, group) for name in request.by)
            _add(units, groups.setdefault(key, {}))
    features = _features(records, request.names)
    return UsageReport(
        request.principal,
        as_time(edges.since),
        as_time(edges.until),
        request.bucket,
        tuple(
            UsageBucket(*span, part.tally(features))
            for span, part in zip(spans, parts, strict=True)
        ),
        tuple(
            UsageGroup(dict(zip(request.by, key, strict=True)), totals(groups[key]))
            for key in sorted(groups, key=_order)
        ),
    )


def _order(key: Key) -> list[tuple[bool, str]]:
    return [(value is not None, value or "") for value in key]


def _value(name: str, hour: int, group: CallGroup) -> str | None:
    """What a group has of one thing that it may be asked by."""
    if name == "day":
        return as_time(hour - 1).date().isoformat()
    if name == "hour":
        return as_time(hour - HOUR).strftime("%Y-%m-%dT%H:00Z")
    found: str | None = getattr(group, name)
    return found


def _spans(since: float, until: float, bucket: Bucket) -> list[tuple[datetime, datetime]]:
    """The days or hours of UTC that the window touches, cut to it."""
    step = timedelta(days=1) if bucket == "day" else timedelta(hours=1)
    start, last = as_time(since), as_time(until)
    found: list[tuple[datetime, datetime]] = []
    while start < last:
        midnight = start.replace(minute=0, second=0, microsecond=0)
        if bucket == "day":
            midnight = midnight.replace(hour=0)
        end = min(midnight + step, last)
        found.append((start, end))
        start = end
    return found or [(start, last)]


class _Edges:
    """The hours of a window; of the first and the last it may want a part only.

    Where the events of such an hour are not kept any more, the window is widened to all of it.
    """

    def __init__(self, request: Request, records: Records, now: float) -> None:
        self.since, self.until = request.since, request.until
        self._records = records
        self._partial: dict[int, Sequence[Recorded]] = {}
        first, last = _first_end(self.since), hour_end(self.until)
        if self.since > first - HOUR:
            self._look(first)
        if self.until < min(last, now):
            self._look(last)
        self._first, self._last = _first_end(self.since), hour_end(self.until)

    def _look(self, ends: int) -> None:
        """Read the events of an hour, of which only a part is wanted."""
        if ends in self._partial:
            return
        sums = self._records.sums(ends, ends)
        count = sum(dict(each.units).get("events", 0) for each in sums)
        found = list(_events(self._records, ends - HOUR, ends)) if count else []
        if len(found) >= count:
            self._partial[ends] = found
            return
        self.since = min(self.since, float(ends - HOUR))
        self.until = max(self.until, float(ends))

    def rows(self) -> Iterator[Row]:
        """What was added up of each hour and group, a day at a time."""
        known: dict[str, Group | None] = {}
        for start in range(self._first, self._last + 1, DAY):
            for ends, text, units in self._day(start):
                if text not in known:
                    known[text] = read_group(text)
                group = known[text]
                if group is not None:
                    yield ends, group, dict(units)

    def _day(self, start: int) -> Iterator[UsageSum]:
        last = min(start + DAY - HOUR, self._last)
        for each in self._records.sums(start, last):
            if each.ends not in self._partial:
                yield each
        for ends, events in self._partial.items():
            if start <= ends <= last:
                yield from _summed(events, self.since, self.until)


def _first_end(since: float) -> int:
    """The end of the first hour that is, in part, after this."""
    return int(since // HOUR) * HOUR + HOUR


def _events(records: Records, after: float, last: float) -> Iterator[Recorded]:
    """The events after a moment, up to and including another."""
    since, until = math.nextafter(after, math.inf), math.nextafter(last, math.inf)
    number = 0
    while page := records.usage(since, until, after=number):
        yield from page
        number = page[-1][0]


def _summed(events: Iterable[Recorded], since: float, until: float) -> Iterator[UsageSum]:
    """What those of a window add up to."""
    groups, sums = Groups(), Sums()
    for _number, row in events:
        if since < row["timestamp"] <= until:
            add(_sums_of(row, groups), sums)
    for (ends, group), units in sums.items():
        if ends != EVER:
            yield UsageSum(ends, group, tuple(units.items()))


def _sums_of(row: dict[str, Any], groups: Groups) -> Iterable[UsageSum]:
    if "count" in row:
        group = CountGroup(row["principal"], row["task"], row["count"])
        return count_sums(group, row["timestamp"], row["counts"], groups)
    return sums_of(event_of(row), groups)


def _features(records: Records, names: frozenset[str] | None) -> dict[str, list[str]]:
    """The counters that these principals have, and what each of them counts."""
    found: dict[str, list[str]] = {}
    for _ends, text, units in records.sums(EVER, EVER):
        word, principal, *rest = json.loads(text)
        if word == "feature" and (names is None or principal in names):
            found.setdefault(rest[0], []).extend(what for what, _n in units)
    return found


@dataclass(slots=True)
class _Part:
    """A bucket that is being filled."""

    calls: dict[str, int] = field(default_factory=dict[str, int])
    sessions: dict[str, int] = field(default_factory=dict[str, int])
    counters: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def take(self, group: Group, units: dict[str, int]) -> None:
        """Add what a group of events came to."""
        if isinstance(group, CallGroup):
            _add(units, self.calls)
        elif group.counter == SESSIONS:
            _add(units, self.sessions)
        else:
            own = {what: n for what, n in units.items() if what != "events"}
            _add(own, self.counters.setdefault(group.counter, {}))

    def tally(self, features: dict[str, list[str]]) -> UsageTally:
        """What it came to; a counter that a principal has is there, if only as zeros."""
        sessions = self.sessions
        counters = {name: dict.fromkeys(whats, 0) for name, whats in features.items()}
        for name, counts in self.counters.items():
            counters.setdefault(name, {}).update(counts)
        return UsageTally(
            Sessions(*(sessions.get(name, 0) for name in Sessions.__slots__)),
            Compute(self.calls.get("calls", 0), sessions.get("duration_us", 0) // 1_000),
            totals(self.calls),
            counters,
        )


def totals(units: dict[str, int]) -> UsageTotals:
    """What calls came to, of what was added up."""
    return UsageTotals(
        units.get("calls", 0),
        units.get("refused", 0),
        units.get("corrected", 0),
        units.get("duration_us", 0),
        units.get("wait_us", 0),
        {what[2:]: n for what, n in units.items() if what.startswith("d:")},
        {what[2:]: n for what, n in units.items() if what.startswith("u:")},
    )


def _add(units: dict[str, int], into: dict[str, int]) -> None:
    for what, n in units.items():
        into[what] = into.get(what, 0) + n

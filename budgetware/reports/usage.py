"""`UsageReport`: what was used in a time, and its JSON.

Plain data. Totals are the fold of the buckets, so they cannot disagree. Not here: where the numbers
come from (`folding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any, Literal, TypeVar, cast

from ..errors import InvalidAmount
from ..kernel.dims import show
from .tallies import Compute, Counters, Sessions, UsageTally, UsageTotals
from .times import read_time, stamp

Bucket = Literal["day", "hour"]
T = TypeVar("T")
_SERIES: dict[Bucket, str] = {"day": "daily", "hour": "hourly"}


@dataclass(frozen=True, slots=True)
class UsageBucket:
    """A day or an hour of UTC, or the part of it that is in the window.

    Attributes:
        start, end: what happened at the end is in it, what happened at the start is not.
    """

    start: datetime
    end: datetime
    tally: UsageTally

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"start": stamp(self.start), "end": stamp(self.end), **self.tally.to_dict()}


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The calls that have something in common, such as a principal and a day."""

    key: Mapping[str, str | None]
    usage: UsageTotals

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**self.key, "usage": self.usage.to_dict()}


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What was used in a time, folded from usage events.

    Attributes:
        principal: whose; None: everybody's.
        since, until: the window, in UTC; it begins after `since` and includes `until`.
        bucket: what the window is cut into.
        buckets: days or hours of UTC without a gap; the first and the last may be parts.
        groups: the calls by what `by` asked for; empty where it asked for nothing.
    """

    principal: str | None
    since: datetime
    until: datetime
    bucket: Bucket = "day"
    buckets: tuple[UsageBucket, ...] = ()
    groups: tuple[UsageGroup, ...] = ()

    @property
    def total(self) -> UsageTally:
        """All buckets together."""
        return reduce(UsageTally.merge, (bucket.tally for bucket in self.buckets), UsageTally())

    @property
    def sessions(self) -> Sessions:
        """Task budgets: entered, completed, failed."""
        return self.total.sessions

    @property
    def compute(self) -> Compute:
        """Calls that ran, and how long task budgets lasted."""
        return self.total.compute

    @property
    def usage(self) -> UsageTotals:
        """What calls came to."""
        return self.total.usage

    @property
    def counters(self) -> Counters:
        """Named counters: those that the principal has, a zero included."""
        return self.total.counters

    def merge(self, other: UsageReport) -> UsageReport:
        """Add a report of the same window and buckets, as of another store; sums saturate.

        Raises:
            InvalidAmount: it is of another window, or cut or grouped otherwise.
        """
        spans = [[(b.start, b.end) for b in report.buckets] for report in (self, other)]
        if spans[0] != spans[1] or self.bucket != other.bucket:
            raise InvalidAmount("reports of different windows cannot be merged")
        pairs = zip(self.buckets, other.buckets, strict=True)
        groups: dict[tuple[tuple[str, str | None], ...], UsageTotals] = {}
        for group in (*self.groups, *other.groups):
            key = tuple(group.key.items())
            groups[key] = groups.get(key, UsageTotals()).merge(group.usage)
        return UsageReport(
            self.principal if self.principal == other.principal else None,
            self.since,
            self.until,
            self.bucket,
            tuple(UsageBucket(a.start, a.end, a.tally.merge(b.tally)) for a, b in pairs),
            tuple(UsageGroup(dict(key), totals) for key, totals in groups.items()),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: times as RFC 3339 in UTC, money as strings."""
        series = [bucket.to_dict() for bucket in self.buckets]
        groups = {"groups": [group.to_dict() for group in self.groups]} if self.groups else {}
        return {
            "api_key_name": self.principal,
            "since": stamp(self.since),
            "until": stamp(self.until),
            **self.total.to_dict(),
            _SERIES[self.bucket]: series,
            **groups,
        }

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> UsageReport:
        """Read the JSON form; keys that are not known are passed over.

        Raises:
            InvalidAmount: it is no report.
        """
        try:
            return _report(table)
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InvalidAmount(f"{show(table)} is no report: {error!r:.100}") from None


def _report(table: Mapping[str, Any]) -> UsageReport:
    bucket: Bucket = "hour" if "hourly" in table else "day"
    since, until = read_time(table.get("since")), read_time(table.get("until"))
    series = table.get(_SERIES[bucket])
    if series is None:  # of a version without buckets
        series = [{**table, "start": table["since"], "end": table["until"]}]
    return UsageReport(
        table.get("api_key_name"),
        since,
        until,
        bucket,
        tuple(_read(_bucket, each) for each in series),
        tuple(_read(_group, each) for each in table.get("groups", ())),
    )


def _read(read: Callable[[Mapping[str, Any]], T], table: object) -> T:
    if not isinstance(table, dict):
        raise InvalidAmount(f"{show(table)} is no part of a report")
    return read(cast("Mapping[str, Any]", table))


def _bucket(table: Mapping[str, Any]) -> UsageBucket:
    start, end = read_time(table.get("start")), read_time(table.get("end"))
    return UsageBucket(start, end, UsageTally.from_dict(table))


def _group(table: Mapping[str, Any]) -> UsageGroup:
    key = {name: value for name, value in table.items() if isinstance(value, str | None)}
    return UsageGroup(key, UsageTotals.from_dict(table.get("usage", {})))

"""What is counted of a time: sessions, compute, calls, named counters. Sums saturate.

Not here: the window they are of (`usage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, cast

from ..errors import InvalidAmount
from ..kernel.dims import from_units, show, to_units

MOST = 2**64 - 1
"""Where a sum saturates."""


def _sum(a: int, b: int) -> int:
    return max(-MOST, min(MOST, a + b))


def _merged(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {key: _sum(a.get(key, 0), b.get(key, 0)) for key in (*a, *(k for k in b if k not in a))}


def _count(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key, 0)
    if type(value) is not int:
        raise InvalidAmount(f"{key} is {show(value)}: give a whole number")
    return value


@dataclass(frozen=True, slots=True)
class Sessions:
    """How many task budgets were entered, and left: completed, or failed.

    They need not balance: a task may begin in one window and end in another.
    """

    started: int = 0
    completed: int = 0
    failed: int = 0

    def merge(self, other: Sessions) -> Sessions:
        """Add another one's."""
        return Sessions(*(_sum(getattr(self, n), getattr(other, n)) for n in self.__slots__))

    def to_dict(self) -> dict[str, int]:
        """The JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Compute:
    """How many calls ran, and for how long the task budgets that have ended lasted."""

    executed_slot_count: int = 0
    session_duration_ms: int = 0

    def merge(self, other: Compute) -> Compute:
        """Add another one's."""
        return Compute(*(_sum(getattr(self, n), getattr(other, n)) for n in self.__slots__))

    def to_dict(self) -> dict[str, int]:
        """The JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What calls came to.

    Attributes:
        calls: how many ran.
        refused: how many did not, because there was not enough.
        corrected: how many were corrected after they had been charged.
        duration_us, wait_us: how long they ran, and waited for their turn, in microseconds.
        units: what was charged, by dimension; of `usd` micro-dollars.
        reported: tokens that models reported, by `input_tokens` and `output_tokens`, charged
            or not.
    """

    calls: int = 0
    refused: int = 0
    corrected: int = 0
    duration_us: int = 0
    wait_us: int = 0
    units: Mapping[str, int] = field(default_factory=dict[str, int])
    reported: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def charged(self) -> dict[str, int | Decimal]:
        """What was charged, by dimension; `usd` in dollars."""
        return {dim: from_units(dim, n) for dim, n in sorted(self.units.items())}

    def merge(self, other: UsageTotals) -> UsageTotals:
        """Add another one's."""
        return UsageTotals(
            _sum(self.calls, other.calls),
            _sum(self.refused, other.refused),
            _sum(self.corrected, other.corrected),
            _sum(self.duration_us, other.duration_us),
            _sum(self.wait_us, other.wait_us),
            _merged(self.units, other.units),
            _merged(self.reported, other.reported),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: money as a string of dollars."""
        charged = {d: str(v) if isinstance(v, Decimal) else v for d, v in self.charged.items()}
        return {
            "calls": self.calls,
            "refused": self.refused,
            "corrected": self.corrected,
            "duration_ms": self.duration_us / 1_000,
            "wait_ms": self.wait_us / 1_000,
            "charged": charged,
            "reported": dict(sorted(self.reported.items())),
        }

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> UsageTotals:
        """Read the JSON form."""
        charged: Mapping[str, Any] = table.get("charged", {})
        reported: Mapping[str, Any] = table.get("reported", {})
        return UsageTotals(
            _count(table, "calls"),
            _count(table, "refused"),
            _count(table, "corrected"),
            round(table.get("duration_ms", 0) * 1_000),
            round(table.get("wait_ms", 0) * 1_000),
            {dim: _signed_units(dim, value) for dim, value in charged.items()},
            {name: _count(reported, name) for name in reported},
        )


def _signed_units(dim: str, value: Any) -> int:
    if dim != "usd":
        return int(value)
    dollars = Decimal(value)
    units = to_units("usd", abs(dollars))
    return -units if dollars < 0 else units


Counters = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class UsageTally:
    """All that is counted of a time: what buckets and the whole report have in common."""

    sessions: Sessions = Sessions()
    compute: Compute = Compute()
    usage: UsageTotals = field(default_factory=UsageTotals)
    counters: Counters = field(default_factory=dict[str, Mapping[str, int]])

    def merge(self, other: UsageTally) -> UsageTally:
        """Add another one."""
        names = dict.fromkeys((*self.counters, *other.counters))
        return UsageTally(
            self.sessions.merge(other.sessions),
            self.compute.merge(other.compute),
            self.usage.merge(other.usage),
            {n: _merged(self.counters.get(n, {}), other.counters.get(n, {})) for n in names},
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: a section for each counter."""
        return {
            "sessions": self.sessions.to_dict(),
            "compute": self.compute.to_dict(),
            **{name: dict(counts) for name, counts in sorted(self.counters.items())},
            "usage": self.usage.to_dict(),
        }

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> UsageTally:
        """Read the JSON form: what is not known but a table of numbers is a counter."""
        sessions, compute = table.get("sessions", {}), table.get("compute", {})
        return UsageTally(
            Sessions(*(_count(sessions, each.name) for each in fields(Sessions))),
            Compute(*(_count(compute, each.name) for each in fields(Compute))),
            UsageTotals.from_dict(table.get("usage", {})),
            {name: dict(found) for name, found in table.items() if _is_counter(name, found)},
        )


RESERVED = frozenset(
    {"api_key_name", "since", "until", "start", "end", "sessions", "compute", "usage", "daily"}
    | {"hourly", "groups", "key"}
)
"""What no counter can be called: the sections that a report has anyway."""


def _is_counter(name: str, found: object) -> bool:
    if name in RESERVED or not isinstance(found, dict):
        return False
    return all(type(value) is int for value in cast("dict[str, object]", found).values())

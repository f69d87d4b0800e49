"""What a usage event adds to the sums that a ledger keeps by the hour. Not here: keeping them.

A sum is of a group: what events have in common, as a JSON list that begins with a word, `"call"`
for usage events and `"count"` for named counters. Amounts are ints; durations are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import ceil
from typing import Any

from .events import UsageEvent
from .ledgers.terms import EVER, UsageSum
from .usage import Usage

HOUR = 3_600
MAX_GROUPS = 2_000
"""So many groups of an hour are kept apart by one process; then only principal and outcome are."""
MAX_FEATURES = 10_000
"""So many counters of principals are remembered for good by one process."""
OTHER = "other"
SESSIONS = "sessions"
"""The counter of task budgets."""
LEVELS = frozenset({"memory"})
"""Dimensions that come back: adding them up says nothing."""

_CALL_PARTS, _COUNT_PARTS = 7, 3
_EXECUTED = frozenset({"completed", "failed", "cancelled", "broken", "terminated"})
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class CallGroup:
    """Usage events that are counted together."""

    principal: str | None
    task: str
    kind: str | None
    name: str | None
    model: str | None
    provider: str | None
    outcome: str

    def text(self) -> str:
        """As the ledger keeps it."""
        return _text_of(
            "call", self.principal, self.task, self.kind, self.name, self.model, self.provider,
            self.outcome,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CountGroup:
    """Counts that are added together."""

    principal: str | None
    task: str
    counter: str

    def text(self) -> str:
        """As the ledger keeps it."""
        return _text_of("count", self.principal, self.task, self.counter)


Group = CallGroup | CountGroup


@lru_cache(MAX_GROUPS)
def _text_of(*parts: str | None) -> str:
    return _encode(parts)


@lru_cache(MAX_GROUPS)
def read_group(text: str) -> Group | None:
    """Read a group; None: it is of a newer version, or of all time."""
    word, *parts = json.loads(text)
    if word == "call" and len(parts) == _CALL_PARTS:
        return CallGroup(*parts)
    if word == "count" and len(parts) == _COUNT_PARTS:
        return CountGroup(*parts)
    return None


def hour_end(timestamp: float) -> int:
    """The end of the hour in which something happened; at its very end is in it."""
    return ceil(timestamp / HOUR) * HOUR


def cpu_group(principal: str) -> str:
    """The group of all CPU time that was ever charged on behalf of a principal."""
    return _text_of("cpu", principal)


def feature_group(principal: str | None, counter: str) -> str:
    """The group of all that was ever counted of this on behalf of a principal."""
    return _text_of("feature", principal, counter)


class Groups:
    """Which groups this process has used in the hour, so that there are not too many."""

    __slots__ = ("_ends", "_features", "_known")

    def __init__(self) -> None:
        self._ends = 0
        self._known: set[str] = set()
        self._features: set[CountGroup] = set()

    def keeps(self, group: CountGroup) -> bool:
        """Whether it is kept for good that a principal has this counter; there is a bound."""
        feature = CountGroup(group.principal, "", group.counter)
        if feature not in self._features and len(self._features) < MAX_FEATURES:
            self._features.add(feature)
        return feature in self._features

    def text(self, group: Group, ends: int) -> str:
        """The group as it is kept; beyond so many, in less detail."""
        text = group.text()
        if ends > self._ends:
            self._ends = ends
            self._known.clear()
        if text not in self._known:
            if len(self._known) >= MAX_GROUPS:
                return _coarse(group).text()
            self._known.add(text)
        return text


def _coarse(group: Group) -> Group:
    if isinstance(group, CountGroup):
        return CountGroup(group.principal, OTHER, group.counter)
    return CallGroup(group.principal, OTHER, OTHER, OTHER, OTHER, OTHER, group.outcome)


def is_executed(outcome: str, duration_ms: float, charged: Mapping[str, Any]) -> bool:
    """Whether a call ran: one that was refused, or cut while it waited, did not."""
    if outcome == "completed":
        return True
    return outcome in _EXECUTED and (duration_ms > 0 or any(charged.values()))


def sums_of(event: UsageEvent, groups: Groups) -> tuple[UsageSum, ...]:
    """What an event adds."""
    group = CallGroup(
        event.principal, event.task, event.kind, event.name, event.model, event.provider,
        event.outcome,
    )  # fmt: skip
    ends = hour_end(event.timestamp)
    charged = {
        dim: int(n.scaleb(6)) if isinstance(n, Decimal) else n for dim, n in event.charged.items()
    }
    units = _units(event, charged)
    found = [UsageSum(ends, groups.text(group, ends), tuple(units.items()))]
    cpu_micros = charged.get("cpu_micros")
    if cpu_micros and event.principal is not None:
        found.append(UsageSum(EVER, cpu_group(event.principal), (("cpu_micros", cpu_micros),)))
    return tuple(found)


def _units(event: UsageEvent, charged: Mapping[str, int]) -> dict[str, int]:
    outcome, duration_ms = event.outcome, event.duration_ms
    units = {"events": 1}
    if outcome == "corrected":
        units["corrected"] = 1
    elif is_executed(outcome, duration_ms, charged):
        units["calls"] = 1
    elif outcome in ("rejected", "terminated"):
        units["refused"] = 1
    if duration_ms:
        units["duration_us"] = int(duration_ms * 1_000)
    if event.wait_ms:
        units["wait_us"] = int(event.wait_ms * 1_000)
    for dim, n in charged.items():
        if n and dim not in LEVELS:
            units[f"d:{dim}"] = n
    if event.usage is not None and outcome != "corrected":
        _add_usage(event.usage, units)
    return units


def _add_usage(usage: Usage, units: dict[str, int]) -> None:
    amounts = usage.amounts()
    for axis in ("input_tokens", "output_tokens"):
        if amounts[axis]:
            units[f"u:{axis}"] = amounts[axis]


def count_sums(
    group: CountGroup, timestamp: float, counts: Mapping[str, int], groups: Groups
) -> tuple[UsageSum, ...]:
    """What a count adds; a count of zero says that the principal has such a counter."""
    ends = hour_end(timestamp)
    units = tuple(counts.items())
    found = [UsageSum(ends, groups.text(group, ends), (("events", 1), *units))]
    if group.counter != SESSIONS and groups.keeps(group):
        found.append(UsageSum(EVER, feature_group(group.principal, group.counter), units))
    return tuple(found)


def count_text(group: CountGroup, timestamp: float, counts: Mapping[str, int]) -> str:
    """A count as it is kept among the events."""
    return _encode(
        {
            "count": group.counter, "timestamp": timestamp, "principal": group.principal,
            "task": group.task, "counts": dict(counts),
        }
    )  # fmt: skip

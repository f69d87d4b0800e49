"""Everything at a glance: what `top`, HTTP and the live page show.

Not here: the views it is made of (`views`, `task_views`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Any

from ..errors import InvalidAmount
from ..kernel.dims import show
from ..usage_sums import is_executed
from .times import as_time, stamp

if TYPE_CHECKING:
    from ..recording import Recorded, Records
    from ..service import QuotaService

MOST_EVENTS = 5_000
"""Activity is counted over so many events at most."""
MOST_SECONDS = 86_400.0


def overview(service: QuotaService, window_seconds: float) -> dict[str, Any]:
    """Tasks, resources, principals, and what has happened in the last seconds. May block."""
    if type(window_seconds) not in (int, float) or not 0 < window_seconds <= MOST_SECONDS:
        raise InvalidAmount(f"window_seconds={show(window_seconds)}: give up to {MOST_SECONDS:g}")
    service.refresh()
    runtime = service.runtime
    now, records, shared = runtime.clock.time(), runtime.records, runtime.shared
    return {
        "at": stamp(as_time(now)),
        "ledger": "memory://" if shared is None else shared.courier.ledger.address,
        "window_seconds": float(window_seconds),
        "tasks": [task.to_dict() for task in service.tasks()],
        "resources": [resource.to_dict() for resource in service.resources()],
        "principals": [principal.to_dict() for principal in service.principals()],
        "activity": activity(records, now, window_seconds),
        "last_event": 0 if records is None else records.last(),
    }


@dataclass(slots=True)
class _Row:
    """What was done by the same principal, in the same task, with the same tool or model."""

    calls: int = 0
    refused: int = 0
    wait_ms: float = 0.0
    charged: dict[str, int | Decimal] = field(default_factory=dict[str, int | Decimal])

    def take(self, event: dict[str, Any]) -> None:
        """Count an event."""
        if event["outcome"] == "corrected":
            pass
        elif is_executed(event["outcome"], event["duration_ms"], event["charged"]):
            self.calls += 1
        elif event["outcome"] in ("rejected", "terminated"):
            self.refused += 1
        self.wait_ms += event["wait_ms"]
        for dim, value in event["charged"].items():
            n: int | Decimal = Decimal(value) if isinstance(value, str) else value
            self.charged[dim] = self.charged.get(dim, 0) + n


def activity(records: Records | None, now: float, window_seconds: float) -> dict[str, Any]:
    """What has happened in the last seconds."""
    newest = [] if records is None else _newest(records, now - window_seconds)
    events = [event for _number, event in newest]
    calls = [event for event in events if "count" not in event]
    if len(events) >= MOST_EVENTS:  # there may be more: they tell of less time
        window_seconds = max(1e-3, now - events[0]["timestamp"])
    rows: dict[tuple[str | None, ...], _Row] = {}
    for event in calls:
        key = tuple(event[name] for name in ("principal", "task", "name", "model"))
        rows.setdefault(key, _Row()).take(event)
    return {
        "calls_per_second": round(sum(row.calls for row in rows.values()) / window_seconds, 3),
        "refused_per_second": round(sum(row.refused for row in rows.values()) / window_seconds, 3),
        "throttled": sum(event["wait_ms"] > 0 for event in calls),
        "by": [_shown(key, rows[key]) for key in sorted(rows, key=lambda key: -rows[key].calls)],
    }


def _shown(key: Iterable[str | None], row: _Row) -> dict[str, Any]:
    principal, task, name, model = key
    charged = {d: str(v) if isinstance(v, Decimal) else v for d, v in row.charged.items()}
    return {
        "principal": principal,
        "task": task,
        "name": name,
        "model": model,
        "calls": row.calls,
        "refused": row.refused,
        "wait_ms": round(row.wait_ms, 3),
        "charged": charged,
    }


def _newest(records: Records, since: float) -> list[Recorded]:
    """The newest events, not older than this."""
    found: list[Recorded] = []
    after = max(0, records.last() - MOST_EVENTS)
    while page := records.usage(since, inf, after=after):
        found += page
        after = page[-1][0]
    return found

"""Usage events of known times, in every place where a service keeps them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

from budgetware import QuotaService, UsageEvent, connect
from tests.ledgers.valkey import running

DAY, HOUR = 86_400, 3_600
MIDNIGHT = int(time.time()) // DAY * DAY - 3 * DAY
"""Three days ago: events are not kept for ever."""
PLACES = ("nowhere", "memory", "sqlite")
_numbers = count(1)


@contextmanager
def service_in(place: str, folder: Path, **options: Any) -> Generator[QuotaService]:
    """A service that keeps its events in the memory of the process, in a file, or on a server."""
    if place == "valkey":
        with running("valkey", folder) as server, connect(ledger=server.url(), **options) as made:
            yield made
        return
    addresses = {"nowhere": None, "memory": "memory://", "sqlite": f"sqlite:///{folder}/usage.db"}
    with connect(ledger=addresses[place], **options) as made:
        yield made


def event(at: float, **given: Any) -> UsageEvent:
    """A call that completed then."""
    values: dict[str, Any] = {
        "timestamp": at, "request_id": f"r-{next(_numbers)}", "principal": None, "task": "job",
        "kind": "tool", "name": "search", "model": None, "provider": None, "endpoint": None,
        "usage": None, "reserved": {"calls": 1}, "charged": {"calls": 1}, "duration_ms": 2.0,
        "wait_ms": 0.0, "status": 200, "outcome": "completed", "error": None,
    }  # fmt: skip
    return UsageEvent(**{**values, **given})


def refusal(at: float, **given: Any) -> UsageEvent:
    """A call that was refused then."""
    nothing: dict[str, int | Decimal] = {"calls": 0}
    return event(at, charged=nothing, duration_ms=0.0, status=429, outcome="rejected", **given)


def put(service: QuotaService, events: Iterable[UsageEvent]) -> None:
    """Have them recorded, and wait until they are."""
    records = service.runtime.records
    assert records is not None
    for each in events:
        records.put(lambda each=each: each)  # type: ignore[misc]
    service.flush()

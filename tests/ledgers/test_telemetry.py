"""What is told of calls on a ledger: asking it is no wait, and what is shown adds up."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Resource,
    reserve,
    reserve_nowait,
)
from budgetware.quotas import QuotaLimit
from budgetware.telemetry import names
from tests.ledgers.outboxes import numbers
from tests.ledgers.places import Place, inside, soon_async
from tests.telemetry.sdk import Sdk


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    made = Sdk()
    yield made
    made.close()


@pytest.fixture
def service(place: Place, sdk: Sdk) -> Iterator[QuotaService]:
    with place.connect(**sdk.providers) as opened:
        yield opened


@pytest.mark.parametrize("limit", [Capacity(100), Concurrency(100)], ids=["capacity", "slots"])
async def test_a_call_that_only_asked_has_not_waited(
    service: QuotaService, sdk: Sdk, limit: QuotaLimit
) -> None:
    service.define(Resource("org", limit, "throttle"))
    events = service.subscribe()
    async with reserve("org", 60, kind="tool", name="search") as reservation:
        reservation.commit()
    event = await anext(events)
    assert (event.outcome, event.wait_ms) == ("completed", 0)
    assert sdk.sums(names.ADMISSIONS, names.DECISION) == {"admitted": 1}
    assert names.WAIT_SECONDS not in sdk.metrics()
    assert [span.name for span in sdk.spans] == ["execute_tool search"]


async def test_nor_has_one_that_was_refused(service: QuotaService, sdk: Sdk) -> None:
    service.define(Resource("org", Capacity(100), "reject"))
    events = service.subscribe()
    (await reserve("org", 60)).commit()
    with pytest.raises(QuotaExceeded):
        await reserve("org", 60)
    assert (await anext(events)).outcome == "completed"
    refused = await anext(events)
    assert (refused.outcome, refused.wait_ms) == ("rejected", 0)
    assert sdk.sums(names.ADMISSIONS, names.DECISION) == {"admitted": 1, "rejected": 1}
    assert names.WAIT_SECONDS not in sdk.metrics()


async def test_one_that_waits_for_another_service_has(
    place: Place, service: QuotaService, sdk: Sdk
) -> None:
    service.define(Resource("slot", Concurrency(1)))
    events = service.subscribe()

    async def wait() -> None:
        with inside(service):
            async with reserve("slot"):
                pass

    async with place.connect() as other:
        with inside(other):
            held = await reserve("slot")
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await soon_async(lambda: service.resource("slot").waiting == 1)
            await anyio.sleep(0.1)
            held.release()
    assert (await anext(events)).wait_ms > 0
    assert sdk.sums(names.ADMISSIONS, names.DECISION) == {"admitted": 0, "throttled": 1}
    assert names.WAIT_SECONDS in sdk.metrics()


async def test_usage_events_are_in_the_ledger_once(place: Place, service: QuotaService) -> None:
    service.define(Resource("org", Capacity(100), "reject"))
    for _ in range(5):
        (await reserve("org", 2)).commit(1)
    with pytest.raises(QuotaExceeded):
        reserve_nowait("org", 101)
    service.close()
    with place.look() as ledger:
        recorded = numbers(ledger)
    assert len(recorded) == len(set(recorded)) == 6


def test_a_gauge_shows_what_others_used_before(place: Place, sdk: Sdk) -> None:
    org = Resource("org", Capacity(100), "reject")
    with place.connect() as first:
        first.define(org)
        with inside(first):
            reserve_nowait("org", 60).commit()
    with place.connect(**sdk.providers) as second:
        second.define(org)
        with inside(second):
            reserve_nowait("org", 7).commit()
            used = sdk.sums(names.QUOTA_USAGE, names.BUDGET_NAME, budgetware__quota__state="used")
        assert used["org"] == second.resource("org").balance.spent == 67

"""Usage events of calls that waited: admitted, refused, cancelled, ended with their task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    BudgetTerminated,
    Concurrency,
    QuotaService,
    Rate,
    Reservation,
    Resource,
    UsageEvent,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
)
from budgetware.events import Subscription
from budgetware.testing import LoopClock, virtual_backend
from tests.telemetry.queueing import behind, hold, slot


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect(clock=LoopClock()) as made:
        made.define(Resource("browsers", Concurrency(1)))
        yield made


@pytest.fixture
def events(service: QuotaService) -> Subscription:
    return service.subscribe()


def told(events: Subscription, name: str | None = "use") -> list[UsageEvent]:
    """The events of calls of that name."""
    found: list[UsageEvent] = []
    while (event := events.get_nowait()) is not None:
        found.append(event)
    return [event for event in found if event.name == name]


def only(events: Subscription) -> UsageEvent:
    (event,) = told(events)
    return event


async def test_an_admitted_call_says_how_long_it_waited(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 2.5, slot())
    event = only(events)
    assert (event.outcome, event.wait_ms, event.duration_ms) == ("completed", 2_500.0, 0.0)


async def test_its_own_time_begins_when_the_wait_is_over(
    service: QuotaService, events: Subscription
) -> None:
    @budgeted(target="browsers")
    async def use() -> None:
        await anyio.sleep(3)

    async with service.task_budget("research", calls=5), anyio.create_task_group() as group:
        group.start_soon(hold, "browsers", 1, 2.0)
        await anyio.sleep(0.5)
        group.start_soon(use)
    event = only(events)
    assert (event.wait_ms, event.duration_ms) == (1_500.0, 3_000.0)


async def test_a_call_that_did_not_wait_says_zero(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5), slot()():
        await anyio.sleep(1)
    assert only(events).wait_ms == 0


async def test_a_correction_waited_for_nothing(service: QuotaService, events: Subscription) -> None:
    service.define(Resource("api", Rate(60, "minute"), dim="calls"))
    async with service.task_budget("research", calls=200):
        reserve_nowait("api", 60).commit()
        reservation = reserve("api", 30, kind="tool", name="use")
        with suppress(LookupError):
            async with reservation:
                raise LookupError
        reservation.commit(10)
    assert [(e.outcome, e.wait_ms, e.charged) for e in told(events)] == [
        ("failed", 30_000.0, {"calls": 30}),
        ("corrected", 0.0, {"calls": -20}),
    ]


async def test_a_refused_call_says_how_long_it_waited(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 9.0, slot(max_wait=2))
    event = only(events)
    assert (event.outcome, event.status, event.wait_ms) == ("rejected", 429, 2_000.0)
    assert event.error == "budgetware.errors.QuotaExceeded"


async def test_a_call_that_was_not_to_wait_says_zero(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 9.0, slot(max_wait=0))
    event = only(events)
    assert (event.outcome, event.wait_ms) == ("rejected", 0.0)


async def test_a_cancelled_wait_is_one_event_with_nothing_charged(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5) as budget:
        with anyio.move_on_after(0.5):
            await behind("browsers", 9.0, slot(calls=2))
        spent = budget.spent("calls")
    event = only(events)
    assert (event.outcome, event.status, event.wait_ms) == ("cancelled", 499, 500.0)
    assert event.reserved == {"browsers": 1, "calls": 2}
    assert event.charged == {"browsers": 0, "calls": 0}
    assert (event.task, event.kind, event.duration_ms) == ("research", "tool", 0.0)
    assert event.request_id
    assert spent == 0
    assert service.resource("browsers").balance.reserved == 0


def test_a_call_cancelled_as_its_turn_came_is_charged_nothing(
    service: QuotaService, events: Subscription
) -> None:
    async def main() -> None:
        held = await asyncio.create_task(taken())
        waiting = asyncio.create_task(use())
        await anyio.wait_all_tasks_blocked()
        held.release()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    event = only(events)
    assert (event.outcome, event.charged) == ("cancelled", {"browsers": 0})
    assert event.wait_ms > 0
    assert service.resource("browsers").balance.remaining == 1


async def taken() -> Reservation:
    return reserve_nowait("browsers")


async def use() -> None:
    async with slot()():
        pass


async def test_a_wait_that_its_task_ended_is_terminated(
    service: QuotaService, events: Subscription
) -> None:
    async def agent() -> None:
        budget = service.task_budget("research", calls=5)
        async with budget, anyio.create_task_group() as group:
            group.start_soon(behind, "browsers", 9.0, slot())
            await anyio.sleep(1)
            budget.terminate("enough")

    with pytest.raises(BudgetTerminated):
        await agent()
    event = only(events)
    assert (event.outcome, event.status, event.wait_ms) == ("terminated", 429, 1_000.0)
    assert event.charged == {"browsers": 0}


async def test_a_wait_that_met_a_deadline_is_terminated(
    service: QuotaService, events: Subscription
) -> None:
    with pytest.raises(BudgetTerminated):
        async with service.task_budget("research", calls=5, seconds=2):
            await behind("browsers", 9.0, slot())
    event = only(events)
    assert (event.outcome, event.status, event.wait_ms) == ("terminated", 429, 2_000.0)
    assert event.charged == {"browsers": 0}


async def test_a_thread_whose_host_was_cancelled_is_told_of(
    service: QuotaService, events: Subscription
) -> None:
    held = reserve_nowait("browsers")

    def wait() -> None:
        with slot()():
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: to_thread.run_sync(wait, abandon_on_cancel=False))
        while not service.resource("browsers").waiting:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    held.release()
    event = only(events)
    assert (event.outcome, event.status, event.charged) == ("cancelled", 499, {"browsers": 0})


def test_a_coroutine_that_is_closed_while_it_waits_is_told_of(
    service: QuotaService, events: Subscription
) -> None:
    async def main() -> None:
        held = await asyncio.create_task(taken())
        coroutine = use()
        coroutine.send(None)
        coroutine.close()
        held.release()

    asyncio.run(main())
    event = only(events)
    assert (event.outcome, event.charged) == ("cancelled", {"browsers": 0})
    assert service.resource("browsers").waiting == 0


async def test_a_wait_that_nobody_hears_of_makes_no_event(service: QuotaService) -> None:
    async with service.task_budget("research", calls=5):
        with anyio.move_on_after(0.5):
            await behind("browsers", 9.0, slot())
        await behind("browsers", 1.0, slot())
    assert service.resource("browsers").balance.reserved == 0


async def test_events_of_waits_have_numbers_of_their_own(
    service: QuotaService, events: Subscription
) -> None:
    async with service.task_budget("research", calls=5):
        for _ in range(2):
            with anyio.move_on_after(0.5):
                await behind("browsers", 9.0, slot())
        await reserve("browsers")
    ids = [event.request_id for event in told(events)]
    assert len(set(ids)) == 2

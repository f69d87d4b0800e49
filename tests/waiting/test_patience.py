# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""What a wait leaves behind: its event, and refusals in a row that end the task."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from budgetware import (
    BudgetTerminated,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Reject,
    Resource,
    TaskBudget,
    UsageEvent,
    budgeted,
    principal,
    reserve,
    task_budget,
)
from budgetware.events import Subscription
from tests.waiting.desk import now, open_desk, take, turns


def events_of(subscription: Subscription) -> list[UsageEvent]:
    events: list[UsageEvent] = []
    while (event := subscription.get_nowait()) is not None:
        events.append(event)
    return events


async def test_an_event_says_how_long_its_call_has_waited(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1)))
    with service.subscribe() as subscription:
        async with open_desk() as desk:
            await desk.arrive("holder", "slot", seconds=2)
            await desk.arrive("waiter", "slot", seconds=1)
        first, second = events_of(subscription)
    assert (first.wait_ms, first.duration_ms) == (0, 2_000)
    assert (second.wait_ms, second.duration_ms, second.outcome) == (2_000, 1_000, "completed")


async def test_calls_at_the_very_start_of_a_clock_have_events(service: QuotaService) -> None:
    @budgeted(calls=1)
    async def search() -> None: ...

    async with task_budget("agent", calls=5):
        with service.subscribe() as subscription:
            for _ in range(3):
                await search()
            assert now() == 0
            assert len(events_of(subscription)) == 3


async def test_a_wait_in_vain_is_one_event(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1)))
    _held = take("slot")
    with service.subscribe() as subscription, principal("alice"):
        with pytest.raises(QuotaExceeded):
            await reserve("slot", max_wait=3, name="search")
        (event,) = events_of(subscription)
    assert (event.outcome, event.status, event.wait_ms) == ("rejected", 429, 3_000)
    assert (event.principal, event.name) == ("alice", "search")
    assert (event.reserved, event.charged) == ({"slot": 1}, {"slot": 0})


async def test_a_wait_that_ends_with_its_task_is_one_event(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1)))
    _held = take("slot")
    async with open_desk() as desk:
        with service.subscribe() as subscription:
            with pytest.raises(BudgetTerminated):
                async with task_budget("agent", calls=5) as budget:
                    await desk.arrive("waiter", "slot", inside=budget)
                    await anyio.sleep(1)
                    budget.terminate("enough")
                    await anyio.sleep_forever()
            await turns()
            (event,) = events_of(subscription)
    assert (event.outcome, event.task, event.wait_ms) == ("terminated", "agent", 1_000)


# Refusals in a row.


@asynccontextmanager
async def agent(service: QuotaService) -> AsyncGenerator[TaskBudget]:
    """A task, and a slot that is taken."""
    service.define(Resource("slot", Concurrency(1)))
    _held = take("slot")
    async with task_budget("agent", calls=1_000) as budget:
        yield budget


async def wait_in_vain(times: int, **amounts: Any) -> None:
    for _ in range(times):
        with pytest.raises(QuotaExceeded):
            await reserve("slot", max_wait=1, **amounts)


async def test_the_hundredth_wait_in_vain_ends_the_task(service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated, match="after 100 refusals in a row"):
        async with agent(service):
            await wait_in_vain(99)
            await reserve("slot", max_wait=1)
    assert now() == 100.0


async def test_the_hundredth_wait_in_vain_for_a_task_ends_it(service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated, match="after 100 refusals in a row"):
        async with task_budget("agent", tokens=10, policy="throttle"):
            _held = take(tokens=10, expires_in="1h")
            for _ in range(200):
                with pytest.raises(QuotaExceeded):
                    await reserve(tokens=1, max_wait=1)
    assert now() == 101.0  # and a second for what is still reserved


async def test_a_grant_of_the_same_resource_begins_anew(service: QuotaService) -> None:
    async with agent(service):
        await wait_in_vain(99)
        service.update("slot", limit=Concurrency(2))
        async with reserve("slot"):
            pass
        service.update("slot", limit=Concurrency(1))
        await wait_in_vain(99)


async def test_so_does_one_that_the_task_pays_for_too(service: QuotaService) -> None:
    async with agent(service):
        await wait_in_vain(99, calls=1)
        service.update("slot", limit=Concurrency(2))
        async with reserve("slot", calls=1):
            pass
        service.update("slot", limit=Concurrency(1))
        await wait_in_vain(99, calls=1)


async def test_so_does_one_that_has_waited(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1)))
    async with task_budget("agent", calls=1_000), open_desk() as desk:
        await desk.arrive("holder", "slot", is_stranger=True, seconds=99.5)
        await wait_in_vain(99)
        async with reserve("slot"):
            assert now() == 99.5
        _held = take("slot")
        await wait_in_vain(99)


async def test_a_grant_of_something_else_does_not(service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated):
        async with agent(service):
            service.define(Resource("other", Concurrency(1)))
            await wait_in_vain(99)
            async with reserve("other"), reserve(calls=1):
                pass
            await reserve("slot", max_wait=1)


async def test_a_call_may_have_less_patience(service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated):
        async with agent(service):
            for _ in range(2):
                with pytest.raises(QuotaExceeded):
                    await reserve("slot", policy=Reject(patience=3))
            await reserve("slot", policy=Reject(patience=3))


async def test_outside_any_task_there_is_nothing_to_end(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1)))
    _held = take("slot")
    await wait_in_vain(150)


async def test_the_innermost_task_is_ended_for_a_resource(service: QuotaService) -> None:
    async with agent(service) as outer:
        with pytest.raises(BudgetTerminated) as ended:
            async with task_budget("inner", calls=10):
                await wait_in_vain(99)
                await reserve("slot", max_wait=1)
        assert ended.value.budget == "inner"
        assert outer.verdict.is_continuing

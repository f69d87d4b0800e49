"""Cancelled at any await point, a call leaves nothing held, on any ledger, and pays its cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    Capacity,
    Concurrency,
    QuotaService,
    Reservation,
    Resource,
    current_budget,
    reserve,
)
from budgetware.errors import IdempotencyConflict
from tests.cancellation.sweep import (
    Cancel,
    Cost,
    Scenario,
    by_scope,
    by_scope_twice,
    natively,
    natively_twice,
)
from tests.ledgers.places import Place, soon_async

POINTS = 40
keys = count()
PlaceScenario = Callable[[Place, Cost], Awaitable[None]]


async def leased_block(cost: Cost) -> None:
    async with reserve("org", 5) as reservation:
        part = cost.start(5)
        await checkpoint()
        reservation.commit(2)
        cost.known(part, 2)
        await checkpoint()


async def chain_block(cost: Cost) -> None:
    async with reserve("team", 5) as reservation:
        part = cost.start(5)
        await checkpoint()
        reservation.record(3)
        cost.known(part, 3)
        await checkpoint()


async def per_call_block(cost: Cost) -> None:
    async with reserve("exact", 5) as reservation:
        part = cost.start(5)
        await checkpoint()
        reservation.commit(2)
        cost.known(part, 2)
    await checkpoint()


async def slot_block(cost: Cost) -> None:
    async with reserve("slot"):
        await checkpoint()
    async with reserve("slot"):
        await checkpoint()


async def keyed_block(cost: Cost) -> None:
    async with reserve("org", 5, idempotency_key=str(next(keys))) as reservation:
        part = cost.start(5)
        await checkpoint()
        reservation.commit(2)
        cost.known(part, 2)


def define(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10_000), "reject"))
    service.define(Resource("team", Capacity(10_000), "reject", parent="org"))
    service.define(Resource("exact", Capacity(10_000), "reject", per_call=True, parent="org"))
    service.define(Resource("slot", Concurrency(1)))


async def sweep_calls(place: Place, scenario: Scenario, cancel: Cancel) -> None:
    """Cancel it one turn later each time, and once not at all."""
    total = 0
    async with place.connect() as service:
        define(service)
        for point in (*range(POINTS), None):
            cost = Cost()
            if point is None:
                await scenario(cost)
            else:
                await cancel(scenario, cost, point)
            total += sum(cost.parts)
            assert [v.name for v in service.resources() if v.balance.reserved or v.waiting] == []
            assert service.resource("org").balance.spent == total
            assert current_budget() is None
    place.assert_at_rest(org=total)


SCENARIOS = [leased_block, chain_block, per_call_block, slot_block, keyed_block]
scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)


@scenarios
@pytest.mark.parametrize("cancel", [by_scope, by_scope_twice], ids=lambda c: c.__name__)
async def test_calls_cancelled_by_a_scope(place: Place, scenario: Scenario, cancel: Cancel) -> None:
    await sweep_calls(place, scenario, cancel)


@scenarios
@pytest.mark.parametrize("cancel", [natively, natively_twice], ids=lambda c: c.__name__)
def test_calls_cancelled_natively(place: Place, scenario: Scenario, cancel: Cancel) -> None:
    asyncio.run(sweep_calls(place, scenario, cancel))


# Shared tasks and services.


async def shared_task(place: Place, cost: Cost) -> None:
    async with place.connect() as service, service.task_budget("job", tokens=10_000, shared=True):
        async with reserve(tokens=5) as reservation:
            part = cost.start(5)
            await checkpoint()
            reservation.commit(2)
            cost.known(part, 2)
        await checkpoint()


async def opened_and_closed(place: Place, cost: Cost) -> None:
    async with place.connect() as service, service.task_budget("job", tokens=9, shared=True):
        await checkpoint()


def couriers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name == "budgetware-ledger"]


async def sweep_services(place: Place, scenario: PlaceScenario, cancel: Cancel) -> None:
    total = 0
    for point in range(0, 3 * POINTS, 3):
        cost = Cost()
        await cancel(partial(scenario, place), cost, point)
        total += sum(cost.parts)
        await soon_async(lambda: not couriers())
        assert current_budget() is None
    await scenario(place, Cost())
    await soon_async(lambda: not couriers())
    place.assert_at_rest()
    assert place.books("t/job/tokens")[0] - total in (0, 2)  # the last one paid, too, or did not


PLACES = [shared_task, opened_and_closed]
services = pytest.mark.parametrize("scenario", PLACES, ids=lambda s: s.__name__)


@services
@pytest.mark.parametrize("cancel", [by_scope, by_scope_twice], ids=lambda c: c.__name__)
async def test_services_cancelled_by_a_scope(
    place: Place, scenario: PlaceScenario, cancel: Cancel
) -> None:
    await sweep_services(place, scenario, cancel)


@services
@pytest.mark.parametrize("cancel", [natively, natively_twice], ids=lambda c: c.__name__)
def test_services_cancelled_natively(place: Place, scenario: PlaceScenario, cancel: Cancel) -> None:
    asyncio.run(sweep_services(place, scenario, cancel))


async def test_one_who_waits_and_is_cancelled_leaves_the_line_of_the_ledger(place: Place) -> None:
    async with place.connect() as one, place.connect() as two:
        define(one)
        define(two)
        with one.task_budget("one", calls=1):
            held = await reserve("slot")
        with two.task_budget("two", calls=1), anyio.move_on_after(0.05):
            await reserve("slot")
        held.release()
        with one.task_budget("one", calls=1):
            async with reserve("slot", max_wait=10):
                pass
    place.assert_at_rest()


async def _hold(key: str) -> Reservation:
    return await reserve("org", 5, idempotency_key=key)


async def _key_is_free(key: str) -> None:
    async def is_free() -> bool:
        try:
            (await reserve("org", 5, idempotency_key=key)).commit(0)
        except IdempotencyConflict:
            return False
        return True

    with anyio.fail_after(10):
        while not await is_free():  # noqa: ASYNC110 - it is nobody's event
            await anyio.sleep(0.005)


def test_a_key_whose_call_was_cancelled_may_be_tried_again(place: Place) -> None:
    async def sweep() -> None:
        async with place.connect() as service:
            define(service)
            for point in range(POINTS):
                task = asyncio.create_task(_hold(str(point)))
                for _ in range(point):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                if task.cancelled():
                    await _key_is_free(str(point))
                else:
                    task.result().commit(0)

    asyncio.run(sweep())
    place.assert_at_rest(org=0)

# ruff: noqa: PT012 - what raises is a loop, or an owner's block
"""A service on a ledger does what it does without one; when it closes, all is back there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaExceeded,
    Rate,
    Resource,
    reserve,
    reserve_nowait,
)
from budgetware.errors import BlockingInEventLoop
from budgetware.quotas import QuotaLimit
from tests.ledgers.places import Place, inside, soon_async

LIMITS: list[QuotaLimit] = [Capacity(100), Concurrency(100), Rate(100, "hour")]
limits = pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)


# What calls get.


@limits
@pytest.mark.parametrize("policy", ["throttle", "reject", "terminate"])
async def test_a_call_gets_all_there_is(place: Place, limit: QuotaLimit, policy: str) -> None:
    async with place.connect() as service:
        service.define(Resource("org", limit, policy))
        async with reserve("org", 100) as reservation:
            reservation.commit(7)
    place.assert_at_rest()


@limits
@pytest.mark.parametrize("policy", ["throttle", "reject", "terminate"])
def test_sync_code_too(place: Place, limit: QuotaLimit, policy: str) -> None:
    with place.connect() as service:
        service.define(Resource("org", limit, policy))
        with reserve("org", 100) as reservation:
            reservation.commit(7)
    place.assert_at_rest()


@limits
@pytest.mark.parametrize("policy", ["throttle", "reject", "terminate"])
def test_and_who_does_not_wait(place: Place, limit: QuotaLimit, policy: str) -> None:
    with place.connect() as service:
        service.define(Resource("org", limit, policy))
        with reserve_nowait("org", 100) as reservation:
            reservation.commit(7)
    place.assert_at_rest()


def test_what_is_in_stock_counts_towards_a_bigger_request(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(10), "reject"))
        reserve_nowait("org", 8).release()
        reserve_nowait("org", 10).commit()
    place.assert_at_rest(org=10)


async def test_a_blocked_event_loop_is_served(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(100)))
        with reserve("org", 60), reserve_nowait("org", 40):
            pass
    place.assert_at_rest(org=100)


async def test_but_is_not_kept_waiting_for_others(place: Place) -> None:
    async with place.connect() as one, place.connect() as two:
        one.define(Resource("slot", Concurrency(1)))
        two.define(Resource("slot", Concurrency(1)))
        with inside(one):
            held = reserve_nowait("slot")
        with inside(two), pytest.raises(BlockingInEventLoop, match="resource 'slot'"):
            reserve("slot").__enter__()
        held.release()
    place.assert_at_rest()


async def test_a_worker_thread_waits(place: Place) -> None:
    def work() -> str:
        with reserve("slot"):
            return "served"

    async with place.connect() as service, anyio.create_task_group() as group:
        service.define(Resource("slot", Concurrency(1)))
        held = await reserve("slot")
        group.start_soon(to_thread.run_sync, work)
        await soon_async(lambda: service.resource("slot").waiting == 1)
        held.release()
    place.assert_at_rest()


# What they are refused.


@pytest.mark.parametrize("limit", [Capacity(10), Concurrency(10)], ids=["capacity", "slots"])
async def test_a_refusal_says_what_is_left(place: Place, limit: QuotaLimit) -> None:
    async with place.connect() as service:
        service.define(Resource("org", limit, "reject"))
        held = await reserve("org", 6)
        with pytest.raises(QuotaExceeded) as refused:
            await reserve("org", 5)
        held.release()
    assert (refused.value.available, refused.value.limit) == (4, 10)
    assert refused.value.retry_after is None


@limits
async def test_more_than_there_ever_is_is_refused_at_once(place: Place, limit: QuotaLimit) -> None:
    async with place.connect() as service:
        service.define(Resource("org", limit))
        with pytest.raises(QuotaExceeded) as refused:
            await reserve("org", 101)
    assert refused.value.retry_after is None


async def test_what_is_used_up_is_not_waited_for(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(10)))
        (await reserve("org", 5)).commit()
        with pytest.raises(QuotaExceeded) as refused:
            await reserve("org", 6)
    assert (refused.value.available, refused.value.retry_after) == (5, None)


async def test_nor_is_what_the_caller_holds(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("slot", Concurrency(1)))
        async with reserve("slot"):
            with pytest.raises(QuotaExceeded) as refused:
                await reserve("slot")
    assert refused.value.retry_after is None


async def test_a_wait_has_an_end(place: Place) -> None:
    async with place.connect() as one, place.connect() as two:
        one.define(Resource("slot", Concurrency(1)))
        two.define(Resource("slot", Concurrency(1)))
        with inside(one):
            held = await reserve("slot")
        with inside(two), pytest.raises(QuotaExceeded):
            await reserve("slot", max_wait=0.05)
        held.release()
    place.assert_at_rest()


async def test_a_resource_may_terminate_the_task(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(5), "terminate"))
        with pytest.raises(BudgetTerminated):
            async with inside(service):
                (await reserve("org", 5)).commit()
                await reserve("org", 1)
    place.assert_at_rest(org=5)


# How they end.


@pytest.mark.parametrize(("used", "left"), [(30, 70), (0, 100), (60, 40), (75, 25)])
def test_what_is_settled_is_what_is_used(place: Place, used: int, left: int) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject"))
        reserve_nowait("org", 60).commit(used)
        assert service.resource("org").balance.remaining == left
    place.assert_at_rest(org=used)


def test_debt_is_not_forgotten(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(10), "reject"))
        reserve_nowait("org", 5).commit(14)
        service.flush()
        assert service.resource("org").balance.overrun == 4
        with pytest.raises(QuotaExceeded):
            reserve_nowait("org", 1)
    assert place.state("r/org").debt == 4
    place.assert_at_rest(org=14)


def test_what_was_assumed_is_corrected_after_it_was_reported(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject"))
        with reserve("org", 60) as reservation:
            pass
        service.flush()
        assert place.books("r/org")[0] == 60
        reservation.commit(20)
        service.flush()
        assert place.books("r/org")[0] == 20
        reserve_nowait("org", 80).release()
    place.assert_at_rest(org=20)


def test_flush_leaves_nothing_untold(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject"))
        reserve_nowait("org", 30).commit(10)
        service.flush()
        assert place.books("r/org")[0] == 10


def test_definitions_and_refreshes_at_once_are_one_after_the_other(place: Place) -> None:
    with place.connect() as service, ThreadPoolExecutor(4) as pool:

        def define(number: int) -> None:
            service.define(Resource(f"r{number}", Capacity(5)))
            service.delete(f"r{number}")

        made = [pool.submit(define, number) for number in range(30)]
        looks = [pool.submit(service.refresh) for _ in range(60)]
        for each in (*made, *looks):
            each.result()
        assert service.resources() == []

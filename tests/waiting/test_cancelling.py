"""A call that is cancelled while it waits holds nothing, and the turn goes on to the next."""

import asyncio
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    connect,
    reserve,
    task_budget,
)
from budgetware.accounts import waiting
from budgetware.testing import LoopClock, run_virtual
from tests.waiting.desk import balance_of, now, open_desk, turns


async def test_one_in_the_middle_of_the_line(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        for name in "abcd":
            await desk.arrive(name, "slots", seconds=1)
        await desk.cancel("c")
    assert desk.entered == ["a", "b", "d"]
    assert balance_of(service, "slots").reserved == 0


async def test_the_first_in_line_whose_place_kept_others_out(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", 2)
        await desk.arrive("big", "slots", 4)
        await desk.arrive("small", "slots", 1)
        await desk.arrive("other", "slots", 1)
        await desk.cancel("big")
        assert sorted(desk.entered) == ["holder", "other", "small"]


async def test_the_next_takes_over_the_alarm(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("first", "tokens", 8, seconds=0)
        await desk.arrive("second", "tokens", 3, seconds=0)
        await anyio.sleep(1)
        await desk.cancel("first")
    assert desk.at("second") == 3.0


async def test_one_who_waits_for_several(service: QuotaService) -> None:
    service.define(Resource("all", Concurrency(1)))
    service.define(Resource("slots", Concurrency(1), parent="all"))
    async with open_desk() as desk:
        await desk.arrive("holder", "all")
        await desk.arrive("both", "slots")
        await desk.arrive("next", "all")
        await desk.cancel("both")
        await desk.leave("holder")
        assert desk.entered == ["holder", "next"]
        assert balance_of(service, "slots").reserved == 0


async def test_in_the_very_tick_in_which_it_is_let_in(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        await desk.arrive("next", "slots")
        holder = desk.callers["holder"].reservation
        assert holder is not None
        holder.release()
        desk.callers["waiter"].scope.cancel()
        await turns()
        # on trio a task that was woken goes on; on asyncio it is cancelled, and passes the turn on
        assert desk.entered in (["holder", "next"], ["holder", "waiter", "next"])
        await desk.leave("next")
        assert balance_of(service, "slots").reserved == 0


async def test_before_it_is_let_in_in_the_same_tick(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        await desk.arrive("next", "slots")
        holder = desk.callers["holder"].reservation
        assert holder is not None
        desk.callers["waiter"].scope.cancel()
        holder.release()
        await turns()
        assert "next" in desk.entered
        await desk.leave("next")
        assert balance_of(service, "slots").reserved == 0


async def test_what_it_was_granted_goes_to_several(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", 4)
        await desk.arrive("big", "slots", 4)
        for name in "abcd":
            await desk.arrive(name, "slots")
        await desk.cancel("big")
        await desk.leave("holder")
        assert sorted(desk.entered) == ["a", "b", "c", "d", "holder"]


async def test_a_timeout_of_the_caller(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        with anyio.move_on_after(5) as scope:
            await reserve("slots")
        assert (scope.cancelled_caught, now()) == (True, 5.0)
        assert service.resource("slots").waiting == 0


async def test_all_of_a_long_line(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with reserve("slots"):
        async with anyio.create_task_group() as group:
            for _ in range(200):
                group.start_soon(reserve("slots").__aenter__)
            await turns()
            assert service.resource("slots").waiting == 200
            group.cancel_scope.cancel()
        assert service.resource("slots").waiting == 0
        assert balance_of(service, "slots").reserved == 1


async def test_a_cancelled_wait_costs_nothing() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget:
        async with open_desk() as desk:
            await desk.arrive("holder", tokens=100, used=40)
            await desk.arrive("waiter", tokens=50)
            await desk.cancel("waiter")
            await desk.leave("holder")
        balance = budget.snapshot()["tokens"]
        assert (balance.spent, balance.reserved, balance.assumed) == (40, 0, 0)


# Every tick, natively and by scope, once and twice.

Cancel = Callable[["asyncio.Task[None]"], None]


def native(task: "asyncio.Task[None]") -> None:
    task.cancel()


def native_twice(task: "asyncio.Task[None]") -> None:
    task.cancel()
    asyncio.get_running_loop().call_soon(task.cancel)


@pytest.mark.parametrize("cancel", [native, native_twice])
@pytest.mark.parametrize("tick", range(12))
def test_natively_at_every_tick_around_the_grant(cancel: Cancel, tick: int) -> None:
    entered: list[str] = []

    async def call(name: str) -> None:
        async with reserve("slots"):
            entered.append(name)

    async def main() -> None:
        holder = reserve("slots")
        await holder.__aenter__()
        victim = asyncio.create_task(call("victim"))
        next_one = asyncio.create_task(call("next"))
        for at in range(14):
            if at == tick:
                cancel(victim)
            if at == 5:
                await holder.__aexit__(None, None, None)
            await asyncio.sleep(0)
        await asyncio.wait([victim])
        await next_one
        assert victim.cancelled() == ("victim" not in entered)
        assert balance_of(service, "slots").reserved == 0

    with connect(clock=LoopClock()) as service:
        service.define(Resource("slots", Concurrency(1)))
        run_virtual(main)
    assert entered[-1] == "next"
    assert not waiting


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("tick", range(12))
async def test_by_scope_at_every_tick_around_the_grant(
    service: QuotaService, tick: int, twice: bool
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    entered: list[str] = []
    inner, outer = anyio.CancelScope(), anyio.CancelScope()

    async def call(name: str) -> None:
        async with reserve("slots"):
            entered.append(name)

    async def victim() -> None:
        with outer, inner:
            await call("victim")

    async with anyio.create_task_group() as group:
        holder = reserve("slots")
        await holder.__aenter__()
        group.start_soon(victim)
        await checkpoint()
        group.start_soon(call, "next")
        for at in range(14):
            if at == tick:
                inner.cancel()
            if twice and at == tick + 1:
                outer.cancel()
            if at == 5:
                await holder.__aexit__(None, None, None)
            await checkpoint()
    assert "next" in entered
    assert balance_of(service, "slots").reserved == 0

"""The sleep of a waiter: cut short, moved, or until its time, on each event loop."""

import asyncio
import math
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
    reserve_nowait,
)
from budgetware.accounts import waiting
from budgetware.admission import waiters
from budgetware.loops import Alarm, alarm, post_soon
from tests.waiting.desk import balance_of, now, open_desk, turns

MAKERS = pytest.mark.parametrize("make", [alarm, Alarm])
Make = Callable[[], Alarm]


async def slept(bell: Alarm, seconds: float, *then: Callable[[], object]) -> float:
    """How long it slept, if these things happen one second after the other meanwhile."""

    async def happen() -> None:
        for thing in then:
            await anyio.sleep(1)
            thing()

    async with anyio.create_task_group() as group:
        group.start_soon(happen)
        await bell.sleep(seconds)
        at = now()
        group.cancel_scope.cancel()
    return at


@MAKERS
async def test_it_sleeps_until_its_time(make: Make) -> None:
    assert await slept(make(), 2.5) == 2.5


@MAKERS
async def test_it_is_woken(make: Make) -> None:
    bell = make()
    assert await slept(bell, 9, bell.wake) == 1.0


@MAKERS
async def test_it_sleeps_for_ever_until_it_is_woken(make: Make) -> None:
    bell = make()
    assert await slept(bell, math.inf, lambda: None, bell.wake) == 2.0


@MAKERS
async def test_its_end_is_moved_closer(make: Make) -> None:
    bell = make()
    assert await slept(bell, 9, lambda: bell.move(2)) == 3.0


@MAKERS
async def test_its_end_is_moved_away(make: Make) -> None:
    bell = make()
    assert await slept(bell, 2, lambda: bell.move(5)) == 6.0


@MAKERS
async def test_its_end_is_taken_away_and_given_again(make: Make) -> None:
    bell = make()
    moves = (lambda: bell.move(math.inf), lambda: bell.move(1))
    assert await slept(bell, 1.5, *moves) == 3.0


@MAKERS
async def test_a_sleep_for_ever_is_given_an_end(make: Make) -> None:
    bell = make()
    assert await slept(bell, math.inf, lambda: bell.move(1)) == 2.0


@MAKERS
async def test_who_was_woken_before_does_not_sleep(make: Make) -> None:
    bell = make()
    bell.wake()
    bell.wake()
    assert await slept(bell, math.inf) == 0.0


@MAKERS
async def test_nothing_is_moved_where_nobody_sleeps(make: Make) -> None:
    bell = make()
    bell.move(5)
    assert await slept(bell, 1) == 1.0
    bell.move(5)
    assert now() == 1.0


@MAKERS
async def test_it_sleeps_again(make: Make) -> None:
    bell = make()
    await slept(bell, 1)
    assert await slept(bell, 1) == 2.0


@MAKERS
async def test_a_cancelled_sleep_leaves_no_timer(make: Make) -> None:
    bell = make()
    with anyio.move_on_after(1):
        await bell.sleep(100)
    assert now() == 1.0


@MAKERS
async def test_it_is_woken_as_its_time_comes(make: Make) -> None:
    bell = make()
    assert await slept(bell, 1, bell.wake, bell.wake) == 1.0


# Coroutines that no event loop runs.


def test_a_call_driven_by_hand_blocks_like_sync_code() -> None:
    with connect() as service:
        service.define(Resource("tokens", Rate(1_000, "second", max=1)))
        reserve_nowait("tokens", 1).commit()
        call = reserve("tokens", 1).__aenter__()
        with pytest.raises(StopIteration) as returned:
            call.send(None)
        assert returned.value.value.state == "held"
        returned.value.value.release()


# A process that forks, and loops that are closed.


async def test_who_waits_when_the_process_forks_waits_in_the_parent(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        waiters._forget_in_child()  # pyright: ignore[reportPrivateUsage]
        assert (service.resource("slots").waiting, len(waiting)) == (0, 0)
        await desk.cancel("waiter")
        await desk.leave("holder")
        reserve_nowait("slots").release()


def test_a_loop_that_was_closed_over_a_waiter_keeps_nobody_out() -> None:
    async def abandon() -> None:
        asyncio.get_running_loop().create_task(hold()).add_done_callback(lambda _task: None)
        await asyncio.sleep(0)

    async def hold() -> None:
        async with reserve("slots"):
            pass

    with connect() as service:
        service.define(Resource("slots", Concurrency(1)))
        holder = reserve_nowait("slots")
        asyncio.run(abandon())
        assert service.resource("slots").waiting == 0
        holder.release()
        assert balance_of(service, "slots").reserved == 0


async def test_what_is_posted_to_a_closed_loop_is_lost_without_a_word() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    post_soon(closed, lambda: None)
    await checkpoint()


# What happens between two looks.


async def test_several_causes_in_one_tick_serve_each_once(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second")))
    async with open_desk() as desk:
        await desk.arrive("holder", "tokens", 10)
        for name in "abcde":
            await desk.arrive(name, "tokens", 2, seconds=0)
        holder = desk.callers["holder"].reservation
        assert holder is not None
        holder.commit(5)
        service.update("tokens", limit=Rate(20, "second", max=10))
        service.update("tokens", limit=Rate(20, "second", max=15))
        await turns()
        assert sorted(desk.entered) == [*"abcde", "holder"]
        assert now() == 0.0

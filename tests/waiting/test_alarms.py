"""The sleep of a waiter: cut short, moved, or until its time, on each event loop."""

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Rate,
    Reservation,
    Resource,
    connect,
    reserve,
    reserve_nowait,
)
from budgetware.accounts import book_later, drain, waiting
from budgetware.admission import parking, waiters
from budgetware.loops import Alarm, alarm, current_loop, post_soon
from budgetware.testing import LoopClock, VirtualClock, run_virtual
from tests.waiting.desk import balance_of, now, open_desk, turns
from tests.waiting.threads import Thread, in_line, wait_until

MAKERS = pytest.mark.parametrize("make", [alarm, Alarm])
Make = Callable[[], Alarm]


async def slept(bell: Alarm, seconds: float, *then: Callable[[], object]) -> float:
    """How long it slept, if these things happen one second after the other meanwhile."""

    async def happen() -> None:
        for thing in then:
            await anyio.sleep(1)
            thing()

    at = math.nan
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


def test_a_call_driven_by_hand_is_refused_like_sync_code() -> None:
    with connect() as service:
        service.define(Resource("slots", Concurrency(1)))
        with pytest.raises(QuotaExceeded):
            reserve("slots", 2).__aenter__().send(None)


def test_a_process_without_asyncio_has_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "asyncio")
    assert current_loop() is None


# Who is told of what, when two threads tell at once.


class Emptied(deque[waiters.Waiter]):
    """It looks as if there were something left, but another thread was faster."""

    def __bool__(self) -> bool:
        return True


async def test_another_thread_may_have_told_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parking, "stirred", Emptied())
    parking.tell_stirred()


async def test_who_has_gone_meanwhile_is_not_told(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        (waiter,) = waiting
        await desk.cancel("waiter")
        waiters.stirred.append(waiter)
        parking.tell_stirred()
        assert not waiters.stirred


# A clock that is moved by hand.


async def test_a_task_that_waits_follows_a_clock_that_jumps() -> None:
    clock = VirtualClock()
    async with connect(clock=clock) as service, open_desk() as desk:
        service.define(Resource("tokens", Rate(1, "hour")))
        await desk.arrive("all", "tokens", 1, seconds=0)
        await desk.arrive("refill", "tokens", 1, seconds=0)
        await desk.arrive("in vain", "tokens", 1, max_wait="90m")
        clock.advance("59m")
        await turns()
        assert desk.entered == ["all"]
        clock.advance("1m")
        await turns()
        assert desk.entered == ["all", "refill"]
        clock.advance("30m")
        await turns()
        assert desk.error("in vain").waited_seconds == 5_400


def test_a_thread_that_waits_follows_a_clock_that_jumps() -> None:
    clock = VirtualClock()
    with connect(clock=clock) as service:
        service.define(Resource("tokens", Rate(1, "hour")))
        reserve_nowait("tokens", 1).commit()
        thread = Thread(lambda: reserve("tokens", 1).__enter__().commit())
        wait_until(in_line(service, 1, "tokens"))
        clock.advance("1h")
        assert thread.finish().error is None


def test_a_clock_may_outlive_its_service() -> None:
    clock = VirtualClock()
    with connect(clock=clock) as service:
        service.define(Resource("slots", Concurrency(1)))
        with reserve_nowait("slots"), pytest.raises(QuotaExceeded):
            Thread(lambda: reserve("slots", max_wait=0).__enter__()).raise_it()
    del service
    clock.advance("1h")


async def test_who_is_only_about_to_fall_asleep_looks_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = VirtualClock()
    async with connect(clock=clock) as service, open_desk() as desk:
        service.define(Resource("tokens", Rate(1, "hour")))
        await desk.arrive("all", "tokens", 1, seconds=0)
        await desk.arrive("waiter", "tokens", 1, seconds=0)
        (waiter,) = waiting
        monkeypatch.setattr(waiter, "parking", None)
        clock.advance("1h")
        book_later(lambda: None)
        drain()
        assert waiter.state == "waiting"
        monkeypatch.undo()
        clock.advance(0)
    assert desk.entered == ["all", "waiter"]


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


def abandoned(units: int) -> "asyncio.Task[Reservation]":
    """A call that waits in an event loop that was closed over it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(reserve("slots", units).__aenter__())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return task


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_was_closed_over_a_waiter_keeps_nobody_out_for_long(backend: str) -> None:
    async def main() -> float:
        async with reserve("slots", 1):
            return now()

    with connect(clock=LoopClock()) as service:
        service.define(Resource("slots", Concurrency(2)))
        holder = reserve_nowait("slots", 1, expires_in="365d")  # the two loops tell other times
        task = abandoned(2)
        assert service.resource("slots").waiting == 1
        assert run_virtual(main, backend=backend) == 1.0
        assert (service.resource("slots").waiting, task.done()) == (0, False)
        holder.release()


def test_a_loop_that_was_closed_over_a_waiter_is_passed_when_its_turn_comes() -> None:
    with connect() as service:
        service.define(Resource("slots", Concurrency(1)))
        holder = Thread(lambda: reserve_nowait("slots")).finish().result
        assert isinstance(holder, Reservation)
        task = abandoned(1)
        other = Thread(lambda: reserve("slots").__enter__().release())
        wait_until(in_line(service, 2, "slots"))
        holder.release()
        other.raise_it()
        assert not task.done()
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

# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""Sync callers block their thread, in one line with async ones, and never an event loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from budgetware import (
    BudgetTerminated,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Reservation,
    Resource,
    Throttle,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.accounts import waiting
from budgetware.admission.parking import ThreadParking
from budgetware.errors import BlockingInEventLoop, NoBudget
from tests.waiting.desk import balance_of, open_desk
from tests.waiting.threads import Thread, in_line, until, wait_until


@pytest.fixture
def slot() -> Iterator[QuotaService]:
    """A service with one slot, in real time."""
    with connect() as service:
        service.define(Resource("slot", Concurrency(1)))
        yield service
        assert balance_of(service, "slot").reserved == 0


def call(entered: list[str], name: str) -> None:
    with reserve("slot"):
        entered.append(name)


# One line.


def test_threads_are_served_in_their_order(slot: QuotaService) -> None:
    entered: list[str] = []
    threads: list[Thread] = []
    with reserve("slot"):
        for number in range(10):
            threads.append(Thread(partial(call, entered, str(number))))
            wait_until(in_line(slot, number + 1))
    for thread in threads:
        thread.finish()
    assert entered == [str(number) for number in range(10)]


async def test_threads_and_tasks_wait_in_one_line(slot: QuotaService) -> None:
    async with open_desk() as desk:
        async with reserve("slot"):
            one = Thread(partial(call, desk.entered, "thread"))
            await until(in_line(slot, 1))
            await desk.arrive("task", "slot", seconds=0)
            desk.start(anyio.to_thread.run_sync, call, desk.entered, "worker")
            await until(in_line(slot, 3))
            await desk.arrive("other task", "slot", seconds=0)
            two = Thread(partial(call, desk.entered, "other thread"))
            await until(in_line(slot, 5))
        await until(in_line(slot, 0))
        await until(lambda: not (one.is_alive() or two.is_alive()))
    assert desk.entered == ["thread", "task", "worker", "other task", "other thread"]


def test_a_thread_waits_for_a_refill() -> None:
    with connect() as service:
        service.define(Resource("tokens", Rate(100, "second", max=2)))
        times: list[int] = []
        for _ in range(5):
            with reserve("tokens", 1):
                times.append(service.runtime.clock.now_ns())
    assert times[4] - times[1] >= 29_000_000


def test_a_thread_waits_no_longer_than_it_may(slot: QuotaService) -> None:
    with reserve("slot"):
        thread = Thread(lambda: reserve("slot", max_wait=0.01).__enter__())
        error = thread.finish().error
    assert isinstance(error, QuotaExceeded)
    assert error.waited_seconds >= 0.01


def test_what_a_thread_holds_it_does_not_wait_for(slot: QuotaService) -> None:
    with reserve("slot"), pytest.raises(QuotaExceeded), reserve("slot"):
        pass


def test_a_bare_reservation_that_expires_wakes_a_thread(slot: QuotaService) -> None:
    forgotten = [Thread(lambda: reserve_nowait("slot", expires_in=0.05)).finish().result]
    entered: list[str] = []
    Thread(partial(call, entered, "waiter")).finish()
    assert (entered, len(forgotten)) == (["waiter"], 1)


def test_a_reservation_that_is_collected_wakes_a_thread(slot: QuotaService) -> None:
    forgotten = [Thread(lambda: reserve_nowait("slot")).finish()]
    entered: list[str] = []
    waiter = Thread(partial(call, entered, "waiter"))
    wait_until(in_line(slot, 1))
    forgotten.clear()
    waiter.finish()
    assert entered == ["waiter"]


def test_a_thread_is_not_passed_without_waiting(slot: QuotaService) -> None:
    slot.update("slot", limit=Concurrency(2))
    with reserve("slot"):
        waiter = Thread(lambda: reserve("slot", 2).__enter__().release())
        wait_until(in_line(slot, 1))
        with pytest.raises(QuotaExceeded):
            Thread(lambda: reserve_nowait("slot")).raise_it()
    waiter.finish()


def test_a_sync_function_and_a_generator_wait(slot: QuotaService) -> None:
    @budgeted(target="slot")
    def search() -> str:
        return "found"

    @budgeted(target="slot")
    def pages() -> Iterator[int]:
        yield from range(3)

    holder = reserve_nowait("slot")
    threads = [Thread(search), Thread(lambda: list(pages()))]
    wait_until(in_line(slot, 2))
    holder.release()
    assert [thread.finish().result for thread in threads] == ["found", [0, 1, 2]]


# Event loops are never blocked.


async def test_sync_code_in_a_task_is_refused_what_it_would_wait_for(
    slot: QuotaService,
) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        with pytest.raises(BlockingInEventLoop, match="wait for resource 'slot'"), reserve("slot"):
            pass
        assert slot.resource("slot").waiting == 0
        await desk.arrive("waiter", "slot")
        with pytest.raises(BlockingInEventLoop):
            budgeted(target="slot")(lambda: None)()
        await desk.leave("holder")
        assert desk.entered == ["holder", "waiter"]


async def test_sync_code_in_a_task_that_waits_for_a_task(slot: QuotaService) -> None:
    async with task_budget("crawl", tokens=10, policy=Throttle()), open_desk() as desk:
        await desk.arrive("holder", tokens=10)
        with pytest.raises(BlockingInEventLoop, match="wait for task 'crawl'"), reserve(tokens=5):
            pass


async def test_sync_code_in_a_task_may_take_what_is_there(slot: QuotaService) -> None:
    with reserve("slot"):
        assert balance_of(slot, "slot").reserved == 1


async def test_sync_code_in_a_task_is_told_of_what_is_hopeless(slot: QuotaService) -> None:
    with pytest.raises(QuotaExceeded), reserve("slot", 2):
        pass


async def test_sync_code_in_a_task_that_would_not_wait_is_refused_as_ever(
    slot: QuotaService,
) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        with pytest.raises(QuotaExceeded), reserve("slot", max_wait=0):
            pass
        with pytest.raises(QuotaExceeded), reserve("slot", policy="reject"):
            pass


# Interrupts.


def taken() -> Reservation:
    """The slot, held by nobody's caller."""
    held = Thread(lambda: reserve_nowait("slot")).finish().result
    assert isinstance(held, Reservation)
    return held


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Interrupt whoever falls asleep on this thread, once somebody else waits behind it.

    A real signal may hit Python just before it falls asleep, and then it sleeps on.
    """
    main = threading.current_thread()
    sleep = ThreadParking.sleep
    asleep = threading.Event()

    def sleep_or_interrupt(parking: ThreadParking) -> None:
        if threading.current_thread() is main:
            asleep.set()
            wait_until(lambda: len(waiting) == 2)
            raise KeyboardInterrupt
        sleep(parking)

    monkeypatch.setattr(ThreadParking, "sleep", sleep_or_interrupt)
    return asleep.is_set


def test_an_interrupt_leaves_nothing_held_and_gives_the_turn_on(
    slot: QuotaService, interrupted: Callable[[], bool]
) -> None:
    slot.update("slot", limit=Concurrency(2))
    entered: list[str] = []

    def come_second() -> None:
        wait_until(interrupted)
        call(entered, "next")

    holder = taken()
    waiter = Thread(come_second)
    with pytest.raises(KeyboardInterrupt), reserve("slot", 2):
        pass
    waiter.finish()
    assert (entered, slot.resource("slot").waiting) == (["next"], 0)
    holder.release()


async def test_a_cancelled_worker_thread_stops_to_wait(slot: QuotaService) -> None:
    entered: list[str] = []
    async with reserve("slot"):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, call, entered, "worker")
                await until(in_line(slot, 1))
                scope.cancel()
        assert (slot.resource("slot").waiting, entered) == (0, [])


async def test_a_worker_thread_that_is_let_in_is_not_cancelled(slot: QuotaService) -> None:
    entered: list[str] = []
    async with anyio.create_task_group() as group:
        async with reserve("slot"):
            group.start_soon(anyio.to_thread.run_sync, call, entered, "worker")
            await until(in_line(slot, 1))
        await until(in_line(slot, 0))
    assert entered == ["worker"]


# Tasks that end.


@pytest.fixture
def holder(slot: QuotaService) -> Iterator[Reservation]:
    held = taken()
    yield held
    held.release()


async def test_terminate_ends_the_wait_of_a_worker_thread(
    slot: QuotaService, holder: Reservation
) -> None:
    with pytest.raises(BudgetTerminated, match="enough"):
        async with task_budget("agent", calls=5) as budget, anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, call, list[str](), "worker")
            await until(in_line(slot, 1))
            budget.terminate("enough")
    assert slot.resource("slot").waiting == 0


async def test_terminate_ends_the_wait_of_a_foreign_thread(
    slot: QuotaService, holder: Reservation
) -> None:
    threads: list[Thread] = []
    with pytest.raises(BudgetTerminated):
        async with task_budget("agent", calls=5) as budget:
            threads.append(Thread(budget.wrap(partial(call, [], "thread"))))
            await until(in_line(slot, 1))
            budget.terminate("enough")
            await anyio.sleep_forever()
    error = threads[0].finish().error
    assert isinstance(error, BudgetTerminated)
    assert (error.budget, error.reason) == ("agent", "enough")


def test_terminate_from_a_thread_ends_the_wait_of_its_task(
    slot: QuotaService, holder: Reservation
) -> None:
    def terminate() -> None:
        wait_until(in_line(slot, 1))
        budget.terminate("enough")

    with pytest.raises(BudgetTerminated, match="enough"), task_budget("agent", calls=5) as budget:
        Thread(terminate)
        with reserve("slot"):
            pass


def test_a_deadline_ends_the_wait_of_a_thread(slot: QuotaService, holder: Reservation) -> None:
    with pytest.raises(BudgetTerminated) as ended, task_budget("agent", seconds=0.02):
        with reserve("slot"):
            pass
    assert ended.value.dim == "millis"


def test_a_deadline_ends_the_wait_of_a_foreign_thread(
    slot: QuotaService, holder: Reservation
) -> None:
    errors: list[Any] = []
    with pytest.raises(BudgetTerminated), task_budget("agent", seconds=0.02) as budget:
        errors.append(Thread(budget.wrap(partial(call, [], "thread"))).finish().error)
        with reserve("slot"):
            pass
    assert isinstance(errors[0], BudgetTerminated)
    assert errors[0].dim == "millis"


def test_a_deadline_inside_a_last_answer_ends_the_wait_of_a_thread(
    slot: QuotaService, holder: Reservation
) -> None:
    with task_budget("outer", tokens=10, keep={"tokens": 5}) as outer, outer.finish():
        with pytest.raises(BudgetTerminated) as ended, task_budget("inner", seconds=0.02):
            with reserve("slot"):
                pass
    assert ended.value.budget == "inner"


def test_the_end_of_a_task_refuses_a_thread_that_waits_in_it(
    slot: QuotaService, holder: Reservation
) -> None:
    with task_budget("agent", calls=5) as budget:
        thread = Thread(budget.wrap(partial(call, [], "thread")))
        wait_until(in_line(slot, 1))
    assert isinstance(thread.finish().error, NoBudget)


# Several event loops.


@pytest.mark.parametrize("backends", [("asyncio", "trio"), ("asyncio",) * 2, ("trio",) * 2])
def test_two_loops_in_two_threads_share_one_slot(
    slot: QuotaService, backends: tuple[str, str]
) -> None:
    inside = 0
    most: list[int] = []

    async def call_often() -> None:
        nonlocal inside
        for _ in range(20):
            async with reserve("slot"):
                inside += 1
                most.append(inside)
                await anyio.sleep(0)
                inside -= 1

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call_often)

    threads = [Thread(partial(anyio.run, main, backend=backend)) for backend in backends]
    for thread in threads:
        thread.raise_it()
    assert (len(most), max(most)) == (200, 1)


def test_a_loop_serves_who_waits_in_another_loop(slot: QuotaService) -> None:
    """Waiting in a loop that is idle, and served from another thread."""

    async def wait() -> str:
        async with reserve("slot"):
            return "served"

    for backend in ("asyncio", "trio"):
        holder = taken()
        thread = Thread(partial(anyio.run, wait, backend=backend))
        wait_until(in_line(slot, 1))
        holder.release()
        assert thread.finish().result == "served"


def test_a_token_is_shared_by_loops_and_threads(slot: QuotaService) -> None:
    token = QuotaToken("slot", 1)
    done: list[int] = []

    async def call_async() -> None:
        for _ in range(20):
            async with token.reserve():
                done.append(1)

    def call_sync() -> None:
        for _ in range(20):
            with token.reserve():
                done.append(1)

    threads = [
        Thread(partial(anyio.run, call_async)),
        Thread(partial(anyio.run, call_async, backend="trio")),
        Thread(call_sync),
        Thread(lambda: asyncio.run(call_async())),
    ]
    for thread in threads:
        thread.raise_it()
    assert len(done) == 80
    token.close()

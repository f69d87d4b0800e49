"""The clocks and the virtual time that are shipped for tests."""

import asyncio
import gc
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from anyio import from_thread, to_thread

import budgetware.testing
from budgetware import BudgetTerminated, connect, reserve, task_budget
from budgetware.errors import InvalidAmount
from budgetware.loops import call_on, current_loop
from budgetware.testing import LoopClock, VirtualClock, run_virtual, virtual_backend

HOUR = 3600.0
YEAR = 365 * 86400.0
REAL_SECONDS = 0.05
"""Long for a loop, short for a reader of this suite."""

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_all_lists_what_the_module_offers() -> None:
    assert sorted(budgetware.testing.__all__) == budgetware.testing.__all__


# --- VirtualClock ----------------------------------------------------------------------------


def test_clock_stands_still(clock: VirtualClock) -> None:
    assert (clock.now_ns(), clock.now_ns()) == (0, 0)


def test_clock_starts_where_it_is_told_to() -> None:
    clock = VirtualClock(2.5, epoch=1_000)
    assert (clock.now_ns(), clock.time()) == (2_500_000_000, 1_002.5)


def test_wall_time_moves_with_the_clock(clock: VirtualClock) -> None:
    clock.advance(90)
    assert clock.time() == 1_700_000_090.0


@pytest.mark.parametrize(
    ("step", "nanoseconds"),
    [
        (0, 0),
        (0.0, 0),
        (1, 1_000_000_000),
        (0.1, 100_000_000),
        (0.1 + 0.2, 300_000_000),
        (1e-9, 1),
        (4e-10, 0),
        (123456.789012345, 123456_789012345),
        ("2h30m", 9_000_000_000_000),
        ("7ms", 7_000_000),
        ("0.1s", 100_000_000),
    ],
)
def test_advance_is_exact(clock: VirtualClock, step: float | str, nanoseconds: int) -> None:
    clock.advance(step)
    assert clock.now_ns() == nanoseconds


def test_a_million_small_steps_lose_nothing(clock: VirtualClock) -> None:
    for _ in range(1_000_000):
        clock.advance(0.1)
    assert clock.now_ns() == 100_000 * 10**9


@pytest.mark.parametrize("step", [-1, -1e-9, math.nan, math.inf, -math.inf, True, "", "1x", None])
def test_what_is_no_duration_moves_nothing(clock: VirtualClock, step: Any) -> None:
    with pytest.raises(InvalidAmount, match="seconds="):
        clock.advance(step)
    assert clock.now_ns() == 0


def test_threads_advance_together(clock: VirtualClock) -> None:
    def advance(_: int) -> None:
        for _step in range(1_000):
            clock.advance(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(advance, range(8)))
    assert clock.now_ns() == 8 * 10**9


def test_watchers_are_told_after_each_advance(clock: VirtualClock) -> None:
    seen: list[int] = []
    clock.watch(lambda: seen.append(clock.now_ns()))
    clock.advance(1)
    clock.advance(2)
    assert seen == [10**9, 3 * 10**9]


def test_watchers_are_told_in_order_and_each_as_often_as_it_watches(clock: VirtualClock) -> None:
    told: list[str] = []

    def first() -> None:
        told.append("first")

    clock.watch(first)
    clock.watch(lambda: told.append("second"))
    clock.watch(first)
    clock.advance(1)
    assert told == ["first", "second", "first"]


def test_a_removed_watcher_is_told_nothing(clock: VirtualClock) -> None:
    told: list[str] = []
    remove = clock.watch(lambda: told.append("removed"))
    clock.watch(lambda: told.append("kept"))
    remove()
    remove()
    clock.advance(1)
    assert told == ["kept"]


def test_a_watcher_may_remove_one_that_is_yet_to_be_told(clock: VirtualClock) -> None:
    told: list[str] = []

    def remove_the_next() -> None:
        remove()

    clock.watch(remove_the_next)
    remove = clock.watch(lambda: told.append("removed"))
    clock.advance(1)
    assert told == []


def test_a_watcher_may_advance_and_watch(clock: VirtualClock) -> None:
    told: list[int] = []

    def once() -> None:
        remove()
        clock.watch(lambda: told.append(clock.now_ns()))
        clock.advance(1)

    remove = clock.watch(once)
    clock.advance(1)
    assert told == [2 * 10**9]


def test_a_watcher_may_ask_another_thread(clock: VirtualClock) -> None:
    seen: list[int] = []

    def ask() -> None:
        thread = threading.Thread(target=lambda: seen.append(clock.now_ns()))
        clock.watch(thread.is_alive)
        thread.start()
        thread.join()

    clock.watch(ask)
    clock.advance(1)
    assert seen == [10**9]


def test_deadline_comes_when_the_clock_is_moved(clock: VirtualClock) -> None:
    def overstay() -> None:
        with task_budget(calls=9, seconds=60):
            clock.advance("1m")
            with reserve(calls=1):
                pass

    with connect(clock=clock), pytest.raises(BudgetTerminated):
        overstay()


# --- run_virtual -----------------------------------------------------------------------------


async def timed(seconds: float) -> float:
    await anyio.sleep(seconds)
    return anyio.current_time()


async def wait_for_ever() -> None:
    await anyio.Event().wait()


@both
def test_arguments_and_result_pass_through(backend: str) -> None:
    assert run_virtual(timed, 1.5, backend=backend) == 1.5


@both
def test_errors_pass_through(backend: str) -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(fail, backend=backend)


def test_asyncio_is_the_default() -> None:
    async def running() -> bool:
        return asyncio.current_task() is not None

    assert run_virtual(running)


@pytest.mark.parametrize(
    "run", [lambda: run_virtual(timed, 1, backend="curio"), lambda: virtual_backend("curio")]
)
def test_unknown_backend_is_refused(run: Callable[[], object]) -> None:
    with pytest.raises(LookupError, match="curio"):
        run()


@both
def test_it_does_not_run_inside_a_loop(backend: str) -> None:
    async def nest() -> None:
        run_virtual(timed, 1.0, backend=backend)

    with pytest.raises(RuntimeError, match="Already running"):
        run_virtual(nest, backend=backend)


@both
def test_context_variables_are_seen(backend: str) -> None:
    name = ContextVar("name", default="unset")

    async def get() -> str:
        return name.get()

    name.set("set")
    assert run_virtual(get, backend=backend) == "set"


@both
def test_a_year_takes_no_time(backend: str) -> None:
    started = time.monotonic()
    assert run_virtual(timed, YEAR, backend=backend) == YEAR
    assert time.monotonic() - started < HOUR / 100


@both
def test_ten_thousand_sleeps_add_up(backend: str) -> None:
    async def sleep_often() -> float:
        for _ in range(10_000):
            await anyio.sleep(0.25)
        return anyio.current_time()

    assert run_virtual(sleep_often, backend=backend) == 2_500.0


@both
def test_timers_run_also_where_floats_are_coarse(backend: str) -> None:
    async def sleep_long() -> float:
        await anyio.sleep(90 * YEAR)
        for _ in range(1_000):
            await anyio.sleep(0.1)
        return anyio.current_time() - 90 * YEAR

    assert run_virtual(sleep_long, backend=backend) == pytest.approx(100, abs=1e-3)


@both
def test_sleepers_wake_in_order(backend: str) -> None:
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        woken.append((seconds, await timed(seconds)))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for seconds in [30.0, 0.1, HOUR, 2.0, 0.3]:
                tasks.start_soon(sleeper, seconds)

    run_virtual(main, backend=backend)
    assert woken == [(0.1, 0.1), (0.3, 0.3), (2.0, 2.0), (30.0, 30.0), (HOUR, HOUR)]


@both
def test_a_timeout_comes_at_its_time(backend: str) -> None:
    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(60) as scope:
            await anyio.sleep(HOUR)
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(main, backend=backend) == (True, 60.0)


@both
def test_what_is_faster_than_its_timeout_returns(backend: str) -> None:
    async def main() -> float:
        with anyio.fail_after(60):
            return await timed(59.9)

    assert run_virtual(main, backend=backend) == 59.9


@both
def test_fail_after_raises(backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(60):
            await wait_for_ever()

    with pytest.raises(TimeoutError):
        run_virtual(main, backend=backend)


@both
def test_time_stands_still_while_tasks_run(backend: str) -> None:
    async def main() -> float:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, HOUR)
            for _ in range(1_000):
                await anyio.sleep(0)
            tasks.cancel_scope.cancel()
        return anyio.current_time()

    assert run_virtual(main, backend=backend) == 0.0


@both
def test_tasks_meet_over_a_stream(backend: str) -> None:
    async def main() -> list[tuple[int, float]]:
        send, receive = anyio.create_memory_object_stream[int]()
        received: list[tuple[int, float]] = []

        async def produce() -> None:
            async with send:
                for number in range(3):
                    await anyio.sleep(10)
                    await send.send(number)

        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(produce)
            received.extend([(number, anyio.current_time()) async for number in receive])
        return received

    assert run_virtual(main, backend=backend) == [(0, 10.0), (1, 20.0), (2, 30.0)]


@both
def test_one_run_leaves_nothing_to_the_next(backend: str) -> None:
    run_virtual(timed, HOUR, backend=backend)
    assert run_virtual(timed, 1.0, backend=backend) == 1.0
    gc.collect()  # a loop left open would warn, which is an error here


# --- threads ---------------------------------------------------------------------------------


def work() -> str:
    time.sleep(REAL_SECONDS)
    return "done"


async def beside_a_timeout(run: Callable[[], Any]) -> tuple[str, float]:
    with anyio.fail_after(HOUR):
        done: str = await run()
    return done, anyio.current_time()


@both
def test_time_does_not_jump_past_a_worker_thread(backend: str) -> None:
    result = run_virtual(beside_a_timeout, lambda: to_thread.run_sync(work), backend=backend)
    assert result == ("done", 0.0)


@both
def test_time_does_not_jump_past_a_worker_thread_of_another_limiter(backend: str) -> None:
    def run() -> Any:
        return to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))

    assert run_virtual(beside_a_timeout, run, backend=backend) == ("done", 0.0)


def test_time_does_not_jump_past_asyncio_to_thread() -> None:
    assert run_virtual(beside_a_timeout, lambda: asyncio.to_thread(work)) == ("done", 0.0)


def test_time_does_not_jump_past_an_executor() -> None:
    def run() -> Any:
        return asyncio.get_running_loop().run_in_executor(pool, work)

    with ThreadPoolExecutor(1) as pool:
        assert run_virtual(beside_a_timeout, run) == ("done", 0.0)


@both
def test_time_jumps_again_after_the_thread(backend: str) -> None:
    async def main() -> float:
        await to_thread.run_sync(work)
        return await timed(YEAR)

    assert run_virtual(main, backend=backend) == YEAR


@both
def test_without_a_timer_a_thread_has_all_the_time_it_needs(backend: str) -> None:
    async def main() -> str:
        return await to_thread.run_sync(work)

    assert run_virtual(main, backend=backend, thread_seconds=REAL_SECONDS / 10) == "done"


@both
def test_a_thread_may_wait_for_the_loop(backend: str) -> None:
    async def main() -> float:
        return await to_thread.run_sync(from_thread.run, timed, HOUR)

    assert run_virtual(main, backend=backend, thread_seconds=0.001) == HOUR


@both
def test_time_may_be_held_for_as_long_as_threads_work(backend: str) -> None:
    def run() -> Any:
        return to_thread.run_sync(work)

    result = run_virtual(beside_a_timeout, run, backend=backend, thread_seconds=math.inf)
    assert result == ("done", 0.0)


@both
def test_a_thread_at_work_is_given_up_after_a_while(backend: str) -> None:
    is_over = threading.Event()

    async def wait_in_thread() -> None:
        await to_thread.run_sync(is_over.wait)

    async def main() -> float:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_in_thread)
            await anyio.sleep(HOUR)
            is_over.set()
        return anyio.current_time()

    assert run_virtual(main, backend=backend, thread_seconds=0.001) == HOUR


def test_executor_is_joined_in_real_time() -> None:
    def leave_working() -> None:
        work()
        ended.append(True)

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, leave_working)

    ended: list[bool] = []
    run_virtual(main, thread_seconds=0.001)
    assert ended == [True]


# --- nothing left ----------------------------------------------------------------------------


@both
def test_waiting_for_ever_is_an_error(backend: str) -> None:
    with pytest.raises(RuntimeError, match="nothing is left that could wake"):
        run_virtual(wait_for_ever, backend=backend, thread_seconds=0.001)


@both
def test_tasks_that_wait_for_ever_are_cancelled(backend: str) -> None:
    cleaned: list[float] = []

    async def child() -> None:
        try:
            await wait_for_ever()
        finally:
            with anyio.CancelScope(shield=True):
                cleaned.append(await timed(5))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            await anyio.sleep(10)

    with pytest.raises(RuntimeError, match="nothing is left that could wake"):
        run_virtual(main, backend=backend, thread_seconds=0.001)
    assert cleaned == [15.0]


@both
def test_an_error_while_they_are_cancelled_does_not_hide_it(backend: str) -> None:
    async def main() -> None:
        try:
            await wait_for_ever()
        finally:
            raise KeyError("cleaning up")

    with pytest.raises(RuntimeError, match="nothing is left that could wake"):
        run_virtual(main, backend=backend, thread_seconds=0.001)


@both
def test_swallowing_the_cancellation_does_not_hide_it(backend: str) -> None:
    async def main() -> str:
        try:
            await wait_for_ever()
        except BaseException:
            return "fine"
        return "woken"

    with pytest.raises(RuntimeError, match="nothing is left that could wake"):
        run_virtual(main, backend=backend, thread_seconds=0.001)


def test_waiting_until_all_tasks_wait_is_not_waiting_for_ever() -> None:
    async def main() -> float:
        await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked(REAL_SECONDS)
        return trio.current_time()

    assert run_virtual(main, backend="trio") == 0.0


def test_plugin_on_trio_does_not_spin_while_it_waits_for_ever() -> None:
    name, options = virtual_backend("trio", thread_seconds=20 * REAL_SECONDS)

    async def main() -> None:
        event, loop = anyio.Event(), current_loop()
        timer = threading.Timer(8 * REAL_SECONDS, call_on, [loop, event.set])
        timer.start()
        await event.wait()
        timer.join()

    started = time.process_time()
    anyio.run(main, backend=name, backend_options=options)
    assert time.process_time() - started < 4 * REAL_SECONDS


@both
def test_another_thread_has_time_to_wake_the_loop(backend: str) -> None:
    async def main() -> None:
        event, loop = anyio.Event(), current_loop()
        timer = threading.Timer(REAL_SECONDS, call_on, [loop, event.set])
        timer.start()
        await event.wait()
        timer.join()

    run_virtual(main, backend=backend, thread_seconds=30)


@both
def test_a_socket_is_waited_for(backend: str) -> None:
    async def main() -> bytes:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            client = threading.Thread(target=send_late, args=[port])
            received: list[bytes] = []

            async def receive(stream: anyio.abc.SocketStream) -> None:
                async with stream:
                    received.append(await stream.receive())
                tasks.cancel_scope.cancel()

            client.start()
            async with anyio.create_task_group() as tasks:
                await listener.serve(receive)
            client.join()
        return received[0]

    assert run_virtual(main, backend=backend, thread_seconds=0.001) == b"late"


def send_late(port: int) -> None:
    import socket

    time.sleep(REAL_SECONDS)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"late")


# --- LoopClock -------------------------------------------------------------------------------


@both
def test_loop_clock_reads_the_loop(backend: str) -> None:
    async def main() -> tuple[int, int, float]:
        clock = LoopClock()
        before = clock.now_ns()
        await anyio.sleep(0.1)
        await anyio.sleep(HOUR)
        return before, clock.now_ns(), clock.time()

    assert run_virtual(main, backend=backend) == (0, 3600_100_000_000, 1_700_003_600.1)


@both
def test_loop_clock_reads_the_loop_from_a_thread(backend: str) -> None:
    async def main() -> tuple[int, int]:
        clock = LoopClock()
        before = clock.now_ns()
        await anyio.sleep(HOUR)
        return before, await to_thread.run_sync(clock.now_ns)

    assert run_virtual(main, backend=backend) == (0, 3600 * 10**9)


def test_loop_clock_never_goes_back() -> None:
    clock = LoopClock(epoch=0)

    async def later(seconds: float) -> int:
        clock.now_ns()
        await anyio.sleep(seconds)
        return clock.now_ns()

    assert clock.now_ns() == 0
    assert run_virtual(later, 10.0) == 10 * 10**9
    assert clock.now_ns() == 10 * 10**9
    assert run_virtual(later, 5.0, backend="trio") == 15 * 10**9
    assert run_virtual(later, 1.0) == 16 * 10**9
    assert clock.time() == 16.0


@both
def test_deadline_of_a_task_comes_in_virtual_time(backend: str) -> None:
    async def main() -> float:
        async with connect(clock=LoopClock()):
            with pytest.raises(BudgetTerminated, match="slow"):
                async with task_budget("slow", calls=9, seconds=60):
                    await anyio.sleep(HOUR)
        return anyio.current_time()

    assert run_virtual(main, backend=backend) == 60.0


@both
def test_reservation_expires_in_virtual_time(backend: str) -> None:
    async def main() -> str:
        async with connect(clock=LoopClock()), task_budget(tokens=100):
            reservation = await reserve(tokens=10, expires_in="10m")
            await anyio.sleep(601)
            async with reserve(tokens=10):
                return reservation.state

    assert run_virtual(main, backend=backend) == "assumed"


# --- anyio's pytest plugin -------------------------------------------------------------------


async def test_plugin_runs_tests_in_virtual_time() -> None:
    assert await timed(HOUR) == HOUR


async def test_plugin_waits_for_threads() -> None:
    assert await beside_a_timeout(lambda: to_thread.run_sync(work)) == ("done", 0.0)

# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""`seconds=`: the scope and every reserve look at it, and it ends the block whatever the policy."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetTerminated,
    QuotaService,
    Reject,
    Reservation,
    TaskBudget,
    Terminate,
    Verdict,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import InvalidAmount
from tests.termination.agents import Probe
from tests.termination.clocks import HandClock

POLICIES: list[Reject | Terminate] = [Reject(), Reject(patience=None), Terminate()]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(clock: HandClock) -> Iterator[QuotaService]:
    with connect(clock=clock) as service:
        yield service


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
async def test_the_scope_ends_a_block_that_waits(policy: Reject | Terminate) -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("agent", seconds=0.01, policy=policy):
            await anyio.sleep_forever()
    assert (caught.value.budget, caught.value.dim) == ("agent", "millis")


def test_the_scope_ends_a_block_at_its_deadline_and_not_before() -> None:
    ended_after: list[float] = []

    async def main() -> None:
        with pytest.raises(BudgetTerminated):
            async with task_budget(seconds=5):
                started = trio.current_time()
                try:
                    await trio.sleep_forever()
                finally:
                    ended_after.append(trio.current_time() - started)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert ended_after == [pytest.approx(5, abs=0.5)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
async def test_a_reserve_after_the_deadline_ends_the_block(
    policy: Reject | Terminate, clock: HandClock, service: QuotaService
) -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated) as caught:
        async with service.task_budget(calls=10, seconds=60, policy=policy):
            for _ in probe.each_turn():
                clock.advance(25)
                try:
                    await probe.tool()
                except Exception:
                    continue
    assert caught.value.dim == "millis"
    assert (probe.ran, probe.turns) == (2, 3)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_sync_code_notices_the_deadline_at_a_reserve(
    policy: Reject | Terminate, clock: HandClock, service: QuotaService
) -> None:
    probe = Probe()
    with (
        pytest.raises(BudgetTerminated) as caught,
        service.task_budget(calls=10, seconds=60, policy=policy),
    ):
        for _ in probe.each_turn():
            clock.advance(25)
            try:
                probe.sync_tool()
            except Exception:
                continue
    assert caught.value.dim == "millis"
    assert (probe.ran, probe.turns) == (2, 3)


@pytest.mark.parametrize("reserving", [reserve_nowait, reserve], ids=["nowait", "with"])
def test_each_way_to_reserve_notices_the_deadline(
    reserving: Any, clock: HandClock, service: QuotaService
) -> None:
    with pytest.raises(BudgetTerminated) as caught, service.task_budget(tokens=10, seconds=60):
        clock.advance(61)
        with reserving(tokens=1):
            pass
    assert caught.value.dim == "millis"
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 0


def test_checkpoint_notices_the_deadline(clock: HandClock, service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated) as caught, service.task_budget(seconds=60) as budget:
        budget.checkpoint()
        clock.advance(60)
        budget.checkpoint()
    assert caught.value.dim == "millis"


async def test_a_thread_notices_the_deadline_and_the_block_ends(
    clock: HandClock, service: QuotaService
) -> None:
    probe = Probe()

    def work() -> None:
        probe.sync_tool()
        clock.advance(60)
        probe.sync_tool()

    with pytest.raises(BudgetTerminated) as caught:
        async with service.task_budget(calls=10, seconds=60):
            await anyio.to_thread.run_sync(work)
    assert (caught.value.dim, probe.ran) == ("millis", 1)


async def test_a_block_that_ends_normally_after_its_deadline_returns_normally(
    clock: HandClock, service: QuotaService
) -> None:
    async with service.task_budget(calls=10, seconds=60) as budget:
        clock.advance(61)
        await checkpoint()
    assert budget.snapshot()["millis"].overrun == 1_000


def test_a_sync_block_overrunning_its_deadline_returns_normally(
    clock: HandClock, service: QuotaService
) -> None:
    with service.task_budget(calls=10, seconds=60) as budget:
        clock.advance(61)
    assert budget.verdict == Verdict("exhausted", "millis")


async def test_a_refusal_of_the_deadline_is_not_forgotten_by_a_normal_end(
    clock: HandClock, service: QuotaService
) -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with service.task_budget(calls=10, seconds=60):
            clock.advance(61)
            try:
                await Probe().tool()
            except BaseException:
                pass
    assert caught.value.dim == "millis"


async def test_settling_after_the_deadline_is_allowed(
    clock: HandClock, service: QuotaService
) -> None:
    async with service.task_budget(tokens=10, seconds=60) as budget:
        async with reserve(tokens=5) as reservation:
            clock.advance(61)
            reservation.commit(2)
    assert budget.spent("tokens") == 2


async def test_the_outer_deadline_ends_the_outer_block(
    clock: HandClock, service: QuotaService
) -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with service.task_budget("outer", seconds=60), task_budget("inner", seconds=90):
            clock.advance(61)
            await Probe().tool()
    assert caught.value.budget == "outer"


async def test_the_inner_deadline_ends_the_inner_block_alone(
    clock: HandClock, service: QuotaService
) -> None:
    async with service.task_budget("outer", seconds=90):
        with pytest.raises(BudgetTerminated) as caught:
            async with task_budget("inner", seconds=60):
                clock.advance(61)
                await Probe().tool()
        await Probe().tool()
    assert caught.value.budget == "inner"


async def test_a_deadline_of_the_outer_scope_passes_a_waiting_inner_block() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", seconds=0.01), task_budget("inner", seconds=60):
            await anyio.sleep_forever()
    assert caught.value.budget == "outer"


async def test_top_up_of_seconds_moves_the_deadline_of_reserve(
    clock: HandClock, service: QuotaService
) -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated):
        async with service.task_budget(seconds=60) as budget:
            budget.top_up(seconds=60)
            clock.advance(100)
            await probe.tool()
            clock.advance(20)
            await probe.tool()
    assert probe.ran == 1


def test_top_up_of_seconds_moves_the_deadline_of_the_scope() -> None:
    async def main() -> float:
        started = trio.current_time()
        with pytest.raises(BudgetTerminated):
            async with task_budget(seconds=5) as budget:
                budget.top_up(seconds=20)
                await trio.sleep_forever()
        return trio.current_time() - started

    elapsed = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert elapsed == pytest.approx(25, abs=0.5)


async def test_top_up_after_the_termination_is_refused(
    clock: HandClock, service: QuotaService
) -> None:
    with pytest.raises(BudgetTerminated):
        async with service.task_budget(calls=1, seconds=60) as budget:
            budget.terminate("enough")
            with pytest.raises(BudgetTerminated):
                budget.top_up(seconds=60)


async def test_an_ordinary_error_after_the_deadline_passes_as_it_is(
    clock: HandClock, service: QuotaService
) -> None:
    with pytest.raises(LookupError):
        async with service.task_budget(seconds=60):
            clock.advance(61)
            raise LookupError


async def fails_when_cut() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise LookupError


async def fails_in_a_task_group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fails_when_cut)
        await anyio.sleep_forever()


async def wraps_what_cuts_it() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException as error:
        raise LookupError from error


@pytest.mark.parametrize("body", [fails_when_cut, fails_in_a_task_group, wraps_what_cuts_it])
async def test_an_error_of_a_block_cut_by_its_deadline_becomes_the_cause(
    body: Callable[[], Awaitable[None]],
) -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(seconds=0.01):
            await body()
    assert caught.value.dim == "millis"
    assert isinstance(caught.value.__cause__, LookupError | ExceptionGroup)


async def test_a_block_that_swallows_its_deadline_and_returns_has_ended_normally() -> None:
    async with task_budget(seconds=0.01):
        try:
            await anyio.sleep_forever()
        except BaseException:
            pass


def test_a_native_cancel_after_the_deadline_goes_on() -> None:
    async def owner() -> None:
        async with task_budget(seconds=0.01):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True):
                    await asyncio.sleep(60)

    async def main() -> bool:
        task = asyncio.create_task(owner())
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


async def test_the_deadline_warns_once(clock: HandClock, service: QuotaService) -> None:
    warned: list[Verdict] = []

    def on_warn(_budget: TaskBudget, verdict: Verdict) -> None:
        warned.append(verdict)

    async with service.task_budget(seconds=60, warn_at=0.5, on_warn=on_warn):
        await Probe().tool()
        clock.advance(31)
        await Probe().tool()
        await Probe().tool()
    assert warned == [Verdict("warn", "millis")]


async def test_millis_and_seconds_are_one_deadline(clock: HandClock, service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with service.task_budget(millis=2_000):
            clock.advance(1.9)
            await Probe().tool()
            clock.advance(0.1)
            await Probe().tool()
    assert caught.value.dim == "millis"


async def test_millis_cannot_be_reserved() -> None:
    with pytest.raises(InvalidAmount, match="wall clock"):
        await reserve(millis=5)


# The exit of a terminated task, and calls of foreign tasks and threads.


async def test_the_exit_waits_for_a_foreign_thread_to_settle() -> None:
    may_settle, held = threading.Event(), threading.Event()

    def foreign() -> None:
        with reserve_nowait(tokens=5) as reservation:
            held.set()
            may_settle.wait(10)
            reservation.commit(3)

    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(tokens=10, policy=Terminate(settle_seconds=30)) as budget:
            thread = threading.Thread(target=budget.wrap(foreign))
            thread.start()
            await anyio.to_thread.run_sync(held.wait)
            threading.Timer(0.01, may_settle.set).start()
            budget.terminate("enough")
    may_settle.wait(10)
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 3
    assert caught.value.snapshot["tokens"].reserved == 0


async def test_the_exit_waits_at_most_settle_seconds_and_later_ones_settle_late() -> None:
    async with task_budget("outer", tokens=100) as outer:
        started = time.monotonic()
        late: list[Reservation] = []
        budget = task_budget(tokens=10, policy=Terminate(settle_seconds=0.05))
        with pytest.raises(BudgetTerminated) as caught:
            async with budget:
                late.append(await reserve(tokens=5))
                budget.terminate("enough")
        elapsed = time.monotonic() - started
        assert caught.value.snapshot is not None
        assert caught.value.snapshot["tokens"].reserved == 5
        assert outer.snapshot()["tokens"].reserved == 5
        late[0].commit(2)
    assert 0.04 <= elapsed < 5
    assert (budget.spent("tokens"), outer.spent("tokens")) == (2, 2)


def test_the_wait_of_the_exit_is_shielded_and_bounded() -> None:
    async def main() -> float:
        started = trio.current_time()
        late: list[Reservation] = []
        with trio.CancelScope() as outer, pytest.raises(BudgetTerminated):
            async with task_budget(tokens=10, policy=Terminate(settle_seconds=7)) as budget:
                late.append(await reserve(tokens=5))
                budget.terminate("enough")
                outer.cancel()
        late[0].release()
        return trio.current_time() - started

    elapsed = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert elapsed == pytest.approx(7, abs=0.5)


async def test_without_a_termination_the_exit_does_not_wait() -> None:
    async with task_budget(tokens=10, policy=Terminate(settle_seconds=60)):
        late = await reserve(tokens=5)
    late.release()


def test_a_sync_block_does_not_wait() -> None:
    late: list[Reservation] = []
    with (
        pytest.raises(BudgetTerminated),
        task_budget(tokens=10, policy=Terminate(settle_seconds=60)) as budget,
    ):
        late.append(reserve_nowait(tokens=5))
        budget.terminate("enough")
    late[0].release()

# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""What the owner's block raises, for everything that can come out of its body."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Reject,
    Reservation,
    TaskBudget,
    Terminate,
    budgeted,
    current_budget,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import budget_error, soft_termination
from tests.termination.agents import Probe, keeps_going

NO_WAIT = Terminate(settle_seconds=0)
Body = Callable[[TaskBudget], Awaitable[object]]


class Unlucky(Exception): ...


async def run_terminated(body: Body, **options: Any) -> None:
    """Terminate a task from inside, then go on with the body."""
    async with task_budget("agent", calls=3, **options) as budget:
        budget.terminate("enough")
        await body(budget)


async def test_terminate_ends_the_block_at_its_next_checkpoint() -> None:
    reached: list[str] = []

    async def body(_budget: TaskBudget) -> None:
        reached.append("before")
        await checkpoint()
        reached.append("after")

    with pytest.raises(BudgetTerminated, match="enough") as caught:
        await run_terminated(body)
    assert (caught.value.dim, caught.value.reason) == (None, "enough")
    assert reached == ["before"]


async def test_a_body_that_returns_normally_after_the_latch_still_raises() -> None:
    async def body(_budget: TaskBudget) -> str:
        return "done"

    with pytest.raises(BudgetTerminated):
        await run_terminated(body)


async def test_an_ordinary_error_becomes_the_cause() -> None:
    async def body(_budget: TaskBudget) -> None:
        raise Unlucky("tool broke")

    with pytest.raises(BudgetTerminated) as caught:
        await run_terminated(body)
    assert isinstance(caught.value.__cause__, Unlucky)


async def test_an_error_raised_while_cleaning_up_becomes_the_cause() -> None:
    async def body(_budget: TaskBudget) -> None:
        try:
            await checkpoint()
        finally:
            raise Unlucky("cleaning up broke")

    with pytest.raises(BudgetTerminated) as caught:
        await run_terminated(body)
    assert isinstance(caught.value.__cause__, Unlucky)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_interrupts_pass_unchanged(error: type[BaseException]) -> None:
    async def body(_budget: TaskBudget) -> None:
        raise error

    with pytest.raises(error):
        await run_terminated(body)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_a_sync_block_unchanged(error: type[BaseException]) -> None:
    with pytest.raises(error), task_budget(calls=1) as budget:
        budget.terminate("enough")
        raise error


async def test_without_a_latch_an_error_passes_as_it_is() -> None:
    error = Unlucky()
    with pytest.raises(Unlucky) as caught:
        async with task_budget(calls=3):
            raise error
    assert caught.value is error


async def test_of_a_group_the_rest_stays_attached() -> None:
    probe = Probe()

    async def fails() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise Unlucky

    with pytest.raises(BudgetTerminated) as caught:
        async with (
            task_budget(calls=3, policy="terminate") as budget,
            anyio.create_task_group() as g,
        ):
            g.start_soon(fails)
            await keeps_going(probe, budget)
    rest = caught.value.__cause__
    assert isinstance(rest, ExceptionGroup)
    assert [type(e) for e in rest.exceptions] == [Unlucky]


async def test_of_a_group_with_ours_alone_nothing_is_left() -> None:
    async with task_budget("agent", calls=1) as other:
        pass

    async def body(budget: TaskBudget) -> None:
        ours = BudgetTerminated(budget=budget.name, dim=None, reason="", budget_id=budget.id)
        raise ExceptionGroup("tools", [ExceptionGroup("inner", [ours])])

    with pytest.raises(BudgetTerminated) as caught:
        await run_terminated(body)
    assert caught.value.__cause__ is None
    assert other.id != caught.value.budget_id


async def test_the_termination_of_a_stranger_is_not_ours() -> None:
    stranger = BudgetTerminated(budget="agent", dim=None, reason="elsewhere", budget_id="other")

    async def body(_budget: TaskBudget) -> None:
        raise stranger

    with pytest.raises(BudgetTerminated, match="enough") as caught:
        await run_terminated(body)
    assert caught.value.__cause__ is stranger


async def test_the_snapshot_is_frozen_at_the_end() -> None:
    async with task_budget("outer", tokens=100):
        late: list[Reservation] = []
        agent = task_budget("agent", tokens=10, policy=NO_WAIT)
        with pytest.raises(BudgetTerminated) as caught:
            async with agent:
                late.append(await reserve(tokens=4))
                agent.terminate("enough")
        assert caught.value.snapshot is not None
        assert caught.value.snapshot["tokens"].reserved == 4
        late[0].commit(1)
        assert caught.value.snapshot["tokens"].reserved == 4
        assert (agent.spent("tokens"), agent.snapshot()["tokens"].reserved) == (1, 0)


# Who terminates, and when.


async def test_terminate_from_another_task() -> None:
    async def other(budget: TaskBudget) -> None:
        budget.terminate("the user pressed stop")

    async with anyio.create_task_group() as outer:
        with pytest.raises(BudgetTerminated, match="the user pressed stop"):
            async with task_budget(calls=3) as budget:
                outer.start_soon(other, budget)
                await anyio.sleep_forever()


async def test_terminate_from_a_thread() -> None:
    with pytest.raises(BudgetTerminated, match="from a thread"):
        async with task_budget(calls=3) as budget:
            threading.Thread(target=budget.terminate, args=("from a thread",)).start()
            await anyio.sleep_forever()


async def test_terminate_from_a_worker_thread_of_the_block() -> None:
    with pytest.raises(BudgetTerminated, match="from a worker"):
        async with task_budget(calls=3) as budget:
            await anyio.to_thread.run_sync(budget.terminate, "from a worker")
            await anyio.sleep_forever()


async def test_terminate_after_the_end_does_nothing() -> None:
    async with task_budget(calls=3) as budget:
        pass
    budget.terminate("too late")
    await checkpoint()
    assert budget.verdict.name == "continue"


async def test_the_first_termination_stands() -> None:
    with pytest.raises(BudgetTerminated, match="first"):
        async with task_budget(calls=3) as budget:
            budget.terminate("first")
            budget.terminate("second")


async def test_a_reason_is_one_printable_text_of_bounded_length() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(calls=3) as budget:
            budget.terminate("\x1b[31m" + "x" * 1_000)
    assert "\x1b" not in caught.value.reason
    assert len(caught.value.reason) == 256


# Latched: nothing at or below the node is granted, open reservations still settle (I17).


async def test_once_latched_no_reserve_succeeds_in_any_task_or_thread() -> None:
    seen: list[str] = []

    def attempt() -> None:
        try:
            reserve_nowait(tokens=0)
            seen.append("granted")
        except BudgetTerminated as error:
            seen.append(error.budget)

    async def attempt_later(latched: anyio.Event) -> None:
        await latched.wait()
        attempt()

    async with anyio.create_task_group() as outer:
        with pytest.raises(BudgetTerminated):
            async with task_budget("outer", calls=3) as budget, task_budget("inner", calls=2):
                latched = anyio.Event()
                thread = threading.Thread(target=budget.wrap(attempt))
                outer.start_soon(attempt_later, latched)
                with anyio.CancelScope(shield=True):
                    budget.terminate("enough")
                    latched.set()
                    thread.start()
                    await anyio.to_thread.run_sync(thread.join)
                    await anyio.wait_all_tasks_blocked()
    assert seen == ["outer", "outer"]


async def test_open_reservations_settle_after_the_latch() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(tokens=10) as budget:
            open_one, released = await reserve(tokens=4), await reserve(tokens=5)
            budget.terminate("enough")
            open_one.commit(3)
            released.release()
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 3
    assert caught.value.snapshot["tokens"].reserved == 0
    assert caught.value.__cause__ is None


async def test_calls_in_flight_are_cancelled_and_charged() -> None:
    @budgeted(tokens=7)
    async def think(started: anyio.Event) -> None:
        started.set()
        await anyio.sleep_forever()

    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(tokens=10) as budget, anyio.create_task_group() as group:
            started = anyio.Event()
            group.start_soon(think, started)
            await started.wait()
            budget.terminate("enough")
            await anyio.sleep_forever()
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 7
    assert caught.value.snapshot["tokens"].assumed == 7


def test_opening_a_carve_under_a_terminated_task_ends_the_loop_around_it() -> None:
    turns: list[str] = []
    with pytest.raises(BudgetTerminated), task_budget(calls=9) as budget:
        budget.terminate("enough")
        for _ in range(50):
            turns.append("turn")
            try:
                with task_budget(calls=1, carve=True):
                    pass
            except Exception:
                continue
    assert turns == ["turn"]


async def test_charge_is_booked_after_the_latch() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(tokens=10) as budget:
            budget.terminate("enough")
            budget.charge(tokens=4)
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 4


async def test_after_the_end_a_reserve_is_refused_with_the_termination() -> None:
    budget = task_budget("agent", calls=3)
    with pytest.raises(BudgetTerminated):
        async with budget:
            budget.terminate("enough")
    probe = Probe()
    with pytest.raises(BudgetTerminated, match="enough"):
        await budget.wrap(probe.tool)()
    assert probe.ran == 0


# Where a signal may go.


def test_the_second_refusal_in_a_carried_loop_ends_it_with_the_public_error() -> None:
    """Nobody owns a block further out, so the thread is shown what the signal stands for."""
    shown: list[type[BaseException]] = []
    probe = Probe()

    def loop() -> None:
        for _ in probe.each_turn():
            try:
                probe.sync_tool()
            except Exception:
                continue

    def thread() -> None:
        try:
            carried()
        except BaseException as error:
            shown.append(type(error))

    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate") as budget:
        carried = budget.wrap(loop)
        worker = threading.Thread(target=thread)
        worker.start()
        worker.join()
    assert (probe.turns, shown) == (5, [BudgetTerminated])


def test_a_loop_around_a_carried_call_is_ended_too() -> None:
    shown: list[str] = []
    probe = Probe()

    def thread() -> None:
        for _ in probe.each_turn():
            try:
                carried()
            except Exception as error:
                shown.append(type(error).__name__)

    def quiet() -> None:
        with probe.ending():
            thread()

    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate") as budget:
        carried = budget.wrap(probe.sync_tool)
        worker = threading.Thread(target=quiet)
        worker.start()
        worker.join()
    assert (probe.ran, probe.turns, shown) == (3, 5, ["BudgetTerminated"])


def test_a_carried_call_on_the_owners_own_stack_ends_the_loop_around_it() -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate") as budget:
        carried = budget.wrap(probe.sync_tool)
        for _ in probe.each_turn():
            try:
                carried()
            except Exception:
                continue
    assert (probe.ran, probe.turns) == (3, 4)


def test_inside_soft_termination_refusals_stay_ordinary_errors() -> None:
    probe = Probe()

    def serve() -> None:
        for _ in probe.each_turn():
            with soft_termination():
                try:
                    probe.sync_tool()
                except BudgetTerminated:
                    continue

    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate") as budget:
        worker = threading.Thread(target=budget.wrap(serve))
        worker.start()
        worker.join()
    assert (probe.ran, probe.turns) == (3, 50)


async def test_budget_error_finds_the_termination_in_what_a_framework_wrapped() -> None:
    async def body(_budget: TaskBudget) -> None:
        try:
            await Probe().tool()
        except BaseException as error:
            raise Unlucky("the framework says no") from error

    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget(calls=1, policy=Reject(patience=None)) as budget:
            await Probe().tool()
            budget.terminate("enough")
            await body(budget)
    assert isinstance(caught.value.__cause__, Unlucky)
    found = budget_error(ExceptionGroup("tools", [caught.value]))
    assert found is caught.value


# Nested tasks (I18).


async def test_inner_exhausted_ends_the_inner_owner_alone() -> None:
    probe = Probe()
    async with task_budget("outer", calls=10, policy="terminate") as outer:
        with pytest.raises(BudgetTerminated) as caught:
            async with task_budget("inner", calls=3, policy="terminate") as inner:
                await keeps_going(probe, inner)
        await checkpoint()
        await probe.tool()
    assert (caught.value.budget, probe.ran, outer.spent("calls")) == ("inner", 4, 4)
    assert outer.verdict.name == "continue"


@pytest.mark.parametrize("swallow", [Exception, BaseException], ids=lambda e: e.__name__)
async def test_outer_exhausted_ends_the_outer_owner_and_the_inner_does_not_convert(
    swallow: type[BaseException],
) -> None:
    seen: list[BaseException] = []
    probe = Probe()
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", calls=3, policy="terminate"):
            try:
                async with task_budget("inner", calls=100, policy="terminate") as inner:
                    await keeps_going(probe, inner)
            except swallow as error:
                seen.append(error)
                await checkpoint()
    assert (caught.value.budget, probe.ran, probe.turns) == ("outer", 3, 4)
    assert not [error for error in seen if isinstance(error, BudgetTerminated)]


async def test_outer_exhausted_passes_a_shielded_inner_block_unconverted() -> None:
    probe = Probe()
    inner = task_budget("inner", calls=100)
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", calls=3, policy="terminate"):
            with anyio.CancelScope(shield=True):
                async with inner:
                    await keeps_going(probe, inner)
    assert (caught.value.budget, probe.ran, probe.turns) == ("outer", 3, 4)
    assert inner.verdict.name == "continue"


def test_outer_exhausted_passes_a_sync_inner_block_unconverted() -> None:
    probe = Probe()
    with (
        pytest.raises(BudgetTerminated) as caught,
        task_budget("outer", calls=3, policy="terminate"),
        task_budget("inner", calls=100, policy="terminate"),
    ):
        for _ in probe.each_turn():
            try:
                probe.sync_tool()
            except Exception:
                continue
    assert (caught.value.budget, probe.ran, probe.turns) == ("outer", 3, 4)


async def test_both_terminated_the_outer_owner_has_the_last_word() -> None:
    inner_seen: list[str] = []
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", calls=3) as outer:
            try:
                async with task_budget("inner", calls=3) as inner:
                    inner.terminate("inner")
                    outer.terminate("outer")
            except BudgetTerminated as error:
                inner_seen.append(error.budget)
                raise
    assert (inner_seen, caught.value.budget) == (["inner"], "outer")
    assert isinstance(caught.value.__cause__, BudgetTerminated)


async def test_an_inner_block_passes_the_termination_of_the_outer_on_though_it_ended_too() -> None:
    seen: list[str] = []
    with pytest.raises(BudgetTerminated):
        async with task_budget("outer", calls=3) as outer:
            outer.terminate("outer")
            try:
                async with task_budget("inner", calls=3) as inner:
                    inner.terminate("inner")
                    with soft_termination(), anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(raise_for, outer)
            except BudgetTerminated as error:
                seen.append(error.budget)
    assert seen == ["outer"]


def raise_for(task: TaskBudget) -> None:
    """What a refused call of a stranger raises."""
    raise BudgetTerminated(budget=task.name, dim=None, reason="", budget_id=task.id)


async def test_of_several_short_payers_the_outermost_that_terminates_ends() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with (
            task_budget("a", calls=1),
            task_budget("b", calls=1, policy="terminate"),
            task_budget("c", calls=1, policy="terminate"),
        ):
            await keeps_going(Probe(), current_task_budget())
    assert caught.value.budget == "b"


def current_task_budget() -> TaskBudget:
    budget = current_budget()
    assert budget is not None
    return budget


async def test_a_call_may_be_stricter_than_its_task() -> None:
    @budgeted(calls=1, policy="terminate")
    async def precious() -> None: ...

    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=1):
            await precious()
            await precious()


async def test_a_call_may_not_be_weaker_than_its_task() -> None:
    @budgeted(calls=1, policy="reject")
    async def cheap() -> None: ...

    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=1, policy="terminate"):
            await cheap()
            await cheap()


# Foreign cancellation.


async def test_an_outer_scope_passes_unchanged() -> None:
    with anyio.CancelScope() as outer:
        async with task_budget(calls=3) as budget:
            budget.terminate("enough")
            outer.cancel()
            await anyio.sleep_forever()
    assert outer.cancelled_caught


async def test_an_outer_timeout_without_a_latch_passes_unchanged() -> None:
    budget = task_budget(calls=3)
    with anyio.move_on_after(0) as outer:
        async with budget:
            await anyio.sleep_forever()
    assert outer.cancelled_caught
    assert budget.verdict.name == "continue"


async def test_cancelling_the_task_group_around_passes_unchanged() -> None:
    async def child(group: anyio.abc.TaskGroup) -> None:
        async with task_budget(calls=3) as budget:
            group.cancel_scope.cancel()
            budget.terminate("enough")
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(child, group)


def native(*, native_first: bool, same_tick: bool) -> bool:
    """Cancel the owner's task natively beside its termination; whether it ended cancelled."""

    async def owner(opened: asyncio.Future[TaskBudget]) -> None:
        async with task_budget(calls=3) as budget:
            opened.set_result(budget)
            await asyncio.sleep(60)

    async def main() -> bool:
        opened = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(owner(opened))
        budget: TaskBudget = await opened
        moves: list[Callable[[], object]] = [lambda: budget.terminate("enough"), task.cancel]
        for move in reversed(moves) if native_first else moves:
            move()
            if not same_tick:
                await asyncio.sleep(0)
        await asyncio.wait([task])
        return task.cancelled()

    return asyncio.run(main())


@pytest.mark.parametrize("native_first", [True, False])
def test_native_cancel_in_the_same_tick_as_the_termination_goes_on(native_first: bool) -> None:
    assert native(native_first=native_first, same_tick=True)


def test_native_cancel_before_the_termination_goes_on() -> None:
    assert native(native_first=True, same_tick=False)


def test_native_cancel_of_a_block_that_is_not_terminated_passes() -> None:
    async def main() -> bool:
        async def owner() -> None:
            async with task_budget(calls=3):
                await asyncio.sleep(60)

        task = asyncio.create_task(owner())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_native_cancel_while_the_exit_waits_for_a_thread_goes_on() -> None:
    async def main() -> bool:
        async def owner(opened: asyncio.Future[Any]) -> None:
            async with task_budget(tokens=3, policy=Terminate(settle_seconds=30)) as budget:
                opened.set_result(await reserve(tokens=1))
                budget.terminate("enough")
                await asyncio.sleep(60)

        opened = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(owner(opened))
        reservation = await opened
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        reservation.release()
        return task.cancelled()

    assert asyncio.run(main())


async def test_an_error_of_a_rejected_call_passes_as_it_is() -> None:
    with pytest.raises(BudgetExceeded):
        async with task_budget(calls=1):
            await Probe().tool()
            await Probe().tool()


def test_a_termination_stops_the_grants_of_all_threads_at_once() -> None:
    """What is reserved when `terminate` returns is all that will ever be."""
    started = threading.Barrier(5)
    held: list[Reservation] = []
    reserved: list[object] = []

    def hold_on() -> None:
        started.wait()
        while True:
            held.append(reserve_nowait(calls=1))

    def thread() -> None:
        with pytest.raises(BudgetTerminated):
            carried()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with pytest.raises(BudgetTerminated) as caught, task_budget(calls=10**9) as budget:
            carried = budget.wrap(hold_on)
            threads = [threading.Thread(target=thread) for _ in range(4)]
            for one in threads:
                one.start()
            started.wait()
            while len(held) < 1_000:
                pass
            budget.terminate("enough")
            reserved.append(budget.snapshot()["calls"].reserved)
            for one in threads:
                one.join()
            reserved.append(budget.snapshot()["calls"].reserved)
    finally:
        sys.setswitchinterval(interval)
    assert caught.value.reason == "enough"
    assert reserved == [len(held), len(held)]

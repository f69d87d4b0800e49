# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""The loops of agents that swallow what their tools raise: three calls run, the owner is told."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Reject,
    TaskBudget,
    Terminate,
    budgeted,
    task_budget,
)
from budgetware.errors import soft_termination
from tests.termination.agents import ASYNCIO_SHAPES, SHAPES, Probe, Shape, keeps_going

Policy = Reject | Terminate | str
POLICIES: list[Policy] = [Terminate(), Reject(patience=1)]


async def run_to_its_end(shape: Shape, probe: Probe, policy: Policy = "terminate") -> None:
    """Run an agent under a limit of three calls, and wait for what it leaves behind."""
    try:
        async with task_budget("agent", calls=3, policy=policy) as budget:
            await shape.run(probe, budget)
    finally:
        await probe.wait_until_over()


async def check_three_ran(shape: Shape, policy: Policy) -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated) as caught:
        await run_to_its_end(shape, probe, policy)
    assert (probe.ran, probe.turns) == (3, shape.turns)
    assert (caught.value.budget, caught.value.dim) == ("agent", "calls")
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["calls"].spent == 3
    assert caught.value.snapshot["calls"].reserved == 0


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
async def test_three_calls_run_and_the_owner_is_told(shape: Shape, policy: Policy) -> None:
    await check_three_ran(shape, policy)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("shape", ASYNCIO_SHAPES, ids=repr)
def test_three_calls_run_in_shapes_of_asyncio(shape: Shape, policy: Policy) -> None:
    asyncio.run(check_three_ran(shape, policy))


async def check_patience(shape: Shape) -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated):
        await run_to_its_end(shape, probe, Reject(patience=6))
    assert probe.ran == 3


@pytest.mark.parametrize("shape", [s for s in SHAPES if not s.stops_early], ids=repr)
async def test_patience_ends_the_agent_too(shape: Shape) -> None:
    await check_patience(shape)


@pytest.mark.parametrize("shape", ASYNCIO_SHAPES, ids=repr)
def test_patience_ends_the_agent_in_shapes_of_asyncio(shape: Shape) -> None:
    asyncio.run(check_patience(shape))


async def test_patience_counts_the_refusals_in_a_row() -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated, match="after 6 refusals in a row"):
        await run_to_its_end(Shape(keeps_going), probe, Reject(patience=6))
    assert (probe.ran, probe.turns) == (3, 3 + 6)


async def test_a_grant_between_refusals_restores_patience() -> None:
    def as_asked(n: int) -> int:
        return n

    @budgeted(tokens=as_asked)
    async def spend(n: int) -> None: ...

    async with task_budget(tokens=10, policy=Reject(patience=2)):
        for _ in range(5):
            with pytest.raises(BudgetExceeded):
                await spend(100)
            await spend(1)
        with pytest.raises(BudgetExceeded):
            await spend(100)


async def test_without_patience_the_agent_is_never_ended() -> None:
    probe = Probe()
    async with task_budget(calls=3, policy=Reject(patience=None)) as budget:
        await keeps_going(probe, budget)
    assert (probe.ran, probe.turns) == (3, 50)


def leaves(error: BaseException) -> list[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [type(error)]


async def check_what_escapes(shape: Shape) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as outer:
            outer.start_soon(run_to_its_end, shape, Probe())
    assert leaves(caught.value) == [BudgetTerminated]


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
async def test_a_task_group_outside_sees_the_public_error_alone(shape: Shape) -> None:
    await check_what_escapes(shape)


@pytest.mark.parametrize("shape", ASYNCIO_SHAPES, ids=repr)
def test_a_task_group_outside_shapes_of_asyncio_sees_the_public_error(shape: Shape) -> None:
    asyncio.run(check_what_escapes(shape))


async def check_bystander(shape: Shape) -> None:
    ended = anyio.Event()
    met: list[str] = []

    async def bystander() -> None:
        while not ended.is_set():
            await checkpoint()
        met.append("bystander")

    async def owner() -> None:
        with pytest.raises(BudgetTerminated):
            await run_to_its_end(shape, Probe())
        for _ in range(5):  # nothing of the cancellation is left behind
            await checkpoint()
        met.append("owner")
        ended.set()

    async with anyio.create_task_group() as outer:
        outer.start_soon(bystander)
        outer.start_soon(owner)
    assert met == ["owner", "bystander"]


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
async def test_bystanders_and_the_code_after_the_block_go_on(shape: Shape) -> None:
    await check_bystander(shape)


@pytest.mark.parametrize("shape", ASYNCIO_SHAPES, ids=repr)
def test_bystanders_of_shapes_of_asyncio_go_on(shape: Shape) -> None:
    asyncio.run(check_bystander(shape))


def test_native_cancellation_is_balanced_after_the_end() -> None:
    async def main() -> int:
        with pytest.raises(BudgetTerminated):
            await run_to_its_end(Shape(keeps_going), Probe())
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


def swallow(call: Callable[[], object], turns: int) -> list[str]:
    """Call so many times, whatever is raised; the names of what was."""
    seen: list[str] = []
    for _ in range(turns):
        try:
            call()
            seen.append("ok")
        except BaseException as error:
            seen.append(type(error).__name__)
    return seen


def test_sync_block_without_a_loop_ends_the_same_way() -> None:
    probe = Probe()
    with (
        pytest.raises(BudgetTerminated, match=r"0 of 3 calls left, 1 requested"),
        task_budget("job", calls=3, policy="terminate"),
    ):
        for _ in probe.each_turn():
            try:
                probe.sync_tool()
            except Exception:
                continue
    assert (probe.ran, probe.turns) == (3, 4)


def test_sync_block_that_swallows_everything_never_exits_normally() -> None:
    probe = Probe()
    with (
        pytest.raises(BudgetTerminated),
        task_budget("job", calls=3, policy="terminate"),
    ):
        swallow(probe.sync_tool, 10)
    assert probe.ran == 3


async def test_sync_block_in_a_task_ends_that_task_alone() -> None:
    probe = Probe()
    with pytest.raises(BudgetTerminated), task_budget("job", calls=3, policy="terminate") as job:
        await keeps_going(probe, job)
    await checkpoint()
    assert (probe.ran, probe.turns) == (3, 4)


async def test_sync_block_in_a_worker_thread_ends_in_that_thread() -> None:
    probe = Probe()

    def work() -> None:
        with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate"):
            for _ in probe.each_turn():
                try:
                    probe.sync_tool()
                except Exception:
                    continue

    await anyio.to_thread.run_sync(work)
    assert (probe.ran, probe.turns) == (3, 4)


async def test_decorated_coroutine_function_is_an_owner_too() -> None:
    probe = Probe()

    @task_budget(calls=3, policy="terminate")
    async def agent() -> str:
        for _ in probe.each_turn():
            try:
                await probe.tool()
            except Exception:
                continue
        return "all is well"

    with pytest.raises(BudgetTerminated):
        await agent()
    assert (probe.ran, probe.turns) == (3, 4)


async def test_a_refusal_yields_to_the_event_loop() -> None:
    turns: list[str] = []

    async def refused() -> None:
        async with task_budget(calls=1, policy=Reject(patience=None)):
            probe = Probe()
            await probe.tool()
            for _ in range(3):
                with pytest.raises(BudgetExceeded):
                    await probe.tool()
                turns.append("refused")

    async def other() -> None:
        for _ in range(20):
            turns.append("other")
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(refused)
        group.start_soon(other)
    first, last = turns.index("refused"), len(turns) - 1 - turns[::-1].index("refused")
    assert "other" in turns[first:last]


async def test_a_refused_carve_yields_to_the_event_loop() -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with task_budget(calls=3), anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(3):
            with pytest.raises(BudgetExceeded):
                async with task_budget(calls=9, carve=True):
                    pass
            turns.append("refused")
    assert "other" in turns[:2]


class Server:
    """A task outside every block that makes calls on behalf of whoever asks, one by one."""

    def __init__(self, probe: Probe, *, soft: bool = False) -> None:
        self.answers: list[str] = []
        self._probe = probe
        self._around = soft_termination if soft else nullcontext
        self._asked, self._requests = anyio.create_memory_object_stream[
            tuple[TaskBudget, anyio.Event]
        ](0)

    async def serve(self) -> None:
        async with self._requests:
            async for budget, answered in self._requests:
                with self._around():
                    self.answers.append(await self._answer(budget))
                answered.set()

    async def _answer(self, budget: TaskBudget) -> str:
        try:
            return await budget.wrap(self._probe.tool)()
        except Exception as error:
            return type(error).__name__

    async def ask(self, budget: TaskBudget) -> None:
        answered = anyio.Event()
        await self._asked.send((budget, answered))
        await answered.wait()

    def close(self) -> None:
        self._asked.close()


async def test_a_refused_call_of_a_server_outside_is_an_ordinary_error() -> None:
    probe = Probe()
    server = Server(probe)
    async with anyio.create_task_group() as outer:
        outer.start_soon(server.serve)
        with pytest.raises(BudgetTerminated):
            async with task_budget(calls=3, policy="terminate") as budget:
                for _ in probe.each_turn():
                    await server.ask(budget)
        async with task_budget(calls=1) as budget:  # the server has survived
            await server.ask(budget)
        server.close()
    assert server.answers == ["ok", "ok", "ok", "BudgetTerminated", "ok"]
    assert (probe.ran, probe.turns) == (4, 4)


async def test_a_server_that_is_soft_survives_any_number_of_refused_requests() -> None:
    probe = Probe()
    server = Server(probe, soft=True)
    async with anyio.create_task_group() as outer:
        outer.start_soon(server.serve)
        with pytest.raises(BudgetTerminated):
            async with task_budget(calls=3, policy="terminate") as budget:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):
                        await server.ask(budget)
        server.close()
    assert server.answers == ["ok"] * 3 + ["BudgetTerminated"] * 7
    assert probe.ran == 3

# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""`finish()`: what was kept is spent on the last answer, and on nothing else."""

from collections.abc import Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    Terminate,
    budgeted,
    connect,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, NoBudget
from tests.termination.clocks import HandClock


def as_asked(n: int) -> int:
    return n


@budgeted(tokens=as_asked)
async def think(n: int) -> int:
    await checkpoint()
    return n


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(clock: HandClock) -> Iterator[QuotaService]:
    with connect(clock=clock) as service:
        yield service


async def test_ordinary_calls_cannot_spend_what_is_kept() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        await think(70)
        with pytest.raises(BudgetExceeded) as caught:
            await think(1)
        assert budget.remaining("tokens") == 0
    assert caught.value.available == 0


async def test_inside_finish_it_is_room() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        await think(70)
        async with budget.finish():
            assert budget.remaining("tokens") == 30
            assert await think(30) == 30
            with pytest.raises(BudgetExceeded):
                await think(1)
    assert budget.spent("tokens") == 100


async def test_after_finish_what_is_left_is_kept_again() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        await think(70)
        async with budget.finish():
            await think(10)
        with pytest.raises(BudgetExceeded):
            await think(1)
        async with budget.finish():
            await think(20)
    assert budget.spent("tokens") == 100


def test_finish_is_a_sync_block_too() -> None:
    with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        reserve_nowait(tokens=70).commit()
        with budget.finish():
            reserve_nowait(tokens=30).commit()
    assert budget.spent("tokens") == 100


async def test_concurrent_ordinary_calls_cannot_spend_the_keep() -> None:
    refused: list[int] = []
    entered, tried = anyio.Event(), anyio.Event()

    async def ordinary() -> None:
        await entered.wait()
        for n in (1, 30):
            try:
                await think(n)
            except BudgetExceeded:
                refused.append(n)
        tried.set()

    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        await think(70)
        async with anyio.create_task_group() as group:
            group.start_soon(ordinary)
            async with budget.finish():
                entered.set()
                await tried.wait()
                await think(30)
    assert refused == [1, 30]


async def test_the_owner_may_finish_once_after_the_termination() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30}, policy="terminate")
    answers: list[int] = []
    try:
        async with budget:
            await think(70)
            await think(1)
    except BudgetTerminated:
        async with budget.finish():
            answers.append(await think(30))
    assert (answers, budget.spent("tokens")) == ([30], 100)


async def test_the_second_finish_after_the_termination_is_refused() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30}, policy="terminate")
    with pytest.raises(BudgetTerminated):
        async with budget:
            await think(71)
    async with budget.finish():
        await think(10)
    with pytest.raises(BudgetTerminated):
        async with budget.finish():
            await think(10)
    assert budget.spent("tokens") == 10


async def test_finish_after_the_termination_spends_no_more_than_there_is() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30}, policy="terminate")
    with pytest.raises(BudgetTerminated):
        async with budget:
            await think(70)
            await think(1)
    async with budget.finish():
        with pytest.raises(BudgetExceeded):
            await think(31)
        await think(30)


async def test_outside_finish_a_terminated_task_stays_closed() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30}, policy="terminate")
    with pytest.raises(BudgetTerminated):
        async with budget:
            await think(71)
    carried = budget.wrap(think)
    async with budget.finish():
        await think(1)
    with pytest.raises(BudgetTerminated):
        await carried(1)


async def test_finish_after_a_deadline(clock: HandClock, service: QuotaService) -> None:
    budget = service.task_budget("agent", tokens=100, seconds=60, keep={"tokens": 30})
    with pytest.raises(BudgetTerminated) as caught:
        async with budget:
            clock.advance(61)
            await think(1)
    async with budget.finish():
        await think(30)
    assert caught.value.dim == "millis"
    assert budget.spent("tokens") == 30


def test_finish_in_a_sync_block_past_its_latch() -> None:
    """The latch refuses everything but the last answer; sync code cannot be cancelled there."""
    with (
        pytest.raises(BudgetTerminated) as caught,
        task_budget(tokens=100, keep={"tokens": 30}) as budget,
    ):
        budget.terminate("enough")
        with budget.finish():
            reserve_nowait(tokens=30).commit()
        reserve_nowait(tokens=1)
    assert caught.value.snapshot is not None
    assert caught.value.snapshot["tokens"].spent == 30


async def test_finish_after_a_normal_end_is_refused() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        pass
    with pytest.raises(NoBudget, match="has ended"):
        async with budget.finish():
            pass


async def test_an_outer_termination_refuses_the_finish_of_an_inner_task() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", tokens=100) as outer:
            async with task_budget("inner", tokens=50, keep={"tokens": 10}) as inner:
                outer.terminate("enough")
                async with inner.finish():
                    await think(1)
    assert caught.value.budget == "outer"


async def test_a_task_opened_inside_finish_may_spend_the_keep_until_finish_ends() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        await think(70)
        async with budget.finish(), task_budget("answer", tokens=30) as answer:
            await think(10)
        with pytest.raises(NoBudget):
            await answer.wrap(think)(1)
    assert budget.spent("tokens") == 80


async def test_code_that_outlives_finish_cannot_spend_the_keep() -> None:
    refused: list[int] = []

    async def helper(finished: anyio.Event) -> None:
        await finished.wait()
        try:
            await think(1)
        except BudgetExceeded as error:
            refused.append(int(error.available))

    async with (
        task_budget("agent", tokens=100, keep={"tokens": 30}) as budget,
        anyio.create_task_group() as group,
    ):
        await think(70)
        finished = anyio.Event()
        async with budget.finish():
            group.start_soon(helper, finished)
            await checkpoint()
        finished.set()
    assert refused == [0]


async def test_a_finish_is_entered_once() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        finishing = budget.finish()
        async with finishing:
            pass
        with pytest.raises(ConfigurationError):
            async with finishing:
                pass


async def test_a_short_call_inside_finish_still_terminates() -> None:
    with pytest.raises(BudgetTerminated):
        async with task_budget(tokens=100, keep={"tokens": 30}, policy=Terminate()) as budget:
            async with budget.finish():
                await think(101)

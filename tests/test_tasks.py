"""`task_budget`: what it limits, how it nests, what it shows, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Limit,
    QuotaService,
    TaskBudget,
    Verdict,
    budgeted,
    charge,
    connect,
    current_budget,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount, NoBudget


class HandClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def time(self) -> float:
        return self.ns / 1e9

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(clock: HandClock) -> Iterator[QuotaService]:
    with connect(clock=clock) as opened:
        yield opened


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def budget(stack: ExitStack) -> TaskBudget:
    """An open task of 100 tokens and 5 calls."""
    return stack.enter_context(task_budget("work", tokens=100, calls=5))


def spend(**amounts: Any) -> None:
    reserve_nowait(**amounts).commit()


def parts(budget: TaskBudget, dim: str = "tokens") -> tuple[object, ...]:
    shown = budget.snapshot()[dim]
    return shown.spent, shown.reserved, shown.granted, shown.remaining


# Its forms.


async def test_async_with_gives_the_task_and_makes_it_current() -> None:
    assert current_budget() is None
    async with task_budget("work", tokens=100) as budget:
        assert current_budget() is budget
        assert (budget.name, budget.path) == ("work", "work")
    assert current_budget() is None


def test_with_gives_the_task_and_makes_it_current() -> None:
    with task_budget("work", tokens=100) as budget:
        assert current_budget() is budget
    assert current_budget() is None


def test_a_task_without_a_name_is_called_task() -> None:
    with task_budget(tokens=1) as budget:
        assert budget.name == "task"


def test_tasks_of_one_name_have_ids_of_their_own() -> None:
    with task_budget("work", tokens=1) as first, task_budget("work", tokens=1) as second:
        assert first.id != second.id


async def test_a_decorated_coroutine_function_runs_each_call_in_a_task_of_its_own() -> None:
    seen: list[TaskBudget | None] = []

    @task_budget(tokens=10)
    async def work(n: int) -> int:
        seen.append(current_budget())
        spend(tokens=10)
        return n

    assert [await work(1), await work(2)] == [1, 2]
    first, second = seen
    assert first is not None
    assert second is not None
    assert first is not second
    assert (first.name, first.spent("tokens"), second.spent("tokens")) == ("work", 10, 10)


def test_a_decorated_function_runs_each_call_in_a_task_of_its_own() -> None:
    @task_budget("named", tokens=10)
    def work(n: int) -> str:
        spend(tokens=10)
        budget = current_budget()
        assert budget is not None
        return f"{budget.name} {n}"

    assert [work(1), work(2)] == ["named 1", "named 2"]


class Agent:
    """Methods of every kind, each call a task."""

    @task_budget(tokens=10)
    async def run(self, n: int) -> tuple[int, str]:
        return n, where()

    @task_budget(tokens=10)
    def walk(self, n: int) -> tuple[int, str]:
        return n, where()

    @staticmethod
    @task_budget(tokens=10)
    def inner_static(n: int) -> tuple[int, str]:
        return n, where()

    @task_budget(tokens=10)
    @staticmethod
    def outer_static(n: int) -> tuple[int, str]:
        return n, where()

    @classmethod
    @task_budget(tokens=10)
    def inner_class(cls, n: int) -> tuple[int, str]:
        return n, where() + cls.__name__

    @task_budget(tokens=10)
    @classmethod
    def outer_class(cls, n: int) -> tuple[int, str]:
        return n, where() + cls.__name__


def where() -> str:
    budget = current_budget()
    return "" if budget is None else budget.name


async def test_methods_of_every_kind_may_be_tasks() -> None:
    agent: Any = Agent()
    assert await agent.run(1) == (1, "run")
    assert agent.walk(2) == (2, "walk")
    assert agent.inner_static(3) == (3, "inner_static")
    assert agent.outer_static(4) == (4, "outer_static")
    assert agent.inner_class(5) == (5, "inner_classAgent")
    assert agent.outer_class(6) == (6, "outer_classAgent")


def test_a_decorated_function_keeps_what_inspect_sees() -> None:
    @task_budget(tokens=10)
    async def work(n: int, *, deep: bool = False) -> int:
        """Say what it does."""
        return n

    assert inspect.iscoroutinefunction(work)
    assert (work.__name__, work.__doc__) == ("work", "Say what it does.")
    assert str(inspect.signature(work)) == "(n: 'int', *, deep: 'bool' = False) -> 'int'"


async def test_a_decorated_async_generator_is_one_task_per_stream() -> None:
    @task_budget(tokens=20)
    async def stream() -> AsyncIterator[str]:
        for _ in range(2):
            spend(tokens=10)
            yield where()
            await checkpoint()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=1)

    async with task_budget("outer", tokens=100) as outer:
        seen = [(name, where()) async for name in stream()]
        assert seen == [("stream", "outer")] * 2
        assert outer.spent("tokens") == 20


def test_a_decorated_generator_is_one_task_per_stream() -> None:
    @task_budget(tokens=20)
    def stream() -> Iterator[str]:
        for _ in range(2):
            spend(tokens=10)
            yield where()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=1)

    with task_budget("outer", tokens=100) as outer:
        assert [(name, where()) for name in stream()] == [("stream", "outer")] * 2
        assert outer.spent("tokens") == 20


async def test_a_block_directly_in_an_async_generator_is_refused() -> None:
    async def stream() -> AsyncIterator[int]:
        async with task_budget(tokens=20):
            yield 1

    with pytest.raises(ConfigurationError, match=r"'stream'.*@task_budget"):
        _ = [item async for item in stream()]


def test_a_block_directly_in_a_generator_is_refused() -> None:
    def stream() -> Iterator[int]:
        with task_budget(tokens=20):
            yield 1

    with pytest.raises(ConfigurationError, match=r"'stream'.*@task_budget"):
        list(stream())


# Nesting.


def test_what_a_child_spends_counts_in_every_ancestor() -> None:
    with task_budget("a", tokens=100) as a, task_budget("b", tokens=50) as b:
        with task_budget("c", tokens=30) as c:
            spend(tokens=20)
            assert (c.path, a.path) == ("a/b/c", "a")
            assert (c.parent, b.parent, a.parent) == (b, a, None)
        assert [task.spent("tokens") for task in (a, b, c)] == [20, 20, 20]


@pytest.mark.parametrize(("outer", "inner", "short"), [(50, 30, "inner"), (30, 50, "outer")])
def test_the_payer_that_is_short_refuses_and_nobody_is_charged(
    outer: int, inner: int, short: str
) -> None:
    with task_budget("outer", tokens=outer) as a, task_budget("inner", tokens=inner) as b:
        with pytest.raises(BudgetExceeded) as caught:
            reserve_nowait(tokens=40)
        assert (caught.value.budget, caught.value.available) == (short, 30)
        assert (caught.value.dim, caught.value.requested, caught.value.limit) == ("tokens", 40, 30)
        assert (parts(a), parts(b)) == ((0, 0, 0, outer), (0, 0, 0, inner))


def test_of_several_short_payers_the_outermost_is_named() -> None:
    with task_budget("outer", tokens=30), task_budget("inner", tokens=20):
        with pytest.raises(BudgetExceeded) as caught:
            reserve_nowait(tokens=40)
        assert caught.value.budget == "outer"


def test_a_call_in_two_dimensions_is_all_or_nothing(budget: TaskBudget) -> None:
    with pytest.raises(BudgetExceeded, match="calls"):
        reserve_nowait(tokens=10, calls=6)
    assert (parts(budget), parts(budget, "calls")) == ((0, 0, 0, 100), (0, 0, 0, 5))


def test_exactly_the_limit_is_granted(budget: TaskBudget) -> None:
    reserve_nowait(tokens=100).commit()
    assert budget.remaining("tokens") == 0
    with pytest.raises(BudgetExceeded):
        reserve_nowait(tokens=1)
    reserve_nowait(tokens=0).commit()


# carve


def test_a_carve_takes_its_limits_out_of_the_parent_and_returns_the_rest() -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", carve=True, tokens=40):
            assert parts(outer) == (0, 0, 40, 60)
            with reserve(tokens=30) as reservation:
                assert parts(outer) == (0, 30, 10, 60)
                reservation.commit(25)
            assert parts(outer) == (25, 0, 15, 60)
        assert parts(outer) == (25, 0, 0, 75)


def test_siblings_cannot_starve_a_carve() -> None:
    with task_budget("outer", tokens=100), task_budget("inner", carve=True, tokens=40) as inner:
        outer = inner.node.chain[1].owner
        with pytest.raises(BudgetExceeded):
            outer.wrap(reserve_nowait)(tokens=61)
        spent = inner.wrap(reserve_nowait)(tokens=40)
        spent.commit()
        assert inner.remaining("tokens") == 0


def test_a_carve_without_room_is_refused_on_entry_and_changes_nothing() -> None:
    with task_budget("outer", tokens=100, calls=5) as outer:
        with pytest.raises(BudgetExceeded) as caught:
            task_budget("inner", carve=True, calls=5, tokens=101).__enter__()
        assert (caught.value.budget, caught.value.requested) == ("outer", 101)
        assert (parts(outer), parts(outer, "calls")) == ((0, 0, 0, 100), (0, 0, 0, 5))
        assert current_budget() is outer


async def test_a_refused_carve_is_a_checkpoint() -> None:
    async with task_budget("outer", tokens=100):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await task_budget(carve=True, tokens=101).__aenter__()
        assert scope.cancelled_caught


def test_a_carve_within_a_carve_is_taken_from_it() -> None:
    with task_budget("a", tokens=100) as a, task_budget("b", carve=True, tokens=60) as b:
        with task_budget("c", carve=True, tokens=50):
            spend(tokens=20)
            assert (parts(a), parts(b)) == ((20, 0, 40, 40), (20, 0, 30, 10))
        assert (parts(a), parts(b)) == ((20, 0, 40, 40), (20, 0, 0, 40))


def test_a_carve_outside_any_task_is_an_ordinary_task() -> None:
    with task_budget(carve=True, tokens=40) as budget:
        spend(tokens=40)
        assert parts(budget) == (40, 0, 0, 0)


def test_an_open_reservation_of_an_ended_carve_stays_held_above() -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", carve=True, tokens=40):
            reservation = reserve_nowait(tokens=30)
        assert parts(outer) == (0, 30, 0, 70)
        reservation.commit(45)
        assert parts(outer) == (45, 0, 0, 55)


# What is kept, and finishing.


def test_what_is_kept_is_not_for_ordinary_calls() -> None:
    with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        assert parts(budget) == (0, 0, 30, 70)
        with pytest.raises(BudgetExceeded) as caught:
            reserve_nowait(tokens=71)
        assert caught.value.available == 70


async def test_finish_spends_what_was_kept() -> None:
    async with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        spend(tokens=70)
        async with budget.finish() as same:
            assert same is budget
            assert budget.remaining("tokens") == 30
            spend(tokens=30)
        assert parts(budget) == (100, 0, 0, 0)


def test_finish_is_a_sync_block_too() -> None:
    with task_budget(tokens=100, keep={"tokens": 30}) as budget:
        with budget.finish():
            reserve_nowait(tokens=100).release()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=71)


def test_finish_does_not_lift_the_limit() -> None:
    with task_budget(tokens=100, keep={"tokens": 30}) as budget, budget.finish():
        with pytest.raises(BudgetExceeded) as caught:
            reserve_nowait(tokens=101)
        assert caught.value.available == 100


def test_a_child_may_not_spend_what_its_parent_keeps() -> None:
    outer = task_budget("outer", tokens=100, keep={"tokens": 30})
    with outer, task_budget(tokens=100), pytest.raises(BudgetExceeded, match="'outer' has 70"):
        reserve_nowait(tokens=71)


async def test_an_agent_at_its_limit_still_writes_its_last_answer() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30}, policy="terminate")

    async def work() -> None:
        async with budget:
            while True:
                async with reserve(tokens=20):
                    pass

    with pytest.raises(BudgetTerminated):
        await work()
    async with budget.finish(), reserve(tokens=30) as reservation:
        reservation.commit(25)
    assert budget.spent("tokens") == 85


async def test_after_its_block_a_task_finishes_once() -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 30})
    with pytest.raises(BudgetTerminated):
        async with budget:
            budget.terminate("enough")
    with budget.finish():
        spend(tokens=10)
    with pytest.raises(BudgetTerminated):
        budget.finish().__enter__()


def test_after_a_normal_end_there_is_nothing_to_finish() -> None:
    with task_budget("agent", tokens=100, keep={"tokens": 30}) as budget:
        pass
    with pytest.raises(NoBudget, match="has ended"):
        budget.finish().__enter__()


# warnings


def test_warn_at_warns_once_per_crossing() -> None:
    seen: list[Verdict] = []
    with task_budget(
        tokens=100, warn_at=0.8, on_warn=lambda _budget, verdict: seen.append(verdict)
    ) as budget:
        spend(tokens=80)
        assert seen == []
        spend(tokens=1)
        spend(tokens=1)
        assert seen == [Verdict("warn", "tokens")]
        assert budget.verdict == Verdict("warn", "tokens")
        assert budget.snapshot()["tokens"].warn == 80


def test_warnings_are_judged_on_spent_and_reserved_at_the_grant() -> None:
    seen: list[Any] = []
    with task_budget(tokens=100, warn_at=0.8, on_warn=lambda b, v: seen.append((b, v))) as budget:
        reservation = reserve_nowait(tokens=90)
        assert seen == [(budget, Verdict("warn", "tokens"))]
        assert reservation.verdict == Verdict("warn", "tokens")
        reservation.commit(10)
        assert budget.verdict.name == "continue"
        spend(tokens=75)
        assert len(seen) == 2


def test_a_commit_of_more_than_was_held_may_cross_too() -> None:
    seen: list[Any] = []
    with task_budget(tokens=100, warn_at=0.8, on_warn=lambda _b, v: seen.append(v)):
        reserve_nowait(tokens=10).commit(81)
        assert seen == [Verdict("warn", "tokens")]


def test_each_payer_warns_by_its_own_threshold() -> None:
    seen: list[str] = []

    def note(budget: TaskBudget, _verdict: Verdict) -> None:
        seen.append(budget.name)

    outer = task_budget("outer", tokens=Limit(100, warn=10), on_warn=note)
    with outer, task_budget("inner", tokens=Limit(50, warn=20), on_warn=note):
        spend(tokens=15)
        spend(tokens=15)
    assert seen == ["outer", "inner"]


def test_warnings_come_from_calls_in_a_carve_too() -> None:
    seen: list[str] = []
    outer = task_budget(
        "outer", tokens=Limit(100, warn=10), on_warn=lambda b, _v: seen.append(b.name)
    )
    with outer, task_budget("inner", carve=True, tokens=50):
        spend(tokens=5)
        assert seen == []
        spend(tokens=6)
    assert seen == ["outer"]


def test_an_on_warn_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_budget: TaskBudget, _verdict: Verdict) -> None:
        raise LookupError("no pager")

    with task_budget(tokens=100, warn_at=0.5, on_warn=broken) as budget:
        with caplog.at_level(logging.ERROR, "budgetware"):
            spend(tokens=60)
        assert budget.spent("tokens") == 60
    assert "on_warn" in caplog.text


def test_on_warn_may_use_the_budget_it_is_told_of() -> None:
    with task_budget(
        tokens=100, warn_at=0.5, on_warn=lambda budget, _verdict: budget.top_up(tokens=100)
    ) as budget:
        spend(tokens=60)
        assert budget.snapshot()["tokens"].limit == 200


def test_on_warn_runs_outside_the_lock() -> None:
    seen: list[object] = []

    def elsewhere(budget: TaskBudget, _verdict: Verdict) -> None:
        thread = threading.Thread(target=lambda: seen.append(budget.spent("tokens")))
        thread.start()
        thread.join(timeout=10)

    with task_budget(tokens=100, warn_at=0.5, on_warn=elsewhere):
        spend(tokens=60)
    assert seen == [0]


def test_a_limit_object_names_its_own_threshold() -> None:
    with task_budget(tokens=Limit(100, warn=40), calls=10, warn_at=0.5) as budget:
        snapshot = budget.snapshot()
        assert (snapshot["tokens"].warn, snapshot["calls"].warn) == (40, 5)


# top_up


def test_top_up_raises_a_limit(budget: TaskBudget) -> None:
    spend(tokens=100)
    budget.top_up(tokens=50)
    spend(tokens=50)
    assert budget.snapshot()["tokens"].limit == 150


def test_top_up_pays_off_debt_first(budget: TaskBudget) -> None:
    charge(tokens=130)
    budget.top_up(tokens=20)
    assert budget.snapshot()["tokens"].overrun == 10
    with pytest.raises(BudgetExceeded):
        reserve_nowait(tokens=1)
    budget.top_up(tokens=20)
    assert parts(budget) == (130, 0, 0, 10)


def test_top_up_of_a_carve_takes_from_the_parent() -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", carve=True, tokens=40) as inner:
            inner.top_up(tokens=30)
            assert parts(outer) == (0, 0, 70, 30)
            with pytest.raises(BudgetExceeded, match="'outer' has 30"):
                inner.top_up(tokens=31)
            assert parts(inner) == (0, 0, 0, 70)
        assert parts(outer) == (0, 0, 0, 100)


def test_top_up_of_a_carve_in_debt_leaves_nothing_behind() -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", carve=True, tokens=40) as inner:
            charge(tokens=55)
            assert parts(outer) == (55, 0, 0, 45)
            inner.top_up(tokens=20)
            assert (parts(outer), parts(inner)) == ((55, 0, 5, 40), (55, 0, 0, 5))
        assert parts(outer) == (55, 0, 0, 45)


def test_top_up_moves_the_warning_with_the_share() -> None:
    seen: list[Verdict] = []
    with task_budget(tokens=100, warn_at=0.8, on_warn=lambda _b, v: seen.append(v)) as budget:
        spend(tokens=90)
        budget.top_up(tokens=100)
        assert (budget.snapshot()["tokens"].warn, budget.verdict.name) == (160, "continue")
        spend(tokens=80)
    assert len(seen) == 2


def test_top_up_is_all_or_nothing(budget: TaskBudget) -> None:
    with pytest.raises(InvalidAmount, match="no limit of usd"):
        budget.top_up(tokens=50, usd="1")
    assert budget.remaining("tokens") == 100


def test_top_up_after_a_termination_is_refused(budget: TaskBudget) -> None:
    inner = task_budget("inner", tokens=10)

    def work() -> None:
        with inner:
            inner.terminate("enough")
            inner.top_up(tokens=5)

    with pytest.raises(BudgetTerminated):
        work()
    with pytest.raises(BudgetTerminated, match="enough"):
        inner.top_up(tokens=5)
    assert inner.snapshot()["tokens"].limit == 10


def test_top_up_after_the_end_is_refused() -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", carve=True, tokens=10) as inner:
            pass
        with pytest.raises(NoBudget, match="has ended"):
            inner.top_up(tokens=5)
        assert parts(outer) == (0, 0, 0, 100)


def test_top_up_of_seconds_moves_the_deadline(clock: HandClock, service: QuotaService) -> None:
    with task_budget(seconds=10) as budget:
        budget.top_up(seconds="5s")
        clock.advance(12)
        reserve_nowait(calls=1).commit()
        assert budget.snapshot()["millis"].remaining == 3_000


# charge, checkpoint, describe


def test_a_charge_is_never_refused_and_may_leave_debt(budget: TaskBudget) -> None:
    assert charge(tokens=60).name == "continue"
    assert budget.charge(tokens=60) == Verdict("exhausted", "tokens")
    assert budget.snapshot()["tokens"].overrun == 20
    assert budget.verdict == Verdict("exhausted", "tokens")


def test_a_charge_on_an_outer_task_leaves_the_inner_alone(budget: TaskBudget) -> None:
    with task_budget(tokens=10) as inner:
        budget.charge(tokens=20)
        assert (budget.spent("tokens"), inner.spent("tokens")) == (20, 0)


def test_a_checkpoint_charges_nothing_and_raises_what_a_reserve_would(budget: TaskBudget) -> None:
    budget.checkpoint()
    assert parts(budget) == (0, 0, 0, 100)
    charge(calls=5)
    with pytest.raises(BudgetExceeded) as caught:
        budget.checkpoint()
    assert (caught.value.dim, caught.value.available) == ("calls", 0)


def test_a_checkpoint_of_an_ended_task_is_refused(budget: TaskBudget) -> None:
    with task_budget(tokens=10) as inner:
        pass
    with pytest.raises(NoBudget, match="has ended"):
        inner.checkpoint()


def test_a_checkpoint_sees_the_ancestors(budget: TaskBudget) -> None:
    with task_budget("inner", tokens=10) as inner:
        budget.charge(tokens=100)
        with pytest.raises(BudgetExceeded, match="'work'"):
            inner.checkpoint()


def test_describe_says_what_is_left_of_what(service: QuotaService) -> None:
    inner = task_budget("inner", tokens=50_000, calls=40, seconds=120)
    with task_budget("outer", usd="1.50"), inner:
        spend(tokens=8_000, calls=1)
        text = inner.describe()
    assert text.count("\n") == 0
    for part in ("'inner'", "42,000 of 50,000 tokens", "39 of 40 calls", "120.0 of 120.0 seconds"):
        assert part in text
    assert "'outer'" in text
    assert "$1.500000 of $1.500000" in text


def test_describe_says_that_a_task_is_over(budget: TaskBudget) -> None:
    with task_budget("inner", tokens=1) as inner:
        pass
    assert "has ended" in inner.describe()


# Other threads and contexts.


def test_wrap_carries_the_task_into_a_thread(budget: TaskBudget) -> None:
    seen: list[TaskBudget | None] = []

    def work(amount: int, *, calls: int) -> str:
        seen.append(current_budget())
        spend(tokens=amount, calls=calls)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work, 1, calls=1).result() == "done"
        assert pool.submit(budget.wrap(work), 10, calls=1).result() == "done"
    assert seen == [None, budget]
    assert (budget.spent("tokens"), budget.spent("calls")) == (10, 1)


def test_wrap_restores_the_context_of_its_caller(budget: TaskBudget) -> None:
    with task_budget("inner", tokens=10) as inner:
        outside = budget.node.owner
        assert inner.wrap(current_budget)() is inner
    assert outside is budget
    assert current_budget() is budget


def test_wrap_of_an_outer_task_carries_the_innermost_of_this_context(budget: TaskBudget) -> None:
    with task_budget("inner", tokens=10) as inner:
        assert budget.wrap(current_budget)() is inner


async def test_wrap_carries_the_task_into_coroutine_functions() -> None:
    async def work() -> TaskBudget | None:
        await checkpoint()
        return current_budget()

    async with task_budget(tokens=10) as budget:
        carried = budget.wrap(work)
        assert inspect.iscoroutinefunction(carried)
    assert await carried() is budget


async def test_worker_threads_of_anyio_pay_by_themselves() -> None:
    async with task_budget(tokens=10) as budget:
        await anyio.to_thread.run_sync(lambda: spend(tokens=4))
        assert budget.spent("tokens") == 4


def test_worker_threads_of_asyncio_pay_by_themselves() -> None:
    async def main() -> object:
        async with task_budget(tokens=10) as budget:
            await asyncio.to_thread(spend, tokens=4)
            return budget.spent("tokens")

    assert asyncio.run(main()) == 4


async def test_tasks_started_inside_pay_by_themselves() -> None:
    @budgeted(tokens=3)
    async def work() -> None:
        await checkpoint()

    async with task_budget(tokens=10) as budget, anyio.create_task_group() as group:
        group.start_soon(work)
        group.start_soon(work)
    assert budget.spent("tokens") == 6


# Snapshots.


def test_a_snapshot_is_frozen_and_shows_everything(budget: TaskBudget) -> None:
    spend(tokens=20)
    with reserve(tokens=30) as reservation:
        snapshot = budget.snapshot()
        reservation.commit(1)
    assert (snapshot.name, snapshot.id, snapshot.path) == ("work", budget.id, "work")
    shown = snapshot["tokens"]
    assert (shown.limit, shown.spent, shown.reserved, shown.remaining) == (100, 20, 30, 50)
    with pytest.raises(AttributeError):
        shown.spent = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_snapshot_knows_dimensions_nobody_used(budget: TaskBudget) -> None:
    shown = budget.snapshot()["bytes"]
    assert (shown.limit, shown.spent, shown.remaining) == (None, 0, None)
    with pytest.raises(InvalidAmount, match="did you mean 'tokens'"):
        budget.snapshot()["token"]


def test_a_snapshot_turns_into_json(service: QuotaService) -> None:
    with task_budget("work", tokens=100, usd="0.30", warn_at=0.5) as budget:
        spend(usd="0.1", tokens=60)
        row = json.loads(json.dumps(budget.snapshot().to_dict()))
    assert row["verdict"] == {"name": "warn", "dim": "tokens"}
    assert (row["name"], row["path"], row["id"]) == ("work", "work", budget.id)
    assert row["dims"]["tokens"] == {
        "limit": 100,
        "warn": 50,
        "spent": 60,
        "reserved": 0,
        "granted": 0,
        "remaining": 40,
        "overrun": 0,
        "assumed": 0,
    }
    assert row["dims"]["usd"]["spent"] == "0.100000"


def test_a_snapshot_outlives_the_task() -> None:
    with task_budget("work", tokens=100) as budget:
        spend(tokens=20)
    assert parts(budget) == (20, 0, 0, 80)


# Its life.


async def test_a_task_is_entered_once() -> None:
    budget = task_budget("work", tokens=100)
    async with budget:
        with pytest.raises(ConfigurationError, match="'work' was entered already"):
            await budget.__aenter__()
    with pytest.raises(ConfigurationError, match="make a new one"):
        budget.__enter__()


def test_a_task_that_was_entered_does_not_decorate() -> None:
    with task_budget("work", tokens=100) as budget, pytest.raises(ConfigurationError):
        budget(lambda: None)


def test_a_task_that_was_not_entered_has_no_balances() -> None:
    with pytest.raises(ConfigurationError, match="not entered yet"):
        task_budget("work", tokens=100).snapshot()


async def test_a_reserve_in_an_ended_task_is_refused() -> None:
    async def late() -> None:
        await started.wait()
        with pytest.raises(NoBudget, match=r"'work' has ended"):
            await reserve(tokens=1)
        done.set()

    started, done = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        async with task_budget("work", tokens=100) as budget:
            group.start_soon(late)
            await checkpoint()
        started.set()
        await done.wait()
        assert budget.spent("tokens") == 0


def test_a_reserve_in_an_ended_task_is_refused_in_sync_code() -> None:
    with task_budget("work", tokens=100) as budget:
        call = budget.wrap(reserve_nowait)
    with pytest.raises(NoBudget, match="'work' has ended"):
        call(tokens=1)


def test_a_child_of_an_ended_task_is_refused_its_calls() -> None:
    def late() -> None:
        with task_budget("late", tokens=5):
            reserve_nowait(tokens=1)

    with task_budget("outer", tokens=100) as outer:
        call = outer.wrap(late)
    with pytest.raises(NoBudget, match="'outer' has ended"):
        call()


async def test_a_reserve_in_a_terminated_task_is_terminated() -> None:
    budget = task_budget("work", tokens=100)
    with pytest.raises(BudgetTerminated):
        async with budget:
            budget.terminate("enough")
    with pytest.raises(BudgetTerminated, match="enough") as caught:
        budget.wrap(reserve_nowait)(tokens=1)
    assert caught.value.budget == "work"


async def test_terminate_ends_the_block_with_its_balances() -> None:
    budget = task_budget("work", tokens=100)

    async def work() -> None:
        async with budget:
            spend(tokens=7)
            budget.terminate("a human said so")
            await anyio.sleep_forever()

    with pytest.raises(BudgetTerminated) as caught:
        await work()
    error = caught.value
    assert (error.budget, error.dim, error.reason) == ("work", None, "a human said so")
    assert error.snapshot is not None
    assert error.snapshot["tokens"].spent == 7
    assert budget.verdict.is_exhausted


def test_an_ordinary_error_passes_unchanged(budget: TaskBudget) -> None:
    with pytest.raises(LookupError, match="mine"), task_budget(tokens=1):
        raise LookupError("mine")


async def test_patience_ends_a_task_that_does_not_listen() -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        async with task_budget(calls=2):
            while True:
                turns += 1
                try:
                    async with reserve(calls=1):
                        pass
                except BudgetExceeded:
                    continue

    with pytest.raises(BudgetTerminated) as caught:
        await work()
    assert turns == 102
    assert "100 refusals in a row" in str(caught.value)


# Dimensions.


def test_millis_are_wall_clock_from_the_entry(clock: HandClock, service: QuotaService) -> None:
    with task_budget("outer", millis=5_000) as outer:
        clock.advance(1)
        with task_budget("inner", seconds=3) as inner:
            clock.advance(1.5)
            spend(calls=1)
            assert (outer.spent("millis"), inner.spent("millis")) == (2_500, 1_500)
            assert (outer.remaining("millis"), inner.remaining("millis")) == (2_500, 1_500)
        clock.advance(1)
        assert (outer.spent("millis"), inner.spent("millis")) == (3_500, 1_500)


@pytest.mark.parametrize("seconds", [120, 120.0, "2m", "1m60s", "120s"])
def test_seconds_are_a_number_or_a_text(seconds: Any) -> None:
    with task_budget(seconds=seconds) as budget:
        assert budget.snapshot()["millis"].limit == 120_000


def test_a_deadline_ends_the_block_whatever_the_policy(
    clock: HandClock, service: QuotaService
) -> None:
    def work() -> None:
        with task_budget("work", seconds=2, policy="reject"):
            clock.advance(1.9)
            spend(calls=1)
            clock.advance(0.2)
            reserve_nowait(calls=1)

    with pytest.raises(BudgetTerminated) as caught:
        work()
    assert (caught.value.dim, caught.value.budget) == ("millis", "work")


def test_a_block_that_ends_after_its_deadline_without_a_refusal_returns_normally(
    clock: HandClock, service: QuotaService
) -> None:
    with task_budget("work", seconds=2) as budget:
        clock.advance(3)
    assert budget.snapshot()["millis"].overrun == 1_000


async def test_a_deadline_cuts_a_block_that_waits() -> None:
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("work", seconds=0.01):
            await anyio.sleep_forever()
    assert caught.value.dim == "millis"


def test_a_deadline_warns_once(clock: HandClock, service: QuotaService) -> None:
    seen: list[Verdict] = []
    with task_budget(seconds=10, warn_at=0.5, on_warn=lambda _b, v: seen.append(v)):
        spend(calls=1)
        clock.advance(6)
        spend(calls=1)
        spend(calls=1)
    assert seen == [Verdict("warn", "millis")]


def test_memory_is_a_level_and_spent_shows_its_peak() -> None:
    with task_budget(memory=100) as budget:
        with reserve(memory=60), reserve(memory=30) as second:
            assert parts(budget, "memory") == (90, 90, 0, 10)
            with pytest.raises(BudgetExceeded, match="memory"):
                reserve_nowait(memory=11)
            second.commit()
        assert parts(budget, "memory") == (90, 0, 0, 100)
        reserve_nowait(memory=100).release()
        assert parts(budget, "memory") == (100, 0, 0, 100)


async def test_a_decorated_call_gives_its_memory_back() -> None:
    @budgeted(memory=80)
    async def work() -> None:
        await checkpoint()

    async with task_budget(memory=100) as budget:
        for _ in range(3):
            await work()
        assert parts(budget, "memory") == (80, 0, 0, 100)


@pytest.mark.parametrize("dollars", [1, "1", "1.00", Decimal(1), 1.0])
def test_dollars_come_in_every_exact_form(dollars: Any) -> None:
    with task_budget(usd=dollars) as budget:
        spend(usd=dollars)
        assert budget.spent("usd") == Decimal("1.000000")


def test_dollars_go_out_as_decimals_with_six_places() -> None:
    with task_budget(usd=0.3) as budget:
        spend(usd=0.1)
        shown = budget.snapshot()["usd"]
        values = [shown.limit, shown.spent, shown.reserved, shown.remaining]
        assert [str(value) for value in values] == ["0.300000", "0.100000", "0.000000", "0.200000"]
        assert str(budget.remaining("usd")) == "0.200000"
        assert repr(reserve_nowait(usd="0.000001").amounts["usd"]) == "Decimal('0.000001')"


def test_three_dimes_fit_in_thirty_cents() -> None:
    with task_budget(usd=0.30) as budget:
        for _ in range(3):
            spend(usd=0.10)
        assert budget.remaining("usd") == 0
        with pytest.raises(BudgetExceeded) as caught:
            reserve_nowait(usd=0.10)
        assert (caught.value.available, caught.value.requested) == (Decimal(0), Decimal("0.1"))


def test_less_than_a_micro_dollar_is_charged_as_one() -> None:
    with task_budget(usd="0.0000019") as budget:
        assert budget.snapshot()["usd"].limit == Decimal("0.000001")
        spend(usd="0.0000001")
        assert budget.spent("usd") == Decimal("0.000001")


def test_a_dimension_without_a_limit_is_counted_on_every_payer_and_never_refused() -> None:
    with task_budget("outer", calls=5) as outer, task_budget("inner", calls=5) as inner:
        spend(tokens=2**53 - 1)
        spend(tokens=2**53 - 1)
        for task in (outer, inner):
            shown = task.snapshot()["tokens"]
            assert (shown.limit, shown.spent, shown.remaining) == (None, 2 * (2**53 - 1), None)
            assert task.remaining("tokens") is None
        assert outer.verdict.name == "continue"


def test_a_users_own_dimension_is_declared_by_limiting_it() -> None:
    with pytest.raises(InvalidAmount, match="unknown dimension 'widgets_made'"):
        reserve_nowait(widgets_made=1)
    with task_budget(widgets_made=3) as budget:
        spend(widgets_made=2)
        assert budget.remaining("widgets_made") == 1
    reserve_nowait(widgets_made=1).release()


@pytest.mark.parametrize("name", ["a", "A-b_c.d:e@f", "9" * 128])
def test_names_within_the_grammar_are_taken(name: str) -> None:
    with task_budget(name, tokens=1) as budget:
        assert budget.name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a\n", "9" * 129, 5])
def test_names_beyond_the_grammar_are_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="task name"):
        task_budget(name, tokens=1)


def test_a_carve_that_owed_less_after_its_child_ended_strands_nothing() -> None:
    with task_budget("root", tokens=1_000) as root:
        with task_budget("a", tokens=100, carve=True) as a:
            with task_budget("b", tokens=80, carve=True):
                a.charge(tokens=60)
            assert root.snapshot()["tokens"].granted == 40
        shown = root.snapshot()["tokens"]
    assert (shown.spent, shown.granted, shown.remaining) == (60, 0, 940)


async def test_finish_in_a_task_that_is_being_cancelled_leaves_the_keep_for_its_owner() -> None:
    budget = task_budget(tokens=100, keep={"tokens": 20}, policy="terminate")
    with pytest.raises(BudgetTerminated):
        await overrun_and_finish(budget)
    async with budget.finish(), reserve(tokens=20) as reservation:
        await anyio.sleep(0)
        reservation.commit(12)
    assert budget.spent("tokens") == 92


async def overrun_and_finish(budget: TaskBudget) -> None:
    async with budget:
        budget.charge(tokens=80)
        try:
            async with reserve(tokens=1):
                """Not reached."""
        except BaseException:
            async with budget.finish(), reserve(tokens=20):
                await anyio.sleep(0)
            raise


@pytest.mark.parametrize("name", ["gpu_tokens", "custom3", "tokens2", "call_seconds"])
def test_a_dimension_that_is_no_slip_of_the_pen_is_declared_by_its_limit(name: str) -> None:
    limit: dict[str, Any] = {name: 5}
    with task_budget(**limit) as budget:
        budget.charge(**{name: 2})
    assert budget.spent(name) == 2


@pytest.mark.parametrize("name", ["token", "tokns", "toknes", "call", "milis", "usd_micros"])
def test_a_slip_of_the_pen_is_refused(name: str) -> None:
    limit: dict[str, Any] = {name: 5}
    with pytest.raises(InvalidAmount, match="did you mean"):
        task_budget(**limit)


async def test_a_task_stream_that_ends_by_itself_after_its_deadline_ends_normally() -> None:
    clock = HandClock()
    with connect(clock=clock) as service:

        @service.task_budget("slow", seconds=0.01)
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            yield 2

        seen: list[int] = []
        async for item in items():
            seen.append(item)
            clock.advance(1)
    assert seen == [1, 2]

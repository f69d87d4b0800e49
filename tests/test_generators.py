# ruff: noqa: PT012, PT031, PERF401, SIM117 - what raises is an owner's block, and its body is the test
"""Decorated generators: held from first step to last, open to nobody between the steps."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import (
    AsyncExitStack,
    ExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    TaskBudget,
    UsageEvent,
    budgeted,
    connect,
    current_budget,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware.events import Subscription


class Unlucky(Exception): ...


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect() as service:
        yield service


@pytest.fixture
def heard(service: QuotaService) -> Subscription:
    return service.subscribe()


def only(heard: Subscription) -> UsageEvent:
    event = heard.get_nowait()
    assert event is not None
    assert heard.get_nowait() is None
    return event


def budget_name() -> str | None:
    budget = current_budget()
    return None if budget is None else budget.name


@budgeted(tokens=100, settle=lambda item: item)
async def stream(*items: int | None) -> AsyncGenerator[int | None, None]:
    for item in items:
        await checkpoint()
        yield item


@budgeted(tokens=100, settle=lambda item: item)
def plain(*items: int | None) -> Generator[int | None, None, str]:
    yield from items
    return "the end"


# What is charged.


async def test_a_stream_is_charged_once_to_its_cumulative_end() -> None:
    async with task_budget(tokens=1_000) as budget:
        items = [item async for item in stream(10, 25, 40)]
    assert (items, budget.spent("tokens")) == ([10, 25, 40], 40)


def test_a_plain_generator_is_charged_the_same() -> None:
    with task_budget(tokens=1_000) as budget:
        items = list(plain(10, 25, 40))
    assert (items, budget.spent("tokens")) == ([10, 25, 40], 40)


async def test_the_highest_report_counts_and_none_is_skipped() -> None:
    async with task_budget(tokens=1_000) as budget:
        [item async for item in stream(None, 40, None, 25, None)]
    assert budget.spent("tokens") == 40


async def test_a_stream_that_reports_nothing_is_charged_what_it_held() -> None:
    async with task_budget(tokens=1_000) as budget:
        [item async for item in stream(None, None)]
    assert budget.snapshot()["tokens"].spent == 100
    assert budget.snapshot()["tokens"].assumed == 0


async def test_more_than_was_held_is_debt() -> None:
    async with task_budget(tokens=120) as budget:
        [item async for item in stream(150)]
        assert budget.snapshot()["tokens"].overrun == 30
        with pytest.raises(BudgetExceeded):
            [item async for item in stream(1)]


async def test_nothing_is_held_before_the_first_step() -> None:
    async with task_budget(tokens=1_000) as budget:
        unstarted = stream(1)
        assert budget.snapshot()["tokens"].reserved == 0
        await unstarted.aclose()
    assert budget.spent("tokens") == 0


async def test_between_steps_it_stays_held() -> None:
    async with task_budget(tokens=1_000) as budget, aclosing(stream(10, 20)) as items:
        await anext(items)
        assert budget.snapshot()["tokens"].reserved == 100
    assert budget.snapshot()["tokens"].reserved == 0


async def test_a_refused_stream_never_starts() -> None:
    started: list[str] = []

    @budgeted(tokens=100)
    async def costly() -> AsyncGenerator[int, None]:
        started.append("started")
        yield 1

    async with task_budget(tokens=50):
        with pytest.raises(BudgetExceeded):
            async for _ in costly():
                pass
    assert started == []


def test_a_refused_plain_generator_never_starts() -> None:
    with task_budget(tokens=50) as budget, pytest.raises(BudgetExceeded):
        next(plain(1))
    assert budget.spent("tokens") == 0


# The protocol of generators.


@budgeted(calls=1)
async def echo() -> AsyncGenerator[str, str]:
    heard = "ready"
    while True:
        try:
            heard = yield heard
        except Unlucky:
            heard = "caught"


@budgeted(calls=1)
def plain_echo() -> Generator[str, str, str]:
    heard = "ready"
    while heard != "stop":
        try:
            heard = yield heard
        except Unlucky:
            heard = "caught"
    return "returned"


async def test_asend_athrow_and_aclose_reach_the_generator() -> None:
    async with task_budget(calls=5) as budget:
        talk = echo()
        assert await anext(talk) == "ready"
        assert await talk.asend("one") == "one"
        assert await talk.athrow(Unlucky()) == "caught"
        assert await talk.asend("two") == "two"
        await talk.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(talk)
    assert budget.spent("calls") == 1


def test_send_throw_close_and_the_returned_value_pass_through() -> None:
    with task_budget(calls=5) as budget:
        talk = plain_echo()
        assert next(talk) == "ready"
        assert talk.send("one") == "one"
        assert talk.throw(Unlucky()) == "caught"
        with pytest.raises(StopIteration) as caught:
            talk.send("stop")
        assert caught.value.value == "returned"
    assert budget.spent("calls") == 1


def test_yield_from_sees_the_returned_value() -> None:
    def outer() -> Generator[int | None, None, str]:
        return (yield from plain(1, 2))

    def values() -> Generator[str | int | None, None, None]:
        yield (yield from outer())

    with task_budget(tokens=1_000):
        assert list(values()) == [1, 2, "the end"]


async def test_an_error_thrown_in_comes_out_unchanged() -> None:
    error = Unlucky()
    async with task_budget(tokens=1_000) as budget:
        items = stream(10, 20)
        await anext(items)
        with pytest.raises(Unlucky) as caught:
            await items.athrow(error)
    assert caught.value is error
    assert budget.spent("tokens") == 10


async def test_the_generators_own_cleanup_runs_at_an_early_close() -> None:
    cleaned: list[str | None] = []

    @budgeted(calls=1)
    async def careful() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await checkpoint()
            cleaned.append(budget_name())

    async with task_budget("reader", calls=5), aclosing(careful()) as items:
        async for _ in items:
            break
    assert cleaned == ["reader"]


async def test_the_generators_own_cleanup_runs_though_its_consumer_is_cancelled() -> None:
    cleaned: list[str] = []

    @budgeted(calls=1)
    async def careful() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await checkpoint()
            cleaned.append("cleaned")

    async with task_budget(calls=5):
        with anyio.CancelScope() as scope:
            async with aclosing(careful()) as items:
                await anext(items)
                scope.cancel()
                await checkpoint()
    assert cleaned == ["cleaned"]


async def test_an_error_of_the_cleanup_reaches_the_consumer() -> None:
    @budgeted(calls=1)
    async def clumsy() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise Unlucky

    async with task_budget(calls=5) as budget:
        items = clumsy()
        await anext(items)
        with pytest.raises(Unlucky):
            await items.aclose()
    assert budget.snapshot()["calls"].reserved == 0
    assert budget.spent("calls") == 1


# How a stream ends, in the words of its event.


async def test_read_to_its_end_it_is_completed(heard: Subscription) -> None:
    async with task_budget(tokens=1_000):
        [item async for item in stream(10, 25)]
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("completed", 200, {"tokens": 25})
    assert event.reserved == {"tokens": 100}


async def test_an_early_break_is_cancelled_and_charged_the_record(heard: Subscription) -> None:
    async with task_budget(tokens=1_000), aclosing(stream(10, 25, 40)) as items:
        async for item in items:
            if item == 25:
                break
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("cancelled", 499, {"tokens": 25})


def test_an_early_break_of_a_plain_generator_is_cancelled(heard: Subscription) -> None:
    with task_budget(tokens=1_000):
        for item in plain(10, 25, 40):
            if item == 25:
                break
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("cancelled", 499, {"tokens": 25})


async def test_a_consumer_cancelled_while_it_waits_is_cancelled(heard: Subscription) -> None:
    @budgeted(tokens=100, settle=lambda item: item)
    async def hangs() -> AsyncGenerator[int, None]:
        yield 30
        await anyio.sleep_forever()

    async with task_budget(tokens=1_000):
        with anyio.CancelScope() as scope:
            async for _ in hangs():
                scope.cancel()
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("cancelled", 499, {"tokens": 30})


async def test_a_failure_after_the_first_item_is_broken(heard: Subscription) -> None:
    @budgeted(tokens=100, settle=lambda item: item)
    async def breaks() -> AsyncGenerator[int, None]:
        yield 30
        raise Unlucky

    async with task_budget(tokens=1_000):
        with pytest.raises(Unlucky):
            [item async for item in breaks()]
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("broken", 0, {"tokens": 30})
    assert event.error is not None
    assert event.error.endswith("Unlucky")


async def test_a_failure_before_the_first_item_is_failed(heard: Subscription) -> None:
    @budgeted(tokens=100)
    async def fails() -> AsyncGenerator[int, None]:
        raise Unlucky
        yield 1

    async with task_budget(tokens=1_000):
        with pytest.raises(Unlucky):
            [item async for item in fails()]
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("failed", 500, {"tokens": 100})


async def test_on_error_release_gives_all_back(heard: Subscription) -> None:
    @budgeted(tokens=100, on_error="release")
    async def fails() -> AsyncGenerator[int, None]:
        raise Unlucky
        yield 1

    async with task_budget(tokens=1_000) as budget:
        with pytest.raises(Unlucky):
            [item async for item in fails()]
    assert budget.spent("tokens") == 0
    assert only(heard).outcome == "failed"


async def test_a_refused_stream_is_rejected(heard: Subscription) -> None:
    async with task_budget(tokens=50):
        with pytest.raises(BudgetExceeded):
            await anext(stream(1))
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("rejected", 429, {"tokens": 0})


async def test_a_stream_cut_by_the_end_of_its_task_is_terminated(heard: Subscription) -> None:
    @budgeted(tokens=100, settle=lambda item: item)
    async def cut() -> AsyncGenerator[int, None]:
        yield 30
        await anyio.sleep_forever()

    with pytest.raises(BudgetTerminated):
        async with task_budget(tokens=1_000) as budget, aclosing(cut()) as items:
            await anext(items)
            budget.terminate("enough")
            await anext(items)
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("terminated", 429, {"tokens": 30})


async def test_a_stream_refused_after_the_end_of_its_task_is_terminated(
    heard: Subscription,
) -> None:
    with pytest.raises(BudgetTerminated):
        async with task_budget(tokens=1_000) as budget:
            budget.terminate("enough")
            await anext(stream(1))
    event = only(heard)
    assert (event.outcome, event.status, event.charged) == ("terminated", 429, {"tokens": 0})


async def test_a_settle_that_raises_reaches_the_consumer_and_all_is_charged(
    heard: Subscription,
) -> None:
    @budgeted(tokens=100, settle=lambda item: item)
    async def odd() -> AsyncGenerator[object, None]:
        yield 10
        yield -5

    async with task_budget(tokens=1_000) as budget:
        with pytest.raises(InvalidAmount):
            [item async for item in odd()]
    assert budget.snapshot()["tokens"].assumed == 100
    assert (only(heard).outcome, budget.spent("tokens")) == ("completed", 100)


# Collected without a close.


def test_a_plain_generator_that_is_dropped_is_charged_its_record(heard: Subscription) -> None:
    with task_budget(tokens=1_000) as budget:
        items = plain(10, 25, 40)
        next(items)
        del items
        gc.collect()
        assert (budget.spent("tokens"), budget.snapshot()["tokens"].reserved) == (10, 0)
    assert only(heard).outcome == "cancelled"


def test_a_plain_generator_in_a_cycle_is_charged_when_it_is_collected() -> None:
    class Holder:
        items: Any = None

    with task_budget(tokens=1_000) as budget:
        holder = Holder()
        holder.items = (plain(10, 25), holder)
        next(holder.items[0])
        del holder
        gc.collect()
        assert (budget.spent("tokens"), budget.snapshot()["tokens"].reserved) == (10, 0)


def test_a_stream_dropped_on_asyncio_is_charged_its_record(heard: Subscription) -> None:
    async def main() -> tuple[Any, int]:
        async with task_budget(tokens=1_000) as budget:
            items = stream(10, 25)
            await anext(items)
            del items
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)
            balance = budget.snapshot()["tokens"]
        return balance.spent, int(balance.reserved)

    assert asyncio.run(main()) == (10, 0)
    assert only(heard).outcome == "cancelled"


def test_a_stream_dropped_on_trio_is_charged_its_record(heard: Subscription) -> None:
    async def main() -> tuple[Any, int]:
        async with task_budget(tokens=1_000) as budget:
            items = stream(10, 25)
            await anext(items)
            with pytest.warns(ResourceWarning, match="garbage collected before it had been"):
                del items
                gc.collect()
                await trio.testing.wait_all_tasks_blocked()
            balance = budget.snapshot()["tokens"]
        return balance.spent, int(balance.reserved)

    assert trio.run(main) == (10, 0)
    assert only(heard).outcome == "cancelled"


def ignore(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None: ...


def test_an_event_loop_closed_over_a_waiting_step_leaves_nothing_held(
    heard: Subscription,
) -> None:
    @budgeted(tokens=100)
    async def hangs() -> AsyncGenerator[int, None]:
        await anyio.sleep_forever()
        yield 1

    async def read() -> None:
        async for _ in hangs():
            pass

    with task_budget(tokens=1_000) as budget:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(ignore)
        task = loop.create_task(read())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        assert budget.snapshot()["tokens"].reserved == 100
        del task, loop
        gc.collect()
        assert (budget.spent("tokens"), budget.snapshot()["tokens"].reserved) == (100, 0)
    assert only(heard).outcome == "cancelled"


async def first(items: AsyncIterator[Any]) -> None:
    await anext(items)


@pytest.mark.parametrize("step", [first, anext], ids=["with hooks", "without hooks"])
def test_a_task_stream_that_outlives_its_event_loop_ends_when_it_is_collected(step: Any) -> None:
    tasks: list[TaskBudget] = []

    @task_budget("reader", calls=3)
    async def reader() -> AsyncGenerator[int, None]:
        budget = current_budget()
        assert budget is not None
        tasks.append(budget)
        yield 1

    loop = asyncio.new_event_loop()
    items = reader()
    loop.run_until_complete(step(items))
    loop.close()
    assert "open" in repr(tasks[0])
    del items
    gc.collect()
    tasks[0].snapshot()  # reading books what a collection left behind
    assert "ended" in repr(tasks[0])


# Between the steps the consumer is on its own.


@budgeted(calls=1)
async def asks() -> AsyncGenerator[str | None, None]:
    for _ in range(2):
        yield budget_name()


@task_budget("inner", calls=5)
async def task_stream() -> AsyncGenerator[str | None, None]:
    for _ in range(2):
        await checkpoint()
        yield budget_name()


@task_budget("inner", calls=5)
def plain_task_stream() -> Generator[str | None, None, None]:
    for _ in range(2):
        yield budget_name()


async def test_the_task_of_a_stream_is_never_visible_to_its_consumer() -> None:
    seen: list[str | None] = []
    async with task_budget("outer", calls=5):
        async for inside in task_stream():
            seen += [inside, budget_name()]
        seen.append(budget_name())
    assert seen == ["inner", "outer", "inner", "outer", "outer"]


def test_the_task_of_a_plain_generator_is_never_visible_to_its_consumer() -> None:
    seen: list[str | None] = []
    for inside in plain_task_stream():
        seen += [inside, budget_name()]
    assert [*seen, budget_name()] == ["inner", None, "inner", None, None]


async def test_a_stream_pays_from_the_task_it_was_started_in() -> None:
    @budgeted(tokens=1)
    async def call() -> None: ...

    @budgeted(calls=1)
    async def calling() -> AsyncGenerator[str | None, None]:
        for _ in range(2):
            await call()
            yield budget_name()

    async with task_budget("first", tokens=9) as first:
        items = calling()
        assert await anext(items) == "first"
        async with task_budget("second", tokens=9) as second:
            assert await anext(items) == "first"
            assert budget_name() == "second"
        await items.aclose()
    assert (first.spent("tokens"), second.spent("tokens")) == (2, 0)


STREAMS = pytest.mark.parametrize("opened", [asks, task_stream], ids=["budgeted", "task_budget"])


@STREAMS
async def test_a_timeout_around_a_half_read_stream_is_the_consumers(opened: Any) -> None:
    items = opened()
    with anyio.move_on_after(60) as first:
        await anext(items)
    with anyio.CancelScope() as second:
        await anext(items)
        second.cancel()
        await checkpoint()
    assert (first.cancelled_caught, second.cancelled_caught) == (False, True)
    await items.aclose()
    await checkpoint()


@STREAMS
async def test_a_task_group_around_a_half_read_stream_is_the_consumers(opened: Any) -> None:
    items = opened()
    await anext(items)
    async with anyio.create_task_group() as group:
        group.start_soon(checkpoint)
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


@STREAMS
async def test_a_stream_may_be_read_on_by_another_task(opened: Any) -> None:
    items = opened()
    await anext(items)
    async with anyio.create_task_group() as group:
        group.start_soon(items.__anext__)
    async with anyio.create_task_group() as group:
        group.start_soon(items.aclose)


# A task per stream.


@budgeted(calls=1)
async def tool() -> str:
    await checkpoint()
    return "ok"


async def test_each_stream_is_a_task_of_its_own() -> None:
    @task_budget("reader", calls=2)
    async def reader() -> AsyncGenerator[str, None]:
        for _ in range(2):
            yield await tool()

    async with task_budget("outer", calls=100) as outer:
        for _ in range(3):
            assert [item async for item in reader()] == ["ok", "ok"]
    assert outer.spent("calls") == 6


async def test_a_stream_at_its_limit_ends_with_the_public_error() -> None:
    turns: list[str] = []

    @task_budget("reader", calls=3, policy="terminate")
    async def swallowing() -> AsyncGenerator[str, None]:
        for _ in range(50):
            turns.append("turn")
            try:
                await tool()
            except Exception as error:
                yield type(error).__name__
            else:
                yield "ok"

    items: list[str] = []
    with pytest.raises(BudgetTerminated) as caught:
        async for item in swallowing():
            items.append(item)
    await checkpoint()
    assert (caught.value.budget, items, len(turns)) == ("reader", ["ok"] * 3, 4)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_terminated_stream_that_gives_another_item_is_closed(backend: str) -> None:
    cleaned: list[str] = []

    @task_budget("reader", calls=3)
    async def stubborn() -> AsyncGenerator[str, None]:
        budget = current_budget()
        assert budget is not None
        try:
            yield "first"
            budget.terminate("enough")
            yield "second"
        finally:
            cleaned.append("cleaned")

    async def main() -> list[str]:
        items: list[str] = []
        with pytest.raises(BudgetTerminated):
            async for item in stubborn():
                items.append(item)
        return [*items, *cleaned]

    assert anyio.run(main, backend=backend) == ["first", "cleaned"]


def test_a_terminated_plain_generator_that_gives_another_item_is_closed() -> None:
    cleaned: list[str] = []

    @task_budget("reader", calls=3)
    def stubborn() -> Iterator[str]:
        budget = current_budget()
        assert budget is not None
        try:
            yield "first"
            budget.terminate("enough")
            yield "second"
        finally:
            cleaned.append("cleaned")

    items = stubborn()
    with pytest.raises(BudgetTerminated) as caught:
        list(items)
    assert caught.value.reason == "enough"
    assert cleaned == ["cleaned"]


async def test_a_stream_terminated_between_its_steps_ends_at_the_next() -> None:
    tasks: list[TaskBudget] = []

    @task_budget("reader", calls=3)
    async def reader() -> AsyncGenerator[str, None]:
        budget = current_budget()
        assert budget is not None
        tasks.append(budget)
        while True:
            yield await tool()

    items = reader()
    await anext(items)
    tasks[0].terminate("enough")
    await checkpoint()  # the consumer is not cancelled
    with pytest.raises(BudgetTerminated, match="enough"):
        await anext(items)


async def test_closing_a_terminated_stream_raises_the_public_error() -> None:
    tasks: list[TaskBudget] = []

    @task_budget("reader", calls=3)
    async def reader() -> AsyncGenerator[str, None]:
        budget = current_budget()
        assert budget is not None
        tasks.append(budget)
        while True:
            yield await tool()

    items = reader()
    await anext(items)
    tasks[0].terminate("enough")
    with pytest.raises(BudgetTerminated, match="enough"):
        await items.aclose()


def test_closing_a_terminated_plain_generator_raises_the_public_error() -> None:
    tasks: list[TaskBudget] = []

    @task_budget("reader", calls=3)
    def reader() -> Generator[int, None, None]:
        budget = current_budget()
        assert budget is not None
        tasks.append(budget)
        while True:
            yield 1

    items = reader()
    next(items)
    tasks[0].terminate("enough")
    with pytest.raises(BudgetTerminated, match="enough"):
        items.close()


async def test_an_error_of_the_cleanup_of_a_terminated_stream_is_its_cause() -> None:
    @task_budget("reader", calls=3)
    async def clumsy() -> AsyncGenerator[str, None]:
        budget = current_budget()
        assert budget is not None
        budget.terminate("enough")
        try:
            yield "item"
        finally:
            raise Unlucky

    with pytest.raises(BudgetTerminated) as caught:
        await anext(clumsy())
    assert isinstance(caught.value.__cause__, Unlucky)


async def test_the_deadline_of_a_stream_leaves_its_consumer_alone() -> None:
    @task_budget("reader", seconds=0.01)
    async def slow() -> AsyncGenerator[int, None]:
        yield 1
        await anyio.sleep_forever()

    items = slow()
    await anext(items)
    await anyio.sleep(0.02)
    with pytest.raises(BudgetTerminated) as caught:
        await anext(items)
    await checkpoint()
    assert caught.value.dim == "millis"


async def test_a_stream_at_its_limit_ends_itself_and_not_the_task_around() -> None:
    @task_budget("reader", calls=1, policy="terminate")
    async def reader() -> AsyncGenerator[str, None]:
        while True:
            yield await tool()

    async with task_budget("outer", calls=9, policy="terminate") as outer:
        with pytest.raises(BudgetTerminated) as caught:
            [item async for item in reader()]
        await tool()
    assert (caught.value.budget, outer.spent("calls")) == ("reader", 2)


async def test_the_task_around_ends_a_stream_inside_it() -> None:
    @task_budget("reader", calls=9)
    async def reader() -> AsyncGenerator[str, None]:
        while True:
            yield await tool()

    items: list[str] = []
    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("outer", calls=3, policy="terminate"):
            async with aclosing(reader()) as stream:
                async for item in stream:
                    items.append(item)
    assert (caught.value.budget, items) == ("outer", ["ok"] * 3)


async def test_after_an_early_close_the_task_of_a_stream_has_ended() -> None:
    tasks: list[TaskBudget] = []

    @task_budget("reader", calls=9)
    async def reader() -> AsyncGenerator[str, None]:
        budget = current_budget()
        assert budget is not None
        tasks.append(budget)
        while True:
            yield await tool()

    async with aclosing(reader()) as items:
        await anext(items)
    assert "ended" in repr(tasks[0])
    assert tasks[0].spent("calls") == 1


# A block inside a generator.


async def test_a_block_inside_an_async_generator_is_refused() -> None:
    async def wrong() -> AsyncGenerator[int, None]:
        async with task_budget(calls=1):
            yield 1

    with pytest.raises(ConfigurationError, match=r"'wrong'.*@task_budget\(\.\.\.\)"):
        await anext(wrong())
    assert current_budget() is None


def test_a_block_inside_a_plain_generator_is_refused() -> None:
    def wrong() -> Iterator[int]:
        with task_budget(calls=1):
            yield 1

    with pytest.raises(ConfigurationError, match=r"'wrong'.*@task_budget\(\.\.\.\)"):
        next(wrong())
    assert current_budget() is None


async def test_a_sync_block_inside_an_async_generator_is_refused() -> None:
    async def wrong() -> AsyncGenerator[int, None]:
        with task_budget(calls=1):
            yield 1

    with pytest.raises(ConfigurationError, match="decorate the generator"):
        await anext(wrong())


async def test_a_block_inside_a_decorated_generator_is_refused_too() -> None:
    @budgeted(calls=1)
    async def wrong() -> AsyncGenerator[int, None]:
        async with task_budget(calls=1):
            yield 1

    with pytest.raises(ConfigurationError, match="decorate the generator"):
        await anext(wrong())


async def test_an_asynccontextmanager_may_hold_a_block() -> None:
    @asynccontextmanager
    async def session() -> AsyncGenerator[TaskBudget, None]:
        async with task_budget("session", calls=5) as budget:
            yield budget

    async with session() as budget:
        await tool()
        assert budget_name() == "session"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(session())
        assert budget_name() == "session"
    assert (budget.spent("calls"), budget_name()) == (1, None)


def test_a_contextmanager_may_hold_a_block() -> None:
    @contextmanager
    def session() -> Generator[TaskBudget, None, None]:
        with task_budget("session", calls=5) as budget:
            yield budget

    with session():
        assert budget_name() == "session"
    with ExitStack() as stack:
        stack.enter_context(session())
        assert budget_name() == "session"
    assert budget_name() is None


async def test_an_asynccontextmanager_that_holds_a_block_ends_its_user() -> None:
    @asynccontextmanager
    async def session() -> AsyncGenerator[None, None]:
        async with task_budget("session", calls=1, policy="terminate"):
            yield

    turns: list[str] = []
    with pytest.raises(BudgetTerminated):
        async with session():
            for _ in range(50):
                turns.append("turn")
                try:
                    await tool()
                except Exception:
                    continue
    assert len(turns) == 2


async def test_a_reservation_inside_a_generator_is_allowed() -> None:
    async def reading() -> AsyncGenerator[int, None]:
        async with reserve(tokens=10) as reservation:
            yield 1
            reservation.commit(4)

    async with task_budget(tokens=100) as budget:
        assert [item async for item in reading()] == [1]
    assert budget.spent("tokens") == 4

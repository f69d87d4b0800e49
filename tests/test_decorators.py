"""`@budgeted`: what it keeps of a function, what a call holds, how it settles."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from time import thread_time_ns
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    TaskBudget,
    Usage,
    UsageEvent,
    budgeted,
    connect,
    current_budget,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware.events import Subscription


class HandClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def time(self) -> float:
        return self.ns / 1e9


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def events(clock: HandClock) -> Iterator[Subscription]:
    with connect(clock=clock) as service, service.subscribe() as subscription:
        yield subscription


def taken(events: Subscription) -> UsageEvent:
    event = events.get_nowait()
    assert event is not None
    return event


@budgeted(tokens=10, calls=1)
async def search(query: str, *, top: int = 3) -> list[str]:
    """Find things."""
    await checkpoint()
    return [query] * top


@budgeted(tokens=10)
def look(query: str, *, top: int = 3) -> list[str]:
    """Look for things."""
    return [query] * top


# What it keeps.


def test_a_coroutine_function_stays_one() -> None:
    assert inspect.iscoroutinefunction(search)
    assert not inspect.iscoroutinefunction(look)


def test_generator_functions_stay_what_they_are() -> None:
    @budgeted
    def plain() -> Iterator[int]:
        yield 1

    @budgeted
    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    assert inspect.isgeneratorfunction(plain)
    assert inspect.isasyncgenfunction(asynchronous)


def test_name_doc_module_and_signature_are_kept() -> None:
    assert (search.__name__, search.__doc__, search.__module__) == (
        "search",
        "Find things.",
        __name__,
    )
    assert search.__qualname__ == "search"
    expected = "(query: 'str', *, top: 'int' = 3) -> 'list[str]'"
    assert str(inspect.signature(search)) == str(inspect.signature(look)) == expected
    assert search.__annotations__["top"] == "int"


def test_a_decorated_function_can_be_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(look)) is look


async def test_arguments_and_results_pass_unchanged() -> None:
    async with task_budget(tokens=100):
        assert await search("a", top=2) == ["a", "a"]
        assert look("b") == ["b"] * 3


async def test_outside_any_task_calls_run_uncharged() -> None:
    assert await search("a", top=1) == ["a"]
    assert look("b", top=1) == ["b"]


# What a call holds.


async def test_bare_it_charges_one_call() -> None:
    @budgeted
    async def tool() -> None:
        """Do nothing."""

    @budgeted()
    def other() -> None:
        """Do nothing."""

    async with task_budget(tokens=10) as budget:
        await tool()
        other()
        spent = {d: b.spent for d, b in budget.snapshot().dims.items() if b.spent and d != "millis"}
        assert spent == {"calls": 2}


def test_only_the_dimensions_given_are_charged() -> None:
    with task_budget(tokens=100, calls=5) as budget:
        look("a")
        assert (budget.spent("tokens"), budget.spent("calls")) == (10, 0)


def test_a_refused_call_does_not_start() -> None:
    ran: list[int] = []

    @budgeted(tokens=60)
    def work() -> None:
        ran.append(1)

    with task_budget(tokens=100) as budget:
        work()
        with pytest.raises(BudgetExceeded):
            work()
        assert (ran, budget.spent("tokens")) == ([1], 60)


async def test_a_refused_call_is_a_checkpoint_and_a_granted_one_is_not() -> None:
    @budgeted(tokens=60)
    async def work() -> str:
        return "ran"

    async with task_budget(tokens=100):
        with anyio.CancelScope() as scope:
            scope.cancel()
            assert await work() == "ran"
            await work()
        assert scope.cancelled_caught


async def test_a_computed_amount_is_called_with_all_arguments() -> None:
    def estimate(prompt: str, *parts: str, scale: int, **options: int) -> int:
        return len(prompt) + len(parts) + scale + sum(options.values())

    @budgeted(tokens=estimate)
    async def think(prompt: str, *parts: str, scale: int, **options: int) -> str:
        return prompt

    @budgeted(tokens=estimate, calls=2)
    def think_sync(prompt: str, *parts: str, scale: int, **options: int) -> str:
        return prompt

    async with task_budget(tokens=1_000) as budget:
        await think("abc", "x", "y", scale=10, extra=100)
        assert budget.spent("tokens") == 115
        think_sync("abc", scale=1)
        assert (budget.spent("tokens"), budget.spent("calls")) == (119, 2)


def test_a_computed_amount_of_a_method_gets_self() -> None:
    class Agent:
        size = 7

        def estimate(self, n: int) -> int:
            return self.size * n

        @budgeted(tokens=estimate)
        def run(self, n: int) -> int:
            return n

    with task_budget(tokens=100) as budget:
        assert Agent().run(3) == 3
        assert budget.spent("tokens") == 21


def test_a_computed_amount_of_a_generator_is_asked_at_its_first_step() -> None:
    def estimate(n: int) -> int:
        return n

    @budgeted(tokens=estimate)
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    with task_budget(tokens=100) as budget:
        steps = count(3)
        assert budget.spent("tokens") == 0
        assert list(steps) == [0, 1, 2]
        assert budget.spent("tokens") == 3


@pytest.mark.parametrize("amount", [-1, 1.5, True, "5", None, 2**53])
def test_a_computed_amount_that_is_none_stops_the_call_before_it_starts(amount: Any) -> None:
    ran: list[int] = []

    @budgeted(tokens=lambda: amount)
    def work() -> None:
        ran.append(1)

    with task_budget(tokens=100) as budget:
        with pytest.raises(InvalidAmount, match="tokens"):
            work()
        assert (ran, budget.spent("tokens"), budget.remaining("tokens")) == ([], 0, 100)


def test_an_amount_that_raises_stops_the_call_before_it_starts() -> None:
    def broken() -> int:
        raise LookupError("no tokenizer")

    ran: list[int] = []

    @budgeted(tokens=broken)
    def work() -> None:
        ran.append(1)

    with task_budget(tokens=100) as budget:
        with pytest.raises(LookupError, match="no tokenizer"):
            work()
        assert (ran, budget.remaining("tokens")) == ([], 100)


# How it settles.


BOTH = {"tokens": 30, "calls": 1}


@pytest.mark.parametrize(
    ("reported", "spent"),
    [
        (12, (12, 1)),
        ({"tokens": 12}, (12, 1)),
        ({"tokens": 12, "calls": 3}, (12, 3)),
        (Usage(input_tokens=10, output_tokens=2), (12, 1)),
        ({"usage": {"input_tokens": 10, "output_tokens": 2}}, (12, 1)),
    ],
    ids=["int", "mapping", "mapping of both", "Usage", "reply"],
)
def test_settle_answers_in_every_form(reported: Any, spent: tuple[int, int]) -> None:
    held: dict[str, Any] = {"tokens": 30} if isinstance(reported, int) else BOTH

    @budgeted(settle=lambda _result: reported, **held)
    def work() -> str:
        return "reply"

    with task_budget(tokens=100, calls=10) as budget:
        assert work() == "reply"
        expected = spent if "calls" in held else (spent[0], 0)
        assert (budget.spent("tokens"), budget.spent("calls")) == expected


async def test_settle_none_is_unknown_usage_so_the_result_is_returned_and_charged_in_full() -> None:
    @budgeted(tokens=30, settle=lambda _result: None)
    async def work() -> str:
        return "reply"

    async with task_budget(tokens=100) as budget:
        assert await work() == "reply"
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.assumed) == (30, 30)


def test_settle_of_several_dimensions_by_an_int_is_refused_and_charged_in_full() -> None:
    @budgeted(tokens=30, calls=1, settle=lambda _result: 12)
    def work() -> str:
        return "reply"

    with task_budget(tokens=100) as budget:
        with pytest.raises(InvalidAmount, match="name one"):
            work()
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.reserved, shown.assumed) == (30, 0, 30)


def test_more_than_was_held_is_debt_and_the_result_is_returned() -> None:
    @budgeted(tokens=30, settle=lambda _result: 130)
    def work() -> str:
        return "paid for"

    with task_budget(tokens=100) as budget:
        assert work() == "paid for"
        assert budget.snapshot()["tokens"].overrun == 30
        with pytest.raises(BudgetExceeded):
            work()


@pytest.mark.parametrize(
    ("error", "spent"), [(ConnectionRefusedError(), 0), (ConnectionResetError(), 30)]
)
async def test_on_error_may_decide_by_the_error(error: Exception, spent: int) -> None:
    def paid(raised: Exception) -> Any:
        return "release" if isinstance(raised, ConnectionRefusedError) else "charge"

    @budgeted(tokens=30, on_error=paid)
    async def work() -> None:
        raise error

    async with task_budget(tokens=100) as budget:
        with pytest.raises(type(error)):
            await work()
        assert budget.spent("tokens") == spent


async def test_on_error_that_raises_is_seen_and_the_call_is_charged() -> None:
    def broken(raised: Exception) -> Any:
        raise LookupError("no table") from raised

    @budgeted(tokens=30, on_error=broken)
    async def work() -> None:
        raise ConnectionResetError

    async with task_budget(tokens=100) as budget:
        with pytest.raises(LookupError, match="no table"):
            await work()
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.reserved) == (30, 0)


# Names, kinds, what an event says.


async def test_the_event_tells_name_kind_model_and_provider(events: Subscription) -> None:
    @budgeted(tokens=30, kind="llm", model="gpt-4o-mini", provider="openai")
    async def think() -> None:
        """Answer."""

    async with task_budget("work", tokens=100):
        await think()
    event = taken(events)
    assert (event.name, event.kind, event.model, event.provider) == (
        "think",
        "llm",
        "gpt-4o-mini",
        "openai",
    )


@pytest.mark.parametrize(
    ("options", "name", "kind"),
    [
        ({}, "work", "tool"),
        ({"name": "web.search"}, "web.search", "tool"),
        ({"kind": "embeddings"}, "work", "embeddings"),
        ({"kind": None}, "work", None),
    ],
)
def test_names_and_kinds(options: Any, name: str, kind: str, events: Subscription) -> None:
    @budgeted(**options)
    def work() -> None:
        """Do nothing."""

    work()
    event = taken(events)
    assert (event.name, event.kind) == (name, kind)


def test_a_lambda_has_a_name(events: Subscription) -> None:
    assert budgeted(lambda: 5)() == 5
    assert taken(events).name == "lambda"


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "model"},
        {"name": "two words"},
        {"on_error": "refund"},
        {"policy": "throw"},
        {"measure": ("gpu",)},
        {"model": "a\nb"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_cannot_be_is_refused_at_decoration(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options.values()))[0][:3]):
        budgeted(**options)(look)


def test_something_that_cannot_be_called_is_refused() -> None:
    target: Any = 5
    with pytest.raises(ConfigurationError, match="int"):
        budgeted(target)


# measure


def burn(micros: int) -> None:
    end = thread_time_ns() + micros * 1_000
    while thread_time_ns() < end:
        pass


async def test_measure_cpu_charges_what_the_call_itself_ran() -> None:
    @budgeted(measure=("cpu",))
    async def work() -> None:
        burn(2_000)
        await checkpoint()
        burn(2_000)

    async def other() -> None:
        burn(20_000)

    async with task_budget(cpu_micros=10_000_000) as budget, anyio.create_task_group() as group:
        group.start_soon(other)
        await work()
    spent: Any = budget.spent("cpu_micros")
    assert 4_000 <= spent < 20_000


def test_measure_cpu_charges_functions_and_generators() -> None:
    @budgeted(measure=("cpu",), calls=1)
    def work() -> None:
        burn(1_000)

    @budgeted(measure=("cpu", "time"))
    def steps() -> Iterator[int]:
        burn(500)
        yield 1
        burn(500)

    with task_budget(cpu_micros=10_000_000) as budget:
        work()
        first: Any = budget.spent("cpu_micros")
        for _ in steps():
            burn(20_000)
        spent: Any = budget.spent("cpu_micros")
    assert first >= 1_000
    assert 1_000 <= spent - first < 20_000
    assert budget.spent("calls") == 2


def test_measure_cpu_charges_calls_that_fail() -> None:
    @budgeted(measure=("cpu",))
    def work() -> None:
        burn(1_000)
        raise LookupError

    with task_budget(cpu_micros=10_000_000) as budget:
        with pytest.raises(LookupError):
            work()
        spent: Any = budget.spent("cpu_micros")
    assert spent >= 1_000


def test_cpu_debt_refuses_the_next_call() -> None:
    @budgeted(measure=("cpu",))
    def work() -> None:
        burn(1_000)

    with task_budget(cpu_micros=500):
        work()
        with pytest.raises(BudgetExceeded, match="cpu_micros"):
            work()


def test_measure_time_fills_the_duration(clock: HandClock, events: Subscription) -> None:
    @budgeted(measure=("time",))
    def work() -> None:
        clock.ns += 25_000_000

    work()
    assert taken(events).duration_ms == 25


# Methods and other callables.


class Tools:
    """Every kind of method, in both orders."""

    def __init__(self, base: int = 0) -> None:
        self.base = base

    @budgeted(tokens=1)
    async def plain(self, n: int) -> int:
        return self.base + n

    @staticmethod
    @budgeted(tokens=1)
    def inner_static(n: int) -> int:
        return n

    @budgeted(tokens=1)
    @staticmethod
    def outer_static(n: int) -> int:
        return n

    @classmethod
    @budgeted(tokens=1)
    def inner_class(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n

    @budgeted(tokens=1)
    @classmethod
    def outer_class(cls, n: int) -> tuple[str, int]:
        return cls.__name__, n


async def test_methods_of_every_kind_are_charged() -> None:
    tools: Any = Tools(40)
    async with task_budget(tokens=100) as budget:
        assert await tools.plain(2) == 42
        assert (tools.inner_static(1), tools.outer_static(2)) == (1, 2)
        assert (tools.inner_class(3), tools.outer_class(4)) == (("Tools", 3), ("Tools", 4))
        assert budget.spent("tokens") == 5


async def test_a_partial_is_charged() -> None:
    async def work(a: int, b: int) -> int:
        return a + b

    def sync_work(a: int, b: int) -> int:
        return a + b

    part: Any = budgeted(tokens=1, name="part")(functools.partial(work, 1))
    sync_part: Any = budgeted(tokens=1)(functools.partial(sync_work, 1))
    async with task_budget(tokens=100) as budget:
        assert (await part(2), sync_part(3)) == (3, 4)
        assert budget.spent("tokens") == 2


async def test_an_object_that_can_be_called_is_charged() -> None:
    class Model:
        async def __call__(self, prompt: str) -> str:
            return prompt.upper()

    class Tool:
        def __call__(self, prompt: str) -> str:
            return prompt.lower()

    model: Any = budgeted(tokens=1)(Model())
    tool: Any = budgeted(tokens=1)(Tool())
    async with task_budget(tokens=100) as budget:
        assert (await model("a"), tool("B")) == ("A", "b")
        assert budget.spent("tokens") == 2


async def test_a_function_that_returns_an_awaitable_is_called_as_it_is() -> None:
    @budgeted(tokens=1)
    def start() -> Any:
        return checkpoint()

    async with task_budget(tokens=100) as budget:
        await start()
        assert budget.spent("tokens") == 1


# Tasks around, policies, sharing.


async def test_two_tasks_share_one_decorated_function() -> None:
    async with task_budget("first", tokens=100) as first:
        await search("a")
    async with task_budget("second", tokens=100) as second:
        await search("a")
        await search("a")
    assert (first.spent("tokens"), second.spent("tokens")) == (10, 20)


async def test_a_budgeted_generator_opens_no_task(events: Subscription) -> None:
    seen: list[TaskBudget | None] = []

    @budgeted(tokens=10)
    async def stream() -> AsyncIterator[int]:
        seen.append(current_budget())
        yield 1

    async with task_budget("outer", tokens=100) as outer:
        seen.extend([current_budget() async for _ in stream()])
    assert seen == [outer, outer]


async def test_a_calls_own_policy_may_be_stricter() -> None:
    @budgeted(tokens=200, policy="terminate")
    async def work() -> None:
        """Never run."""

    with pytest.raises(BudgetTerminated) as caught:
        async with task_budget("strict", tokens=100):
            await work()
    assert caught.value.budget == "strict"


async def test_a_calls_own_policy_is_never_weaker() -> None:
    @budgeted(tokens=200, policy="reject")
    async def work() -> None:
        """Never run."""

    with pytest.raises(BudgetTerminated):
        async with task_budget("strict", tokens=100, policy="terminate"):
            await work()


def test_a_limit_may_declare_a_dimension_after_the_function() -> None:
    @budgeted(gadgets_used=2)
    def work() -> None:
        """Use gadgets."""

    with pytest.raises(InvalidAmount, match="gadgets_used"):
        work()
    with task_budget(gadgets_used=5) as budget:
        work()
        assert budget.remaining("gadgets_used") == 3


def test_wrapping_is_transparent_to_errors() -> None:
    @budgeted(tokens=1)
    def work() -> None:
        raise LookupError("mine")

    with task_budget(tokens=10), pytest.raises(LookupError, match="mine") as caught:
        work()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_int_of_settle_is_of_the_dimension_that_was_named_also_when_cpu_is_measured() -> None:
    @budgeted(tokens=9, settle=lambda _result: 5, measure=("cpu",))
    def work() -> str:
        return "reply"

    with task_budget(tokens=100) as budget:
        assert work() == "reply"
    assert budget.spent("tokens") == 5


def test_a_settle_that_is_no_callable_is_refused_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match="settle=5"):
        budgeted(tokens=5, settle=cast("Any", 5))(print)


def test_seconds_cannot_be_held_by_a_call() -> None:
    with pytest.raises(InvalidAmount, match="millis"):
        budgeted(seconds=5)(print)

"""What every adapter does, whatever the framework: the same behaviours on each of them."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaToken,
    Resource,
    connect,
    errors,
    task_budget,
)
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects import Subject, subjects

PATIENCE_SECONDS = 20
PROMPT = "Where do rivers flow?"
ALL = subjects()

# Of the frameworks themselves, on trio: they leave generators they have read to the end unclosed.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def on(*wanted: str) -> list[Any]:
    """Each subject that has what is wanted, on each of its event loops."""
    fitting = [s for s in ALL if all(getattr(s, name) for name in wanted)]
    return [
        pytest.param(subject, (backend, {}), id=f"{subject.name}-{backend}")
        for subject in fitting
        for backend in subject.backends
    ]


def each(*wanted: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("subject", "anyio_backend"), on(*wanted))


@asynccontextmanager
async def agent_of(subject: Subject, provider: Provider) -> AsyncGenerator[Any]:
    with anyio.fail_after(PATIENCE_SECONDS):
        async with subject.open(provider.url, True) as agent:
            yield agent


async def all_at_once(
    work: Callable[[Any], Coroutine[Any, Any, None]], arguments: list[Any]
) -> None:
    async with anyio.create_task_group() as group:
        for argument in arguments:
            group.start_soon(work, argument)


async def until(provider: Provider, count: int, state: str | None = None) -> None:
    await to_thread.run_sync(provider.wait_for, count, state)


def error_of(caught: BaseException) -> BaseException | None:
    return errors.budget_error(caught)


@each()
async def test_it_answers_as_without(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, subject.open(provider.url, False) as bare:
        async with task_budget(tokens=1_000_000):
            ours = await agent.ask("echo", PROMPT)
        theirs = await bare.ask("echo", PROMPT)
    assert type(ours) is type(theirs)
    assert agent.text(ours) == bare.text(theirs) == ANSWER
    assert provider.calls[0].body == provider.calls[1].body


@each()
async def test_it_fails_as_without(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, subject.open(provider.url, False) as bare:
        with pytest.raises(Exception) as ours:  # noqa: PT011 - each has its own
            async with task_budget(tokens=1_000_000) as budget:
                await agent.ask("fail:400", PROMPT)
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            await bare.ask("fail:400", PROMPT)
    assert type(ours.value) is type(theirs.value)
    assert budget.spent("tokens") == 0
    assert budget.snapshot()["tokens"].reserved == 0


@each()
async def test_it_passes_calls_outside_any_task(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent:
        assert agent.text(await agent.ask("echo", PROMPT)) == ANSWER


@each()
async def test_what_is_settled_is_what_the_server_counted(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        for number in range(3):
            await agent.ask("echo", PROMPT * (number + 1))
    snapshot = budget.snapshot()
    assert snapshot["tokens"].spent == provider.tokens > 0
    assert snapshot["input_tokens"].spent == provider.input_tokens
    assert snapshot["output_tokens"].spent == provider.output_tokens
    assert snapshot["calls"].spent == 3
    assert snapshot["tokens"].assumed == 0


@each("reports")
async def test_usage_that_is_not_reported_is_unknown(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        await agent.ask("mute", PROMPT)
    held = budget.snapshot()["tokens"]
    assert held.spent == held.assumed > 64


@each("reports")
async def test_usage_that_is_nonsense_is_unknown(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        try:
            await agent.ask("absurd", PROMPT)
        except Exception as error:
            if error_of(error) is not None:  # else the framework refuses to read it
                raise
    held = budget.snapshot()["tokens"]
    assert held.spent > 64
    assert held.reserved == 0


@each("retries")
async def test_a_call_that_is_sent_again_is_one_call(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        await agent.ask("fail:500:1", PROMPT)
    assert provider.count() == 2
    assert budget.spent("calls") == 1
    assert budget.spent("tokens") == provider.tokens


@each()
async def test_a_refused_call_is_not_sent(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=10) as budget:
        if subject.refuses == "raises":
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await agent.ask("echo", PROMPT)
            refusal = error_of(caught.value)
            assert isinstance(refusal, BudgetExceeded)
        else:
            assert "budget" in agent.text(await agent.ask("echo", PROMPT))
    assert provider.count() == 0
    assert budget.spent("tokens") == 0


@each()
async def test_of_a_hundred_at_once_as_many_run_as_the_budget_allows(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    ends: list[str] = []

    async def ask(agent: Any) -> None:
        try:
            answer = await agent.ask("echo", PROMPT)
        except Exception as error:
            ends.append(type(error_of(error)).__name__)
        else:
            ends.append("ran" if agent.text(answer) == ANSWER else "told")

    async with agent_of(subject, provider) as agent, task_budget(calls=10, policy=None) as budget:
        await all_at_once(ask, [agent] * 100)
    assert provider.count() == 10
    assert budget.spent("calls") == 10
    assert ends.count("ran") == 10
    assert set(ends) <= {"ran", "told", "BudgetExceeded", "BudgetTerminated"}


@each("cancels")
async def test_a_call_that_is_cancelled_is_charged_and_holds_nothing(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        async with anyio.create_task_group() as group:
            group.start_soon(agent.ask, "hold", PROMPT)
            await until(provider, 1)
            group.cancel_scope.cancel()
        await until(provider, 1, "hung up")
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


@each("cancels")
async def test_a_terminated_run_ends_and_its_owner_is_told(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    turns: list[int] = []

    async def work(agent: Any) -> None:
        async with task_budget(calls=3, policy="terminate"):
            for turn in range(30):
                turns.append(turn)
                try:
                    await agent.ask("echo", PROMPT)
                except Exception:
                    continue

    async with agent_of(subject, provider) as agent:
        with pytest.raises(BudgetTerminated):
            await work(agent)
    assert provider.count() == 3
    assert len(turns) == 4


@each()
async def test_a_throttled_call_waits_its_turn(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, connect() as service:
        service.define(Resource("model", Concurrency(2), dim="calls"))
        token = QuotaToken("model", expected_use=2)
        async with token, task_budget("t", calls=100, service=service) as budget:
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(agent.ask, "hold", PROMPT)
                await until(provider, 2)
                assert provider.count() == 2
                provider.released.set()
            assert budget.spent("calls") == 6
    await until(provider, 6, "done")


@each("streams")
async def test_a_stream_is_as_without_and_settled_exactly(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, subject.open(provider.url, False) as bare:
        async with task_budget(tokens=1_000_000) as budget:
            ours = [word async for word in agent.stream("echo", PROMPT)]
        charged = provider.tokens
        theirs = [word async for word in bare.stream("echo", PROMPT)]
    assert "".join(ours) == ANSWER
    assert ours == theirs
    balance = budget.snapshot()["tokens"]
    assert balance.spent == charged
    assert balance.reserved == 0


@each("streams")
async def test_a_stream_without_usage_is_charged_what_it_held(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        assert "".join([word async for word in agent.stream("mute", PROMPT)]) == ANSWER
    balance = budget.snapshot()["tokens"]
    assert balance.spent > 64
    assert balance.reserved == 0


@each("streams")
async def test_a_stream_that_is_left_early_is_charged(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        async with aclosing(agent.stream("pause", PROMPT)) as words:
            async for _ in words:
                break
        await until(provider, 1, "hung up")
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 0
    assert balance.reserved == 0


@each("streams", "cancels", "cuts_streams")
async def test_a_stream_that_is_cancelled_is_charged(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:

        async def read() -> None:
            async with aclosing(agent.stream("pause", PROMPT)) as words:
                async for _ in words:
                    began.set()

        began = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await began.wait()
            group.cancel_scope.cancel()
        await until(provider, 1, "hung up")
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 0
    assert balance.reserved == 0


@each("streams")
async def test_a_stream_that_breaks_is_charged(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=1_000_000) as budget:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            async for _ in agent.stream("cut", PROMPT):
                pass
        assert error_of(caught.value) is None
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 0
    assert balance.reserved == 0


@each("streams")
async def test_a_refused_stream_is_not_sent(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(tokens=10):
        if subject.refuses == "raises":
            with pytest.raises(Exception) as caught:  # noqa: PT011 - each has its own
                await anext(agent.stream("echo", PROMPT))
            assert isinstance(error_of(caught.value), BudgetExceeded)
        else:
            assert "budget" in "".join([word async for word in agent.stream("echo", PROMPT)])
    assert provider.count() == 0


@each("loops")
async def test_an_endless_loop_is_ended(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent:
        with pytest.raises(BudgetTerminated):
            async with task_budget(calls=9, policy="terminate") as budget:
                await agent.loop('loop:search:{"query": "x"}')
    assert 1 < provider.count() <= 9
    assert budget.spent("calls") <= 9


@each("loops")
async def test_an_endless_loop_that_is_refused_comes_to_its_end(
    subject: Subject, provider: Provider, anyio_backend: Any
) -> None:
    async with agent_of(subject, provider) as agent, task_budget(calls=9) as budget:
        try:
            await agent.loop('loop:search:{"query": "x"}')
        except Exception as error:
            if not isinstance(error_of(error), BudgetExceeded):
                raise
    assert 1 < provider.count() <= 9
    assert budget.spent("calls") <= 9

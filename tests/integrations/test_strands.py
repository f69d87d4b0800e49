"""Agents of Strands: what the contract of adapters does not cover."""

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio import to_thread
from strands import Agent, tool
from strands.hooks import AfterToolCallEvent, BeforeModelCallEvent
from strands.models.openai import OpenAIModel
from strands.tools.executors import SequentialToolExecutor

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    QuotaExceeded,
    QuotaToken,
    Reject,
    Resource,
    budgeted,
    connect,
    current_budget,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice, budget_error
from budgetware_integrations.strands import budget
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.strands import search, streams_let_go

NEEDS = "strands-agents"

LOOP = 'loop:search:{"query": "x"}'
TOOL = 'tool:search:{"query": "x"}'
MOST_TURNS = 40


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def model(provider: Provider) -> Any:
    def made(name: str) -> OpenAIModel:
        client = {"base_url": f"{provider.url}/v1", "api_key": "k"}
        return OpenAIModel(client_args=client, model_id=name, params={"max_tokens": 64})

    return made


def agent_of(model: OpenAIModel, *tools: Any, **options: Any) -> Agent:
    return Agent(model=model, tools=list(tools), callback_handler=None, **options)


async def run(agent: Agent, is_sync: bool) -> Any:
    if is_sync:
        return await to_thread.run_sync(agent, "Search for ever.")
    return await agent.invoke_async("Search for ever.")


def results_of(agent: Agent) -> Iterator[tuple[str, str]]:
    """Status and text of each result of a tool that the model has read."""
    for message in agent.messages:
        for block in message["content"]:
            if "toolResult" in block:
                result = block["toolResult"]
                yield result["status"], result["content"][0]["text"]


def test_an_agent_pays_when_it_is_called_in_sync_code(provider: Provider, model: Any) -> None:
    agent = budget(agent_of(model(TOOL), search))
    with task_budget(tokens=1_000_000) as paid:
        result = agent("Search.")
    assert result.message["content"][0]["text"] == ANSWER
    assert paid.spent("calls") == 3  # two turns and a tool
    assert paid.spent("tokens") == provider.tokens


def test_a_task_that_is_terminated_ends_a_run_in_sync_code(provider: Provider, model: Any) -> None:
    agent = budget(agent_of(model(LOOP), search))
    with pytest.raises(BudgetTerminated), task_budget(calls=6, policy="terminate"):
        agent("Search for ever.")
    assert provider.count() == 3


def test_a_tool_that_is_refused_is_told_to_the_model(provider: Provider, model: Any) -> None:
    agent = budget(agent_of(model(TOOL), search), tools={"custom0": 5})
    with task_budget(custom0=4, policy=Reject()) as paid:
        result = agent("Search.")
    assert result.message["content"][0]["text"] == ANSWER
    [(status, text)] = results_of(agent)
    assert status == "error"
    assert "4 of 4 custom0 left, 5 requested" in text
    assert paid.spent("custom0") == 0


@pytest.mark.parametrize("executor", [None, SequentialToolExecutor()], ids=["tasks", "in turn"])
async def test_a_task_that_is_terminated_in_a_tool_asks_the_model_no_more(
    provider: Provider, model: Any, executor: Any
) -> None:
    agent = budget(agent_of(model(LOOP), search, tool_executor=executor), tools={"custom0": 1})

    def give_up(event: BeforeModelCallEvent) -> None:
        assert provider.count() < MOST_TURNS

    agent.hooks.add_callback(BeforeModelCallEvent, give_up)
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            await agent.invoke_async("Search for ever.")
    assert provider.count() <= 4


@pytest.mark.parametrize("executor", [None, SequentialToolExecutor()], ids=["tasks", "in turn"])
@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_tool_that_holds_by_itself_ends_a_terminated_run_too(
    provider: Provider, model: Any, executor: Any, is_sync: bool
) -> None:
    @budgeted(custom0=1)
    def look(query: str) -> str:
        return query

    def search(query: str) -> str:
        """Search.

        Args:
            query: what for.
        """
        for _ in range(5):
            try:
                look(query)
            except Exception:  # as tools do
                continue
        return "nothing"

    agent = budget(agent_of(model(LOOP), tool(search), tool_executor=executor), tools=None)

    def give_up(event: BeforeModelCallEvent) -> None:
        assert provider.count() < MOST_TURNS

    agent.hooks.add_callback(BeforeModelCallEvent, give_up)
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            await run(agent, is_sync)
    assert provider.count() <= 2


def test_a_tool_that_is_budgeted_is_charged_once(provider: Provider, model: Any) -> None:
    @tool
    @budgeted(custom0=7)
    def search(query: str) -> str:
        """Search.

        Args:
            query: what for.
        """
        return query

    agent = budget(agent_of(model(TOOL), search), tools={"custom0": 100})
    with task_budget(calls=10) as paid:
        agent("Search.")
    assert paid.spent("custom0") == 7


def test_tools_may_cost_what_their_name_and_input_say(provider: Provider, model: Any) -> None:
    asked: list[Any] = []

    def cost(name: str, arguments: Any) -> dict[str, int]:
        asked.append((name, arguments))
        return {"custom1": 3}

    agent = budget(agent_of(model(TOOL), search), tools=cost)
    with task_budget(calls=10) as paid:
        agent("Search.")
    assert asked == [("search", {"query": "x"})]
    assert paid.spent("custom1") == 3


async def test_nothing_is_held_for_the_model_while_a_tool_runs(
    provider: Provider, model: Any
) -> None:
    held: list[Any] = []

    @tool
    def search(query: str) -> str:
        """Search.

        Args:
            query: what for.
        """
        held.append(current_budget().snapshot()["tokens"].reserved)  # type: ignore[union-attr]
        return query

    agent = budget(agent_of(model(TOOL), search))
    async with task_budget(tokens=1_000_000):
        await agent.invoke_async("Search.")
    assert held == [0]


async def test_each_run_may_be_a_task_of_its_own(provider: Provider, model: Any) -> None:
    paths: list[str] = []

    @tool
    def search(query: str) -> str:
        """Search.

        Args:
            query: what for.
        """
        paths.append(current_budget().path)  # type: ignore[union-attr]
        return query

    agent = budget(agent_of(model(TOOL), search, name="My agent"), limits={"calls": 10})
    async with task_budget("owner", tokens=1_000_000) as paid:
        await agent.invoke_async("Search.")
        agent.messages.clear()
        await to_thread.run_sync(agent, "Search.")
    assert paths == ["owner/My-agent"] * 2
    assert paid.spent("tokens") == provider.tokens


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
async def test_a_run_that_is_over_its_limits_ends(
    provider: Provider, model: Any, is_sync: bool
) -> None:
    agent = budget(agent_of(model(LOOP), search), limits={"calls": 6, "policy": "terminate"})
    with pytest.raises(BudgetTerminated) as caught:
        await run(agent, is_sync)
    assert caught.value.budget == "Strands-Agents"
    assert provider.count() == 3


async def test_an_agent_that_is_a_tool_of_another_is_a_task_in_its_task(
    provider: Provider, model: Any
) -> None:
    inner = agent_of(model(LOOP), search, name="inner")
    budget(inner, limits={"calls": 4, "policy": "terminate"})
    asking = model('tool:inner:{"input": "Search for ever."}')
    outer = budget(agent_of(asking, inner.as_tool(name="inner")), limits={"calls": 20}, name="run")
    async with task_budget("owner", tokens=1_000_000) as paid:
        result = await outer.invoke_async("Delegate.")
    assert result.message["content"][0]["text"] == ANSWER
    [(status, text)] = results_of(outer)
    assert status == "error"
    assert "'inner' was terminated" in text
    assert paid.spent("calls") == 7  # of the outer: two turns, a tool; of the inner: four
    assert paid.spent("tokens") == provider.tokens


async def test_a_refusal_reaches_the_hooks_after_a_tool(provider: Provider, model: Any) -> None:
    seen: list[Any] = []
    agent = budget(agent_of(model(TOOL), search), tools={"custom0": 5})
    agent.hooks.add_callback(AfterToolCallEvent, lambda event: seen.append(event.exception))
    async with task_budget(custom0=4):
        await agent.invoke_async("Search.")
    assert budget_error(seen[0]) is seen[0] is not None


async def test_a_run_that_is_cancelled_by_the_agent_is_charged(
    provider: Provider, model: Any
) -> None:
    agent = budget(agent_of(model("pause")))
    async with task_budget(tokens=1_000_000) as paid:
        async for event in agent.stream_async("Hi."):
            if event.get("data"):
                agent.cancel()
    held = paid.snapshot()["tokens"]
    assert held.spent == held.assumed > 0


async def test_a_provider_that_asks_to_wait_pauses_the_resource(
    provider: Provider, model: Any
) -> None:
    provider.headers["retry-after-ms"] = "60000"
    speaking = model("fail:429")
    speaking.client_args["max_retries"] = 0
    agent = budget(agent_of(speaking, retry_strategy=None))
    async with connect() as service:
        service.define(Resource("model", Capacity(1_000_000), enforcement="reject", dim="tokens"))
        token = QuotaToken("model", expected_use=10)
        async with token, service.task_budget("t", tokens=1_000_000) as paid:
            with pytest.raises(Exception, match="no"):
                await agent.invoke_async("Hi.")
            with pytest.raises(QuotaExceeded) as caught:
                await agent.invoke_async("Hi.")
    assert caught.value.is_paused
    assert provider.count() == 1
    assert paid.spent("tokens") == 0


async def test_a_model_without_a_price_is_not_asked_where_dollars_are_limited(
    provider: Provider, model: Any
) -> None:
    agent = budget(agent_of(model("echo")))
    with pytest.raises(UnknownPrice):
        async with task_budget(usd=1):
            await agent.invoke_async("Hi.")
    assert provider.count() == 0


async def test_twice_is_once(provider: Provider, model: Any) -> None:
    agent = agent_of(model(TOOL), search)
    assert budget(budget(agent)) is agent
    async with task_budget(tokens=1_000_000) as paid:
        await agent.invoke_async("Search.")
    assert paid.spent("calls") == 3


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("calls", [2, 4], ids=["second turn", "third turn"])
async def test_a_refusal_in_a_later_turn_is_the_error_itself(
    provider: Provider, model: Any, calls: int, is_sync: bool
) -> None:
    agent = budget(agent_of(model(LOOP), search))
    async with task_budget(calls=calls):
        with pytest.raises(BudgetExceeded):
            await run(agent, is_sync)
    assert provider.count() == calls // 2


async def test_what_the_second_time_is_told_goes(provider: Provider, model: Any) -> None:
    agent = budget(agent_of(model(LOOP), search), tools={"calls": 1, "custom0": 7})
    budget(budget(agent, limits={"calls": 2, "policy": "terminate"}), policy="reject")
    async with task_budget(calls=9) as paid:
        with pytest.raises(BudgetTerminated):
            await agent.invoke_async("Search for ever.")
    assert paid.spent("calls") == 2
    assert paid.spent("custom0") == 7


@pytest.mark.parametrize("bad", [{"tools": 5}, {"limits": {}}, {"provider": 5}], ids=str)
def test_options_that_cannot_be_are_told_at_once(model: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        budget(agent_of(model("echo")), **bad)


def test_only_agents_are_budgeted() -> None:
    with pytest.raises(TypeError, match="give an agent"):
        budget("agent")  # type: ignore[arg-type]


async def test_events_of_a_stream_are_those_without(provider: Provider, model: Any) -> None:
    async def kinds(agent: Agent) -> list[list[str]]:
        with anyio.fail_after(20):
            return [sorted(event) async for event in agent.stream_async("Search.")]

    ours = await kinds(budget(agent_of(model(TOOL), search), limits={"calls": 10}))
    assert ours == await kinds(agent_of(model(TOOL), search))


async def test_a_run_of_its_own_limits_that_is_left_early_is_charged(
    provider: Provider, model: Any
) -> None:
    agent = budget(agent_of(model("pause")), limits={"calls": 10})
    with streams_let_go():
        async with task_budget(tokens=1_000_000) as paid:
            events: Any = agent.stream_async("Hi.")
            async with aclosing(events):
                async for event in events:
                    if event.get("data"):
                        break
            await to_thread.run_sync(provider.wait_for, 1, "hung up")
    held = paid.snapshot()["tokens"]
    assert held.spent == held.assumed > 64
    assert held.reserved == 0

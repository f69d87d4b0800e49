"""What the Agent Development Kit does beyond the contract: tools, runs, agents within agents."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import pytest
from anyio import to_thread
from google import genai
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, Gemini
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins import BasePlugin
from google.adk.runners import InMemoryRunner, Runner
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.function_tool import FunctionTool
from google.genai import types

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaExceeded,
    QuotaToken,
    Resource,
    budgeted,
    connect,
    task_budget,
)
from budgetware.errors import InvalidAmount, UnknownPrice
from budgetware_integrations import google_genai
from budgetware_integrations.google_adk import BudgetPlugin, wrap, wrap_agent, wrap_model
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER

NEEDS = "google-adk"
SEARCHES = 'tool:search:{"query": "x"}'
PROMPT = types.Content(role="user", parts=[types.Part(text="Where do rivers flow?")])

pytestmark = [
    pytest.mark.anyio,
    # Of ADK itself, whose AgentTool gives its runner plugins so.
    pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated:DeprecationWarning"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gemini(provider: Provider) -> AsyncGenerator[Any]:
    """Makes models of the local provider."""
    options = types.HttpOptions(base_url=provider.url)
    client = genai.Client(api_key="k", http_options=options)
    yield lambda name: Gemini(model=name, client=client)
    await client.aio.aclose()
    client.close()


class Searches:
    """A tool that notes its calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.error = error

    async def search(self, query: str) -> str:
        """Search the web."""
        self.calls.append(query)
        if self.error is not None:
            raise self.error
        return "nothing"


@pytest.fixture
def tool() -> Searches:
    return Searches()


def agent_of(model: Any, **how: Any) -> LlmAgent:
    short = types.GenerateContentConfig(max_output_tokens=64)
    return LlmAgent(name="helper", model=model, generate_content_config=short, **how)


async def events_of(runner: Runner) -> list[Any]:
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="u")
    stream = runner.run_async(user_id="u", session_id=session.id, new_message=PROMPT)
    async with aclosing(stream) as events:
        return [event async for event in events]


def told(events: list[Any]) -> list[Any]:
    """What the model was told of its tools."""
    return [answer.response for event in events for answer in event.get_function_responses()]


def text(events: list[Any]) -> str:
    return "".join(part.text or "" for part in events[-1].content.parts)


async def test_a_tool_is_a_call_beside_those_of_the_model(
    gemini: Any, provider: Provider, tool: Searches
) -> None:
    runner = wrap(InMemoryRunner(agent=agent_of(gemini(SEARCHES), tools=[tool.search])))
    async with task_budget(calls=9) as budget:
        events = await events_of(runner)
    assert text(events) == ANSWER
    assert tool.calls == ["x"]
    assert (budget.spent("calls"), budget.spent("tokens")) == (3, provider.tokens)
    assert budget.snapshot()["calls"].assumed == 0


async def test_the_model_reads_why_a_tool_was_not_run(
    gemini: Any, provider: Provider, tool: Searches
) -> None:
    agent = agent_of(gemini(SEARCHES), tools=[tool.search])
    runner = wrap(InMemoryRunner(agent=agent), tools={"custom0": 5})
    async with task_budget(custom0=4):
        events = await events_of(runner)
    assert text(events) == ANSWER
    assert tool.calls == []
    assert "Refused by the budget" in told(events)[0]["error"]
    assert provider.count() == 2


async def test_a_callable_says_what_a_tool_holds(gemini: Any, tool: Searches) -> None:
    def amounts(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        return {"custom0": len(arguments["query"])} if name == "search" else None

    agent = agent_of(gemini(SEARCHES), tools=[tool.search])
    async with task_budget(custom0=9) as budget:
        await events_of(wrap(InMemoryRunner(agent=agent), tools=amounts))
    assert budget.spent("custom0") == 1


async def test_a_budgeted_tool_is_charged_once_and_its_refusal_is_read(gemini: Any) -> None:
    @budgeted(custom0=3)
    async def search(query: str) -> str:
        """Search the web."""
        return query

    async def spent(limit: int) -> tuple[Any, list[Any]]:
        runner = wrap(InMemoryRunner(agent=agent_of(gemini(SEARCHES), tools=[search])))
        async with task_budget(custom0=limit) as budget:
            answers = told(await events_of(runner))
        return (budget.spent("custom0"), budget.spent("calls")), answers

    assert (await spent(9))[0] == (3, 2)
    refused, answers = await spent(2)
    assert refused == (0, 2)
    assert "Refused by the budget" in answers[0]["error"]


async def test_a_tool_that_fails_is_charged_and_fails_as_without(gemini: Any) -> None:
    tool = Searches(ValueError("broken"))
    runner = wrap(InMemoryRunner(agent=agent_of(gemini(SEARCHES), tools=[tool.search])))
    async with task_budget(calls=9) as budget:
        with pytest.raises(ValueError, match="broken"):
            await events_of(runner)
    assert budget.spent("calls") == 2
    assert budget.snapshot()["calls"].reserved == 0


class AsksTwice(BaseLlm):
    """A model that asks for two tools at once."""

    model: str = "own/model"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        calls = [types.FunctionCall(name=name, args={}) for name in ("hangs", "fails")]
        parts = [types.Part(function_call=call) for call in calls]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


async def test_a_tool_that_is_cancelled_for_another_that_failed_is_charged() -> None:
    began = anyio.Event()

    async def hangs() -> None:
        """Wait for ever."""
        began.set()
        await anyio.sleep_forever()

    async def fails() -> None:
        """Fail."""
        await began.wait()
        raise ValueError("broken")

    runner = wrap(InMemoryRunner(agent=agent_of(AsksTwice(), tools=[hangs, fails])))
    async with task_budget(calls=9) as budget:
        with pytest.raises(ValueError, match="broken"):
            await events_of(runner)
    balance = budget.snapshot()["calls"]
    assert (balance.spent, balance.assumed, balance.reserved) == (3, 3, 0)


async def test_a_tool_that_waits_for_a_confirmation_has_not_run(
    gemini: Any, tool: Searches
) -> None:
    asks_first = FunctionTool(tool.search, require_confirmation=True)
    runner = wrap(InMemoryRunner(agent=agent_of(gemini(SEARCHES), tools=[asks_first])))
    async with task_budget(calls=9) as budget:
        await events_of(runner)
    assert tool.calls == []
    assert budget.spent("calls") == 1
    assert budget.snapshot()["calls"].reserved == 0


async def test_a_tool_does_not_wait_for_the_model_that_asked_for_it(
    gemini: Any, tool: Searches
) -> None:
    runner = wrap(InMemoryRunner(agent=agent_of(gemini(SEARCHES), tools=[tool.search])))
    async with connect() as service:
        service.define(Resource("slot", Concurrency(1), dim="calls"))
        async with QuotaToken("slot", expected_use=1), service.task_budget(calls=9):
            assert text(await events_of(runner)) == ANSWER


async def test_a_tool_that_another_plugin_keeps_to_itself_is_settled_with_the_run(
    gemini: Any, tool: Searches
) -> None:
    class Keeper(BasePlugin):
        async def after_tool_callback(self, **_: Any) -> dict[str, Any]:
            return {"result": "kept"}

    agent = agent_of(gemini(SEARCHES), tools=[tool.search])
    app = App(name="app", root_agent=agent, plugins=[Keeper("keeper"), BudgetPlugin()])
    async with task_budget(calls=9) as budget:
        await events_of(InMemoryRunner(app=app))
    assert budget.spent("calls") == 3
    assert budget.snapshot()["calls"].reserved == 0


async def test_a_run_is_a_task_of_its_own(gemini: Any, provider: Provider) -> None:
    runner = wrap(InMemoryRunner(agent=agent_of(gemini("echo"))), limits={"calls": 1}, name="run")
    async with task_budget(calls=9) as outer:
        assert text(await events_of(runner)) == ANSWER
        assert text(await events_of(runner)) == ANSWER
    assert outer.spent("calls") == provider.count() == 2


async def test_a_run_without_enough_raises_to_its_caller(gemini: Any, provider: Provider) -> None:
    runner = wrap(InMemoryRunner(agent=agent_of(gemini("echo"))), limits={"tokens": 10})
    with pytest.raises(BudgetExceeded):
        await events_of(runner)
    assert provider.count() == 0


async def test_a_run_that_is_ended_says_so_to_its_caller(
    gemini: Any, provider: Provider, tool: Searches
) -> None:
    agent = agent_of(gemini('loop:search:{"query": "x"}'), tools=[tool.search])
    runner = wrap(InMemoryRunner(agent=agent), limits={"calls": 5}, name="run")
    with pytest.raises(BudgetExceeded):
        await events_of(runner)
    assert (provider.count(), len(tool.calls)) == (3, 2)


async def test_the_caller_of_a_terminated_run_gets_the_end_of_its_task(
    gemini: Any, provider: Provider, tool: Searches
) -> None:
    agent = agent_of(gemini('loop:search:{"query": "x"}'), tools=[tool.search])
    runner = wrap(InMemoryRunner(agent=agent))
    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=4, policy="terminate"):
            await events_of(runner)
    assert (provider.count(), len(tool.calls)) == (2, 2)


async def test_a_limit_that_cannot_be_is_refused_at_once(gemini: Any) -> None:
    with pytest.raises(InvalidAmount, match="unknown dimension"):
        wrap(InMemoryRunner(agent=agent_of(gemini("echo"))), limits={"token": 1})


async def test_an_agent_that_is_a_tool_pays_from_its_own_task_and_from_the_run(
    gemini: Any, provider: Provider
) -> None:
    helper = wrap_agent(agent_of(gemini("echo")), limits={"calls": 1}, name="helper")
    asks = gemini('tool:helper:{"request": "x"}')
    runner = wrap(
        InMemoryRunner(agent=LlmAgent(name="main", model=asks, tools=[AgentTool(helper)]))
    )
    async with task_budget(calls=9) as budget:
        events = await events_of(runner)
    assert told(events) == [{"result": ANSWER}]
    assert budget.spent("calls") == provider.count() == 3


async def test_a_sub_agent_without_enough_is_a_tool_that_was_refused(
    gemini: Any, provider: Provider
) -> None:
    helper = wrap_agent(agent_of(gemini("echo")), limits={"tokens": 1})
    asks = gemini('tool:helper:{"request": "x"}')
    runner = wrap(
        InMemoryRunner(agent=LlmAgent(name="main", model=asks, tools=[AgentTool(helper)]))
    )
    async with task_budget(calls=9):
        events = await events_of(runner)
    assert "'helper' has 1 of 1 tokens left" in told(events)[0]["error"]
    assert provider.count() == 2


async def test_an_agent_that_is_transferred_to_pays_from_its_own_task(
    gemini: Any, provider: Provider
) -> None:
    helper = wrap_agent(agent_of(gemini("echo")), limits={"tokens": 1})
    asks = gemini('tool:transfer_to_agent:{"agent_name": "helper"}')
    runner = wrap(InMemoryRunner(agent=LlmAgent(name="main", model=asks, sub_agents=[helper])))
    async with task_budget(calls=9) as budget:
        with pytest.raises(BudgetExceeded, match="helper"):
            await events_of(runner)
    assert budget.spent("calls") == provider.count() == 1


class Own(BaseLlm):
    """A model of somebody's own: two partial answers, then all of it; a token of two is thought."""

    model: str = "own/model"
    max_tokens: int = 100

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        for words, is_partial in (("a", True), ("b", True), ("ab", False)):
            content = types.Content(role="model", parts=[types.Part(text=words)])
            usage = types.GenerateContentResponseUsageMetadata(
                prompt_token_count=5,
                candidates_token_count=2,
                thoughts_token_count=1,
                total_token_count=7,
            )
            yield LlmResponse(content=content, partial=is_partial, usage_metadata=usage)


async def test_a_model_alone_settles_before_its_answer_is_handed_on() -> None:
    model = wrap_model(Own())
    assert type(model) is not Own
    assert isinstance(model, Own)
    async with task_budget(tokens=1_000) as budget:
        async for response in model.generate_content_async(LlmRequest(model="own")):
            held = budget.snapshot()["output_tokens"].reserved
            assert held == (100 if response.partial else 0)
    assert budget.spent("tokens") == 7


async def test_a_model_alone_that_is_left_early_is_charged_what_it_told() -> None:
    async with task_budget(tokens=1_000) as budget:
        async with aclosing(wrap_model(Own()).generate_content_async(LlmRequest())) as responses:
            async for _ in responses:
                break
        balance = budget.snapshot()["tokens"]
    assert (balance.spent, balance.assumed, balance.reserved) == (7, 7, 0)


async def test_a_model_without_a_price_is_refused_where_usd_is_limited() -> None:
    async with task_budget(usd="1"):
        with pytest.raises(UnknownPrice):
            async for _ in wrap_model(Own()).generate_content_async(LlmRequest()):
                pass


async def test_a_model_is_wrapped_once() -> None:
    model = Own()
    assert wrap_model(wrap_model(model)) is model
    async with task_budget(calls=9) as budget:
        async for _ in model.generate_content_async(LlmRequest()):
            pass
    assert budget.spent("calls") == 1


def test_a_model_may_be_given_by_its_name() -> None:
    model = wrap_model("gemini-2.5-flash")
    assert isinstance(model, Gemini)
    assert model.model == "gemini-2.5-flash"


async def test_a_runner_is_wrapped_once(gemini: Any) -> None:
    runner = InMemoryRunner(agent=agent_of(gemini("echo")))
    assert wrap(wrap(runner)) is runner
    async with task_budget(calls=9) as budget:
        await events_of(runner)
    assert budget.spent("calls") == 1


async def test_a_client_that_holds_below_a_model_holds_nothing_more(
    gemini: Any, provider: Provider
) -> None:
    model = gemini("echo")
    google_genai.wrap(model.client)
    async with task_budget(calls=9) as budget:
        await events_of(wrap(InMemoryRunner(agent=agent_of(model))))
    assert (budget.spent("calls"), budget.spent("tokens")) == (1, provider.tokens)


@pytest.mark.parametrize("entry", [wrap, wrap_model, lambda x: wrap_agent(x, limits={"calls": 1})])
def test_what_is_none_of_adk_is_refused(entry: Any) -> None:
    with pytest.raises(TypeError, match=r"of google\.adk"):
        entry(object())


async def test_the_sync_run_of_a_runner_holds() -> None:
    runner = wrap(InMemoryRunner(agent=agent_of(Own())), limits={"calls": 1})
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="u")

    def run() -> list[Any]:
        return list(runner.run(user_id="u", session_id=session.id, new_message=PROMPT))

    async with task_budget(calls=9) as budget:
        assert text(await to_thread.run_sync(run)) == "ab"
    assert (budget.spent("calls"), budget.spent("tokens")) == (1, 7)


async def test_a_provider_that_asks_for_less_pauses_what_the_call_draws_on(
    gemini: Any, provider: Provider
) -> None:
    provider.headers["retry-after"] = "34"
    runner = wrap(InMemoryRunner(agent=agent_of(gemini("fail:429"))))
    async with connect() as service:
        service.define(Resource("model", Concurrency(5), enforcement="reject", dim="calls"))
        async with QuotaToken("model", expected_use=1), service.task_budget(calls=9):
            with pytest.raises(Exception, match="429"):
                await events_of(runner)
            with pytest.raises(QuotaExceeded, match="paused") as paused:
                await events_of(runner)
    assert 30 < (paused.value.retry_after or 0) <= 34

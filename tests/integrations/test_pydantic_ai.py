"""What is Pydantic AI's own: runs as tasks, tools, streams, fallbacks, agents as tools."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import anthropic
import anyio
import openai
import pytest
from anyio import to_thread
from pydantic_ai import Agent, ModelRetry, RunContext, ToolFailed
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ApprovalRequired, UsageLimitExceeded
from pydantic_ai.messages import (
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, Tool
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    connect,
    current_budget,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice
from budgetware_integrations.pydantic_ai import BudgetCapability, budgeted_model
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER

NEEDS = "pydantic-ai-slim"
PATIENCE_SECONDS = 20
HELD = "search"
SETTINGS = ModelSettings(max_tokens=64)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def models(provider: Provider) -> AsyncGenerator[Any]:
    """Models of the local provider, by name."""
    async with openai.AsyncOpenAI(
        base_url=f"{provider.url}/v1", api_key="k", max_retries=0
    ) as client:
        with anyio.fail_after(PATIENCE_SECONDS):
            yield lambda name: OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def search(query: str) -> str:
    """Search the library."""
    return f"nothing about {query}"


def said(*responses: list[Any]) -> FunctionModel:
    """A model that gives one response after another, then says what it has read last."""
    turns = iter(responses)

    def answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        parts = next(turns, None)
        return ModelResponse(parts=parts or [TextPart(read(messages))])

    return FunctionModel(answer)


def read(messages: list[ModelMessage]) -> str:
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    returned = [part for part in last.parts if isinstance(part, ToolReturnPart)]
    return "; ".join(f"{part.outcome}: {part.content}" for part in returned)


def calling(*names: str) -> list[Any]:
    return [
        ToolCallPart(name, {"query": "x"}, tool_call_id=f"call-{i}") for i, name in enumerate(names)
    ]


async def test_each_run_with_limits_is_a_task_by_the_name_of_the_agent(provider: Provider) -> None:
    paths: list[str] = []

    def where() -> str:
        """Say where it runs."""
        budget = current_budget()
        paths.append(budget.path if budget else "")
        return "here"

    async with models(provider) as model:
        capability = BudgetCapability(limits={"calls": 3})
        agent = Agent(
            model("tool:where:{}"), name="sea lion", tools=[where], capabilities=[capability]
        )
        async with task_budget("outer", calls=100) as budget:
            for _ in range(2):
                assert (await agent.run("?")).output == ANSWER
    assert paths == ["outer/sea-lion"] * 2
    assert budget.spent("calls") == 6


async def test_sync_runs_pay() -> None:
    def run() -> int:
        agent = Agent(TestModel(custom_output_text=ANSWER), capabilities=[BudgetCapability()])
        loop = asyncio.new_event_loop()  # it takes the thread's, and leaves it open
        asyncio.set_event_loop(loop)
        with closing(loop), task_budget(tokens=1_000_000) as budget:
            result = agent.run_sync("?")
        assert result.output == ANSWER
        return int(budget.spent("tokens")) - result.usage.total_tokens

    assert await to_thread.run_sync(run) == 0


async def test_every_way_to_run_pays_exactly(provider: Provider) -> None:
    async with models(provider) as model:
        agent = Agent(model("echo"), capabilities=[BudgetCapability()], model_settings=SETTINGS)
        async with task_budget(tokens=1_000_000) as budget:
            await agent.run("?")
            async with agent.run_stream("?") as result:
                await result.get_output()
            async with agent.run_stream_events("?") as events:
                async for _ in events:
                    pass
            async with agent.iter("?") as run:
                async for _ in run:
                    pass
    snapshot = budget.snapshot()
    assert provider.count() == 4
    assert snapshot["tokens"].spent == provider.tokens
    assert snapshot["calls"].spent == 4
    assert snapshot["tokens"].assumed == 0


async def test_the_answer_of_anthropic_is_settled_in_full_also_as_a_stream(
    provider: Provider,
) -> None:
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="k") as client:
        model = AnthropicModel("echo", provider=AnthropicProvider(anthropic_client=client))
        agent = Agent(model, capabilities=[BudgetCapability()], model_settings=SETTINGS)
        async with task_budget(tokens=1_000_000) as budget:
            await agent.run("?")
            async with agent.run_stream("?") as result:
                assert await result.get_output() == ANSWER
    assert budget.spent("input_tokens") == provider.input_tokens
    assert budget.spent("output_tokens") == provider.output_tokens


async def test_a_stream_of_anthropic_that_is_left_early_pays_the_input_it_told_of(
    provider: Provider,
) -> None:
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="k") as client:
        model = AnthropicModel("pause", provider=AnthropicProvider(anthropic_client=client))
        agent = Agent(model, capabilities=[BudgetCapability()], model_settings=SETTINGS)
        async with task_budget(tokens=1_000_000) as budget:
            async with agent.run_stream("?") as result:
                async for _ in result.stream_text(debounce_by=None):
                    break
            await to_thread.run_sync(provider.wait_for, 1, "hung up")
    held = budget.snapshot()
    assert held["output_tokens"].spent == 64
    assert 0 < held["input_tokens"].spent < 30
    assert held["tokens"].assumed == held["tokens"].spent


async def test_the_responses_api_is_held_for(provider: Provider) -> None:
    async with models(provider) as model:
        responses = OpenAIResponsesModel("echo", provider=model("echo").provider)
        agent = Agent(responses, capabilities=[BudgetCapability()])
        async with task_budget(tokens=1_000_000) as budget, agent.run_stream("?") as result:
            assert await result.get_output() == ANSWER
    assert budget.spent("tokens") == provider.tokens > 0


async def test_a_tool_that_is_refused_is_a_failure_that_costs_no_retry() -> None:
    agent = Agent(
        said(calling(HELD), calling(HELD), calling(HELD)),
        tools=[search],
        retries=0,
        capabilities=[BudgetCapability(tools={"custom0": 1})],
    )
    async with task_budget(custom0=1) as budget:
        result = await agent.run("?")
    assert result.output.startswith("failed: Refused by the budget: ")
    assert budget.spent("custom0") == 1


async def test_of_parallel_tools_those_run_that_are_paid_for() -> None:
    agent = Agent(
        said(calling("search", "dear", "search")),
        tools=[search, dear],
        capabilities=[
            BudgetCapability(tools=lambda name, _: {"custom0": 9 if name == "dear" else 1})
        ],
    )
    async with task_budget(custom0=5) as budget:
        result = await agent.run("?")
    outcomes = [part.split(":")[0] for part in result.output.split("; ")]
    assert outcomes == ["success", "failed", "success"]
    assert budget.spent("custom0") == 2


def dear(query: str) -> str:
    """Search where it costs."""
    return f"all about {query}"


async def test_a_budgeted_tool_is_charged_once_and_its_refusal_is_read() -> None:
    paid = budgeted(custom0=1)(dear)
    agent = Agent(
        said(calling("dear"), calling("dear")),
        tools=[paid],
        capabilities=[BudgetCapability(tools={"custom0": 1})],
    )
    async with task_budget(custom0=1) as budget:
        result = await agent.run("?")
    assert budget.spent("custom0") == 1
    assert result.output.startswith("failed: Refused by the budget: ")


@budgeted
async def bare(query: str) -> str:
    """Search."""
    return query


@budgeted
def plain(query: str) -> str:
    """Search."""
    return query


@budgeted
async def aware(ctx: RunContext[None], query: str) -> str:
    """Search."""
    return query + str(ctx.retry)


@pytest.mark.parametrize("paid", [bare, plain, aware])
@pytest.mark.parametrize("how", ["tools", "Tool", "toolset"])
async def test_a_tool_that_is_budgeted_as_it_is_costs_one_call(paid: Any, how: str) -> None:
    name = paid.__name__
    given: dict[str, Any] = {
        "tools": {"tools": [paid]},
        "Tool": {"tools": [Tool(paid)]},
        "toolset": {"toolsets": [FunctionToolset([paid]).prefixed("my")]},
    }[how]
    asked = calling(f"my_{name}" if how == "toolset" else name)
    agent = Agent(said(asked), capabilities=[BudgetCapability()], **given)
    async with task_budget(calls=9) as budget:
        await agent.run("?")
    assert budget.spent("calls") == 3


@pytest.mark.parametrize("extra", [{"max_tokens": 9000}, {"max_completion_tokens": 64, "n": 90}])
async def test_what_is_given_beside_the_settings_is_held(provider: Provider, extra: Any) -> None:
    settings = ModelSettings(max_tokens=64, extra_body=extra)
    async with models(provider) as model:
        agent = Agent(model("echo"), capabilities=[BudgetCapability()], model_settings=settings)
        async with task_budget(tokens=5_000):
            with pytest.raises(BudgetExceeded):
                await agent.run("?")
    assert provider.count() == 0


async def test_two_capabilities_hold_once(provider: Provider) -> None:
    async with models(provider) as model:
        both = [BudgetCapability(), BudgetCapability()]
        agent = Agent(model('tool:search:{"query": "x"}'), tools=[search], capabilities=both)
        async with task_budget(calls=100) as budget:
            await agent.run("?")
    assert budget.spent("calls") == 3


async def test_a_tool_that_waits_for_approval_is_charged_when_it_runs() -> None:
    def erase(ctx: RunContext[None], query: str) -> str:
        """Erase it."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return "erased"

    agent = Agent(
        said(calling("erase")),
        tools=[erase],
        output_type=[str, DeferredToolRequests],
        capabilities=[BudgetCapability(tools={"custom0": 1})],
    )
    async with task_budget(custom0=5) as budget:
        first = await agent.run("?")
        assert isinstance(first.output, DeferredToolRequests)
        assert budget.spent("custom0") == 0
        results = DeferredToolResults(approvals={"call-0": True})
        second = await agent.run(
            message_history=first.all_messages(), deferred_tool_results=results
        )
    assert second.output == "success: erased"
    assert budget.spent("custom0") == 1


async def test_errors_of_tools_are_as_without_and_charged() -> None:
    def fail(query: str) -> str:
        """Fail."""
        raise ToolFailed("gone") if query == "x" else ModelRetry("other words")

    agent = Agent(
        said(calling("fail")), tools=[fail], capabilities=[BudgetCapability(tools={"custom0": 1})]
    )
    async with task_budget(custom0=5) as budget:
        assert (await agent.run("?")).output == "failed: gone"
    assert budget.spent("custom0") == 1


async def test_an_agent_that_is_a_tool_is_a_task_inside_and_its_end_is_read() -> None:
    inner = Agent(
        TestModel(),
        name="editor",
        capabilities=[BudgetCapability(limits={"calls": 1, "policy": "terminate"})],
        tools=[search],
    )

    async def edit(query: str) -> str:
        """Edit it."""
        return str((await inner.run(query)).output)

    outer = Agent(
        said(calling("edit")),
        tools=[edit],
        capabilities=[BudgetCapability(limits={"calls": 50}, name="author")],
    )
    async with task_budget(calls=100) as budget:
        result = await outer.run("?")
    assert result.output.startswith("failed: Refused by the budget: task 'editor' was terminated")
    assert budget.spent("calls") == 4  # two turns and the tool outside, one turn inside


async def test_a_run_that_is_terminated_raises_so_and_ends_at_once(provider: Provider) -> None:
    async with models(provider) as model:
        agent = Agent(
            model('loop:search:{"query": "x"}'),
            tools=[search],
            capabilities=[BudgetCapability(limits={"calls": 5, "policy": "terminate"})],
        )
        with pytest.raises(BudgetTerminated):
            await agent.run("?", usage_limits=UsageLimits(request_limit=1_000))
    assert provider.count() == 3


async def test_the_deadline_of_a_run_cuts_what_it_waits_for(provider: Provider) -> None:
    async with models(provider) as model:
        limits = {"calls": 5, "seconds": 0.2}
        agent = Agent(model("hold"), capabilities=[BudgetCapability(limits=limits)])
        with pytest.raises(BudgetTerminated) as caught:
            await agent.run("?")
        await to_thread.run_sync(provider.wait_for, 1, "hung up")
    assert caught.value.dim == "millis"


async def test_a_run_whose_owner_is_around_it_is_cut_too(provider: Provider) -> None:
    async with models(provider) as model:
        agent = Agent(model("hold"), capabilities=[BudgetCapability(limits={"calls": 5})])
        balances: list[object] = []

        @task_budget(calls=9)
        async def run() -> None:
            budget = current_budget()
            assert budget is not None
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(agent.run, "?")
                    await to_thread.run_sync(provider.wait_for, 1)
                    budget.terminate("enough")
            finally:
                balances.append(budget.snapshot()["calls"].reserved)

        with pytest.raises(BudgetTerminated):
            await run()
        await to_thread.run_sync(provider.wait_for, 1, "hung up")
    assert balances == [0]


async def test_each_model_of_a_fallback_is_held_for_itself(provider: Provider) -> None:
    async with models(provider) as model:
        fallback = FallbackModel(model("fail:500"), model("echo"))
        agent = Agent(fallback, capabilities=[BudgetCapability()], model_settings=SETTINGS)
        async with task_budget(tokens=1_000_000) as budget:
            result = await agent.run("?")
            async with agent.run_stream("?") as streamed:
                assert await streamed.get_output() == ANSWER
    assert result.output == ANSWER
    assert provider.count() == 4
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 2  # what failed is free


async def test_what_a_fallback_rejects_is_paid_for(provider: Provider) -> None:
    def is_wanted(response: ModelResponse) -> bool:
        return response.model_name == "mute"

    async with models(provider) as model:
        fallback = FallbackModel(model("mute"), model("echo"), fallback_on=[is_wanted])
        agent = Agent(fallback, capabilities=[BudgetCapability()], model_settings=SETTINGS)
        async with task_budget(tokens=1_000_000) as budget:
            assert (await agent.run("?")).output == ANSWER
    assert budget.spent("calls") == 2
    assert budget.snapshot()["tokens"].assumed > 64


async def test_usage_limits_work_beside_it(provider: Provider) -> None:
    async with models(provider) as model:
        agent = Agent(model("echo"), capabilities=[BudgetCapability()])
        async with task_budget(tokens=1_000_000) as budget:
            with pytest.raises(UsageLimitExceeded):
                await agent.run("?", usage_limits=UsageLimits(total_tokens_limit=5))
    assert budget.spent("tokens") == provider.tokens > 5


async def test_a_model_without_a_price_is_refused_before_the_request(provider: Provider) -> None:
    async with models(provider) as model:
        agent = Agent(model("echo"), capabilities=[BudgetCapability(limits={"usd": "1"})])
        with pytest.raises(UnknownPrice):
            await agent.run("?")
    assert provider.count() == 0


async def test_models_for_tests_are_settled_to_what_they_report() -> None:
    agent = Agent(TestModel(), capabilities=[BudgetCapability()])
    async with task_budget(tokens=1_000_000) as budget:
        result = await agent.run("?")
        async with agent.run_stream("?") as streamed:
            await streamed.get_output()
            usage = streamed.usage
    both = result.usage.total_tokens + usage.total_tokens
    assert budget.spent("tokens") == both > 0


async def test_a_stream_of_a_function_is_held_for() -> None:
    async def words(_m: list[ModelMessage], _i: AgentInfo) -> AsyncIterator[str]:
        yield "a"
        yield "b"

    agent = Agent(FunctionModel(stream_function=words), capabilities=[BudgetCapability()])
    async with task_budget(tokens=1_000_000) as budget, agent.run_stream("?") as streamed:
        assert await streamed.get_output() == "ab"
    assert budget.spent("calls") == 1
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_model_by_itself_holds_and_is_wrapped_once(provider: Provider) -> None:
    async with models(provider) as model:
        mine: Model = budgeted_model(model("echo"))
        assert isinstance(mine, WrapperModel)
        assert budgeted_model(mine) is mine
        agent = Agent(mine, capabilities=[BudgetCapability()])
        async with task_budget(calls=2) as budget:
            await model_request(mine, [ModelRequest.user_text_prompt("?")])
            await agent.run("?")
            with pytest.raises(BudgetExceeded):
                await agent.run("?")
    assert budget.spent("calls") == 2
    assert provider.count() == 2


async def test_an_image_by_its_address_is_held_for_as_an_image() -> None:
    agent = Agent(TestModel(), capabilities=[BudgetCapability(default_output_tokens=1)])
    async with task_budget(tokens=1_000):
        with pytest.raises(BudgetExceeded) as caught:
            await agent.run(["What is this?", ImageUrl("https://example.org/a.png")])
    assert caught.value.requested > 1_600


async def test_a_provider_that_asks_to_wait_pauses_what_it_draws_on(provider: Provider) -> None:
    provider.headers["retry-after"] = "30"
    async with models(provider) as model, connect() as service:
        service.define(Resource("model", Rate(100, "second"), enforcement="reject", dim="calls"))
        agent = Agent(model("fail:429"), capabilities=[BudgetCapability()])
        async with QuotaToken("model", expected_use=1):
            with pytest.raises(Exception, match="429"):
                await agent.run("?")
            with pytest.raises(QuotaExceeded) as caught:
                await agent.run("?")
    assert caught.value.is_paused
    assert provider.count() == 1


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(TypeError, match="give a Model"):
        budgeted_model("openai:gpt-5-nano")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_limits_that_are_none_are_refused_when_they_are_given() -> None:
    with pytest.raises(ValueError, match="did you mean 'tokens'"):
        BudgetCapability(limits={"token": 5})
    with pytest.raises(ConfigurationError, match="limits="):
        BudgetCapability(limits={})
    with pytest.raises(ConfigurationError, match="tools="):
        BudgetCapability(tools="calls")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="is not valid"):
        BudgetCapability(name="a b")

"""Microsoft's Agent Framework: tools, runs as tasks, sub-agents, other middleware, both clients."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

import anyio
import openai
import pytest
from agent_framework import (
    Agent,
    AgentResponse,
    ChatContext,
    ChatMiddleware,
    ChatResponse,
    Message,
    MiddlewareFailure,
    MiddlewareTermination,
    ResponseStream,
    tool,
)
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient

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
    errors,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount, UnknownPrice
from budgetware_integrations.agent_framework import (
    BudgetedModels,
    BudgetedRuns,
    BudgetedTools,
    budget_middleware,
)
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.agent_framework import search

NEEDS = "agent-framework-openai"

SEARCH = 'tool:search:{"query": "x"}'
SEARCH_FOR_EVER = 'loop:search:{"query": "x"}'
Made = Callable[..., Agent[Any]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["chat", "responses"])
async def agent(request: Any, provider: Provider) -> AsyncGenerator[Made]:
    """Makes agents over one of the two APIs, with the middleware where `budget` says how."""
    kind = OpenAIChatClient if request.param == "responses" else OpenAIChatCompletionClient
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:

        def make(model: str = "echo", budget: Any = None, **more: Any) -> Any:
            chat: Any = kind(model=model, async_client=client)
            held: dict[str, Any] = budget or {}
            more.setdefault("middleware", budget_middleware(**held))
            options: Any = {"max_tokens": 64, "store": False}
            return Agent(chat, name="The Guide", default_options=options, **more)

        yield make


async def answer_of(guide: Agent[Any], stream: bool) -> AgentResponse[Any]:
    if stream:
        return await guide.run("rivers", stream=True).get_final_response()
    return await guide.run("rivers")


def result_of(response: Any) -> str:
    """What the model was told of the first tool it called."""
    contents = [content for message in response.messages for content in message.contents]
    return str(next(c.result for c in contents if c.type == "function_result"))


async def test_both_clients_are_settled_to_what_was_billed(agent: Made, provider: Provider) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        response = await agent(SEARCH, tools=[search]).run("rivers")
    assert response.text == ANSWER
    assert result_of(response) == "nothing on x"
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 3
    assert budget.snapshot()["tokens"].assumed == 0


async def test_both_clients_are_settled_to_what_was_billed_in_streams(
    agent: Made, provider: Provider
) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        stream = agent(SEARCH, tools=[search]).run("rivers", stream=True)
        assert ANSWER in "".join([update.text async for update in stream])
        response = await stream.get_final_response()
    assert dict(response.usage_details or {})["total_token_count"] == provider.tokens
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 3


async def test_a_stream_that_is_read_as_a_whole_is_settled(agent: Made, provider: Provider) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        response = await agent().run("rivers", stream=True).get_final_response()
    assert response.text == ANSWER
    assert budget.spent("tokens") == provider.tokens > 0


async def test_nothing_is_held_while_tools_run(agent: Made, provider: Provider) -> None:
    held: list[int] = []

    @tool(approval_mode="never_require")
    async def look(query: str) -> str:
        held.append(int(budget.snapshot()["tokens"].reserved))
        return query

    async with task_budget(tokens=1_000_000) as budget:
        guide = agent('tool:look:{"query": "x"}', tools=[look])
        await guide.run("rivers")
        await guide.run("rivers", stream=True).get_final_response()
    assert held == [0, 0]


async def test_a_stream_that_is_dropped_is_charged_when_it_is_collected(
    agent: Made, provider: Provider
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # its generators close one another
    async with task_budget(tokens=1_000_000) as budget:
        stream = agent("pause").run("rivers", stream=True)
        await anext(aiter(stream))
        del stream
        with anyio.fail_after(20):
            while budget.snapshot()["tokens"].reserved:
                gc.collect()
                await anyio.sleep(0.01)
        balance = budget.snapshot()["tokens"]
    assert balance.reserved == 0
    assert balance.spent == balance.assumed > 64


async def test_a_refused_tool_is_told_to_the_model(agent: Made, provider: Provider) -> None:
    ran: list[str] = []

    @tool(approval_mode="never_require")
    async def search(query: str) -> str:
        ran.append(query)
        return query

    guide = agent(SEARCH, tools=[search], budget={"tools": {"custom0": 2}})
    async with task_budget(custom0=1):
        response = await guide.run("rivers")
    assert result_of(response).startswith("Refused by the budget: budget 'task'")
    assert response.text == ANSWER
    assert ran == []


async def test_a_tool_that_is_terminated_ends_the_loop(agent: Made, provider: Provider) -> None:
    guide = agent(SEARCH_FOR_EVER, tools=[search], budget={"tools": {"custom0": 1}})
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            await guide.run("rivers")
    assert provider.count() == 3


async def test_a_tool_that_is_refused_after_the_end_ends_the_loop_of_another_task(
    agent: Made, provider: Provider
) -> None:
    """As in a task of its own that the owner's scope does not reach."""
    guide = agent(SEARCH_FOR_EVER, tools=[search], budget={"tools": {"custom0": 1}})
    started: list[asyncio.Future[Any]] = []

    async def own() -> None:
        async with task_budget(custom0=2, policy="terminate"):
            started.append(asyncio.ensure_future(guide.run("rivers")))
            await asyncio.wait(started, timeout=20)

    with pytest.raises(BudgetTerminated):
        await own()
    await asyncio.wait(started, timeout=20)
    failure = started[0].exception()
    assert isinstance(failure, MiddlewareFailure)
    assert isinstance(errors.budget_error(failure), BudgetTerminated)
    assert provider.count() == 3


async def test_a_task_that_is_terminated_by_its_tool_ends_the_loop(
    agent: Made, provider: Provider
) -> None:
    @tool(approval_mode="never_require")
    async def stop(query: str) -> str:
        budget = current_budget()
        assert budget is not None
        budget.terminate("enough")
        return query

    guide = agent('loop:stop:{"query": "x"}', tools=[stop])
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=200):
            await guide.run("rivers")
    assert provider.count() == 1


async def test_a_failure_of_a_tool_is_told_as_without_and_charged(
    agent: Made, provider: Provider
) -> None:
    @tool(approval_mode="never_require")
    async def search(query: str) -> str:
        raise ValueError(query)

    async with task_budget(custom0=9) as budget:
        guide = agent(SEARCH, tools=[search], budget={"tools": {"custom0": 1}})
        ours = result_of(await guide.run("rivers"))
    theirs = result_of(await agent(SEARCH, tools=[search], middleware=[]).run("rivers"))
    assert ours == theirs
    assert budget.spent("custom0") == 1


async def test_a_budgeted_function_is_charged_once_and_its_refusal_told(
    agent: Made, provider: Provider
) -> None:
    @tool(approval_mode="never_require")
    @budgeted(custom0=3)
    async def search(query: str) -> str:
        """Search."""
        return query

    guide = agent(SEARCH, tools=[search], budget={"tools": {"custom0": 9}})
    async with task_budget(custom0=4) as budget:
        assert result_of(await guide.run("rivers")) == "x"
        assert result_of(await guide.run("rivers")).startswith("Refused by the budget")
    assert budget.spent("custom0") == 3


async def test_a_tool_that_waits_for_an_approval_is_free(agent: Made, provider: Provider) -> None:
    @tool(approval_mode="always_require")
    async def search(query: str) -> str:
        return query

    async with task_budget(custom0=9) as budget:
        guide = agent(SEARCH, tools=[search], budget={"tools": {"custom0": 1}})
        response = await guide.run("rivers")
    assert len(response.user_input_requests) == 1
    assert budget.spent("custom0") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_each_run_is_a_task_with_limits(
    agent: Made, provider: Provider, stream: bool
) -> None:
    guide = agent(budget={"limits": {"calls": 1}})
    async with task_budget("day", calls=100) as budget:
        for _ in range(3):
            assert (await answer_of(guide, stream)).text == ANSWER
    assert budget.spent("calls") == 3
    assert budget.spent("tokens") == provider.tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_a_run_ends_at_its_limits(agent: Made, provider: Provider, stream: bool) -> None:
    guide = agent(
        SEARCH_FOR_EVER, tools=[search], budget={"limits": {"calls": 5, "policy": "terminate"}}
    )
    with pytest.raises(BudgetTerminated) as caught:
        await answer_of(guide, stream)
    assert caught.value.budget == "The-Guide"
    assert provider.count() == 3


async def test_a_streamed_run_that_is_closed_early_holds_nothing(
    agent: Made, provider: Provider
) -> None:
    guide = agent("pause", budget={"limits": {"tokens": 100_000}})
    async with task_budget("day", tokens=1_000_000) as budget:
        stream = guide.run("rivers", stream=True)
        await anext(aiter(stream))
        await stream.close()
        provider.released.set()
        balance = budget.snapshot()["tokens"]
    assert balance.reserved == 0
    assert balance.spent == balance.assumed > 64


async def test_an_agent_as_a_tool_is_a_task_inside_the_run(agent: Made, provider: Provider) -> None:
    limits = {"calls": 4, "policy": "terminate"}
    editor = agent(SEARCH_FOR_EVER, tools=[search], budget={"limits": limits, "name": "editor"})
    edit = editor.as_tool(name="edit", arg_name="task")
    guide = agent('tool:edit:{"task": "x"}', tools=[edit])
    async with task_budget("run", calls=100) as budget:
        response = await guide.run("rivers")
    assert result_of(response).startswith("Refused by the budget: task 'editor' was terminated")
    assert response.text == ANSWER
    assert budget.spent("calls") == 2 + 4


async def test_an_answer_of_other_middleware_is_free(agent: Made, provider: Provider) -> None:
    class Cache(ChatMiddleware):
        async def process(
            self, context: ChatContext, call_next: Callable[[], Awaitable[None]]
        ) -> None:
            context.result = ChatResponse(messages=[Message("assistant", ["cached"])])

    guide = agent(middleware=[*budget_middleware(), Cache()])
    async with task_budget(calls=9, tokens=1_000_000) as budget:
        assert (await guide.run("rivers")).text == "cached"
    assert budget.spent("tokens") == budget.spent("calls") == 0


async def test_an_end_that_other_middleware_makes_is_as_without(
    agent: Made, provider: Provider
) -> None:
    class Stop(ChatMiddleware):
        async def process(
            self, context: ChatContext, call_next: Callable[[], Awaitable[None]]
        ) -> None:
            context.result = ChatResponse(messages=[Message("assistant", ["stop"])])
            raise MiddlewareTermination

    guide = agent(middleware=[*budget_middleware(), Stop()])
    async with task_budget(tokens=1_000_000) as budget:
        assert (await guide.run("rivers")).text == "stop"
    assert budget.spent("tokens") == 0


async def test_middleware_of_agent_and_run_holds_once(agent: Made, provider: Provider) -> None:
    guide = agent(SEARCH, tools=[search], budget={"limits": {"calls": 9}})
    async with task_budget(calls=100) as budget:
        await guide.run("rivers", middleware=budget_middleware(limits={"calls": 1}))
    assert budget.spent("calls") == 3


async def test_it_may_be_given_to_a_client(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        chat: Any = OpenAIChatCompletionClient(
            model="echo",
            async_client=client,
            middleware=budget_middleware(),
        )
        async with task_budget(tokens=1_000_000) as budget:
            response = await chat.get_response([Message("user", ["rivers"])])
    assert response.text == ANSWER
    assert budget.spent("tokens") == provider.tokens


async def test_a_refusal_of_a_model_call_is_its_own_error(agent: Made, provider: Provider) -> None:
    async with task_budget(tokens=10):
        with pytest.raises(BudgetExceeded):
            await agent().run("rivers")
        with pytest.raises(BudgetExceeded):
            await agent().run("rivers", stream=True).get_final_response()
    assert provider.count() == 0


async def test_rate_limits_of_the_provider_pause_the_resource(
    agent: Made, provider: Provider
) -> None:
    provider.headers |= {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "30s",
    }
    async with connect() as service:
        service.define(Resource("model", Rate(100, "second"), dim="calls", enforcement="reject"))
        async with QuotaToken("model", expected_use=2), task_budget("t", calls=9, service=service):
            await agent().run("rivers")
            with pytest.raises(QuotaExceeded) as caught:
                await agent().run("rivers")
    assert caught.value.is_paused
    assert provider.count() == 1


async def test_a_model_without_a_price_is_refused_where_dollars_are_limited(
    agent: Made, provider: Provider
) -> None:
    async with task_budget(usd="1"):
        with pytest.raises(UnknownPrice):
            await agent().run("rivers")
    assert provider.count() == 0


def test_limits_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(InvalidAmount):
        budget_middleware(limits={"token": 5})


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_as_a_tool_without_middleware_is_held_like_its_user(
    agent: Made, provider: Provider, stream: bool
) -> None:
    editor = agent(SEARCH_FOR_EVER, tools=[search], middleware=[])
    edit = editor.as_tool(name="edit", arg_name="task")
    guide = agent('tool:edit:{"task": "x"}', tools=[edit])
    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=5, policy="terminate") as budget:
            await answer_of(guide, stream)
    assert budget.spent("calls") == 5
    assert provider.count() == 3


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_each_attempt_of_other_middleware_is_held(
    agent: Made, provider: Provider, first: bool, stream: bool
) -> None:
    class Thrice(ChatMiddleware):
        async def process(
            self, context: ChatContext, call_next: Callable[[], Awaitable[None]]
        ) -> None:
            for _ in range(3):
                await call_next()
                if isinstance(context.result, ResponseStream):
                    await context.result.get_final_response()

    ours = budget_middleware()
    guide = agent(middleware=[*ours, Thrice()] if first else [Thrice(), *ours])
    async with task_budget(calls=2) as budget:
        with pytest.raises(BudgetExceeded):
            await answer_of(guide, stream)
    assert budget.spent("calls") == provider.count() == 2
    assert budget.spent("tokens") == provider.tokens


async def test_the_largest_maximum_is_held(agent: Made, provider: Provider) -> None:
    options: Any = {"max_tokens": 64, "extra_body": {"max_tokens": 9_000}}
    async with task_budget(tokens=8_000):
        with pytest.raises(BudgetExceeded, match=r"9_?,?0\d\d requested"):
            await agent().run("rivers", options=options)
    assert provider.count() == 0


async def test_limits_on_a_chat_client_are_refused(provider: Provider) -> None:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        chat: Any = OpenAIChatCompletionClient(
            model="echo", async_client=client, middleware=budget_middleware(limits={"calls": 1})
        )
        with pytest.raises(ConfigurationError, match="a chat client has none"):
            await chat.get_response([Message("user", ["rivers"])])
    assert provider.count() == 0


async def test_an_error_of_the_amounts_of_tools_leaves_the_run(
    agent: Made, provider: Provider
) -> None:
    def amounts(_name: str, _arguments: Any) -> dict[str, int]:
        raise ZeroDivisionError

    guide = agent(SEARCH, tools=[search], budget={"tools": amounts})
    with pytest.raises(MiddlewareFailure) as caught:
        await guide.run("rivers")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert provider.count() == 1


@pytest.mark.parametrize("wrong", [{"tools": "x"}, {"tools": 5}, {"limits": 5}, {"limits": {}}])
def test_what_cannot_be_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        budget_middleware(**wrong)


def test_the_parts_refuse_what_cannot_be() -> None:
    nothing: Any = None
    with pytest.raises(InvalidAmount, match="did you mean 'calls'"):
        budget_middleware(tools={"call": 1})
    with pytest.raises(ConfigurationError, match="limits=None"):
        BudgetedRuns(nothing)
    with pytest.raises(ConfigurationError, match="budget_middleware"):
        BudgetedModels(nothing)
    with pytest.raises(ConfigurationError, match="tools='x'"):
        BudgetedTools(cast("Any", "x"))
    with pytest.raises(ConfigurationError, match="provider=5"):
        budget_middleware(provider=cast("Any", 5))

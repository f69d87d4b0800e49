"""What is LangChain's and LangGraph's own: middleware, chat models, graphs, runs as tasks."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypedDict

import anthropic
import anyio
import httpx2
import pytest
from anyio import to_thread
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    ModelRetryMiddleware,
    SummarizationMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Command, RetryPolicy, interrupt
from pydantic import BaseModel

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    charge,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice
from budgetware_integrations.langchain import BudgetMiddleware, run_budget, wrap
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER

NEEDS = "langchain"
PATIENCE_SECONDS = 20
ASKED: Any = {"messages": [("user", "?")]}
USAGE = UsageMetadata(input_tokens=7, output_tokens=3, total_tokens=10)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def models(provider: Provider, **fields: Any) -> AsyncGenerator[Callable[[str], ChatOpenAI]]:
    """Models of the local provider, by name."""
    async with httpx2.AsyncClient() as http:
        with httpx2.Client() as sync_http, anyio.fail_after(PATIENCE_SECONDS):
            yield lambda name: ChatOpenAI(
                model=name,
                base_url=f"{provider.url}/v1",
                api_key="k",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                max_completion_tokens=64,
                max_retries=0,
                http_async_client=http,
                http_client=sync_http,
                stream_chunk_timeout=None,  # before 3.12 its `wait_for` swallows cancellations
                **fields,
            )


class Scripted(GenericFakeChatModel):
    """A model that says one thing after another."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def said(*messages: AIMessage) -> Scripted:
    return Scripted(messages=iter([*messages, AIMessage("done")]))


def calling(*names: str, **arguments: str) -> AIMessage:
    calls = [
        {"name": name, "args": arguments or {"query": "x"}, "id": f"call-{i}"}
        for i, name in enumerate(names)
    ]
    return AIMessage("", tool_calls=calls, usage_metadata=USAGE)


def search(query: str) -> str:
    """Search the library."""
    return f"nothing about {query}"


def dear(query: str) -> str:
    """Search where it costs."""
    return f"all about {query}"


def agent_of(model: Any, *tools: Any, **middleware: Any) -> Any:
    return create_agent(model, tools=tools, middleware=[BudgetMiddleware(**middleware)])


def told(state: Any) -> list[ToolMessage]:
    return [m for m in state["messages"] if isinstance(m, ToolMessage)]


# The agent.


async def test_sync_runs_and_streams_pay_exactly(provider: Provider) -> None:
    def run(model: Any) -> tuple[int, int]:
        agent = agent_of(model, search)
        with task_budget(tokens=1_000_000) as budget:
            state = agent.invoke(ASKED)
            for _ in agent.stream(ASKED, stream_mode="messages"):
                pass
        assert state["messages"][-1].content == ANSWER
        assert budget.spent("tokens") == provider.tokens
        return int(budget.spent("calls")), int(budget.snapshot()["tokens"].assumed)

    async with models(provider) as model:
        ran = await to_thread.run_sync(run, model('tool:search:{"query": "x"}'))
    assert ran == (6, 0)


async def test_a_refused_tool_is_an_error_that_the_model_reads_and_its_siblings_run() -> None:
    agent = agent_of(
        said(calling("search", "dear", "search")),
        search,
        dear,
        tools=lambda name, _: {"custom0": 9 if name == "dear" else 1},
    )
    async with task_budget(custom0=5) as budget:
        state = await agent.ainvoke(ASKED)
    assert [m.status for m in told(state)] == ["success", "error", "success"]
    assert "Refused by the budget: " in told(state)[1].text
    assert state["messages"][-1].text == "done"
    assert budget.spent("custom0") == 2


async def test_a_budgeted_tool_is_charged_once_and_its_refusal_is_read() -> None:
    agent = agent_of(
        said(calling("dear"), calling("dear")), budgeted(custom0=1)(dear), tools={"custom0": 1}
    )
    async with task_budget(custom0=1) as budget:
        state = await agent.ainvoke(ASKED)
    assert [m.status for m in told(state)] == ["success", "error"]
    assert budget.spent("custom0") == 1


async def test_a_refused_run_may_end_with_an_answer(provider: Provider) -> None:
    async with models(provider) as model:
        agent = agent_of(model("loop:search:{}"), search, on_refusal="answer")
        async with task_budget(calls=2):
            state = await agent.ainvoke(ASKED)
    assert provider.count() == 1
    assert isinstance(state["messages"][-1], AIMessage)
    assert "for the budget" in state["messages"][-1].text


async def test_an_answer_in_place_of_a_refusal_ends_a_run_with_a_structure(
    provider: Provider,
) -> None:
    async with models(provider) as model:
        agent = create_agent(
            model("echo"),
            response_format=City,
            middleware=[BudgetMiddleware(on_refusal="answer")],
        )
        async with task_budget(calls=1):
            charge(calls=1)
            state = await agent.ainvoke(ASKED)
    assert provider.count() == 0
    assert "for the budget" in state["messages"][-1].text
    assert state["structured_response"] is None


class City(BaseModel):
    """A city."""

    name: str = "Ulm"


async def test_what_failed_unbilled_inside_is_free_and_what_retries_outside_reads_the_refusal(
    provider: Provider,
) -> None:
    retries = ModelRetryMiddleware(max_retries=2, initial_delay=0.001)
    async with models(provider) as model:
        inside = create_agent(model("fail:500:1"), middleware=[BudgetMiddleware(), retries])
        outside = create_agent(model("echo"), middleware=[retries, BudgetMiddleware()])
        async with task_budget(calls=1) as budget:
            assert (await inside.ainvoke(ASKED))["messages"][-1].text == ANSWER
            assert provider.count() == 2
            state = await outside.ainvoke(ASKED)
    assert "calls" in state["messages"][-1].text
    assert provider.count() == 2
    assert budget.spent("calls") == 1


class Again(AgentMiddleware[Any, Any, Any]):
    """Asks the model five times, by requests of another model after the first."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        answer = await handler(request)
        for _ in range(4):
            answer = await handler(request.override(model=self.model))
        return answer

    def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        answer = handler(request)
        for _ in range(4):
            answer = handler(request.override(model=self.model).override(messages=request.messages))
        return answer


async def test_middleware_inside_pays_for_each_attempt_and_each_model(provider: Provider) -> None:
    async with models(provider) as model:
        again = Again(model("echo"))
        agent = create_agent(model("echo"), middleware=[BudgetMiddleware(), again])
        async with task_budget(calls=100) as budget:
            await agent.ainvoke(ASKED)
            await to_thread.run_sync(agent.invoke, ASKED)
        assert budget.spent("calls") == provider.count() == 10
        assert budget.spent("tokens") == provider.tokens
        async with task_budget(calls=3):
            with pytest.raises(BudgetExceeded):
                await agent.ainvoke(ASKED)
    assert provider.count() == 13


async def test_attempts_inside_that_fail_unbilled_are_free(provider: Provider) -> None:
    retries = ModelRetryMiddleware(max_retries=2, initial_delay=0)
    async with models(provider) as model:
        agent = create_agent(model("fail:500"), middleware=[BudgetMiddleware(), retries])
        async with task_budget(calls=9) as budget:
            await agent.ainvoke(ASKED)
    assert provider.count() == 3
    assert budget.spent("calls") == budget.spent("tokens") == 0


async def test_what_retries_and_falls_back_inside_does_not_take_a_refusal_for_a_failure(
    provider: Provider,
) -> None:
    def agent_for(model: Any, on_refusal: Any) -> Any:
        return create_agent(
            model("echo"),
            middleware=[
                BudgetMiddleware(on_refusal=on_refusal),
                ModelFallbackMiddleware(model("mute")),
                ModelRetryMiddleware(max_retries=2, initial_delay=PATIENCE_SECONDS),
            ],
        )

    async with models(provider) as model, task_budget(calls=1):
        charge(calls=1)
        with pytest.raises(BudgetExceeded):
            await agent_for(model, "raise").ainvoke(ASKED)
        state = await agent_for(model, "answer").ainvoke(ASKED)
    assert "for the budget" in state["messages"][-1].text
    assert provider.count() == 0


async def test_each_run_of_a_tool_that_is_tried_again_inside_is_charged() -> None:
    ran: list[str] = []

    def shaky(query: str) -> str:
        """Search where it fails."""
        ran.append(query)
        raise RuntimeError(query)

    retries = ToolRetryMiddleware(max_retries=3, initial_delay=0)
    mine = BudgetMiddleware(tools={"custom0": 1})
    async with task_budget(custom0=9) as budget:
        for middleware in ([mine, retries], [retries, mine]):
            agent = create_agent(said(calling("shaky")), tools=[shaky], middleware=middleware)
            await agent.ainvoke(ASKED)
    assert len(ran) == budget.spent("custom0") == 8


async def test_a_refused_tool_is_not_tried_again_inside() -> None:
    ran: list[str] = []

    def once(query: str) -> str:
        """Search once."""
        ran.append(query)
        raise RuntimeError(query)

    retries = ToolRetryMiddleware(max_retries=3, initial_delay=0)
    mine = BudgetMiddleware(tools=lambda name, asked: {"custom0": len(asked)})
    agent = create_agent(said(calling("once")), tools=[once], middleware=[mine, retries])
    async with task_budget(custom0=2) as budget:
        state = await agent.ainvoke(ASKED)
    assert len(ran) == budget.spent("custom0") == 2
    assert told(state)[0].text.startswith("Refused by the budget: ")


class Own(BaseTool):
    """A tool of a class of its own."""

    name: str = "own"
    description: str = "Search."

    @budgeted(custom0=2)
    def _run(self, query: str) -> str:
        return query


async def test_a_tool_whose_class_is_budgeted_is_charged_once() -> None:
    agent = agent_of(said(calling("own"), calling("own")), Own(), tools={"custom0": 5})
    async with task_budget(custom0=50) as budget:
        state = await agent.ainvoke(ASKED)
    assert [m.text for m in told(state)] == ["x", "x"]
    assert budget.spent("custom0") == 4


async def test_models_of_other_middleware_pay_where_they_are_wrapped(provider: Provider) -> None:
    said_so = [("user", "a" * 20), ("assistant", "b"), ("user", "c"), ("user", "d")]
    asked: Any = {"messages": said_so}
    async with models(provider) as model:
        sums = SummarizationMiddleware(
            wrap(model("echo")), trigger=("messages", 3), keep=("messages", 1)
        )
        agent = create_agent(model("echo"), middleware=[BudgetMiddleware(), sums])
        async with task_budget(calls=9) as budget:
            await agent.ainvoke(asked)
    assert budget.spent("calls") == provider.count() == 2
    assert budget.spent("tokens") == provider.tokens


async def test_what_is_no_chat_model_is_held_for_once_a_turn(provider: Provider) -> None:
    fields: Any = {"temperature": ConfigurableField(id="t")}
    async with models(provider) as model:
        changing: Any = model("echo").configurable_fields(**fields)
        agent = create_agent(changing, middleware=[BudgetMiddleware()])
        async with task_budget(calls=9) as budget:
            await agent.ainvoke(ASKED)
            await to_thread.run_sync(agent.invoke, ASKED)
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") == provider.tokens


async def test_a_fallback_inside_is_settled_to_its_usage(provider: Provider) -> None:
    async with models(provider) as model:
        fallback = ModelFallbackMiddleware(model("echo"))
        agent = create_agent(model("fail:500"), middleware=[BudgetMiddleware(), fallback])
        async with task_budget(tokens=1_000_000) as budget:
            assert (await agent.ainvoke(ASKED))["messages"][-1].text == ANSWER
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 1


async def test_a_stream_that_is_cancelled_is_charged(provider: Provider) -> None:
    async with models(provider) as model:
        agent = agent_of(model("pause"))
        began = asyncio.Event()

        async def read() -> None:
            async with aclosing(agent.astream(ASKED, stream_mode="messages")) as chunks:
                async for _ in chunks:
                    began.set()

        async with task_budget(tokens=1_000_000) as budget:
            reading = asyncio.create_task(read())
            await began.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await to_thread.run_sync(provider.wait_for, 1, "hung up")
            balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


async def test_a_stream_that_a_scope_cuts_is_settled_once_its_node_is_done(
    provider: Provider,
) -> None:
    async with models(provider) as model:  # LangGraph leaves nodes running there
        agent = agent_of(model("pause"))
        async with task_budget(tokens=1_000_000) as budget:
            with anyio.CancelScope() as scope:
                async with aclosing(agent.astream(ASKED, stream_mode="messages")) as chunks:
                    async for _ in chunks:
                        scope.cancel()
            provider.released.set()
            await to_thread.run_sync(provider.wait_for, 1, "done")
            while budget.snapshot()["tokens"].reserved:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.001)
    assert budget.spent("tokens") == provider.tokens


async def test_streams_of_an_agent_show_what_they_show_without(provider: Provider) -> None:
    async def chunks(agent: Any) -> list[Any]:
        stream = agent.astream(ASKED, stream_mode="messages")
        return [chunk.model_dump(exclude={"id"}) async for chunk, _ in stream]

    async with models(provider) as model:
        async with task_budget(tokens=1_000_000):
            ours = await chunks(agent_of(model("echo")))
        theirs = await chunks(create_agent(model("echo")))
        events = [e async for e in agent_of(model("echo")).astream_events(ASKED)]
    for chunk in (*ours, *theirs):
        chunk["response_metadata"] = None
    assert ours == theirs
    assert any(event["event"] == "on_chat_model_stream" for event in events)


async def test_usage_that_was_shown_is_still_shown(provider: Provider) -> None:
    async with models(provider, stream_usage=True) as model, task_budget(tokens=1_000_000):
        stream = agent_of(model("echo")).astream(ASKED, stream_mode="messages")
        usages = [chunk.usage_metadata async for chunk, _ in stream if chunk.usage_metadata]
    assert sum(usage["total_tokens"] for usage in usages) == provider.tokens


async def test_a_tool_that_interrupts_is_charged_once_and_goes_on_as_without() -> None:
    def ask(query: str) -> str:
        """Ask somebody."""
        return f"they say {interrupt(query)}"

    agent = create_agent(
        said(calling("ask")),
        tools=[ask],
        middleware=[BudgetMiddleware(tools={"custom0": 1})],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    async with task_budget(custom0=5) as budget:
        first = await agent.ainvoke(ASKED, config)
        assert first["__interrupt__"][0].value == "x"
        assert budget.spent("custom0") == 0
        state = await agent.ainvoke(Command(resume="yes"), config)
    assert told(state)[0].text == "they say yes"
    assert budget.spent("custom0") == 1


async def test_a_model_without_a_price_is_refused_before_the_call(provider: Provider) -> None:
    async with models(provider) as model, task_budget(usd="1"):
        with pytest.raises(UnknownPrice):
            await agent_of(model("echo")).ainvoke(ASKED)
        with pytest.raises(UnknownPrice):
            await wrap(model("echo")).ainvoke("?")
    assert provider.count() == 0


async def test_the_limit_of_steps_of_a_graph_is_as_without() -> None:
    agent = agent_of(said(*[calling("search")] * 30), search)
    async with task_budget(calls=1_000):
        with pytest.raises(GraphRecursionError):
            await agent.ainvoke(ASKED, {"recursion_limit": 5})


async def test_a_sync_run_that_is_terminated_ends_for_whoever_owns_it() -> None:
    turns: list[int] = []

    @task_budget(calls=5, policy="terminate")
    def run() -> None:
        for turn in range(30):
            turns.append(turn)
            try:
                agent_of(said(calling("search", "search")), search).invoke(ASKED)
            except Exception:
                continue

    with pytest.raises(BudgetTerminated):
        await to_thread.run_sync(run)
    assert len(turns) <= 3


# A chat model.


async def test_a_model_stays_what_it_is_and_is_wrapped_once(provider: Provider) -> None:
    async with models(provider) as model:
        bare = model("echo")
        held = wrap(bare)
        assert isinstance(held, ChatOpenAI)
        assert type(held).__name__ == "ChatOpenAI"
        assert held.lc_id() == bare.lc_id()
        assert wrap(held) is held
        assert held.root_async_client is bare.root_async_client
        async with task_budget(calls=3) as budget:
            await bare.ainvoke("?")
            await held.ainvoke("?")
            await agent_of(held).ainvoke(ASKED)
            await held.model_copy().ainvoke("?")
            with pytest.raises(BudgetExceeded):
                await held.with_retry(stop_after_attempt=1).ainvoke("?")
    assert budget.spent("calls") == 3


async def test_streams_of_a_model_are_as_without_and_settled_exactly(provider: Provider) -> None:
    def read(model: Any) -> list[Any]:
        return [chunk.model_dump(exclude={"id"}) for chunk in model.stream("?")]

    async with models(provider) as model:
        bare = model("echo")
        async with task_budget(tokens=1_000_000) as budget:
            ours = [c.model_dump(exclude={"id"}) async for c in wrap(bare).astream("?")]
            sync = await to_thread.run_sync(read, wrap(bare))
        charged = provider.tokens
        theirs = [c.model_dump(exclude={"id"}) async for c in bare.astream("?")]
    assert ours == theirs == sync
    assert budget.spent("tokens") == charged
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_stream_of_a_model_that_is_left_early_is_charged(provider: Provider) -> None:
    async with models(provider) as model, task_budget(tokens=1_000_000) as budget:
        chunks: Any = wrap(model("pause")).astream("?")
        async with aclosing(chunks):
            async for _ in chunks:
                break
        await to_thread.run_sync(provider.wait_for, 1, "hung up")
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


async def test_a_stream_that_is_to_report_no_usage_is_charged_what_it_held(
    provider: Provider,
) -> None:
    async with (
        models(provider, stream_usage=False) as model,
        task_budget(tokens=1_000_000) as budget,
    ):
        async for _ in wrap(model("echo")).astream("?"):
            pass
    assert "stream_options" not in provider.calls[0].body
    assert budget.snapshot()["tokens"].assumed > 64


LONGEST: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"max_completion_tokens": 7000}),
    ({}, {"max_tokens": None}),
    ({}, {"extra_body": {"max_completion_tokens": 9000}}),
    ({}, {"extra_body": {"n": 50}}),
    ({"extra_body": {"max_completion_tokens": 9000}}, {}),
]


@pytest.mark.parametrize(("fields", "given"), LONGEST)
async def test_the_longest_answer_that_may_come_is_held(
    provider: Provider, fields: dict[str, Any], given: dict[str, Any]
) -> None:
    async with models(provider, **fields) as model, task_budget(tokens=2_000):
        with pytest.raises(BudgetExceeded):
            await wrap(model("echo")).ainvoke("?", **given)
    assert provider.count() == 0


async def test_usage_in_streams_of_responses_is_shown_as_without(provider: Provider) -> None:
    async with models(provider, use_responses_api=True) as model:
        bare = model("echo")
        async with task_budget(tokens=1_000_000) as budget:
            usages = [
                [c.usage_metadata async for c in each.astream("?") if c.usage_metadata]
                for each in (bare, wrap(bare))
            ]
    assert usages[0] == usages[1] != []
    assert budget.spent("tokens") * 2 == provider.tokens


async def test_a_model_with_configurable_fields_holds(provider: Provider) -> None:
    fields: Any = {"temperature": ConfigurableField(id="t")}
    async with models(provider) as model:
        held = wrap(model("echo"), default_output_tokens=10)
        set_up = held.configurable_fields(**fields).with_config(configurable={"t": 0.3})
        async with task_budget(calls=1) as budget:
            await set_up.ainvoke("?")
            with pytest.raises(BudgetExceeded):
                await set_up.ainvoke("?")
    assert budget.spent("calls") == provider.count() == 1
    assert provider.calls[0].body["temperature"] == 0.3


async def test_a_model_is_pickled_and_dumped_as_without(provider: Provider) -> None:
    bare = FakeListChatModel(responses=["a"])
    again: Any = pickle.loads(pickle.dumps(wrap(bare, default_output_tokens=7)))
    assert isinstance(again, FakeListChatModel)
    async with task_budget(calls=1, tokens=1_000_000) as budget:
        assert (await again.ainvoke("?")).text == "a"
        assert 7 <= budget.spent("tokens") < 64
        with pytest.raises(BudgetExceeded):
            await again.ainvoke("?")
    async with models(provider) as model:
        assert dumps(wrap(model("echo"))) == dumps(model("echo"))


async def test_tools_structures_and_chains_of_a_model_are_held_for(provider: Provider) -> None:
    async with models(provider) as model:
        held = wrap(model('tool:City:{"name": "Bonn"}'))
        prompt = ChatPromptTemplate.from_messages([("user", "{about}?")])
        async with task_budget(tokens=1_000_000) as budget:
            called = await held.bind_tools([search]).ainvoke("?")
            city = await held.with_structured_output(City, method="function_calling").ainvoke("?")
            chain = prompt | wrap(model("echo")) | StrOutputParser()
            assert await chain.ainvoke({"about": "rivers"}) == ANSWER
            assert "".join([part async for part in chain.astream({"about": "seas"})]) == ANSWER
    assert called.tool_calls
    assert city == City(name="Bonn")
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == provider.count() == 4


async def test_a_structure_that_is_streamed_is_settled_once(provider: Provider) -> None:
    async with models(provider) as model:
        held = wrap(model('tool:City:{"name": "Bonn"}'))
        structured = held.with_structured_output(City, method="json_schema", include_raw=True)
        async with task_budget(tokens=1_000_000) as budget:
            async for _ in structured.astream("?"):
                pass
    assert budget.spent("tokens") == provider.tokens > 0


async def test_of_a_batch_of_a_hundred_as_many_run_as_the_budget_allows(provider: Provider) -> None:
    async with models(provider) as model:
        held = wrap(model("echo"))
        async with task_budget(calls=10, policy=None) as budget:
            answers = await held.abatch(["?"] * 100, return_exceptions=True)
        assert provider.count() == 10
        with task_budget(calls=10) as second:
            more = await to_thread.run_sync(
                lambda: held.batch(["?"] * 100, {"max_concurrency": 20}, return_exceptions=True)
            )
    assert sum(isinstance(answer, AIMessage) for answer in answers) == 10
    assert sum(isinstance(answer, AIMessage) for answer in more) == 10
    assert provider.count() == 20
    assert budget.spent("calls") == second.spent("calls") == 10


async def test_an_answer_from_the_cache_costs_nothing(provider: Provider) -> None:
    async with models(provider, cache=InMemoryCache()) as model:
        held = wrap(model("echo"))
        async with task_budget(calls=1) as budget:
            first = await held.ainvoke("?")
            assert (await held.ainvoke("?")).text == first.text
    assert budget.spent("calls") == 1


async def test_a_model_that_only_works_in_sync_code_is_held_for() -> None:
    held = wrap(said(AIMessage("a b", usage_metadata=USAGE)))
    assert isinstance(held, GenericFakeChatModel)
    async with task_budget(tokens=1_000_000) as budget:
        assert (await held.ainvoke("?")).text == "a b"
        assert [chunk.text async for chunk in held.astream("?")] == ["done"]
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") > USAGE["total_tokens"]


async def test_streams_of_anthropic_are_settled_in_full(provider: Provider) -> None:
    pytest.importorskip("langchain_anthropic")
    from langchain_anthropic import ChatAnthropic

    fields: Any = {"model": "echo", "base_url": provider.url, "api_key": "k", "max_tokens": 64}
    model: Any = ChatAnthropic(**fields)
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="k") as client:
        model.__dict__["_async_client"] = client
        async with task_budget(tokens=1_000_000) as budget:
            await wrap(model).ainvoke("?")
            async for _ in wrap(model).astream("?"):
                pass
            await agent_of(model).ainvoke(ASKED)
    assert budget.spent("input_tokens") == provider.input_tokens
    assert budget.spent("output_tokens") == provider.output_tokens
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_provider_that_asks_to_wait_pauses_what_it_draws_on(provider: Provider) -> None:
    provider.headers["retry-after"] = "30"
    async with models(provider) as model, connect() as service:
        service.define(Resource("model", Rate(100, "second"), enforcement="reject", dim="calls"))
        async with QuotaToken("model", expected_use=1):
            with pytest.raises(Exception, match="429"):
                await wrap(model("fail:429")).ainvoke("?")
            with pytest.raises(QuotaExceeded) as caught:
                await agent_of(model("echo")).ainvoke(ASKED)
    assert caught.value.is_paused
    assert provider.count() == 1


# Graphs, and runs as tasks.


class State(TypedDict, total=False):
    messages: Sequence[AnyMessage]
    seen: int


async def test_a_node_of_a_plain_graph_is_refused_without_being_tried_again(
    provider: Provider,
) -> None:
    async with models(provider) as model:
        held: BaseChatModel = wrap(model("echo"))

        async def think(state: State) -> State:
            return {"messages": [await held.ainvoke("?")], "seen": state.get("seen", 0) + 1}

        graph = StateGraph(State)
        graph.add_node("think", think, retry_policy=RetryPolicy(initial_interval=0.001))
        graph.add_edge(START, "think")
        graph.add_conditional_edges("think", lambda state: END if state["seen"] > 3 else "think")
        async with task_budget(calls=2) as budget:
            with pytest.raises(BudgetExceeded):
                await graph.compile().ainvoke({})
    assert provider.count() == 2
    assert budget.spent("calls") == 2


async def runs(agent: Any) -> AsyncIterator[str]:
    """Run it in each way, one after another."""
    await agent.ainvoke(ASKED)
    yield "ainvoke"
    async for _ in agent.astream(ASKED):
        pass
    yield "astream"
    await to_thread.run_sync(agent.invoke, ASKED)
    yield "invoke"
    await to_thread.run_sync(lambda: list(agent.stream(ASKED)))
    yield "stream"
    await agent.abatch([ASKED])
    yield "abatch"
    async for _ in agent.astream_events(ASKED):
        pass
    yield "astream_events"


async def test_each_run_is_a_task_however_it_is_made() -> None:
    agent = create_agent(
        Endless(), tools=[search], middleware=[BudgetMiddleware()], name="sea lion"
    )
    limited = run_budget(agent, limits={"calls": 3}).with_config({"tags": ["tried"]})
    assert isinstance(limited, Pregel)
    assert type(limited).__name__ == type(agent).__name__
    async with task_budget(calls=100) as budget:
        ways = [way async for way in runs(limited)]
    assert len(ways) == 6
    assert budget.spent("calls") == 18


class Endless(BaseChatModel):
    """A model that asks for a tool in every run, then is done; it does not stream."""

    @property
    def _llm_type(self) -> str:
        return "endless"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        has_result = isinstance(messages[-1], ToolMessage)
        turn = AIMessage("done", usage_metadata=USAGE) if has_result else calling("search")
        return ChatResult(generations=[ChatGeneration(message=turn)])


async def test_a_run_that_is_terminated_raises_so(provider: Provider) -> None:
    async with models(provider) as model:
        agent = agent_of(model('loop:search:{"query": "x"}'), search)
        limited = run_budget(agent, limits={"calls": 5, "policy": "terminate"}, name="research")
        with pytest.raises(BudgetTerminated) as caught:
            await limited.ainvoke(ASKED)
        with pytest.raises(BudgetTerminated):
            await to_thread.run_sync(limited.invoke, ASKED)
    assert caught.value.budget == "research"
    assert provider.count() == 6


async def test_the_deadline_of_a_run_cuts_it(provider: Provider) -> None:
    async with models(provider) as model:
        limited = run_budget(agent_of(model("hold")), limits={"seconds": 0.2})
        with pytest.raises(BudgetTerminated) as caught:
            await limited.ainvoke(ASKED)
        await to_thread.run_sync(provider.wait_for, 1, "hung up")
    assert caught.value.dim == "millis"


async def test_an_agent_that_is_a_tool_is_a_task_inside_and_its_end_is_read(
    provider: Provider,
) -> None:
    async with models(provider) as model:
        inner = run_budget(
            agent_of(model('loop:search:{"query": "x"}'), search),
            limits={"calls": 3, "policy": "terminate"},
            name="editor",
        )

        @tool
        async def edit(query: str) -> str:
            """Edit it."""
            return str((await inner.ainvoke(ASKED))["messages"][-1].text)

        assert isinstance(edit, BaseTool)
        outer = agent_of(said(calling("edit")), edit)
        async with task_budget("author", calls=100) as budget:
            state = await outer.ainvoke(ASKED)
    assert told(state)[0].status == "error"
    assert "task 'editor' was terminated" in told(state)[0].text
    assert budget.spent("calls") == 6  # two turns and the tool outside, three calls inside


async def test_a_limited_run_is_a_node_of_another_graph_and_keeps_its_state() -> None:
    inner = create_agent(Endless(), tools=[search], middleware=[BudgetMiddleware()])
    limited = run_budget(inner, limits={"calls": 3}, name="inner")
    graph = StateGraph(State)
    graph.add_node("inner", limited)
    graph.add_edge(START, "inner")
    whole = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    async with task_budget(calls=9) as budget:
        await whole.ainvoke({"messages": [AIMessage("?")]}, config)
        parts = [p async for p in whole.astream({"seen": 1}, config, subgraphs=True)]
    assert budget.spent("calls") == 6
    assert any(path for path, _ in parts)
    assert whole.get_state(config).values["seen"] == 1


async def test_a_run_that_is_left_early_ends_its_task(provider: Provider) -> None:
    async with models(provider) as model:
        limited = run_budget(agent_of(model("pause")), limits={"calls": 5}, name="run")
        async with task_budget(tokens=1_000_000) as budget:
            async with aclosing(limited.astream(ASKED, stream_mode="messages")) as chunks:
                async for _ in chunks:
                    break
            await to_thread.run_sync(provider.wait_for, 1, "hung up")
            balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="give a chat model"):
        wrap("openai:gpt-5-nano")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="give an agent"):
        run_budget(search, limits={"calls": 1})  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="give 'raise' or 'answer'"):
        BudgetMiddleware(on_refusal="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="did you mean 'calls'"):
        run_budget(create_agent(said()), limits={"call": 1})
    with pytest.raises(ConfigurationError, match="limits="):
        run_budget(create_agent(said()), limits={})
    with pytest.raises(ConfigurationError, match="tools="):
        BudgetMiddleware(tools="calls")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError, match="unknown option 'polcy'"):
        wrap(said(), polcy="reject")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

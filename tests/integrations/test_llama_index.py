"""LlamaIndex: what the contract of adapters does not cover."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from anyio import create_task_group, to_thread
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.llms import LLM, ChatMessage, MockLLM
from llama_index.core.tools import BaseTool, FunctionTool, ToolMetadata, ToolOutput
from llama_index.llms.openai import OpenAI
from openai import AsyncOpenAI
from openai import OpenAI as SyncOpenAI
from pydantic import BaseModel

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    QuotaExceeded,
    QuotaToken,
    Resource,
    budgeted,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice, budget_error
from budgetware_integrations.llama_index import budget
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.llama_index import LocalOpenAI, search

NEEDS = "llama-index-llms-openai"

# Of LlamaIndex itself, which asks its classes for what pydantic has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

LOOP = 'loop:search:{"query": "x"}'
TOOL = 'tool:search:{"query": "x"}'
MESSAGES = [ChatMessage(role="user", content="Where do rivers flow?")]

Make = Callable[..., LocalOpenAI]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sync_client(provider: Provider) -> Iterator[SyncOpenAI]:
    with SyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        yield client


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        yield client


@pytest.fixture
def llm(sync_client: SyncOpenAI) -> Make:
    def made(name: str, **options: Any) -> LocalOpenAI:
        about: dict[str, Any] = {"max_tokens": 64, "max_retries": 0, **options}
        about["openai_client"] = sync_client
        return LocalOpenAI(model=name, **about)

    return made


def texts(items: Iterator[Any]) -> str:
    return "".join(item.delta or "" for item in items)


async def atexts(items: Awaitable[Any]) -> str:
    return "".join([item.delta or "" async for item in await items])


WAYS: dict[str, Callable[[LLM], Any]] = {
    "chat": lambda llm: llm.chat(MESSAGES).message.content,
    "complete": lambda llm: llm.complete("Where?").text,
    "stream_chat": lambda llm: texts(llm.stream_chat(MESSAGES)),
    "stream_complete": lambda llm: texts(llm.stream_complete("Where?")),
    "predict": lambda llm: llm.predict(prompt_of("Where?")),
    "stream": lambda llm: "".join(llm.stream(prompt_of("Where?"))),
}
ASYNC_WAYS: dict[str, Callable[[LLM], Awaitable[Any]]] = {
    "acomplete": lambda llm: text_of(llm.acomplete("Where?")),
    "astream_complete": lambda llm: atexts(llm.astream_complete("Where?")),
    "apredict": lambda llm: llm.apredict(prompt_of("Where?")),
}


def prompt_of(text: str) -> Any:
    from llama_index.core import PromptTemplate

    return PromptTemplate(text)


async def text_of(answer: Awaitable[Any]) -> str:
    return str((await answer).text)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_ask_in_sync_code_is_settled_exactly(
    provider: Provider, llm: Make, way: str
) -> None:
    with task_budget(tokens=1_000_000) as paid:
        assert WAYS[way](budget(llm("echo"))) == ANSWER
    assert paid.spent("tokens") == provider.tokens > 0
    assert paid.spent("calls") == provider.count() == 1
    assert paid.snapshot()["tokens"].assumed == 0


@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_each_way_to_ask_in_async_code_is_settled_exactly(
    provider: Provider, llm: Make, client: AsyncOpenAI, way: str
) -> None:
    async with task_budget(tokens=1_000_000) as paid:
        assert await ASYNC_WAYS[way](budget(llm("echo", async_openai_client=client))) == ANSWER
    assert paid.spent("tokens") == provider.tokens > 0
    assert paid.spent("calls") == provider.count() == 1


def test_a_stream_in_sync_code_that_is_left_early_is_charged(provider: Provider, llm: Make) -> None:
    with task_budget(tokens=1_000_000) as paid:
        items = budget(llm("pause")).stream_chat(MESSAGES)
        next(items)
        items.close()
    held = paid.snapshot()["tokens"]
    assert held.spent == held.assumed > 64


def test_items_of_a_stream_are_those_without(provider: Provider, llm: Make) -> None:
    ours = list(budget(llm("echo")).stream_chat(MESSAGES))
    theirs = list(llm("echo").stream_chat(MESSAGES))
    assert [item.delta for item in ours] == [item.delta for item in theirs]
    assert [item.message for item in ours] == [item.message for item in theirs]
    assert provider.calls[0].body.pop("stream_options") == {"include_usage": True}
    assert provider.calls[0].body == provider.calls[1].body


def test_a_chunk_of_usage_that_was_asked_for_is_shown(provider: Provider, llm: Make) -> None:
    asking = llm("echo", additional_kwargs={"stream_options": {"include_usage": True}})
    with task_budget(tokens=1_000_000) as paid:
        *_, last = budget(asking).stream_chat(MESSAGES)
    assert last.raw is not None
    assert last.raw.usage.total_tokens == paid.spent("tokens") == provider.tokens


def test_a_server_may_be_left_unasked_for_usage(provider: Provider, llm: Make) -> None:
    with task_budget(tokens=1_000_000) as paid:
        texts(budget(llm("echo"), include_usage=False).stream_chat(MESSAGES))
    assert "stream_options" not in provider.calls[0].body
    held = paid.snapshot()["tokens"]
    assert held.spent == held.assumed > 64


def test_the_largest_maximum_of_an_answer_is_held(provider: Provider, llm: Make) -> None:
    asking = budget(llm("echo"), count_tokens=lambda _prompt: 100)
    with pytest.raises(BudgetExceeded) as caught, task_budget(tokens=50):
        asking.chat(MESSAGES, max_tokens=7)  # LlamaIndex sends its own
    assert caught.value.requested == 164


async def test_an_agent_pays_for_turns_and_tools(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = FunctionAgent(llm=llm(TOOL, async_openai_client=client), tools=[search])
    async with task_budget(tokens=1_000_000) as paid:
        answer = await budget(agent).run("Search.")
    assert str(answer) == ANSWER
    assert paid.spent("tokens") == provider.tokens
    assert paid.spent("calls") == 3
    assert isinstance(agent.llm, OpenAI)


@pytest.mark.filterwarnings("ignore:is_running called:DeprecationWarning")
async def test_an_agent_that_reasons_in_text_pays(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = ReActAgent(llm=llm("echo", async_openai_client=client), tools=[search])
    async with task_budget(tokens=1_000_000) as paid:
        await budget(agent).run("Search.")
    assert paid.spent("tokens") == provider.tokens > 0


async def test_a_tool_that_is_refused_is_told_to_the_model(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = FunctionAgent(llm=llm(TOOL, async_openai_client=client), tools=[search])
    async with task_budget(custom0=4) as paid:
        answer = await budget(agent, tools={"custom0": 5}).run("Search.")
    assert str(answer) == ANSWER
    [told] = [m for m in provider.calls[-1].body["messages"] if m["role"] == "tool"]
    assert "4 of 4 custom0 left, 5 requested" in str(told["content"])
    assert paid.spent("custom0") == 0


async def test_a_task_that_is_terminated_in_a_tool_asks_the_model_no_more(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = FunctionAgent(llm=llm(LOOP, async_openai_client=client), tools=[search])
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            await budget(agent, tools={"custom0": 1}).run("Search for ever.", max_iterations=40)
    assert provider.count() <= 4


async def test_a_refused_model_is_told_to_who_started_the_run(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = FunctionAgent(llm=llm("echo", async_openai_client=client), tools=[search])
    async with task_budget(tokens=10):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - workflows wrap it as they like
            await budget(agent).run("Search.")
    assert isinstance(budget_error(caught.value), BudgetExceeded)
    assert provider.count() == 0


async def test_an_agent_in_a_tool_is_a_task_in_the_task(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    inner = budget(FunctionAgent(llm=llm(LOOP, async_openai_client=client), tools=[search]))

    async def delegate(query: str) -> str:
        """Delegate."""
        async with task_budget("inner", calls=4, policy="terminate"):
            return str(await inner.run(query, max_iterations=40))

    asking = llm('tool:delegate:{"query": "x"}', async_openai_client=client)
    outer = budget(FunctionAgent(llm=asking, tools=[delegate]))
    async with task_budget("outer", tokens=1_000_000) as paid:
        assert str(await outer.run("Delegate.")) == ANSWER
    [told] = [m for m in provider.calls[-1].body["messages"] if m["role"] == "tool"]
    assert "'inner' was terminated" in str(told["content"])
    assert paid.spent("calls") == 7  # of the outer: two turns, a tool; of the inner: four
    assert paid.snapshot()["tokens"].reserved == 0


async def test_all_agents_of_a_workflow_pay(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agents = [
        FunctionAgent(
            name=name, description=name, llm=llm(TOOL, async_openai_client=client), tools=[search]
        )
        for name in ("one", "two")
    ]
    workflow = budget(AgentWorkflow(agents=list(agents), root_agent="one"))
    async with task_budget(tokens=1_000_000) as paid:
        await workflow.run(user_msg="Search.")
    assert paid.spent("calls") == 3
    assert paid.spent("tokens") == provider.tokens


def test_a_model_that_is_built_on_another_of_its_methods_is_charged_once() -> None:
    with task_budget(tokens=1_000_000) as paid:
        budget(MockLLM(max_tokens=5)).chat(MESSAGES)
    assert paid.spent("calls") == 1


def test_structured_answers_are_one_call(provider: Provider, llm: Make) -> None:
    class Answer(BaseModel):
        query: str

    asking = budget(llm('loop:Answer:{"query": "x"}'))
    with task_budget(tokens=1_000_000) as paid:
        answer = asking.structured_predict(Answer, prompt_of("Where?"))
    assert answer == Answer(query="x")
    assert paid.spent("calls") == 1
    assert paid.spent("tokens") == provider.tokens


class Plain(BaseTool):
    """A tool as old ones are, without async twin."""

    @property
    def metadata(self) -> ToolMetadata:
        return ToolMetadata(name="plain", description="plain")

    def __call__(self, input: Any) -> ToolOutput:
        return ToolOutput("plain", str(input), raw_input={}, raw_output=input)


def test_a_tool_of_any_kind_pays_and_says_that_it_is_refused() -> None:
    tool = budget(Plain(), tools={"custom0": 3})
    with task_budget(custom0=5) as paid:
        assert tool("x").content == "x"
        refused = tool("x")
    assert refused.is_error
    assert "2 of 5 custom0 left" in refused.content
    assert isinstance(budget_error(refused.exception), BudgetExceeded)
    assert paid.spent("custom0") == 3


async def test_a_tool_may_cost_what_its_name_and_arguments_say() -> None:
    asked: list[Any] = []

    def cost(name: str, arguments: Any) -> dict[str, int]:
        asked.append((name, arguments))
        return {"custom1": 3}

    tool = budget(FunctionTool.from_defaults(search), tools=cost)
    async with task_budget(custom1=100) as paid:
        await tool.acall(query="x")
        await to_thread.run_sync(tool.call, "y")
    assert asked == [("search", {"query": "x"}), ("search", "y")]
    assert paid.spent("custom1") == 6


def test_a_tool_that_is_budgeted_is_charged_once() -> None:
    tool = budget(FunctionTool.from_defaults(budgeted(custom0=7)(search)), tools={"custom0": 100})
    with task_budget(custom0=10) as paid:
        tool(query="x")
    assert paid.spent("custom0") == 7


async def test_a_provider_that_asks_to_wait_pauses_the_resource(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    provider.headers["retry-after-ms"] = "60000"
    bare = client.with_options(max_retries=0)
    asking = budget(llm("fail:429", async_openai_client=bare))
    async with connect() as service:
        service.define(Resource("model", Capacity(1_000_000), enforcement="reject", dim="tokens"))
        token = QuotaToken("model", expected_use=10)
        async with token, service.task_budget("t", tokens=1_000_000) as paid:
            with pytest.raises(Exception, match="no"):
                await asking.achat(MESSAGES)
            with pytest.raises(QuotaExceeded) as caught:
                await asking.achat(MESSAGES)
    assert caught.value.is_paused
    assert provider.count() == 1
    assert paid.spent("tokens") == 0


def test_a_model_without_a_price_is_not_asked_where_dollars_are_limited(
    provider: Provider, llm: Make
) -> None:
    with pytest.raises(UnknownPrice), task_budget(usd=1):
        budget(llm("echo")).chat(MESSAGES)
    assert provider.count() == 0


def test_twice_is_once_and_copies_hold_too(provider: Provider, llm: Make) -> None:
    asking = llm("echo")
    assert budget(budget(asking)) is asking
    assert type(asking).__name__ == "LocalOpenAI"
    with task_budget(tokens=1_000_000) as paid:
        asking.model_copy().chat(MESSAGES)
    assert paid.spent("calls") == 1


def test_what_the_second_time_is_told_goes(provider: Provider, llm: Make) -> None:
    tool = budget(budget(FunctionTool.from_defaults(search), tools={"custom1": 4}))
    with task_budget(custom1=100) as paid:
        tool.call(query="x")
    assert paid.spent("custom1") == 4
    asking = budget(budget(llm("echo")), policy="terminate")
    with pytest.raises(BudgetTerminated), task_budget(tokens=10):
        asking.chat(MESSAGES)
    assert provider.count() == 0


@pytest.mark.parametrize("bad", [{"tools": 5}, {"provider": 5}, {"policy": "no"}], ids=str)
def test_options_that_cannot_be_are_told_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        budget(FunctionTool.from_defaults(search), **bad)


async def test_a_run_is_cancelled_with_who_awaits_it(
    provider: Provider, llm: Make, client: AsyncOpenAI
) -> None:
    agent = budget(FunctionAgent(llm=llm("hold", async_openai_client=client), tools=[search]))
    runs: list[Any] = []

    async def ask() -> None:
        runs.append(agent.run("Wait."))
        await runs[0]

    async with task_budget(tokens=1_000_000) as paid:
        async with create_task_group() as group:
            group.start_soon(ask)
            await to_thread.run_sync(provider.wait_for, 1)
            group.cancel_scope.cancel()
        assert runs[0].is_done()
        held = paid.snapshot()["tokens"]
        assert held.reserved == 0
        assert held.spent == held.assumed > 64


def test_only_things_of_llama_index_are_budgeted() -> None:
    with pytest.raises(TypeError, match="give an LLM"):
        budget("gpt-5-nano")  # type: ignore[type-var]

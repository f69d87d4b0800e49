"""CrewAI: what the contract of adapters does not cover."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import BudgetExceeded, BudgetTerminated, budgeted, task_budget
from budgetware.errors import ConfigurationError, UnknownPrice, budget_error
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.crewai import (
    Agent,
    BaseLLM,
    BaseTool,
    Crew,
    Task,
    budget,
    local_agent,
    local_llm,
    tool,
)

NEEDS = "crewai"

# Of CrewAI itself, which asks its classes for what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:crewai")

LOOP = 'loop:search:{"query": "x"}'
TOOL = 'tool:search:{"query": "x"}'
MESSAGES: list[Any] = [{"role": "user", "content": "Where do rivers flow?"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def llm(provider: Provider) -> Iterator[Any]:
    made: list[Any] = []

    def make(name: str, **options: Any) -> Any:
        made.append(local_llm(provider.url, name, **options))
        return made[-1]

    yield make
    for each in made:
        each._get_sync_client().close()


def searching() -> Any:
    @tool("search")
    def search(query: str) -> str:
        """Search for a query."""
        return f"nothing about {query}"

    return search


def crew_of(agent: Agent, *tools: Any) -> Crew:
    task = Task(description="Search.", expected_output="text", agent=agent, tools=list(tools))
    return Crew(agents=[agent], tasks=[task])


def told(provider: Provider) -> str:
    """What the model was told in its last call."""
    return str(provider.calls[-1].body["messages"])


async def test_calls_in_many_threads_are_settled_each_to_its_own_usage(
    provider: Provider, llm: Any
) -> None:
    asking = budget(llm("echo"))
    async with task_budget(tokens=1_000_000) as paid, anyio.create_task_group() as group:
        for number in range(20):
            prompt = "Where do rivers flow? " * number
            group.start_soon(to_thread.run_sync, asking.call, prompt + "?")
    assert paid.spent("calls") == 20
    assert paid.spent("input_tokens") == provider.input_tokens
    assert paid.spent("output_tokens") == provider.output_tokens
    assert paid.snapshot()["tokens"].assumed == 0


def test_a_stream_is_settled_exactly(provider: Provider, llm: Any) -> None:
    with task_budget(tokens=1_000_000) as paid:
        assert budget(llm("echo", stream=True)).call(MESSAGES) == ANSWER
    assert provider.calls[0].body["stream"] is True
    assert paid.spent("tokens") == provider.tokens


def test_a_stream_of_events_is_settled_exactly(provider: Provider, llm: Any) -> None:
    with task_budget(tokens=1_000_000) as paid:
        with budget(llm("echo")).stream_events(MESSAGES) as events:
            assert list(events)
        assert events.result == ANSWER
    assert paid.spent("tokens") == provider.tokens
    assert paid.spent("calls") == 1


def test_a_stream_without_usage_is_charged_what_it_held(llm: Any) -> None:
    with task_budget(tokens=1_000_000) as paid:
        budget(llm("mute", stream=True)).call(MESSAGES)
    held = paid.snapshot()["tokens"]
    assert held.spent == held.assumed > 64


def test_a_crew_pays_for_turns_and_tools(provider: Provider, llm: Any) -> None:
    crew = budget(crew_of(local_agent(llm(TOOL)), searching()))
    with task_budget(tokens=1_000_000) as paid:
        output: Any = crew.kickoff()
    assert output.raw == ANSWER
    assert paid.spent("tokens") == provider.tokens
    assert paid.spent("calls") == provider.count() + 1


async def test_a_crew_pays_in_async_code(provider: Provider, llm: Any) -> None:
    asking = llm(TOOL)
    crew = budget(crew_of(local_agent(asking), searching()))
    async with task_budget(tokens=1_000_000) as paid:
        await crew.akickoff()
        await asking._get_async_client().close()
    assert paid.spent("tokens") == provider.tokens
    assert paid.spent("calls") == provider.count() + 1


def looping(llm: Any) -> Crew:
    agent = local_agent(llm(LOOP), searching(), max_iter=40)
    return budget(crew_of(agent), tools={"calls": 1, "custom0": 1})


@pytest.mark.parametrize("limits", [{"calls": 7}, {"custom0": 2}], ids=str)
def test_a_task_that_is_terminated_ends_a_crew(
    provider: Provider, llm: Any, limits: dict[str, Any]
) -> None:
    crew = looping(llm)
    with pytest.raises(BudgetTerminated), task_budget(policy="terminate", **limits):
        crew.kickoff()
    assert 1 < provider.count() <= 5


@pytest.mark.parametrize("limits", [{"calls": 7}, {"custom0": 2}], ids=str)
async def test_a_task_that_is_terminated_ends_a_crew_in_a_worker_thread(
    provider: Provider, llm: Any, limits: dict[str, Any]
) -> None:
    crew = looping(llm)
    with pytest.raises(BudgetTerminated):
        async with task_budget(policy="terminate", **limits):
            await to_thread.run_sync(crew.kickoff)
    assert 1 < provider.count() <= 5


def test_a_refused_model_is_told_to_who_started_the_crew(provider: Provider, llm: Any) -> None:
    crew = budget(crew_of(local_agent(llm("echo"))))
    with task_budget(tokens=10), pytest.raises(BudgetExceeded):
        crew.kickoff()
    assert provider.count() == 0


def test_a_tool_that_is_refused_is_told_to_the_agent(provider: Provider, llm: Any) -> None:
    agent = budget(local_agent(llm(TOOL), searching()), tools={"custom0": 5})
    with task_budget(custom0=4) as paid:
        output: Any = agent.kickoff("Search.")
    assert output.raw == ANSWER
    assert "4 of 4 custom0 left, 5 requested" in told(provider)
    assert paid.spent("custom0") == 0


class Look(BaseTool):
    """A tool as a class, with a twin for async code."""

    name: str = "look"
    description: str = "Look."

    def _run(self, query: str) -> str:
        return query

    async def _arun(self, query: str) -> str:
        return query


async def test_each_way_to_run_a_tool_is_charged_once() -> None:
    @tool("search")
    async def search(query: str) -> str:
        """Search."""
        return query

    look, found, find = budget(Look()), budget(searching()), budget(search)
    structured = look.to_structured_tool()
    async with task_budget(calls=100) as paid:
        for number, call in enumerate((look.run, look._run, found.run, found._run), start=1):
            assert await to_thread.run_sync(partial(call, query="x"))
            assert paid.spent("calls") == number
        for number, acall in enumerate((look.arun, look._arun, find.arun), start=5):
            assert await acall(query="x") == "x"
            assert paid.spent("calls") == number
        assert await to_thread.run_sync(structured.invoke, {"query": "x"}) == "x"
    assert paid.spent("calls") == 8


def test_a_tool_in_itself_is_held_for_again() -> None:
    class Deep(BaseTool):
        name: str = "deep"
        description: str = "Go deeper."

        def _run(self, depth: int) -> int:
            return depth if depth == 0 else self.run(depth=depth - 1)

    with task_budget(calls=100) as paid:
        budget(Deep()).run(depth=3)
    assert paid.spent("calls") == 4


def test_a_tool_may_cost_what_its_name_and_arguments_say() -> None:
    asked: list[Any] = []

    def cost(name: str, arguments: Any) -> dict[str, int]:
        asked.append((name, arguments))
        return {"custom1": 3}

    with task_budget(custom1=100) as paid:
        budget(searching(), tools=cost).run(query="x")
    assert asked == [("search", {"query": "x"})]
    assert paid.spent("custom1") == 3


def test_a_tool_that_is_budgeted_is_charged_once() -> None:
    @tool("search")
    @budgeted(custom0=7)
    def search(query: str) -> str:
        """Search."""
        return query

    with task_budget(custom0=10) as paid:
        budget(search, tools={"custom0": 100}).run(query="x")
    assert paid.spent("custom0") == 7


def test_what_a_call_runs_by_itself_is_no_part_of_it(provider: Provider, llm: Any) -> None:
    inner = budget(llm("echo"))
    outer = budget(llm(TOOL))
    schema: Any = {"type": "function", "function": {"name": "search", "parameters": {}}}

    def ask(query: str) -> Any:
        return inner.call(query)

    with task_budget(tokens=1_000_000) as paid:
        outer.call(
            MESSAGES,
            tools=[schema],
            available_functions={"search": ask},
        )
    assert provider.count() == paid.spent("calls") == 2
    assert paid.spent("tokens") == provider.tokens


class Told(BaseLLM):
    """An LLM of one's own, that tells of its requests' usage as those of CrewAI do."""

    reports: list[dict[str, Any]]

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        for report in self.reports:
            self._track_token_usage_internal(report)
        return "told"


REPORTS: dict[str, dict[str, Any]] = {
    "openai": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
               "cached_prompt_tokens": 4, "reasoning_tokens": 2},
    "anthropic": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
                  "cached_prompt_tokens": 4, "cache_creation_tokens": 2},
    "gemini": {"prompt_token_count": 10, "candidates_token_count": 3, "completion_tokens": 5,
               "total_token_count": 15, "total_tokens": 15, "cached_prompt_tokens": 4,
               "reasoning_tokens": 2},
    "bedrock": {"inputTokens": 4, "outputTokens": 5, "totalTokens": 15, "cacheReadInputTokens": 6},
}  # fmt: skip


@pytest.mark.parametrize("shape", REPORTS)
def test_usage_is_read_as_each_provider_of_crewai_tells_it(shape: str) -> None:
    telling = budget(Told(model="m", reports=[REPORTS[shape]]))
    with task_budget(tokens=1_000_000) as paid:
        assert telling.call("x") == "told"
    assert paid.spent("input_tokens") == 10
    assert paid.spent("output_tokens") == 5


def test_requests_of_one_call_are_added_up() -> None:
    telling = budget(Told(model="m", reports=[REPORTS["openai"]] * 3))
    with task_budget(tokens=1_000_000) as paid:
        telling.call("x")
    assert paid.spent("tokens") == 45
    assert paid.spent("calls") == 1


def test_half_a_report_is_none() -> None:
    nonsense = {"prompt_tokens": "many", "completion_tokens": 5}
    telling = budget(Told(model="m", max_tokens=64, reports=[nonsense]))
    with task_budget(tokens=1_000_000) as paid:
        telling.call("x")
    assert paid.snapshot()["tokens"].assumed > 64


def test_models_that_a_crew_names_by_a_string_pay_too(
    provider: Provider, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    crew = crew_of(local_agent(llm("echo")))
    crew.manager_llm = "openai/gpt-5-nano"
    manager: Any = budget(crew).manager_llm
    with task_budget(calls=10) as paid:
        assert manager.call(MESSAGES) == ANSWER
    assert paid.spent("calls") == 1
    manager._get_sync_client().close()


def test_a_model_without_a_price_is_not_asked_where_dollars_are_limited(
    provider: Provider, llm: Any
) -> None:
    with pytest.raises(UnknownPrice), task_budget(usd=1):
        budget(llm("echo")).call(MESSAGES)
    assert provider.count() == 0


def test_twice_is_once_and_copies_hold_too(llm: Any) -> None:
    asking = llm("echo")
    kind = type(asking)
    assert budget(budget(asking)) is asking
    assert isinstance(asking, kind)
    with task_budget(calls=10) as paid:
        asking.model_copy().call(MESSAGES)
    assert paid.spent("calls") == 1


def test_what_the_second_time_is_told_goes(provider: Provider, llm: Any) -> None:
    tool = budget(budget(budget(searching(), tools={"custom1": 3}), tools={"custom1": 4}))
    with task_budget(custom1=100) as paid:
        tool.run(query="x")
    assert paid.spent("custom1") == 4
    asking = budget(budget(llm("echo")), policy="terminate")
    with pytest.raises(BudgetTerminated), task_budget(tokens=10):
        asking.call(MESSAGES)
    assert provider.count() == 0


def test_a_crew_that_plans_with_a_model_of_its_own_pays_for_it(
    provider: Provider, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    crew = crew_of(local_agent(llm("echo")))
    crew.planning = True
    budget(crew)
    with pytest.raises(BudgetExceeded), task_budget(tokens=10):
        crew.kickoff()
    assert provider.count() == 0


@pytest.mark.parametrize("bad", [{"tools": 5}, {"provider": 5}, {"policy": "no"}], ids=str)
def test_options_that_cannot_be_are_told_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        budget(searching(), **bad)


def test_other_tools_of_a_class_stay_as_they_are() -> None:
    budget(Look(), tools={"calls": 1})
    with task_budget(calls=10) as paid:
        Look.model_validate(Look().model_dump()).run(query="x")
    assert paid.spent("calls") == 0


def test_only_things_of_crewai_are_budgeted() -> None:
    with pytest.raises(TypeError, match="give an LLM"):
        budget("gpt-5-nano")  # type: ignore[type-var]


async def test_a_refusal_in_async_code_is_the_error_itself(provider: Provider, llm: Any) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        async with task_budget(tokens=10):
            await budget(llm("echo")).acall(MESSAGES)
    assert budget_error(caught.value) is caught.value

"""smolagents beyond the contract: agents of both kinds, threads, tools, limits for each run."""

import json
from contextlib import suppress
from threading import Barrier
from typing import Any, cast

import pytest
from smolagents import (
    AgentGenerationError,
    ChatMessage,
    ChatMessageStreamDelta,
    CodeAgent,
    LogLevel,
    MessageRole,
    Model,
    OpenAIModel,
    ToolCallingAgent,
    tool,
)
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction
from smolagents.monitoring import TokenUsage

from budgetware import BudgetExceeded, BudgetTerminated, budgeted, errors, task_budget
from budgetware.errors import UnknownPrice
from budgetware_integrations.smolagents import budget
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.smolagents import asked, local_model

NEEDS = "smolagents"
QUIET: dict[str, Any] = {"verbosity_level": LogLevel.OFF}


class Scripted(Model):  # type: ignore[misc]
    """A model that says what it is given to say, each answer for 10 tokens in and 5 out."""

    def __init__(self, *answers: Any, **options: Any) -> None:
        super().__init__(model_id="scripted", **options)
        self.answers = list(answers)
        self.seen: list[Any] = []

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        self.seen.append(messages)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        calls = said if isinstance(said, list) else None
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            content=None if calls else said,
            tool_calls=calls,
            token_usage=TokenUsage(input_tokens=10, output_tokens=5),
        )


def wants(name: str, *arguments: dict[str, Any]) -> list[ChatMessageToolCall]:
    return [
        ChatMessageToolCall(
            id=f"call_{number}",
            type="function",
            function=ChatMessageToolCallFunction(name=name, arguments=json.dumps(given)),
        )
        for number, given in enumerate(arguments)
    ]


def code(text: str) -> str:
    return f"Thought: so be it.\n<code>\n{text}\n</code>"


def done(answer: str = "done") -> list[ChatMessageToolCall]:
    return wants("final_answer", {"answer": answer})


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def search(ran: list[str]) -> Any:
    @tool  # type: ignore[untyped-decorator]
    def search(query: str) -> str:
        """Search.

        Args:
            query: What for.
        """
        ran.append(query)
        return f"found {query}"

    return search


def seen_by(model: Scripted) -> str:
    """What the model was shown at last."""
    return "\n".join(str(message.content) for message in model.seen[-1])


def test_it_holds_the_answers_of_a_model_and_stays_what_it_is(provider: Provider) -> None:
    model = local_model(provider.url, "echo")
    assert budget(budget(model)) is model
    assert isinstance(model, OpenAIModel)
    with task_budget(tokens=1_000_000) as task:
        answer = model.generate(asked("Where?"))
        deltas = list(model.generate_stream(asked("Where?")))
    model.client.close()
    assert answer.content == "".join(delta.content or "" for delta in deltas) == ANSWER
    assert all(isinstance(delta, ChatMessageStreamDelta) for delta in deltas)
    assert task.spent("tokens") == provider.tokens
    assert task.spent("calls") == 2


def test_the_model_and_its_maximum_are_what_is_held(provider: Provider) -> None:
    model = budget(Scripted("yes", max_tokens=100), count_tokens=lambda prompt: 11)
    with task_budget(output_tokens=104, tokens=1_000) as task:
        model.generate([])
        with pytest.raises(BudgetExceeded) as refused:
            model.generate([])
    assert (refused.value.dim, refused.value.requested) == ("output_tokens", 100)
    assert task.spent("tokens") == 15


def test_a_model_without_a_price_is_not_asked() -> None:
    model = budget(Scripted("yes"))
    with task_budget(usd=1), pytest.raises(UnknownPrice):
        model.generate([])
    assert not model.seen


def test_an_agent_of_tool_calls_pays_for_models_and_tools(search: Any, ran: list[str]) -> None:
    model = Scripted(wants("search", {"query": "rivers"}), done())
    agent = budget(ToolCallingAgent(tools=[search], model=model, **QUIET))
    with task_budget(calls=10, tokens=1_000_000) as task:
        assert agent.run("Where do rivers flow?") == "done"
    assert ran == ["rivers"]
    assert task.spent("calls") == 3
    assert task.spent("tokens") == 30


def test_a_refused_tool_is_told_to_the_model_and_others_at_once_keep_their_results(
    search: Any, ran: list[str]
) -> None:
    model = Scripted(wants("search", *({"query": str(n)} for n in range(4))), done())
    agent = budget(
        ToolCallingAgent(tools=[search], model=model, **QUIET), tools={"custom0": 1, "calls": 1}
    )
    with task_budget(custom0=2, tokens=1_000_000) as task:
        assert agent.run("Search.") == "done"
    assert len(ran) == task.spent("custom0") == 2
    shown = seen_by(model)
    assert shown.count("Refused by the budget") == 2
    assert all(f"found {query}" in shown for query in ran)


def test_tools_in_threads_pay_as_the_run_does(search: Any, ran: list[str]) -> None:
    both = Barrier(2, timeout=10)

    @tool  # type: ignore[untyped-decorator]
    def wait(query: str) -> str:
        """Wait for the other one.

        Args:
            query: Anything.
        """
        both.wait()
        return query

    model = Scripted(wants("wait", {"query": "a"}, {"query": "b"}), done())
    agent = budget(ToolCallingAgent(tools=[wait], model=model, max_tool_threads=2, **QUIET))
    with task_budget(calls=100) as task:
        agent.run("Wait.")
    assert task.spent("calls") == 4


def test_the_code_of_an_agent_pays_in_its_own_thread(search: Any, ran: list[str]) -> None:
    model = Scripted(code("a = search('x')\nb = search(query='y')\nfinal_answer(a + b)"))
    agent = budget(CodeAgent(tools=[search], model=model, **QUIET))
    with task_budget(calls=10) as task:
        assert agent.run("Search.") == "found xfound y"
    assert task.spent("calls") == 3


def test_a_refused_tool_ends_the_code_and_the_model_reads_why(search: Any, ran: list[str]) -> None:
    model = Scripted(code("for n in range(9):\n    search(str(n))"), code("final_answer('enough')"))
    agent = budget(CodeAgent(tools=[search], model=model, **QUIET), tools={"custom0": 1})
    with task_budget(custom0=3):
        assert agent.run("Search.") == "enough"
    assert ran == ["0", "1", "2"]
    assert "has 0 of 3 custom0 left" in seen_by(model)


@pytest.mark.filterwarnings("ignore:Function 'search' has decorators:UserWarning")
def test_a_tool_that_is_budgeted_is_not_held_for_twice(ran: list[str]) -> None:
    @tool  # type: ignore[untyped-decorator]
    @budgeted(calls=5)
    def search(query: str) -> str:
        """Search.

        Args:
            query: What for.
        """
        ran.append(query)
        return query

    for agent_type, said in (
        (ToolCallingAgent, wants("search", {"query": "x"})),
        (CodeAgent, code("search('x')")),
    ):
        end = done() if agent_type is ToolCallingAgent else code("final_answer('done')")
        agent: Any = budget(agent_type(tools=[search], model=Scripted(said, end), **QUIET))
        with task_budget(calls=20) as task:
            agent.run("Search.")
        assert task.spent("calls") == 2 + 5


def test_a_refused_model_ends_the_run_and_the_cause_is_found() -> None:
    agent = budget(ToolCallingAgent(tools=[], model=Scripted(done()), **QUIET))
    with task_budget(tokens=10), pytest.raises(AgentGenerationError) as caught:
        agent.run("Where?")
    assert isinstance(errors.budget_error(caught.value), BudgetExceeded)


def test_a_terminated_run_ends_though_all_errors_are_caught(search: Any) -> None:
    model = Scripted(wants("search", {"query": "x"}))
    agent = budget(ToolCallingAgent(tools=[search], model=model, **QUIET))
    runs: list[int] = []

    def work() -> None:
        with task_budget(calls=7, policy="terminate"):
            for turn in range(30):
                runs.append(turn)
                with suppress(Exception):  # as programs do
                    agent.run("Search for ever.", max_steps=50)

    with pytest.raises(BudgetTerminated):
        work()
    assert len(runs) == 1
    assert len(model.seen) == 4


def test_code_in_an_endless_loop_is_ended(search: Any, ran: list[str]) -> None:
    model = Scripted(code("while True:\n    try:\n        search('x')\n    except:\n        pass"))
    agent = budget(
        CodeAgent(tools=[search], model=model, executor_kwargs={"timeout_seconds": 20}, **QUIET)
    )
    with pytest.raises(BudgetTerminated), task_budget(calls=4, policy="terminate"):
        agent.run("Search for ever.")
    assert len(ran) == 3


def test_each_run_of_an_agent_with_limits_is_a_task_of_its_own(search: Any) -> None:
    model = Scripted(wants("search", {"query": "x"}))
    agent = budget(
        ToolCallingAgent(tools=[search], model=model, name="seeker", **QUIET),
        limits={"calls": 3},
    )
    with task_budget(calls=100) as task:
        for _ in range(2):
            with pytest.raises(AgentGenerationError) as caught:
                agent.run("Search for ever.")
            refusal = errors.budget_error(caught.value)
            assert isinstance(refusal, BudgetExceeded)
            assert refusal.budget == "seeker"
    assert task.spent("calls") == 6


def test_a_streamed_run_with_limits_is_one_task() -> None:
    agent = budget(ToolCallingAgent(tools=[], model=Scripted(done()), **QUIET), limits={"calls": 1})
    with task_budget(calls=10) as task:
        steps: Any = agent.run("Where?", stream=True)
        assert task.spent("calls") == 0
        assert list(steps)[-1].output == "done"
    assert task.spent("calls") == 1


def test_managed_agents_have_limits_within_those_of_their_manager(search: Any) -> None:
    inner = budget(
        ToolCallingAgent(
            tools=[search], model=Scripted(wants("search", {"query": "x"})), name="helper",
            description="helps", **QUIET,
        ),
        limits={"calls": 3},
    )  # fmt: skip
    model = Scripted(code("helper('Search for ever.')"), code("final_answer('enough')"))
    manager = budget(CodeAgent(tools=[], model=model, managed_agents=[inner], **QUIET))
    with task_budget(calls=100) as task:
        assert manager.run("Have it searched.") == "enough"
    assert task.spent("calls") == 2 + 3
    assert "budget 'helper'" in seen_by(model)


def test_only_what_calls_can_be_given() -> None:
    with pytest.raises(TypeError, match="agent"):
        budget(cast("Any", "model"))
    with pytest.raises(TypeError, match="only agents run"):
        budget(Scripted("yes"), limits={"calls": 1})

"""DSPy beyond the contract: its cache, threads, tools, programs, and its other engine."""

import contextvars
import copy
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import Any

import dspy
import pytest
from anyio import to_thread
from dspy.lm15 import Message, Response, TextPart, Usage
from dspy.utils.exceptions import AdapterParseError

from budgetware import BudgetExceeded, BudgetTerminated, TaskBudget, budgeted, connect, task_budget
from budgetware.errors import UnknownPrice, budget_error
from budgetware_integrations.dspy import budget
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.dspy import local_lm

NEEDS = "dspy"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def own_cache() -> Iterator[None]:
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.cache = before


class Engine:
    """An engine that says what it is given to say, each answer for 10 tokens in and 5 out."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.lock = Lock()

    def complete(self, request: Any) -> Response:
        with self.lock:
            said = self.answers[min(self.asked, len(self.answers) - 1)]
            self.asked += 1
        usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
        return Response(
            id=None, model="scripted", message=Message.assistant([TextPart(said)]),
            finish_reason="stop", usage=usage,
        )  # fmt: skip


class AsyncEngine:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def complete(self, request: Any) -> Response:
        return self.engine.complete(request)


def scripted(*answers: str, **options: Any) -> tuple[dspy.LM, Engine]:
    engine = Engine(*answers)
    chosen = {"cache": False, "num_retries": 0, "max_tokens": 64} | options
    lm = dspy.LM("openai/scripted", engine=engine, async_engine=AsyncEngine(engine), **chosen)
    return budget(lm), engine


def said(**fields: str) -> str:
    marked = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*marked, "[[ ## completed ## ]]"])


def acts(tool: str, arguments: str = "{}") -> str:
    return said(next_thought="so", next_tool_name=tool, next_tool_args=arguments)


def is_settled(task: TaskBudget, calls: int) -> bool:
    balance = task.snapshot()["tokens"]
    return (balance.spent, balance.reserved, balance.assumed) == (15 * calls, 0, 0)


def test_it_holds_for_sync_calls_and_copies_and_stays_what_it_is(provider: Provider) -> None:
    lm = local_lm(provider.url, "echo")
    assert budget(budget(lm)) is lm
    assert type(lm).__name__ == "LM"
    assert isinstance(lm, dspy.LM)
    with task_budget(tokens=1_000_000) as task:
        assert lm("Where?") == [ANSWER]
        assert lm.copy(temperature=0.5)("Where?") == [ANSWER]
        assert copy.deepcopy(lm)("Where?") == [ANSWER]
    lm.close()
    assert task.spent("tokens") == provider.tokens
    assert task.spent("calls") == 3


def test_what_it_saves_is_what_dspy_saves(provider: Provider) -> None:
    bare = local_lm(provider.url, "echo")
    assert budget(local_lm(provider.url, "echo")).dump_state() == bare.dump_state()


def test_failures_that_were_not_billed_are_given_back(provider: Provider) -> None:
    lm = budget(local_lm(provider.url, "fail:500", num_retries=0))
    with task_budget(tokens=1_000_000) as task, pytest.raises(dspy.LMError):
        lm("Where?")
    lm.close()
    assert task.spent("tokens") == task.snapshot()["tokens"].reserved == 0


def test_what_is_cached_is_free_even_when_nothing_is_left(provider: Provider) -> None:
    lm = budget(local_lm(provider.url, "echo", cache=True))
    with task_budget(calls=1) as task:
        assert lm("Where?") == lm("Where?") == [ANSWER]
        with pytest.raises(BudgetExceeded):
            lm("Where else?")
    lm.close()
    assert provider.count() == task.spent("calls") == 1
    assert task.spent("tokens") == provider.tokens


async def test_what_is_cached_is_free_in_async_code_too(provider: Provider) -> None:
    lm = budget(local_lm(provider.url, "echo", cache=True))
    async with task_budget(calls=1) as task:
        assert await lm.acall("Where?") == await lm.acall("Where?") == [ANSWER]
    await lm.aclose()
    assert provider.count() == task.spent("calls") == 1


def test_usage_is_tracked_by_dspy_as_before() -> None:
    lm, _ = scripted(said(answer="the sea"))
    with task_budget(tokens=1_000_000) as task, dspy.context(lm=lm), dspy.track_usage() as tracker:
        assert dspy.Predict("question -> answer")(question="Where?").answer == "the sea"
    assert tracker.get_total_tokens()["openai/scripted"]["total_tokens"] == 15
    assert is_settled(task, 1)


def test_several_answers_are_one_call_and_all_of_them_are_charged() -> None:
    lm, engine = scripted("one", "two", "three")
    with task_budget(output_tokens=3 * 64) as task:
        assert lm("Where?", n=3) == ["one", "two", "three"]
    assert engine.asked == 3
    assert is_settled(task, 3)
    assert task.spent("calls") == 1


def test_the_maximum_of_the_call_is_what_is_held() -> None:
    lm, _ = scripted("yes")
    with task_budget(output_tokens=99), pytest.raises(BudgetExceeded) as refused:
        lm("Where?", max_tokens=100)
    assert refused.value.requested == 100


def test_a_request_of_the_new_kind_is_held_as_well() -> None:
    lm, _ = scripted("yes")
    request = dspy.lm15.Request(
        model=lm.model,
        messages=(Message.user("Where?"),),
        config=dspy.lm15.Config(max_tokens=100),
    )
    with task_budget(output_tokens=99), pytest.raises(BudgetExceeded) as refused:
        lm(request)
    assert refused.value.requested == 100
    with task_budget(output_tokens=100) as task:
        assert lm(request).message.text == "yes"
    assert is_settled(task, 1)


def test_a_model_without_a_price_is_not_asked_and_prices_are_by_its_name() -> None:
    lm, engine = scripted("yes")
    with task_budget(usd=1), pytest.raises(UnknownPrice):
        lm("Where?")
    assert engine.asked == 0
    prices = {"scripted": {"input": 100_000, "output": 200_000}}
    with connect(prices=prices) as service, service.task_budget("t", usd=100) as task:
        lm("Where?")
    assert task.spent("usd") == 2


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_pay_as_their_caller_does(threads: int) -> None:
    lm, engine = scripted(said(answer="the sea"))
    program = dspy.Predict("question -> answer")
    pairs = [(program, dspy.Example(question=str(n)).with_inputs("question")) for n in range(20)]
    run = dspy.Parallel(num_threads=threads, max_errors=100, disable_progress_bar=True)
    with task_budget(calls=10, policy=None) as task, dspy.context(lm=lm):
        results = run(pairs)
    assert engine.asked == 10
    assert is_settled(task, 10)
    assert len([result for result in results if isinstance(result, dspy.Prediction)]) == 10


def test_threads_keep_what_the_caller_knows_apart() -> None:
    seen = contextvars.ContextVar("seen", default="nothing")
    seen.set("it")
    budget(scripted("yes")[0])
    run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    found = run([(lambda number: (number, seen.get()), (number,)) for number in range(4)])
    assert found == [(number, "it") for number in range(4)]


async def test_a_program_in_a_worker_thread_pays_as_its_caller_does() -> None:
    lm, _ = scripted(said(answer="the sea"))
    async with task_budget(tokens=1_000_000) as task:
        with dspy.context(lm=lm):
            await dspy.asyncify(dspy.Predict("question -> answer"))(question="Where?")
            await dspy.Predict("question -> answer").acall(question="Where?")
    assert is_settled(task, 2)


def test_react_shows_the_refusal_of_a_tool_to_the_model_and_goes_on() -> None:
    ran: list[str] = []

    @budgeted(custom0=1)
    def search(query: str) -> str:
        """Search."""
        ran.append(query)
        return f"found {query}"

    look = acts("search", '{"query": "x"}')
    lm, _ = scripted(look, look, look, acts("finish"), said(reasoning="so", answer="enough"))
    with task_budget(custom0=2, calls=100) as task, dspy.context(lm=lm):
        result = dspy.ReAct("question -> answer", tools=[search])(question="Where?")
    assert result.answer == "enough"
    assert ran == ["x", "x"]
    assert "has 0 of 2 custom0 left" in result.trajectory["observation_2"]
    assert task.spent("calls") == 5


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_tools_of_dspy_hold_by_themselves(asynchronous: bool) -> None:
    def search(query: str) -> str:
        """Search."""
        return f"found {query}"

    async def asearch(query: str) -> str:
        """Search."""
        return f"found {query}"

    plain = dspy.Tool(asearch if asynchronous else search)
    held = budget(dspy.Tool(asearch if asynchronous else search), tools={"custom0": 2})
    assert budget(held) is held
    assert (held.name, held.args, held.desc) == (plain.name, plain.args, plain.desc)
    async with task_budget(custom0=3) as task:
        assert await held.acall(query="x") == "found x"
        with pytest.raises(BudgetExceeded):
            await held.acall(query="y")
    assert task.spent("custom0") == 2


def test_an_endless_program_is_ended_though_errors_are_caught() -> None:
    lm, engine = scripted(acts("search", '{"query": "x"}'))

    @budgeted(calls=1)
    def search(query: str) -> str:
        """Search."""
        return "nothing"

    program = dspy.ReAct("question -> answer", tools=[search], max_iters=50)
    turns: list[int] = []

    def work() -> None:
        with task_budget(calls=7, policy="terminate"), dspy.context(lm=lm):
            for turn in range(30):
                turns.append(turn)
                with suppress(Exception):  # as programs do
                    program(question="Where?")

    with pytest.raises(BudgetTerminated):
        work()
    assert len(turns) == 1
    assert engine.asked == 4


async def test_a_streamed_program_is_settled_exactly(provider: Provider) -> None:
    lm = budget(local_lm(provider.url, "echo"))
    program = dspy.streamify(dspy.Predict("question -> answer"))
    async with task_budget(tokens=1_000_000) as task:
        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
        with dspy.context(lm=lm, adapter=adapter), pytest.raises(AdapterParseError):
            async for _ in program(question="Where?"):
                pass
    await lm.aclose()
    assert task.spent("tokens") == provider.tokens > 0


async def test_a_refused_program_tells_its_stream(provider: Provider) -> None:
    lm = budget(local_lm(provider.url, "echo"))
    program = dspy.streamify(dspy.Predict("question -> answer"))
    async with task_budget(tokens=10):
        with dspy.context(lm=lm), pytest.raises(BudgetExceeded) as caught:
            async for _ in program(question="Where?"):
                pass
    assert isinstance(budget_error(caught.value), BudgetExceeded)
    assert provider.count() == 0


@pytest.mark.filterwarnings("ignore:(?s).*`ReadOnly` qualifier:UserWarning")
@pytest.mark.filterwarnings("ignore:(?s)Pydantic serializer warnings:UserWarning")
@pytest.mark.filterwarnings("ignore:(?i)unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
async def test_the_engine_of_litellm_is_settled_and_streams_as_without(provider: Provider) -> None:
    pytest.importorskip("litellm")
    from tests.integrations.subjects.litellm import close_clients

    lm = budget(local_lm(provider.url, "echo", engine="litellm"))
    bare = local_lm(provider.url, "echo", engine="litellm")
    ours, theirs = Sink(), Sink()
    async with task_budget(tokens=1_000_000) as task:
        await to_thread.run_sync(lm, "Where?")
        with dspy.context(send_stream=ours):
            assert await lm.acall("Where?") == [ANSWER]
    assert task.spent("tokens") == provider.tokens
    assert task.spent("calls") == 2
    with dspy.context(send_stream=theirs):
        await bare.acall("Where?")
    await close_clients()
    assert [chunk.choices for chunk in ours.items] == [chunk.choices for chunk in theirs.items]


class Sink:
    """What a program's stream is sent into."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    async def send(self, item: Any) -> None:
        self.items.append(item)


def test_only_lms_and_tools_can_be_given() -> None:
    with pytest.raises(TypeError, match=r"dspy\.LM"):
        budget("openai/gpt-5-nano")

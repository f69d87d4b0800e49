"""The OpenAI Agents SDK: tools, handoffs, sub-agents, both of its APIs, and its own machinery."""

import asyncio
import copy
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import openai
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Model,
    ModelBehaviorError,
    ModelRetrySettings,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIProvider,
    RunConfig,
    Runner,
    SQLiteSession,
    UserError,
    WebSearchTool,
    function_tool,
    handoff,
    input_guardrail,
    retry_policies,
)
from agents.testing import ScriptedModel, assistant_message, function_call

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount, UnknownPrice
from budgetware_integrations.openai_agents import (
    BudgetedProvider,
    budgeted_model,
    run_config,
    wrap,
)
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.openai_agents import search

NEEDS = "openai-agents"

SEARCH = 'tool:search:{"query": "x"}'
SEARCH_FOR_EVER = 'loop:search:{"query": "x"}'
ASK = function_call("search", {"query": "x"}, call_id="1")
ASK_AGAIN = function_call("search", {"query": "y"}, call_id="2")


@pytest.fixture(params=["chat", "responses"])
async def config(request: Any, provider: Provider) -> AsyncIterator[RunConfig]:
    async with over(provider, use_responses=request.param == "responses") as made:
        yield made


@pytest.fixture
async def chat(provider: Provider) -> AsyncIterator[RunConfig]:
    async with over(provider, use_responses=False) as made:
        yield made


@asynccontextmanager
async def over(
    provider: Provider, use_responses: bool, max_retries: int = 2
) -> AsyncGenerator[RunConfig]:
    url = f"{provider.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=max_retries) as client:
        models = OpenAIProvider(openai_client=client, use_responses=use_responses)
        yield run_config(RunConfig(model_provider=models))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def guide(model: str | Model = "echo", **more: Any) -> Agent[None]:
    more.setdefault("model_settings", ModelSettings(max_tokens=64))
    return wrap(Agent[None](name="Guide", model=model, **more))


def outputs_of(result: Any) -> list[str]:
    items = [item for item in result.new_items if item.type == "tool_call_output_item"]
    return [str(item.output) for item in items]


async def test_both_apis_are_settled_to_what_was_billed(
    config: RunConfig, provider: Provider
) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        result = await Runner.run(guide(SEARCH, tools=[search]), "rivers", run_config=config)
    assert result.final_output == ANSWER
    assert outputs_of(result) == ["nothing on x"]
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 3
    assert budget.snapshot()["tokens"].assumed == 0


async def test_both_apis_are_settled_to_what_was_billed_in_streams(
    config: RunConfig, provider: Provider
) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        result = Runner.run_streamed(guide(SEARCH, tools=[search]), "rivers", run_config=config)
        async for _ in result.stream_events():
            pass
    assert result.final_output == ANSWER
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 3
    assert result.context_wrapper.usage.total_tokens == provider.tokens


async def test_a_streamed_turn_holds_nothing_while_its_tools_run(
    config: RunConfig, provider: Provider
) -> None:
    held: list[int] = []

    @function_tool
    async def look(query: str) -> str:
        held.append(int(budget.snapshot()["tokens"].reserved))
        return query

    async with task_budget(tokens=1_000_000) as budget:
        agent = guide('tool:look:{"query": "x"}', tools=[look])
        result = Runner.run_streamed(agent, "rivers", run_config=config)
        async for _ in result.stream_events():
            pass
    assert held == [0]


async def test_the_longest_answer_is_held(config: RunConfig, provider: Provider) -> None:
    agent = guide("echo", model_settings=ModelSettings(max_tokens=900))
    async with task_budget(tokens=850):
        with pytest.raises(BudgetExceeded) as caught:
            await Runner.run(agent, "rivers", run_config=config)
    assert 900 < caught.value.requested < 1_000
    assert provider.count() == 0


async def test_a_refused_tool_is_told_to_the_model(config: RunConfig, provider: Provider) -> None:
    ran: list[str] = []

    @function_tool(failure_error_function=None)
    async def search(query: str) -> str:
        ran.append(query)
        return query

    agent = wrap(Agent[None](name="Guide", model=SEARCH, tools=[search]), tools={"custom0": 2})
    async with task_budget(custom0=1, tokens=1_000_000):
        result = await Runner.run(agent, "rivers", run_config=config)
    assert outputs_of(result)[0].startswith("Refused by the budget: budget 'task'")
    assert result.final_output == ANSWER
    assert ran == []


async def test_of_parallel_tools_one_may_be_refused(provider: Provider) -> None:
    calls = [function_call("search", {"query": q}, call_id=q) for q in "abc"]
    model = ScriptedModel([calls, [assistant_message("done")]])
    agent = wrap(Agent[None](name="Guide", model=model, tools=[search]), tools={"custom0": 1})
    async with task_budget(custom0=2) as budget:
        result = await Runner.run(agent, "rivers")
    outputs = sorted(outputs_of(result))
    assert [output.split(" ")[0] for output in outputs] == ["Refused", "nothing", "nothing"]
    assert result.final_output == "done"
    assert budget.spent("custom0") == 2


async def test_what_a_tool_holds_may_follow_from_its_arguments() -> None:
    seen: list[Any] = []

    def amounts(name: str, arguments: Any) -> dict[str, int] | None:
        seen.append((name, arguments))
        return {"custom0": 7}

    model = ScriptedModel([[ASK], [assistant_message("ok")]])
    agent = wrap(Agent[None](name="Guide", model=model, tools=[search]), tools=amounts)
    async with task_budget(custom0=10) as budget:
        await Runner.run(agent, "rivers")
    assert seen == [("search", {"query": "x"})]
    assert budget.spent("custom0") == 7


async def test_a_budgeted_function_is_charged_once_and_its_refusal_told() -> None:
    @budgeted(custom0=1)
    async def search(query: str) -> str:
        """Search."""
        return query

    turn = [ASK]
    model = ScriptedModel([turn, [ASK_AGAIN], [assistant_message("k")]])
    tool = function_tool(search)
    agent = wrap(Agent[None](name="Guide", model=model, tools=[tool]), tools={"custom0": 5})
    async with task_budget(custom0=1) as budget:
        result = await Runner.run(agent, "rivers")
    assert outputs_of(result)[0] == "x"
    assert outputs_of(result)[1].startswith("Refused by the budget")
    assert budget.spent("custom0") == 1


async def test_a_failure_of_a_tool_is_told_as_without_and_charged() -> None:
    @function_tool(failure_error_function=lambda _context, error: f"sorry: {error}")
    async def search(query: str) -> str:
        raise ValueError(query)

    model = ScriptedModel([[ASK], [assistant_message("ok")]])
    agent = wrap(Agent[None](name="Guide", model=model, tools=[search]), tools={"custom0": 1})
    async with task_budget(custom0=9) as budget:
        result = await Runner.run(agent, "rivers")
    assert outputs_of(result) == ["sorry: x"]
    assert budget.spent("custom0") == 1


async def test_a_tool_whose_failures_end_the_run_still_does() -> None:
    @function_tool(failure_error_function=None)
    async def search(query: str) -> str:
        raise ValueError(query)

    model = ScriptedModel([[ASK]])
    agent = wrap(Agent[None](name="Guide", model=model, tools=[search]))
    with pytest.raises(UserError) as caught:
        await Runner.run(agent, "rivers")
    assert isinstance(caught.value.__cause__, ValueError)


async def test_agents_handed_off_to_are_held(config: RunConfig, provider: Provider) -> None:
    for wrapped in (False, True):
        editor = Agent[None](
            name="Editor",
            model=SEARCH_FOR_EVER,
            tools=[search],
            tool_use_behavior="stop_on_first_tool",
        )
        way: Any = handoff(editor) if wrapped else editor
        agent = guide("tool:transfer_to_editor", handoffs=[way])
        async with task_budget(calls=100) as budget:
            result = await Runner.run(agent, "rivers", run_config=config)
        assert result.last_agent is editor
        assert result.final_output == "nothing on x"
        assert budget.spent("calls") == 3


async def test_an_agent_as_a_tool_is_a_task_inside_the_run(
    config: RunConfig, provider: Provider
) -> None:
    inner = Agent[None](name="Old Editor", model=SEARCH_FOR_EVER, tools=[search])
    wrap(inner, limits={"calls": 4, "policy": "terminate"})
    tool = inner.as_tool("edit", "Edit a text.", max_turns=50)
    agent = guide('tool:edit:{"input": "x"}', tools=[tool])
    async with task_budget("run", calls=100) as budget:
        result = await Runner.run(agent, "rivers", run_config=config)
    assert outputs_of(result)[0].startswith("Refused by the budget: task 'Old-Editor' was")
    assert result.final_output == ANSWER
    assert budget.spent("calls") == 2 + 4
    assert provider.count() == 2 + 2


async def test_what_is_refused_within_an_agent_as_a_tool_is_told_to_the_other(
    config: RunConfig, provider: Provider
) -> None:
    inner = wrap(Agent[None](name="Editor", model="echo"), limits={"tokens": 10})
    agent = guide('tool:edit:{"input": "x"}', tools=[inner.as_tool("edit", "Edit a text.")])
    async with task_budget("run", calls=100):
        result = await Runner.run(agent, "rivers", run_config=config)
    assert "budget 'Editor' has 10 of 10 tokens left" in outputs_of(result)[0]


async def test_a_terminated_streamed_run_ends_and_its_owner_is_told(
    config: RunConfig, provider: Provider
) -> None:
    agent = guide(SEARCH_FOR_EVER, tools=[search])
    started: list[Any] = []

    async def run() -> None:
        async with task_budget(calls=5, policy="terminate"):
            started.append(Runner.run_streamed(agent, "rivers", run_config=config, max_turns=50))
            async for _ in started[0].stream_events():
                pass

    with pytest.raises(BudgetTerminated):
        await run()
    await asyncio.wait([started[0].run_loop_task], timeout=20)
    assert started[0].run_loop_task.done()
    assert provider.count() == 3


async def test_a_stream_that_is_cancelled_by_its_reader_is_charged(
    config: RunConfig, provider: Provider
) -> None:
    async with task_budget(tokens=1_000_000) as budget:
        result = Runner.run_streamed(guide("pause"), "rivers", run_config=config)
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                result.cancel()
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


@contextmanager
def blocking(provider: Provider) -> Generator[RunConfig]:
    """What `run_sync` needs: it leaves the loop open that it runs on."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k")
    models = OpenAIProvider(openai_client=client, use_responses=False)
    try:
        yield run_config(RunConfig(model_provider=models))
    finally:
        loop.run_until_complete(client.close())
        loop.close()
        asyncio.set_event_loop(None)


@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")  # on one loop again
def test_a_sync_run_pays_and_is_refused(provider: Provider) -> None:
    agent = guide(SEARCH, tools=[search])
    with blocking(provider) as config, task_budget(tokens=1_000, calls=4) as budget:
        assert Runner.run_sync(agent, "rivers", run_config=config).final_output == ANSWER
        assert budget.spent("tokens") == provider.tokens
        with pytest.raises(BudgetExceeded):
            Runner.run_sync(agent, "rivers", run_config=config)
    assert provider.count() == 3


def test_a_sync_run_that_is_terminated_ends(provider: Provider) -> None:
    agent = guide(SEARCH_FOR_EVER, tools=[search])
    terminated = pytest.raises(BudgetTerminated)
    with blocking(provider) as config, terminated, task_budget(calls=5, policy="terminate"):
        Runner.run_sync(agent, "rivers", run_config=config, max_turns=50)
    assert provider.count() == 3


async def test_each_attempt_of_the_sdks_own_retries_is_held_for_itself(provider: Provider) -> None:
    policy = retry_policies.http_status((500,))
    retry = ModelRetrySettings(max_retries=2, policy=policy, backoff={"initial_delay": 0.0})
    agent = guide("fail:500:2", model_settings=ModelSettings(max_tokens=64, retry=retry))
    async with (
        over(provider, use_responses=False, max_retries=0) as config,
        task_budget(tokens=1_000_000, calls=100) as budget,
    ):
        assert (await Runner.run(agent, "rivers", run_config=config)).final_output == ANSWER
    assert provider.count() == 3
    assert budget.spent("calls") == 1
    assert budget.spent("tokens") == provider.tokens


async def test_a_refusal_is_not_tried_again(chat: RunConfig, provider: Provider) -> None:
    policy = retry_policies.any(retry_policies.provider_suggested(), retry_policies.network_error())
    settings = ModelSettings(retry=ModelRetrySettings(max_retries=9, policy=policy))
    async with task_budget(tokens=10) as budget:
        with pytest.raises(BudgetExceeded):
            await Runner.run(guide(model_settings=settings), "rivers", run_config=chat)
    assert budget.snapshot()["tokens"].spent == 0
    assert provider.count() == 0


async def test_an_error_before_anything_is_sent_is_free(
    chat: RunConfig, provider: Provider
) -> None:
    agent = guide(tools=[WebSearchTool()])
    async with task_budget(tokens=1_000_000) as budget:
        with pytest.raises(UserError):
            await Runner.run(agent, "rivers", run_config=chat)
    assert budget.spent("tokens") == 0


async def test_hosted_tools_guardrails_and_sessions_are_as_without(
    provider: Provider,
) -> None:
    @input_guardrail
    async def guard(_context: Any, _agent: Any, text: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered="stop" in str(text))

    session = SQLiteSession("s")
    async with over(provider, use_responses=True) as config:
        agent = guide(tools=[WebSearchTool()], input_guardrails=[guard])
        async with task_budget(tokens=1_000_000) as budget:
            await Runner.run(agent, "rivers", run_config=config, session=session)
            await Runner.run(agent, "seas", run_config=config, session=session)
            with pytest.raises(InputGuardrailTripwireTriggered):
                await Runner.run(agent, "stop", run_config=config)
    session.close()
    assert len(provider.calls[1].body["input"]) == 3
    assert budget.snapshot()["tokens"].reserved == 0


async def test_a_run_without_an_end_stops_at_its_turns(
    config: RunConfig, provider: Provider
) -> None:
    agent = guide(SEARCH_FOR_EVER, tools=[search])
    async with task_budget(calls=100) as budget:
        with pytest.raises(MaxTurnsExceeded):
            await Runner.run(agent, "rivers", run_config=config, max_turns=3)
    assert budget.spent("calls") == 6


async def test_an_approval_is_asked_for_as_without() -> None:
    async def needs(_context: Any, parameters: dict[str, Any], _call_id: str) -> bool:
        return bool(parameters["query"] == "secret")

    ran: list[str] = []

    @function_tool(needs_approval=needs)
    async def search(query: str) -> str:
        ran.append(query)
        return query

    turns = [[function_call("search", {"query": q}, call_id=q)] for q in ("open", "secret")]
    model = ScriptedModel([*turns, [assistant_message("done")]])
    agent = wrap(Agent[None](name="Guide", model=model, tools=[search]), tools={"custom0": 1})
    async with task_budget(custom0=2) as budget:
        result = await Runner.run(agent, "rivers")
        assert ran == ["open"]
        state = result.to_state()
        state.approve(result.interruptions[0])
        assert (await Runner.run(agent, state)).final_output == "done"
    assert ran == ["open", "secret"]
    assert budget.spent("custom0") == 2


async def test_usage_of_an_answer_that_the_sdk_refuses_is_booked(
    chat: RunConfig, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(how: Any, number: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": None}
        choice = {"index": 0, "finish_reason": "length", "message": message}
        usage = {"prompt_tokens": 11, "completion_tokens": 64, "total_tokens": 75}
        about = {"id": "x", "created": 1, "model": how.model, "object": "chat.completion"}
        return {**about, "choices": [choice], "usage": usage}

    monkeypatch.setattr("tests.integrations.provider.openai_wire.chat", cut_short)
    async with task_budget(tokens=1_000_000) as budget:
        with pytest.raises(ModelBehaviorError):
            await Runner.run(guide(), "rivers", run_config=chat)
    assert budget.spent("tokens") == 75
    assert budget.snapshot()["tokens"].assumed == 0


async def test_rate_limits_of_the_provider_pause_the_resource(
    config: RunConfig, provider: Provider
) -> None:
    provider.headers |= {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "30s",
    }
    async with connect() as service:
        service.define(Resource("model", Rate(100, "second"), dim="calls", enforcement="reject"))
        async with QuotaToken("model", expected_use=2), task_budget("t", calls=9, service=service):
            await Runner.run(guide(), "rivers", run_config=config)
            with pytest.raises(QuotaExceeded) as caught:
                await Runner.run(guide(), "rivers", run_config=config)
    assert caught.value.is_paused
    assert provider.count() == 1


async def test_a_model_without_a_price_is_refused_where_dollars_are_limited(
    config: RunConfig, provider: Provider
) -> None:
    async with task_budget(usd="1"):
        with pytest.raises(UnknownPrice):
            await Runner.run(guide(), "rivers", run_config=config)
    assert provider.count() == 0


def test_wrapping_keeps_classes_and_happens_once() -> None:
    client = openai.AsyncOpenAI(api_key="k")
    inner = OpenAIChatCompletionsModel("m", client)
    model = budgeted_model(inner)
    assert isinstance(model, OpenAIChatCompletionsModel)
    assert budgeted_model(model) is model
    agent = guide(model=model)
    assert type(agent).__name__ == "Agent"
    assert wrap(agent) is agent
    assert type(wrap(agent)) is type(agent)
    assert type(agent.clone(name="Other")) is type(agent)
    config = run_config()
    assert isinstance(config.model_provider, BudgetedProvider)
    assert run_config(config).model_provider is config.model_provider


def test_what_is_no_agent_is_named() -> None:
    with pytest.raises(TypeError, match=r"wrap\(str\): give an Agent of openai-agents"):
        wrap(cast("Any", "agent"))


@pytest.fixture
async def bare(provider: Provider) -> AsyncIterator[OpenAIProvider]:
    url = f"{provider.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
        yield OpenAIProvider(openai_client=client, use_responses=False)


async def run_of(agent: Agent[Any], stream: bool, config: Any, **more: Any) -> Any:
    if not stream:
        return await Runner.run(agent, "rivers", run_config=config, **more)
    result = Runner.run_streamed(agent, "rivers", run_config=config, **more)
    async for _ in result.stream_events():
        pass
    return result


@pytest.mark.parametrize("as_mapping", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_wrapped_agent_holds_for_its_model_in_any_run(
    bare: OpenAIProvider, provider: Provider, stream: bool, as_mapping: bool
) -> None:
    config: Any = {"model_provider": bare} if as_mapping else RunConfig(model_provider=bare)
    async with task_budget(calls=100) as budget:
        await run_of(guide(SEARCH, tools=[search]), stream, config)
    assert budget.spent("calls") == 3
    assert budget.spent("tokens") == provider.tokens > 0


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
async def test_a_wrapped_agent_holds_in_a_run_without_a_configuration(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with task_budget(calls=100) as budget:
        assert (await Runner.run(guide(), "rivers")).final_output == ANSWER
    assert budget.spent("calls") == provider.count() == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_models_of_agents_own_are_held_by_the_configuration_of_the_run(
    bare: OpenAIProvider, provider: Provider, stream: bool
) -> None:
    for wrapped in (False, True):
        editor = Agent[None](name="Editor", model=bare.get_model("echo"))
        way: Any = handoff(editor) if wrapped else editor
        model = bare.get_model("tool:transfer_to_editor")
        agent = Agent[None](name="Guide", model=model, handoffs=[way])
        async with task_budget(calls=100) as budget:
            result = await run_of(agent, stream, run_config())
        assert result.last_agent is editor
        assert budget.spent("calls") == 2


async def test_an_agent_as_a_tool_with_a_configuration_of_its_own_is_held(
    bare: OpenAIProvider, provider: Provider
) -> None:
    editor = Agent[None](name="Editor", model=SEARCH, tools=[search])
    own = RunConfig(model_provider=bare)
    tool = editor.as_tool("edit", "Edit a text.", run_config=own)
    agent = guide('tool:edit:{"input": "x"}', tools=[tool])
    async with task_budget(calls=100) as budget:
        await Runner.run(agent, "rivers", run_config=own)
    assert provider.count() == 4
    assert budget.spent("calls") == 4 + 1


async def test_the_largest_maximum_is_held(config: RunConfig, provider: Provider) -> None:
    settings = ModelSettings(max_tokens=64, extra_body={"max_tokens": 9_000})
    async with task_budget(tokens=8_000):
        with pytest.raises(BudgetExceeded):
            await Runner.run(guide(model_settings=settings), "rivers", run_config=config)
    assert provider.count() == 0


async def test_an_error_of_the_amounts_of_tools_leaves_the_run() -> None:
    def fails(_name: str, _arguments: Any) -> dict[str, int]:
        raise ZeroDivisionError

    for amounts, kind in ((fails, ZeroDivisionError), (lambda *_: {"call": 1}, InvalidAmount)):
        model = ScriptedModel([[ASK], [assistant_message("ok")]])
        agent = wrap(Agent[None](name="Guide", model=model, tools=[search]), tools=amounts)
        async with task_budget(calls=9):
            with pytest.raises(UserError) as caught:
                await Runner.run(agent, "rivers")
        assert isinstance(caught.value.__cause__, kind)


def test_a_wrapped_agent_can_be_pickled_and_copied() -> None:
    agent = wrap(Agent[None](name="Guide", model="echo"), tools={"custom0": 2}, name="guide")
    made: Any
    assert copy.copy(agent) == agent == copy.deepcopy(agent)
    for made in (pickle.loads(pickle.dumps(agent)), copy.copy(agent), copy.deepcopy(agent)):
        assert (made.name, made.model) == ("Guide", "echo")
        assert made.budgetware_way.tools == {"custom0": 2}
        assert isinstance(made, Agent)
        assert type(made).__name__ == "Agent"


@pytest.mark.parametrize(
    "wrong",
    [{"tools": "x"}, {"tools": 5}, {"limits": 5}, {"limits": {}}, {"include_usage": "x"},
     {"provider": 5}, {"bogus": 1}, {"limits": {"calls": 1}, "name": "a b"}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_at_once(wrong: Any) -> None:
    agent = Agent[None](name="Guide")
    with pytest.raises(ConfigurationError):
        wrap(agent, **wrong)
    assert type(agent) is Agent


def test_what_is_of_another_kind_is_refused_at_once() -> None:
    wrong: Any
    for wrong in ("x", 5, {"model": "x"}):
        with pytest.raises(ConfigurationError, match="give a RunConfig"):
            run_config(wrong)
    for wrong in ("gpt", None):
        with pytest.raises(ConfigurationError, match="give a Model"):
            budgeted_model(wrong)
        with pytest.raises(ConfigurationError, match="give a ModelProvider"):
            BudgetedProvider(wrong)
    for wrong in ({"tools": {"call": 1}}, {"limits": {"token": 3}}):
        with pytest.raises(InvalidAmount, match="did you mean"):
            wrap(Agent[None](name="Guide"), **wrong)

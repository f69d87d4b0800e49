"""Budgets for Microsoft's Agent Framework: middleware that holds for model calls and tools.

    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatClient
    from budgetware import task_budget
    from budgetware_integrations.agent_framework import budget_middleware

    agent = Agent(OpenAIChatClient(), tools=[search], middleware=budget_middleware())

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        response = await agent.run("Where do rivers flow?")

`budget_middleware()` returns middleware of all three kinds: for an agent, for one run
(`agent.run(..., middleware=...)`), or for a chat client, which takes those of models and tools.
Put it first: what lies outside of it may answer without a call, what lies inside is paid for.

**A run is a task** with `budget_middleware(limits={"tokens": 50_000, "usd": "0.25"})`: each run of
the agent, streamed or not, by the agent's name or `name=`. An agent that is a tool of another one,
`other.as_tool()`, nests in it by itself.

**What is held.** For a model call, one call and tokens: the prompt by its bytes, the answer by
`max_tokens` of the options, else `default_output_tokens=4_096`; where `usd` is limited, the price
of that. For a tool, `{"calls": 1}`, or what `tools=` says; nothing where its function is
`@budgeted` or an agent. The retries of a provider's client are one call.

**What is settled.** The usage details that the response or the stream reports, before any tool
runs. Where there are none, as after a stream that was left early, what was held is charged; a
stream that is dropped without `close()` is charged when Python collects it. An error that the
provider does not bill charges nothing.

**When there is not enough**, a model call raises `BudgetExceeded` out of the run. A tool is not
run, and the model reads why in place of its result. Where the policy is `terminate`, a tool raises
`MiddlewareFailure`, which ends the loop (any other exception would be told to the model as a failed
tool, and the loop go on), and the owner of the task gets `BudgetTerminated`.

Limits: a conversation that the service keeps (`conversation_id`) is held for what is sent, and
settled to all of it. Hosted tools are part of the model call. Embeddings and workflows without
agents are not held; put `reserve` around them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Unpack

from budgetware import Usage, errors, task_budget

from ._model_calls import ModelCall, read_usage
from ._options import CallSettings, Options
from ._requirements import require
from ._stainless import listen
from ._task_names import task_name
from ._tool_calls import (
    ONE_CALL,
    Refused,
    ToolAmounts,
    amounts_of,
    ends_run,
    refusal_text,
    run_tool,
)

require("agent-framework-core", "1.21", "2", extra="agent-framework")

from agent_framework import (  # noqa: E402
    AgentContext,
    AgentMiddleware,
    ChatContext,
    ChatMiddleware,
    FunctionInvocationContext,
    FunctionMiddleware,
    FunctionTool,
    MiddlewareFailure,
    ResponseStream,
)
from agent_framework.exceptions import UserInputRequiredException  # noqa: E402

Next = Callable[[], Awaitable[None]]

_HELD: Final = "budgetware.held"
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_CLIENTS: Final = ("client", "anthropic_client")
_HEARD: Final = frozenset({"openai", "anthropic"})


def budget_middleware(
    *,
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    **options: Unpack[Options],
) -> list[Any]:
    """Return middleware that holds for model calls and tools. Twice, on one agent, is once.

    One each for models and tools, which chat clients take, too; with limits, first one for runs.

    Args:
        limits: of each run, as `task_budget` takes them, `policy` and the like included; None:
            runs pay from the tasks they are in.
        name: of these tasks; by default the agent's.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments;
            None: nothing.
        provider: who answers; by default as the chat client says; for prices, spans and events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    runs = [] if limits is None else [BudgetedRuns(limits, name)]
    return [*runs, BudgetedModels(CallSettings(**options), provider), BudgetedTools(tools)]


class BudgetedRuns(AgentMiddleware):
    """Makes each run of an agent a task of its own."""

    def __init__(self, limits: Mapping[str, Any], name: str | None = None) -> None:
        task_budget(name or "agent", **limits)  # raises at once what is wrong
        self._limits = dict(limits)
        self._name = name

    async def process(self, context: AgentContext, call_next: Next) -> None:
        """Run the agent in its task; a stream enters it at each step."""
        if _is_held(context.metadata, self):
            await call_next()
            return
        name = self._name or task_name(context.agent.name)
        if not context.stream:
            async with task_budget(name, **self._limits):
                await call_next()
            return
        await call_next()  # nothing runs before the stream is read
        if isinstance(context.result, ResponseStream):
            run = task_budget(name, **self._limits)
            context.result = _within(run, context.result)


class BudgetedModels(ChatMiddleware):
    """Holds for each call of a model."""

    def __init__(self, settings: CallSettings, provider: str | None = None) -> None:
        self._settings = settings
        self._provider = provider

    async def process(self, context: ChatContext, call_next: Next) -> None:
        """Hold, let the call go on, and settle to what it reports, at the end of its stream."""
        call = self._call(context)
        await call.start()
        try:
            with call.inside():
                await call_next()
        except BaseException as error:
            call.end(error)
            raise
        if isinstance(context.result, ResponseStream):
            _follow(context.result, call)
            return
        call.note(context.result, final=True)
        _finish(call)

    def _call(self, context: ChatContext) -> ModelCall:
        options: Mapping[str, Any] = context.options or {}
        client: Any = context.client
        call = ModelCall(
            self._settings,
            provider=self._provider or str(getattr(client, "OTEL_PROVIDER_NAME", "unknown")),
            model=options.get("model") or getattr(client, "model", None),
            prompt={
                "messages": [message.to_dict() for message in context.messages],
                "instructions": options.get("instructions"),
                "tools": [_declared(tool) for tool in _listed(options.get("tools"))],
                "format": _schema(options.get("response_format")),
            },
            output_tokens=next((options[name] for name in _MAXIMA if options.get(name)), None),
            answers=options.get("n") or 1,
        )
        for name in _CLIENTS:
            inner = getattr(client, name, None)
            if type(inner).__module__.partition(".")[0] in _HEARD:
                listen(inner, call)
        return call


class BudgetedTools(FunctionMiddleware):
    """Holds for each call of a tool."""

    def __init__(self, tools: ToolAmounts = ONE_CALL) -> None:
        self._tools = tools

    async def process(self, context: FunctionInvocationContext, call_next: Next) -> None:
        """Hold, and run the tool; where that is refused, the model reads why."""
        if _is_held(context.metadata, BudgetedTools):
            await call_next()
            return
        function, name = context.function.func, context.function.name
        amounts = (
            {}
            if _is_agent(function)
            else amounts_of(self._tools, name, context.arguments, function)
        )
        try:
            with errors.soft_termination():
                await run_tool(amounts, name, call_next, free=(UserInputRequiredException,))
        except Refused as error:
            if ends_run(error):
                raise MiddlewareFailure(refusal_text(error)) from error
            context.result = refusal_text(error)


def _is_held(metadata: dict[str, Any], by: object) -> bool:
    """Say whether it is there a second time, as on an agent and again on its run; note that."""
    kind = by if isinstance(by, type) else type(by)
    held = metadata.setdefault(_HELD, set[type]())
    if kind in held:
        return True
    held.add(kind)
    return False


def _is_agent(function: object) -> bool:
    """Say whether a tool runs an agent, which holds for its own calls: `Agent.as_tool`."""
    return getattr(function, "__module__", "") == "agent_framework._agents"


def _follow(stream: ResponseStream[Any, Any], call: ModelCall) -> None:
    """Note what a stream reports, and end the call with it."""
    used = Usage()
    is_begun = False

    def see(update: Any) -> None:
        nonlocal used, is_begun
        is_begun = True
        for content in update.contents:
            usage = read_usage(content.usage_details) if content.type == "usage" else None
            if usage is not None:  # of one call there may be several, which the framework adds
                used = used + usage
                call.note(used)

    @contextmanager
    def step() -> Generator[None]:
        try:
            with call.inside():
                yield
        except StopAsyncIteration:
            _finish(call)
            raise
        except BaseException as error:
            call.end(error, broken=is_begun and isinstance(error, Exception))
            raise

    def close() -> None:
        if call.billing.is_sent:
            call.end(GeneratorExit())
        else:
            call.release()

    stream.with_transform_hook(see).with_pull_context_manager(step).with_cleanup_hook(close)


def _finish(call: ModelCall) -> None:
    """End a call that came to its end; other middleware may have answered it."""
    if call.billing.is_sent:
        call.end()
    else:
        call.release()


def _within(run: Any, stream: ResponseStream[Any, Any]) -> ResponseStream[Any, Any]:
    """The same stream, each step of which is in the task of its run."""

    async def updates() -> AsyncGenerator[Any]:
        try:
            async for update in stream:
                yield update
        except GeneratorExit:
            await stream.close()
            raise

    async def response(_updates: object) -> Any:
        return await stream.get_final_response()

    return ResponseStream(run(updates)(), finalizer=response)


def _listed(tools: Any) -> list[Any]:
    if tools is None:
        return []
    return list(tools) if isinstance(tools, list | tuple) else [tools]


def _declared(tool: Any) -> Any:
    """A tool as the model reads of it."""
    if isinstance(tool, FunctionTool):
        return tool.name, tool.description, tool.parameters()
    return tool


def _schema(form: Any) -> Any:
    schema = getattr(form, "model_json_schema", None)
    return form if schema is None else schema()

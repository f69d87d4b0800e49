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
Among middleware for models its place does not matter: each call that reaches the client is held,
as often as another one makes it. Among that for tools, put it last: it holds once for what lies
inside of it.

**A run is a task** with `budget_middleware(limits={"tokens": 50_000, "usd": "0.25"})`: each run of
the agent, streamed or not, by the agent's name or `name=`. A chat client has no runs: its calls are
refused with `ConfigurationError` there. An agent that is a tool of another one, `other.as_tool()`,
nests in it by itself; if it has no such middleware, it is given that of models and tools.

**What is held.** For a model call, one call and tokens: the prompt by its bytes, the answer by
the largest maximum of the options, `extra_body` included, else `default_output_tokens=4_096`;
where `usd` is limited, the price of that. For a tool, `{"calls": 1}`, or what `tools=` says;
nothing where its function is `@budgeted` or an `Agent`. The retries of a provider's client are one
call.

**What is settled.** The usage details that the response or the stream reports, before any tool
runs. Where there are none, as after a stream that was left early, what was held is charged; a
stream that is dropped without `close()` is charged when Python collects it. An error that the
provider does not bill charges nothing.

**When there is not enough**, a model call raises `BudgetExceeded` out of the run. A tool is not
run, and the model reads why in place of its result. Where the policy is `terminate`, a tool raises
`MiddlewareFailure`, which ends the loop (any other exception would be told to the model as a failed
tool, and the loop go on), and the owner of the task gets `BudgetTerminated`. An error of a callable
for `tools=` ends the run as a `MiddlewareFailure`, too, whose cause it is.

Limits: a conversation that the service keeps (`conversation_id`) is held for what is sent, and
settled to all of it. Hosted tools are part of the model call. Embeddings and workflows without
agents are not held; put `reserve` around them. Agents of a service, without a chat client here,
are held as tools alone; agents that your code runs inside of a tool need the middleware, too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from inspect import getclosurevars
from typing import Any, Final, Unpack

from budgetware import errors, task_budget
from budgetware.errors import ConfigurationError

from ._options import CallSettings, Options, checked_limits
from ._requirements import require
from ._task_names import task_name
from ._tool_calls import (
    ONE_CALL,
    Refused,
    ToolAmounts,
    amounts_of,
    checked_tools,
    ends_run,
    refusal_text,
    run_tool,
)

require("agent-framework-core", "1.21", "2", extra="agent-framework")

from agent_framework import (  # noqa: E402
    Agent,
    AgentContext,
    AgentMiddleware,
    ChatContext,
    ChatMiddleware,
    FunctionInvocationContext,
    FunctionMiddleware,
    MiddlewareFailure,
    ResponseStream,
)
from agent_framework.exceptions import UserInputRequiredException  # noqa: E402

from ._agent_framework_models import BudgetedModels  # noqa: E402

__all__ = ["BudgetedModels", "BudgetedRuns", "BudgetedTools", "budget_middleware"]

Next = Callable[[], Awaitable[None]]

_HELD: Final = "budgetware.held"


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
    models, functions = BudgetedModels(CallSettings(**options), provider), BudgetedTools(tools)
    functions.models = models
    if limits is None:
        return [models, functions]
    return [BudgetedRuns(limits, name), _ModelsOfRuns(models.settings, provider), functions]


class BudgetedRuns(AgentMiddleware):
    """Makes each run of an agent a task of its own."""

    def __init__(self, limits: Mapping[str, Any], name: str | None = None) -> None:
        checked = checked_limits(limits)
        if checked is None:
            raise ConfigurationError("limits=None: give those of a run, such as {'tokens': 50_000}")
        task_budget(name or "agent", **checked)  # raises at once what is wrong
        self._limits = checked
        self._name = name

    async def process(self, context: AgentContext, call_next: Next) -> None:
        """Run the agent in its task; a stream enters it at each step."""
        given = dict(context.client_kwargs or {})
        given["middleware"] = [_in_run(one) for one in given.get("middleware", ())]
        context.client_kwargs = given
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


class _ModelsOfRuns(BudgetedModels):
    """Of middleware with limits: it takes calls of agents alone, where these are enforced."""

    async def process(self, context: ChatContext, call_next: Next) -> None:  # noqa: ARG002
        raise ConfigurationError(
            "budget_middleware(limits=...) holds for the runs of an agent: a chat client has none; "
            "give it budget_middleware(), and put task_budget(...) around its calls"
        )


def _in_run(middleware: Any) -> Any:
    """The same within a run of an agent, whose limits are enforced."""
    if isinstance(middleware, _ModelsOfRuns):
        return BudgetedModels(middleware.settings, middleware.provider)
    return middleware


class BudgetedTools(FunctionMiddleware):
    """Holds for each call of a tool."""

    models: BudgetedModels | None = None
    """What is given to an agent as a tool, too."""

    def __init__(self, tools: ToolAmounts = ONE_CALL) -> None:
        self._tools = checked_tools(tools)

    async def process(self, context: FunctionInvocationContext, call_next: Next) -> None:
        """Hold, and run the tool; where that is refused, the model reads why."""
        if _is_held(context.metadata, BudgetedTools):
            await call_next()
            return
        is_begun = False

        async def run() -> None:
            nonlocal is_begun
            is_begun = True
            await call_next()

        try:
            with errors.soft_termination():
                amounts = self._amounts(context)
                name = context.function.name
                await run_tool(amounts, name, run, free=(UserInputRequiredException,))
        except Refused as error:
            if ends_run(error):
                raise MiddlewareFailure(refusal_text(error)) from error
            context.result = refusal_text(error)
        except Exception as error:
            if is_begun:
                raise
            raise MiddlewareFailure(f"what a tool holds: {error!r}") from error

    def _amounts(self, context: FunctionInvocationContext) -> Mapping[str, Any]:
        function = context.function.func
        agent = _agent_of(function)
        if agent is None:
            return amounts_of(self._tools, context.function.name, context.arguments, function)
        _pass_on(agent, self.models, self)
        return {}


def _is_held(metadata: dict[str, Any], by: object) -> bool:
    """Say whether it is there a second time, as on an agent and again on its run; note that."""
    kind = by if isinstance(by, type) else type(by)
    held = metadata.setdefault(_HELD, set[type]())
    if kind in held:
        return True
    held.add(kind)
    return False


def _agent_of(function: Any) -> Agent[Any] | None:
    """The agent that a tool runs, which holds for its own calls: of `Agent.as_tool`."""
    if getattr(function, "__module__", "") != "agent_framework._agents":
        return None
    agent = getclosurevars(function).nonlocals.get("self")
    return agent if isinstance(agent, Agent) else None


def _pass_on(agent: Agent[Any], *ours: ChatMiddleware | FunctionMiddleware | None) -> None:
    """Give an agent the middleware for models and tools that it does not have."""
    given: Any = agent.middleware or []
    has = list(given) if isinstance(given, list | tuple) else [given]
    for one in ours:
        kind = BudgetedTools if isinstance(one, BudgetedTools) else BudgetedModels
        if one is not None and not any(isinstance(other, kind) for other in has):
            has.append(one)
            agent.middleware = has


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

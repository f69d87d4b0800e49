"""Budgets for the OpenAI Agents SDK: model calls and tools of a run, whichever agent makes them.

    from agents import Agent, Runner
    from budgetware import task_budget
    from budgetware_integrations.openai_agents import run_config, wrap

    agent = wrap(Agent(name="Researcher", tools=[search], handoffs=[editor]))

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        result = await Runner.run(agent, "Where do rivers flow?", run_config=run_config())

`run_config()` holds for the models of a run: it returns a `RunConfig` (or a copy of yours) whose
model provider does; a `Model` of an agent's own is replaced by one that holds when a run starts.
`wrap` holds for the tools of an agent, those of its MCP servers included, and for its model, in
every run that starts with it; so it does for every agent that it hands off to or has as a tool. It
returns the same agent. Both work with `run`, `run_sync` and `run_streamed`, over the Responses API,
chat completions, and any `Model`.

**What is held.** For a model call, one call and tokens: the prompt by its bytes, the answer by
`ModelSettings(max_tokens=...)`, else `default_output_tokens=4_096`; where `usd` is limited, the
price of that. For a tool, `{"calls": 1}`, or what `tools=` says; nothing where it is `@budgeted`.
Each attempt of `ModelSettings(retry=...)` is held for itself, those of the client are one.

**What is settled.** The usage that is reported. Streamed chat completions report it only when
asked: they are asked (`include_usage=False`: not). The SDK writes zeros where nothing was
reported; that is taken as unknown, and what was held is charged.

**When there is not enough**, a model call raises `BudgetExceeded` out of the run, as it is; a tool
is not run, and the model reads why in place of its result, whatever the `failure_error_function`.
An error of a callable for `tools=` ends the run.
Where the policy is `terminate`, the run ends and the owner of the task gets `BudgetTerminated`.

**A run is a task** if you put `task_budget` around it. An agent that is a tool of another is one of
its own, inside that, with `wrap(editor, limits={"tokens": 5_000})`.

Limits: a conversation that the server keeps (`previous_response_id`, `conversation_id`) is held
for what is sent, not for what the server adds; it is settled to all of it. Hosted tools are part of
the model call. Computer, shell and patch tools are not held. Runs that your code starts elsewhere,
as in a guardrail, need `run_config()` or an agent of `wrap`, too; so does a run that starts with
another agent, for the model of one that it hands off to. Runs are told of what holds by the SDK's
default runner; with `AgentRunner().run(...)` of your own, give both. Realtime and voice agents are
not held.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import update_wrapper
from typing import Any, ClassVar, TypeVar, Unpack, cast

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
    refusal_text,
    run_tool,
)

require("openai-agents", "0.22", "1")

import agents  # noqa: E402
from agents import Agent, CustomTool, FunctionTool, Handoff, Model, ModelProvider  # noqa: E402

from ._agents_models import Way, held_model, subclass_of  # noqa: E402
from ._agents_runs import prepare_runs  # noqa: E402

__all__ = ["BudgetedProvider", "budgeted_model", "run_config", "wrap"]

A = TypeVar("A", bound=Agent[Any])
Invoke = Callable[[Any, str], Any]


def run_config(
    config: agents.RunConfig | None = None,
    /,
    *,
    provider: str = "openai",
    include_usage: bool = True,
    **options: Unpack[Options],
) -> agents.RunConfig:
    """Return a copy of a run's configuration, whose models hold for their calls.

    Args:
        config: yours; nothing: the default one.
        provider: who answers, where that is not OpenAI; for prices, spans and events.
        include_usage: ask streams of chat completions to report usage.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if config is not None and not isinstance(config, agents.RunConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"run_config({type(config).__name__}): give a RunConfig, or None")
    prepare_runs(_prepared)
    return cast("agents.RunConfig", _held_config(config, _way(options, provider, include_usage)))


def budgeted_model(
    model: Model,
    *,
    provider: str = "openai",
    include_usage: bool = True,
    **options: Unpack[Options],
) -> Model:
    """Return a model that shares its state with `model`, is of its class, and holds for its calls.

    For `Agent(model=...)`. Twice is once; the arguments are those of `run_config`.
    """
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"budgeted_model({model!r}): give a Model, such as OpenAIResponsesModel(...); "
            "those that go by a name are held by run_config()"
        )
    return held_model(model, _way(options, provider, include_usage))


class BudgetedProvider(ModelProvider):
    """A provider whose models hold for their calls: for `RunConfig(model_provider=...)`.

    Args:
        inner: the provider that makes them, such as `OpenAIProvider(...)`.
        provider: who answers, as of `run_config`; so are the others.
        include_usage: ask streams of chat completions to report usage.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """

    def __init__(
        self,
        inner: ModelProvider,
        *,
        provider: str = "openai",
        include_usage: bool = True,
        **options: Unpack[Options],
    ) -> None:
        if not isinstance(inner, ModelProvider):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"BudgetedProvider({inner!r}): give a ModelProvider, such as OpenAIProvider()"
            )
        self.inner = inner
        self.way = _way(options, provider, include_usage)
        prepare_runs(_prepared)

    def get_model(self, model_name: str | None) -> Model:
        """Return the model of that name, held."""
        return held_model(self.inner.get_model(model_name), self.way)

    async def aclose(self) -> None:
        """Close the inner provider."""
        await self.inner.aclose()


def wrap(
    agent: A,
    /,
    *,
    tools: ToolAmounts = ONE_CALL,
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    provider: str = "openai",
    include_usage: bool = True,
    **options: Unpack[Options],
) -> A:
    """Make an agent hold for its tools, and those it reaches for theirs; returns the same agent.

    Its class becomes a subclass of its own, by the same name. Each agent is wrapped once: one that
    needs settings of its own is wrapped before those that reach it.

    Args:
        agent: whose tools, handoffs and agents as tools are followed, at each turn anew.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments;
            None: nothing.
        limits: such as `{"tokens": 5_000}`: of each run of this agent as a tool of another.
        name: of that task; by default the agent's.
        provider: as of `run_config`, for a `Model` that the agent has of its own; so are the rest.
        include_usage: ask streams of chat completions to report usage.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if not isinstance(agent, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(agent).__name__}): give an Agent of openai-agents")
    way = _way(options, provider, include_usage)
    limits = checked_limits(limits) or {}
    if limits:
        task_budget(name or "agent", **limits)  # raises at once what is wrong
    _put(agent, replace(way, tools=checked_tools(tools), limits=limits, name=name))
    prepare_runs(_prepared)
    return agent


def _way(options: Options, provider: object, include_usage: object) -> Way:
    """How models are held, or what is wrong with that."""
    if not isinstance(provider, str) or not provider:
        raise ConfigurationError(f"provider={provider!r}: give a name, such as 'openai'")
    if not isinstance(include_usage, bool):
        raise ConfigurationError(f"include_usage={include_usage!r}: give True or False")
    return Way(CallSettings(**options), provider, include_usage)


def _held_config(config: Any, way: Way) -> Any:
    """A copy of a run's configuration, a mapping as it may be, whose models hold."""
    config = agents.RunConfig() if config is None else config
    given = config if isinstance(config, Mapping) else vars(config)
    model, models = given.get("model"), given.get("model_provider") or agents.MultiProvider()
    if isinstance(model, Model):
        model = held_model(model, way)
    if isinstance(models, ModelProvider) and not isinstance(models, BudgetedProvider):
        models = BudgetedProvider(models)
        models.way = way
    held = {"model": model, "model_provider": models}
    return {**config, **held} if isinstance(config, Mapping) else replace(config, **held)


def _prepared(agent: Any, config: Any) -> Any:
    """What a run is to be configured with, where its agent or its models hold."""
    given = config if isinstance(config, Mapping) else vars(config) if config is not None else {}
    models = given.get("model_provider")
    if isinstance(models, BudgetedProvider):
        _hold_models(agent, models.way)
    elif isinstance(agent, _HeldAgent):
        return _held_config(config, agent.budgetware_way)
    return config


class _HeldAgent(Agent[Any]):
    """What an agent that holds does; the class of the agent itself comes after it."""

    budgetware_way: ClassVar[Way]

    async def get_all_tools(self, run_context: Any) -> list[Any]:
        _follow(self, self.budgetware_way)
        tools = await super().get_all_tools(run_context)
        return [_held_tool(tool, self.budgetware_way) for tool in tools]

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return _made_again, (type(self).__mro__[2], self.budgetware_way), self.__dict__


def _made_again(kind: type[Agent[Any]], way: Way) -> Agent[Any]:
    """An agent of a pickle, or a copy of one, before it has its state."""
    return cast("Agent[Any]", object.__new__(subclass_of(_HeldAgent, kind, way)))


def _hold_models(agent: object, way: Way) -> None:
    """Replace the models that an agent, and those that it reaches, have of their own."""
    seen, waiting = set[int](), [agent]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Agent) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one.model, Model):
            one.model = held_model(one.model, way)
        waiting += [_agent_of(tool) for tool in one.tools]
        for other in one.handoffs:
            if isinstance(other, Agent):
                waiting.append(other)
            else:
                _follow_handoff(other, _hold_models, way)


def _put(agent: Agent[Any], way: Way) -> None:
    """Make it an agent that holds, and those that it reaches."""
    if not isinstance(agent, _HeldAgent):
        agent.__class__ = subclass_of(_HeldAgent, type(agent), way)
        _follow(agent, way)


def _follow(agent: Agent[Any], way: Way) -> None:
    """Wrap its own model, and the agents that it reaches; limits are its own."""
    if isinstance(agent.model, Model):
        agent.model = held_model(agent.model, way)
    below = replace(way, limits={}, name=None)
    for other in agent.handoffs:
        if isinstance(other, Agent):
            _put(other, below)
        else:
            _follow_handoff(other, _put, below)
    for tool in agent.tools:
        inner = _agent_of(tool)
        if inner is not None:
            _put(inner, below)


def _follow_handoff(
    handoff: Handoff[Any, Any], put: Callable[[Agent[Any], Way], None], way: Way
) -> None:
    """Have `put` make whichever agent it hands over to hold."""
    hand_over = handoff.on_invoke_handoff
    done = getattr(hand_over, "budgetware_put", ())
    if put in done:
        return

    async def on_invoke_handoff(context: Any, arguments: str) -> Any:
        agent = await hand_over(context, arguments)
        put(agent, way)
        return agent

    held: Any = update_wrapper(on_invoke_handoff, hand_over)
    held.budgetware_put = (*done, put)
    handoff.on_invoke_handoff = held


def _agent_of(tool: object) -> Agent[Any] | None:
    """The agent that a tool runs, made by `Agent.as_tool`."""
    agent = getattr(tool, "_agent_instance", None)
    return agent if isinstance(agent, Agent) else None


def _held_tool(tool: Any, way: Way) -> Any:
    """A copy of a tool that runs here, which holds; others as they are."""
    if not isinstance(tool, FunctionTool | CustomTool) or hasattr(tool, "budgetware_way"):
        return tool
    made = cast("Any", copy.copy(tool))
    body = getattr(made.on_invoke_tool, "_invoke_tool_impl", None)
    if body is None:
        made.on_invoke_tool = _held_body(made, made.on_invoke_tool, way)
    else:  # within the SDK's own invoker, which knows the arguments and tells of failures
        made.on_invoke_tool = copy.copy(made.on_invoke_tool)
        made.on_invoke_tool._invoke_tool_impl = _held_body(made, body, way)
    made.budgetware_way = way
    return made


def _held_body(made: Any, body: Invoke, way: Way) -> Invoke:
    """What invokes a tool: it holds, runs `body`, and answers a refusal with its text."""
    function = getattr(made, "__wrapped__", body)
    is_own = _tells_of_failures(made)
    is_typed = getattr(made, "output_json_schema", None) is not None

    async def invoke(context: Any, arguments: str) -> Any:
        is_begun = False

        async def run() -> Any:
            nonlocal is_begun
            is_begun = True
            result = body(context, arguments)
            return await result if isinstance(result, Awaitable) else result

        try:
            with errors.soft_termination():
                if _agent_of(made) is not None:
                    async with _task_of(made):
                        return await run()
                given = _parsed(arguments) if callable(way.tools) else arguments
                amounts = amounts_of(way.tools, made.name, given, function)
                return await run_tool(amounts, made.name, run)
        except Refused as error:
            if is_typed or (is_begun and is_own):
                raise
            return refusal_text(error)
        except Exception:
            if not is_begun:  # an error of the program leaves the run: nobody tells the model
                made._use_default_failure_error_function = False
                made._failure_error_function = None
            raise

    return update_wrapper(invoke, body)


def _tells_of_failures(tool: object) -> bool:
    """Say whether it was given its own way to tell of what its function raises, or to raise it."""
    if getattr(tool, "_use_default_failure_error_function", False):
        return False
    told = getattr(tool, "_failure_error_function", None)
    return told is not agents.default_tool_error_function


def _task_of(tool: object) -> AbstractAsyncContextManager[Any]:
    """The task that a run of an agent as a tool is, where it has limits."""
    agent = _agent_of(tool)
    if not isinstance(agent, _HeldAgent) or not agent.budgetware_way.limits:
        return nullcontext()
    way = agent.budgetware_way
    return task_budget(way.name or task_name(agent.name), **way.limits)


def _parsed(arguments: str) -> Any:
    """The arguments as the model wrote them; the text itself where it is no JSON."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments

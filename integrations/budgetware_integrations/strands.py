"""Budgets for Strands agents: each call of the model and of a tool holds what it may cost.

    from budgetware import task_budget
    from budgetware_integrations.strands import budget
    from strands import Agent

    agent = budget(Agent(model=..., tools=[search]))

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await agent.invoke_async("Where do rivers flow?")

`budget` adds middleware to an agent and returns the same one; `agent(...)`, `invoke_async` and
`stream_async` all pay. With `limits={"tokens": 50_000}` each run of the agent is a task of its
own, by the agent's name or `name=`; an agent that is a tool of another nests in it by itself. Give
it each agent of a graph or a swarm. Middleware of yours that was added before lies around it, as a
cache that answers first.

**What is held.** For each turn of the model one call, and tokens: messages, system prompt and tool
specifications by their bytes (`count_tokens=` counts them better), the answer by the `max_tokens`
of the model's configuration; without one, `default_output_tokens=4_096`. For each tool one call;
`tools=` says otherwise, as amounts for all of them or as a callable of a tool's name and input.
`@budgeted` tools are not held for twice.

**What is settled.** The usage that the model reports, before its answer is passed on, so that
nothing is held while tools run. Where none was reported, as after a stream that was left early or
a run that was cancelled, what was held is charged. An error of the provider charges nothing; the
agent's own retries are calls of their own, those of the provider's client are not.

**When there is not enough.** A tool is not run, and the model reads why, as the result of that
tool. A model's turn raises `BudgetExceeded` out of the run (or waits, or ends the task, by the
policy), in any turn: Strands' `EventLoopException` is taken off it. A task that is terminated ends
the run at its next turn, and its block raises `BudgetTerminated`; inside a tool it is told softly,
for Strands would ask the model again for ever.

Not held: `agent.structured_output` (deprecated there; `structured_output_model=` is), what tools
and conversation managers ask of models by other agents (give those to `budget`, too), bidirectional
agents. Rate-limit headers are seen on errors alone, for Strands shows no others. An agent that was
given to `budget` does not pickle.

Errors: those of Strands and of `reserve`; `TypeError` where it is no agent, `ConfigurationError`
for options that cannot be.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Unpack

from budgetware import BudgetwareError, Reservation, reserve, task_budget
from budgetware.errors import soft_termination

from ._model_calls import LONGEST_CALL, ModelCall
from ._options import CallSettings, Options, checked_limits, checked_provider
from ._requirements import require
from ._streams import each
from ._subclasses import Method, is_subclassed, subclass, told
from ._tool_calls import (
    ONE_CALL,
    Amounts,
    Refused,
    ToolAmounts,
    amounts_of,
    call_name,
    checked_tools,
    refusal_text,
)

require("strands-agents", "1.60", "2", extra="strands")

from strands import Agent  # noqa: E402
from strands.middleware import (  # noqa: E402
    ExecuteToolContext,
    ExecuteToolStage,
    InvokeModelContext,
    InvokeModelStage,
    ModelStopReason,
    ToolResultEvent,
)
from strands.types.exceptions import EventLoopException  # noqa: E402

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["budget"]

Next = Callable[[Any], AsyncGenerator[Any, None]]

_PROVIDERS: Final = {
    "AnthropicModel": "anthropic",
    "BedrockModel": "aws.bedrock",
    "GeminiModel": "gcp.gemini",
    "MistralModel": "mistral_ai",
    "OpenAIModel": "openai",
    "OpenAIResponsesModel": "openai",
}
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def budget(
    agent: Agent,
    *,
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent hold for its calls; returns the same agent.

    Twice is once; what the second time is told besides, or otherwise, goes from then on.

    Args:
        agent: of `strands`.
        limits: of each run, as `task_budget` takes them, `policy` and the like included; None:
            the runs pay from the tasks they are in.
        name: of these tasks; by default the agent's.
        tools: what a call of a tool holds, by dimension; a callable of its name and input; None.
        provider: who answers, where the model's class does not tell; for prices, spans, events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if not isinstance(agent, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"budget({type(agent).__name__}): give an agent of strands")
    checked_provider(provider)
    now: dict[str, Any] = {"limits": checked_limits(limits), "name": name, "provider": provider}
    now = {key: value for key, value in now.items() if value is not None}
    if checked_tools(tools) is not ONE_CALL:
        now["tools"] = tools
    CallSettings(**options)
    about = told(agent, {**now, **options})
    if not is_subclassed(agent):
        agent.add_middleware(InvokeModelStage, _hold_model)
        agent.add_middleware(ExecuteToolStage, _hold_tool)
    return subclass(agent, {"stream_async": _runs(_task_of(agent, about))}, about)


def _task_of(agent: Agent, about: Mapping[str, Any]) -> Method | None:
    """What makes each run a task, where it has limits."""
    if "limits" not in about:
        return None
    return task_budget(_name_of(agent, about.get("name")), **about["limits"])


def _runs(task: Method | None) -> Callable[[Method], Method]:
    """What makes `stream_async`, which all runs go by."""

    def make(original: Method) -> Method:
        async def stream_async(self: Agent, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            try:
                async with aclosing(original(self, *args, **kwargs)) as events:
                    async for event in events:
                        yield event
                return
            except EventLoopException as error:
                if not isinstance(error.original_exception, BudgetwareError):
                    raise
                refusal = error.original_exception
            raise refusal  # not above, for it is the cause of what it would be raised in

        return stream_async if task is None else task(stream_async)

    return make


def _name_of(agent: Agent, name: str | None) -> str:
    """A name that a task may have."""
    return name or re.sub(r"[^A-Za-z0-9._:@-]+", "-", agent.name)[:128] or "agent"


async def _hold_model(context: InvokeModelContext, call_next: Next) -> AsyncGenerator[Any, None]:
    call = _model_call(context)
    with soft_termination():
        await call.start()

    def see(event: Any) -> bool:
        if isinstance(event, ModelStopReason):
            call.note(event.usage, final=True)
            call.end()
        return True

    async for event in each(call, call_next(context), see):
        yield event


def _model_call(context: InvokeModelContext) -> ModelCall:
    about = told(context.agent, {})
    model: Any = context.model
    config = model.get_config()
    config = config if isinstance(config, Mapping) else {}
    named = {**config, **(config.get("params") or {})}
    kinds = (_PROVIDERS.get(kind.__name__) for kind in type(model).__mro__)
    return ModelCall(
        CallSettings(**{key: about[key] for key in Options.__annotations__ if key in about}),
        provider=about.get("provider")
        or next((kind for kind in kinds if kind is not None), "strands"),
        model=config.get("model_id"),
        prompt=(context.system_prompt, context.messages, context.tool_specs),
        output_tokens=next((named[name] for name in _MAXIMA if named.get(name)), None),
    )


class _ToolCall:
    """One call of a tool, as `each` takes it."""

    def __init__(self, reservation: Reservation | None) -> None:
        self._reservation = reservation

    def inside(self) -> AbstractContextManager[None]:
        return soft_termination()

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        if error is None:
            reservation.commit()
        else:
            reservation.cut(error, broken=broken)


async def _hold_tool(context: ExecuteToolContext, call_next: Next) -> AsyncGenerator[Any, None]:
    name = context.tool_use["name"]
    tools: ToolAmounts = told(context.agent, {}).get("tools", ONE_CALL)
    amounts = amounts_of(tools, name, context.tool_use["input"], context.tool)
    try:
        with soft_termination():
            call = _ToolCall(await _reserve_tool(name, amounts) if amounts else None)
    except Refused as refusal:
        yield _refused(context, refusal)
        return

    def see(event: Any) -> bool:
        if isinstance(event, ToolResultEvent):
            call.end()
        return True

    async for event in each(call, call_next(context), see):
        yield event


async def _reserve_tool(name: str, amounts: Amounts) -> Reservation:
    return await reserve(kind="tool", name=call_name(name), expires_in=LONGEST_CALL, **amounts)


def _refused(context: ExecuteToolContext, refusal: Exception) -> ToolResultEvent:
    return ToolResultEvent(
        {
            "toolUseId": context.tool_use["toolUseId"],
            "status": "error",
            "content": [{"text": refusal_text(refusal)}],
        },
        exception=refusal,
    )

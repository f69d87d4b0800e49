"""Budgets for Pydantic AI: model requests, tools and runs of an agent, by one capability.

    from budgetware import task_budget
    from budgetware_integrations.pydantic_ai import BudgetCapability
    from pydantic_ai import Agent

    agent = Agent("openai:gpt-5-nano", tools=[search], capabilities=[BudgetCapability()])

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await agent.run("Where do rivers flow?")

`run`, `run_sync`, `run_stream`, `run_stream_events` and `iter` all pay. `budgeted_model(model)`
holds for a model without an agent, as for `pydantic_ai.direct`; both together hold once.

**A run is a task** where `task_budget` is around it, as above; or by limits of the capability, with
which every run is one, by the agent's name or `name=`. Agents that are tools of others nest:

    BudgetCapability(limits={"tokens": 50_000, "usd": "0.25", "seconds": 60})

**What is held.** For each attempt at a model request one call, and tokens: messages, instructions
and tools by their bytes (`count_tokens=` counts them better), the answer by the largest maximum in
the model settings and their `extra_body`, else `default_output_tokens=4_096`; where `usd` is
limited, the price of that. Each model that a `FallbackModel` or `ModelFallback` tries is held for
itself, at its own price; what a provider's client sends again is one attempt. For a tool one call,
or what `tools=` says; nothing where it is `@budgeted`. Output tools are part of the model's answer.

**What is settled.** The usage that the model reports; Pydantic AI asks streams for it. Where none
was reported, what was held is charged; of a stream that was left early, the input that it told of
and the output that was held. A tool that is deferred or waits for approval is not charged; one that
fails, or asks for a retry, is.

**When there is not enough**, a tool is not run, and the model reads why, as the failure of the tool
(`ToolFailed`: it costs no retry). A model request raises `BudgetExceeded` out of the run (or waits,
or ends the task, by the policy). A terminated task ends the run with `BudgetTerminated`. A 429, or
a rate limit of which nothing is left, pauses the resources that a call draws on; of clients that
are not OpenAI's or Anthropic's, errors alone tell of it.

`UsageLimits` beside it work as without: they look after the response, budgets before the request.

Limits: what is billed without a request of its own is not held: batches, `count_tokens`, realtime
sessions, embeddings, image models. A response that the provider works on in the background is a
call each time that it is asked for. With `limits`, the end of a task cuts what `run`, `iter` and
`run_stream_events` wait for; once `run_stream` has its result, the next call is refused instead.
Put `task_budget` around that.

Errors: those of Pydantic AI, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Unpack

from budgetware import TaskBudget, task_budget

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

require("pydantic-ai-slim", "2.60", "3", extra="pydantic-ai")

from pydantic_ai import RunContext  # noqa: E402
from pydantic_ai.agent import AgentRunResult  # noqa: E402
from pydantic_ai.capabilities import AbstractCapability  # noqa: E402
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ToolFailed  # noqa: E402
from pydantic_ai.messages import ToolCallPart  # noqa: E402
from pydantic_ai.models import Model  # noqa: E402
from pydantic_ai.tools import ToolDefinition  # noqa: E402

from ._pydantic_ai_models import Run, Way, current_run, cut_short, held  # noqa: E402

__all__ = ["BudgetCapability", "budgeted_model"]

_NOT_RUN = (ApprovalRequired, CallDeferred)

_tool_call: ContextVar[tuple[str | None, str] | None] = ContextVar(
    "budgetware_pydantic_ai_tool", default=None
)
"""The call of a tool that is held for: two capabilities of one agent hold once."""


class BudgetCapability(AbstractCapability[Any]):
    """Hold for the model requests and tools of an agent: `Agent(capabilities=[this])`.

    Args:
        limits: make every run a task, by the keywords of `task_budget`: `{"tokens": 5_000,
            "seconds": 60}`; also its other options, such as `policy`, `keep`, `warn_at`.
        name: of that task; by default the agent's.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments;
            None: nothing.
        provider: who answers, where the model does not say it well; for prices, spans and events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | None = None,
        name: str | None = None,
        tools: ToolAmounts = ONE_CALL,
        provider: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.limits = checked_limits(limits)
        self.name = name
        self.tools = checked_tools(tools)
        self._way = Way(CallSettings(**options), provider)
        self._task(None)  # raises where the name cannot be

    def _task(self, agent_name: str | None) -> TaskBudget:
        return task_budget(self.name or task_name(agent_name), **(self.limits or {}))

    async def wrap_run(self, ctx: RunContext[Any], *, handler: Any) -> AgentRunResult[Any]:
        """Make the run a task, where there are limits."""
        if self.limits is None:
            return await _result(handler)
        async with self._task(getattr(ctx.agent, "name", None)) as budget:
            run = Run(budget)
            token = current_run.set(run)
            try:
                return await _result(handler)
            finally:
                current_run.reset(token)
                for scope in run.awaited:
                    scope.cancel()

    async def wrap_node_run(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - as the hook has it
        *,
        node: Any,
        handler: Any,
    ) -> Any:
        """Let a step of the run be cut, where its task ends."""
        return await cut_short(lambda: handler(node))

    def get_wrapper_model(self, model: Model) -> Model:
        """Hold for each attempt at a request."""
        return held(model, self._way)

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002 - as the hook has it
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Hold for one call of a tool; a refusal is a failure that the model reads."""
        name = call.tool_name
        this = ctx.run_id, call.tool_call_id
        if _tool_call.get() == this:
            return await handler(args)
        amounts = amounts_of(self.tools, name, args, _function(ctx, name))
        token = _tool_call.set(this)
        try:
            return await cut_short(
                lambda: run_tool(amounts, name, lambda: handler(args), free=_NOT_RUN)
            )
        except Refused as refusal:
            if ends_run(refusal):
                raise
            raise ToolFailed(refusal_text(refusal)) from refusal
        finally:
            _tool_call.reset(token)


async def _result(handler: Any) -> AgentRunResult[Any]:
    result: AgentRunResult[Any] = await handler()
    return result


def _function(ctx: RunContext[Any], name: str) -> object:
    """The function behind a tool, where it is one."""
    manager = ctx.tool_manager
    tool: Any = (manager.tools or {}).get(name) if manager is not None else None
    while hasattr(tool, "source_tool"):  # what combines toolsets puts one around each tool
        tool = tool.source_tool
    schema = getattr(getattr(tool, "call_func", None), "__self__", None)
    return getattr(schema, "function", None)


# A model.


def budgeted_model(
    model: Model, *, provider: str | None = None, **options: Unpack[Options]
) -> Model:
    """Return a `WrapperModel` around a model, which holds for its requests. Twice is once.

    Args:
        model: any `Model`; those that a `FallbackModel` tries are held for one by one.
        provider: who answers, where the model does not say it well; for prices, spans and events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if not isinstance(model, Model):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"budgeted_model({type(model).__name__}): give a Model of pydantic_ai")
    return held(model, Way(CallSettings(**options), provider))

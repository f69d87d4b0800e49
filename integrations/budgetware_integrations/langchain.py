"""Budgets for LangChain and LangGraph: agents, graphs, and chat models by themselves.

    from budgetware import task_budget
    from budgetware_integrations.langchain import BudgetMiddleware
    from langchain.agents import create_agent

    agent = create_agent("openai:gpt-5-nano", tools=[search], middleware=[BudgetMiddleware()])

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await agent.ainvoke({"messages": [{"role": "user", "content": "Where do rivers flow?"}]})

`BudgetMiddleware` holds for the model calls and the tools of an agent, `invoke` and `ainvoke`,
`stream` and `astream` alike. `wrap(model)` does so for a chat model in a plain LangGraph node or an
LCEL chain: a copy of the model, of a subclass of its class, which holds wherever it goes
(`bind_tools`, `with_structured_output`, `batch`, a chain, a sub-graph). Both together are one
reservation a call.

**Only what has them pays.** A sub-agent, as an agent inside a tool, needs middleware of its own or
a wrapped model, and so do the models that other middleware asks by itself:
`SummarizationMiddleware(model=wrap(model))`.

**A run is a task** where `task_budget` is around it, as above; or by `run_budget`, which returns a
copy of an agent or graph whose every run is one, so that agents as tools of others nest:

    editor = run_budget(create_agent(...), limits={"tokens": 5_000}, name="editor")

A node is budgeted by what is known already: `@budgeted(calls=1)` on a function that is one call,
`@task_budget(tokens=5_000)` on one that makes several.

**What is held.** For each attempt at a model call, one call and tokens: messages and tools by
their bytes (`count_tokens=` counts them better), the answer by the largest maximum that the model
or the call names, else `default_output_tokens=4_096`; where `usd` is limited, the price of that.
What the model's own client sends again (`max_retries`) is one attempt. For each run of a tool, one
call, or what `tools=` says; nothing where the tool is `@budgeted`.

**What is settled.** The usage that the model reports. OpenAI's models at another `base_url` report
none in streams until they are asked: they are, and the extra chunk is kept from you
(`stream_usage=False` on the model leaves it alone). Where nothing was reported, as after a stream
that was left early, what was held is charged. Answers from LangChain's cache cost nothing. A tool
that waits in `interrupt()` is charged when it goes on.

**When there is not enough**, a tool is not run, and the model reads why, as the error of that tool;
others of the same turn go on. A model call raises `BudgetExceeded` out of the run, or with
`on_refusal="answer"` ends the run with an answer that says so. A policy of `terminate` ends the run
and the block of the task raises `BudgetTerminated`.

Put the middleware first: none of those after it takes a refusal for a failure, as a
`ModelRetryMiddleware` before it does (it answers with the text of the refusal instead). Wherever it
is, each attempt of `ModelRetryMiddleware`, `ModelFallbackMiddleware` and `ToolRetryMiddleware` is
held and settled for itself, at the price of the model that it asks.

A 429, or a rate limit of which nothing is left, pauses the resources that the call draws on; in
sync code, and of clients that are not OpenAI's or Anthropic's, errors alone tell of it.

Limits: embeddings and the older `LLM` classes are not held; use `reserve`. What is no
`BaseChatModel`, as a configurable model of `init_chat_model`, is held for by the middleware once a
turn, with whatever is tried inside; so is a tool that middleware alone knows. Middleware that makes
a request of its own, not by `request.override`, is to come before the budget's. LangGraph's own
`recursion_limit` counts steps, and is not touched. Where a scope of anyio is cancelled, that of a
terminated task included, LangGraph leaves nodes that stream, or run beside others, to themselves:
their next call is refused, and the one in flight is settled when it is done.
Before Python 3.12 `ChatOpenAI` swallows a cancellation that comes together with a chunk of its
stream, with budgets and without; `stream_chunk_timeout=None` on the model avoids it.

Errors: those of LangChain, and those of `reserve`.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar, Unpack, cast

from budgetware import BudgetExceeded, task_budget
from budgetware.errors import ConfigurationError

from ._model_calls import ModelCall
from ._options import CallSettings, Options, checked_limits
from ._requirements import require
from ._task_names import task_name
from ._tool_calls import (
    ONE_CALL,
    Amounts,
    Refused,
    ToolAmounts,
    amounts_of,
    checked_tools,
    ends_run,
    refusal_text,
    run_tool,
    run_tool_sync,
)

require("langchain", "1.4", "2")

from langchain.agents.middleware import (  # noqa: E402
    AgentMiddleware,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
)
from langchain_core.language_models import BaseChatModel  # noqa: E402
from langchain_core.messages import AIMessage, ToolMessage  # noqa: E402
from langgraph.errors import GraphBubbleUp  # noqa: E402
from langgraph.pregel import Pregel  # noqa: E402

from ._langchain_models import Stopped, Way, call_of, held, is_held, refusal_of  # noqa: E402
from ._langchain_requests import held_model_request, held_tool_request  # noqa: E402

__all__ = ["BudgetMiddleware", "run_budget", "wrap"]

M = TypeVar("M", bound=BaseChatModel)
G = TypeVar("G", bound=Pregel[Any, Any, Any, Any])
R = TypeVar("R")
OnRefusal = Literal["raise", "answer"]


# The agent.


class BudgetMiddleware(AgentMiddleware[Any, Any, Any]):
    """Hold for the model calls and tools of an agent: `create_agent(..., middleware=[this])`.

    Args:
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments;
            None: nothing.
        on_refusal: `"answer"` ends the run with an answer in place of `BudgetExceeded`.
        provider: who answers, where the model does not say; for prices, spans and events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """

    def __init__(
        self,
        *,
        tools: ToolAmounts = ONE_CALL,
        on_refusal: OnRefusal = "raise",
        provider: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        if on_refusal not in ("raise", "answer"):
            raise ConfigurationError(f"on_refusal={on_refusal!r}: give 'raise' or 'answer'")
        self.amounts = checked_tools(tools)
        self.on_refusal = on_refusal
        self._way = Way(CallSettings(**options), provider, stops=True)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any] | AIMessage:
        """Hold for each attempt at one turn of the model."""
        try:
            if isinstance(request.model, BaseChatModel):  # pyright: ignore[reportUnnecessaryIsInstance]
                return await handler(held_model_request(request, self._way))
            call = self._around(request)
            return await call.run(lambda: _noted_async(call, handler(request)))
        except (Stopped, BudgetExceeded) as error:
            refusal = refusal_of(error)
        return self._refused(refusal)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any] | AIMessage:
        """Do the same in sync code."""
        try:
            if isinstance(request.model, BaseChatModel):  # pyright: ignore[reportUnnecessaryIsInstance]
                return handler(held_model_request(request, self._way))
            call = self._around(request)
            return call.run_sync(lambda: _noted(call, handler(request)))
        except (Stopped, BudgetExceeded) as error:
            refusal = refusal_of(error)
        return self._refused(refusal)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        """Hold for each run of a tool; a refusal is a message that the model reads."""
        amounts, asked = self._tool(request)
        name = request.tool_call["name"]
        try:
            return await run_tool(amounts, name, lambda: handler(asked), free=(GraphBubbleUp,))
        except (Stopped, *Refused) as error:
            refusal = refusal_of(error)
        return _told(request, refusal)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]
    ) -> Any:
        """Do the same in sync code."""
        amounts, asked = self._tool(request)
        name = request.tool_call["name"]
        try:
            return run_tool_sync(amounts, name, lambda: handler(asked), free=(GraphBubbleUp,))
        except (Stopped, *Refused) as error:
            refusal = refusal_of(error)
        return _told(request, refusal)

    def _around(self, request: ModelRequest[Any]) -> ModelCall:
        """The call that holds for what is no chat model, with all that is tried inside."""
        system = [] if request.system_message is None else [request.system_message]
        asked = {"tools": request.tools, "response_format": _schema(request.response_format)}
        return call_of(
            request.model,
            self._way,
            [*system, *request.messages],
            request.model_settings | {key: value for key, value in asked.items() if value},
        )

    def _refused(self, refusal: BaseException) -> AIMessage:
        if self.on_refusal == "raise" or not isinstance(refusal, BudgetExceeded):
            raise refusal
        return AIMessage(f"The run ends here, for the budget: {refusal}")

    def _tool(self, request: ToolCallRequest) -> tuple[Amounts, ToolCallRequest]:
        """What is held around a request: nothing, where its tool holds for each time it runs."""
        if request.tool is not None:
            return {}, held_tool_request(request, self.amounts)
        called = request.tool_call  # a tool that middleware alone knows
        return amounts_of(self.amounts, called["name"], called["args"]), request


async def _noted_async(call: ModelCall, response: Awaitable[R]) -> R:
    return _noted(call, await response)


def _noted(call: ModelCall, response: R) -> R:
    answer: Any = getattr(response, "model_response", response)
    for message in getattr(answer, "result", [answer]):
        if isinstance(message, AIMessage):
            call.note(message, final=True)
    return response


def _schema(response_format: Any) -> Any:
    return getattr(response_format, "schema", response_format)


def _told(request: ToolCallRequest, refusal: BaseException) -> ToolMessage:
    if ends_run(refusal):
        raise refusal
    called = request.tool_call
    return ToolMessage(
        refusal_text(refusal), tool_call_id=called["id"], name=called["name"], status="error"
    )


# A chat model.


def wrap(model: M, *, provider: str | None = None, **options: Unpack[Options]) -> M:
    """Return a copy of a chat model that holds for its calls. Twice is once.

    Its class is a subclass of the model's, by the same name.

    Args:
        model: any `BaseChatModel`; it shares its client with the copy.
        provider: who answers, where the model does not say; for prices, spans and events.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if not isinstance(model, BaseChatModel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(model).__name__}): give a chat model of langchain")
    return model if is_held(model) else held(model, Way(CallSettings(**options), provider))


# A run.


def run_budget(graph: G, *, limits: Mapping[str, Any], name: str | None = None) -> G:
    """Return a copy of an agent or graph, of a subclass, whose every run is a task.

    A run is one `invoke`, `stream`, or item of a `batch`, also by `astream_events` or as a node of
    another graph; a run that is resumed after an interrupt is a new one. Within a stream, what the
    task's deadline or end cuts is the step that is awaited.

    Args:
        graph: what `create_agent` or `StateGraph.compile` made.
        limits: as the keywords of `task_budget`: `{"tokens": 5_000, "seconds": 60}`; also its
            other options, such as `policy`, `keep`, `warn_at`.
        name: of the tasks; by default the graph's.

    Raises:
        BudgetTerminated: out of a run that was terminated.
    """
    if not isinstance(graph, Pregel):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"run_budget({type(graph).__name__}): give an agent, or a compiled graph")
    kind: type[Any] = type(graph)
    checked = checked_limits(limits or {}) or {}
    whole = task_budget(name or task_name(graph.get_name()), **checked)
    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "stream": whole(kind.stream),
        "astream": whole(kind.astream),
    }
    made: Any = copy.copy(graph)
    made.__class__ = type(kind.__name__, (kind,), names)
    return cast("G", made)

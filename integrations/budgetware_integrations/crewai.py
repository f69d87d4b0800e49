"""Budgets for CrewAI: each call of a model and of a tool holds what it may cost.

    from budgetware import task_budget
    from budgetware_integrations.crewai import budget
    from crewai import Agent, Crew, Task

    crew = budget(Crew(agents=[researcher], tasks=[task]))

    with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        crew.kickoff()

`budget` takes an LLM, a tool, an agent (its LLMs and tools) or a crew (all its agents, the tools of
its tasks, its own LLMs), and returns the same thing; `isinstance` stays true. Models that a crew
names by a string become LLMs, as does the one that it plans with where it names none. `kickoff`,
`akickoff`, `llm.call` and `llm.acall` all pay, the threads that CrewAI starts included.

**What is held.** For each call of an LLM one call, and tokens: messages and tools by their bytes
(`count_tokens=` counts them better), the answer by the largest maximum the LLM was given; without
one, `default_output_tokens=4_096`. For each tool one call; `tools=` says otherwise, as amounts for
all of them or as a callable of a tool's name and arguments. `@budgeted` functions as tools are not
held for twice. What CrewAI takes from its cache of tools' results costs nothing.

**What is settled.** The usage that the LLM counts for itself, seen as it does so, in the thread of
its call: the event bus has the same numbers, but tells of them later, from threads of its own.
Requests that one call makes several of are added up. Streams ask for usage by themselves. Where
none was reported, what was held is charged. One call is held for all attempts that CrewAI and the
provider's client make of it.

**When there is not enough.** A tool is not run, and the agent reads why, as the error of that
tool. A call of a model raises `BudgetExceeded` out of `kickoff` (or waits, or ends the task, by the
policy); CrewAI first tries such a task `max_retry_limit` times again, which costs nothing. A task
that is terminated ends the crew at its next call, and its block raises `BudgetTerminated`. Hooks of
CrewAI are not used: an error in one of them lets the call pass.

Not held: embeddings and models of memory and knowledge, MCP servers' tools and tools that CrewAI
makes by itself at the start of a task; what their models do is, where `budget` was given those.
What a crew or an agent is given later (agents, tools, tasks, LLMs, `planning`) is not held for:
give it to `budget` again. Rate-limit headers are seen on errors alone. What was given to `budget`
does not pickle.

Errors: those of CrewAI and of `reserve`; `TypeError` where it is nothing of these,
`ConfigurationError` for options that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeVar, Unpack

from budgetware import Usage
from budgetware.errors import soft_termination

from ._model_calls import ModelCall, current_call, outside, read_usage
from ._options import CallSettings, Options, checked_provider
from ._requirements import require
from ._subclasses import Method, subclass, told
from ._tool_calls import (
    ONE_CALL,
    Amounts,
    ToolAmounts,
    amounts_of,
    checked_tools,
    run_tool,
    run_tool_sync,
)

require("crewai", "1.15", "2")

from crewai import LLM, Agent, BaseLLM, Crew  # noqa: E402
from crewai.tools import BaseTool  # noqa: E402
from crewai.tools.base_tool import Tool  # noqa: E402
from crewai.types.usage_metrics import UsageMetrics  # noqa: E402
from crewai.utilities.planning_handler import CrewPlanner  # noqa: E402

__all__ = ["budget"]

T = TypeVar("T", bound=BaseLLM | BaseTool | Agent | Crew)

_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ARGUMENTS: Final = (
    "messages", "tools", "callbacks", "available_functions", "from_task", "from_agent",
    "response_model",
)  # fmt: skip
_LLMS: Final = ("llm", "manager_llm", "planning_llm", "function_calling_llm", "chat_llm")
_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
}
_entered: ContextVar[object] = ContextVar("budgetware_crewai_tool", default=None)


@dataclass(frozen=True, slots=True)
class _Way:
    """How calls are held."""

    settings: CallSettings
    tools: ToolAmounts
    provider: str | None


def budget(
    thing: T,
    *,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    **options: Unpack[Options],
) -> T:
    """Make an LLM, tool, agent or crew hold for its calls; returns the same.

    Twice is once; what the second time is told besides, or otherwise, goes from then on.

    Args:
        thing: of `crewai`.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments.
        provider: who answers, where that is not the LLM's own `provider`; for prices and spans.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    CallSettings(**options)
    checked_provider(provider)
    now: dict[str, Any] = {**options}
    if checked_tools(tools) is not ONE_CALL:
        now["tools"] = tools
    if provider is not None:
        now["provider"] = provider
    _put(thing, now)
    return thing


def _way_of(about: dict[str, Any]) -> _Way:
    options = {**about}
    tools, provider = options.pop("tools", ONE_CALL), options.pop("provider", None)
    return _Way(CallSettings(**options), tools, provider)


def _put(thing: Any, now: Mapping[str, Any]) -> None:
    match thing:
        case BaseLLM():
            _put_on_llm(thing, told(thing, now))
        case BaseTool():
            _put_on_tool(thing, told(thing, now))
        case Agent() | Crew():
            _put_on_parts(thing, now)
        case _:
            raise TypeError(
                f"budget({type(thing).__name__}): give an LLM, a tool, an agent or a crew of crewai"
            )


def _put_on_parts(whole: Agent | Crew, now: Mapping[str, Any]) -> None:
    """An agent's or a crew's LLMs and tools, and the agents of a crew."""
    fields = type(whole).model_fields
    if isinstance(whole, Crew) and whole.planning and whole.planning_llm is None:
        whole.planning_llm = CrewPlanner(whole.tasks).planning_agent_llm  # it makes its own
    for name in _LLMS:
        llm = vars(whole).get(name) if name in fields else None
        if isinstance(llm, str):
            llm = LLM(model=llm)
            setattr(whole, name, llm)
        if isinstance(llm, BaseLLM):
            _put(llm, now)
    if isinstance(whole, Crew):
        tasks = [task.tools for task in whole.tasks]
        agents = [*whole.agents, *(task.agent for task in whole.tasks), whole.manager_agent]
        parts = [*agents, *(tool for tools in tasks for tool in tools or ())]
    else:
        parts = [*(whole.tools or ())]
    for part in parts:
        if isinstance(part, Agent | BaseTool):
            _put(part, now)


class _Call(ModelCall):
    """A call of an LLM, which may be several requests."""

    __slots__ = ("_counted",)

    def __init__(self, settings: CallSettings, **facts: Any) -> None:
        super().__init__(settings, **facts)
        self._counted: Usage | None = None

    def note(self, reported: Any, *, final: bool = False, output: bool = True) -> None:
        """Pass over the answer, which is a text: usage comes by `count`."""

    def count(self, reported: object) -> None:
        """Take in what one request has used."""
        usage = _read(reported)
        if usage is not None:
            self._counted = usage if self._counted is None else self._counted + usage
            super().note(self._counted, final=True)


def _read(reported: object) -> Usage | None:
    """Usage as the LLMs of CrewAI tell it, each with names of its own."""
    usage = read_usage(reported)
    if usage is None or not isinstance(reported, dict):
        return usage
    known = UsageMetrics.from_provider_dict(reported)
    if known is None or known.total_tokens <= 0:
        return usage
    told = known.model_dump()
    return read_usage({**told, "cache_write_tokens": told.pop("cache_creation_tokens")})


def _put_on_llm(llm: BaseLLM, about: dict[str, Any]) -> None:
    way = _way_of(about)

    def call(original: Method) -> Method:
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            asked = _asked(args, kwargs)
            return _llm_call(self, asked, way).run_sync(lambda: original(self, **asked))

        return called

    def acall(original: Method) -> Method:
        async def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            asked = _asked(args, kwargs)
            return await _llm_call(self, asked, way).run(lambda: original(self, **asked))

        return called

    def track(original: Method) -> Method:
        def tracked(self: Any, *args: Any, **kwargs: Any) -> Any:
            current = current_call()
            if isinstance(current, _Call):
                current.count(*args, *kwargs.values())
            return original(self, *args, **kwargs)

        return tracked

    subclass(llm, {"call": call, "acall": acall, "_track_token_usage_internal": track}, about)


def _asked(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; functions that it runs itself are no part of it."""
    asked = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
    functions = asked.get("available_functions")
    if functions:
        asked["available_functions"] = {name: _outside(functions[name]) for name in functions}
    return asked


def _outside(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with outside():
            return function(*args, **kwargs)

    return run


def _llm_call(llm: Any, asked: Mapping[str, Any], way: _Way) -> _Call:
    places = (llm.additional_params, {name: getattr(llm, name, None) for name in _MAXIMA})
    maxima = [place.get(name) for place in places for name in _MAXIMA]
    return _Call(
        way.settings,
        provider=way.provider or _PROVIDERS.get(llm.provider, llm.provider),
        model=llm.model,
        prompt=(asked.get("messages"), asked.get("tools")),
        output_tokens=max((int(most) for most in maxima if most), default=None),
        answers=getattr(llm, "n", None) or 1,
    )


def _put_on_tool(tool: BaseTool, about: dict[str, Any]) -> None:
    """Hold in `run` or in `_run`: executors use both, and once where one calls the other."""
    way = _way_of(about)

    def whole(original: Method) -> Method:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _entering(self if original is not Tool.run else None), soft_termination():
                return run_tool_sync(
                    _amounts(self, args, kwargs, way),
                    self.name,
                    lambda: original(self, *args, **kwargs),
                )

        return run

    def inner(original: Method) -> Method:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            amounts = {} if _entered.get() is self else _amounts(self, args, kwargs, way)
            with _entering(None), soft_termination():
                return run_tool_sync(amounts, self.name, lambda: original(self, *args, **kwargs))

        return run

    def whole_async(original: Method) -> Method:
        async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _entering(self), soft_termination():
                return await run_tool(
                    _amounts(self, args, kwargs, way),
                    self.name,
                    lambda: original(self, *args, **kwargs),
                )

        return run

    def inner_async(original: Method) -> Method:
        async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            amounts = {} if _entered.get() is self else _amounts(self, args, kwargs, way)
            with _entering(None), soft_termination():
                return await run_tool(amounts, self.name, lambda: original(self, *args, **kwargs))

        return run

    makers = {"run": whole, "_run": inner, "arun": whole_async, "_arun": inner_async}
    subclass(tool, makers, about)


@contextmanager
def _entering(tool: object) -> Generator[None]:
    """Let the tool pass once, which is held for already."""
    token = _entered.set(tool)
    try:
        yield
    finally:
        _entered.reset(token)


def _amounts(tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any], way: _Way) -> Amounts:
    return amounts_of(way.tools, tool.name, kwargs or args, getattr(tool, "func", tool._run))

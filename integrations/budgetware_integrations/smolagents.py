"""Budgets for smolagents: each call of a model and of a tool holds what it may cost.

    from budgetware import task_budget
    from budgetware_integrations.smolagents import budget
    from smolagents import CodeAgent, OpenAIModel, WebSearchTool

    agent = budget(CodeAgent(tools=[WebSearchTool()], model=OpenAIModel("gpt-5-nano")))

    with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        agent.run("Where do rivers flow?")

`budget` takes a model, a tool or an agent (its model, its tools, the agents it manages) and returns
the same thing. An agent with `limits={"tokens": 50_000, "usd": "0.25"}` is a task of its own each
time it runs, so that a managed agent has limits within those of its manager. The threads that
smolagents starts, for tools at once and for the code of a `CodeAgent`, pay as the run does: give
`budget` the agent, and not its parts alone.

**What is held.** For each call of a model one call, and tokens: messages and tools by their bytes
(`count_tokens=` counts them better), the answer by `max_tokens`, `max_completion_tokens` or
`max_new_tokens` of the model or the call; without one, `default_output_tokens=4_096`. For each tool
`{"calls": 1}`; say otherwise by `tools=`. `@budgeted` functions as tools are not held for twice,
`final_answer` is free.

**What is settled.** The usage that the model's answer reports. Streams ask for usage by themselves.
Where none was reported, and after a stream that was left early, what was held is charged. One call
is held for all attempts that smolagents and the provider's client make of it.

**When there is not enough.** A tool is not run, and the model reads why: a `ToolCallingAgent` as
what the tool has answered, the code of a `CodeAgent` as the error that ends it. A call of a model
raises `BudgetExceeded` (or waits, or ends the task, by the policy): the run ends with an
`AgentGenerationError`, in which `errors.budget_error` finds it. A task that is terminated ends the
run at its next call, whatever catches errors, and its block raises `BudgetTerminated`.

Not held: tools that remote executors run elsewhere, and agents in them. Rate-limit headers are seen
on errors alone.

Errors: those of smolagents and of `reserve`; `TypeError` where it is nothing of these.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from inspect import signature
from threading import Lock
from typing import Any, Final, TypeVar, Unpack

from budgetware import task_budget

from ._model_calls import ModelCall, read_usage
from ._options import CallSettings, Options
from ._requirements import require
from ._streams import each_sync
from ._subclasses import Method, subclass
from ._task_names import task_name
from ._tool_calls import (
    ONE_CALL,
    Refused,
    ToolAmounts,
    amounts_of,
    charges_itself,
    refusal_text,
    run_tool_sync,
)

require("smolagents", "1.26", "2")

from smolagents import (  # noqa: E402
    ChatMessage,
    LocalPythonExecutor,
    Model,
    MultiStepAgent,
    Tool,
)

T = TypeVar("T", bound=Model | Tool | MultiStepAgent)

_MAXIMA: Final = ("max_completion_tokens", "max_tokens", "max_new_tokens")
_PROVIDERS: Final = {
    "AmazonBedrockModel": "aws.bedrock",
    "AzureOpenAIModel": "azure.ai.openai",
    "InferenceClientModel": "huggingface",
    "MLXModel": "mlx",
    "OpenAIModel": "openai",
    "TransformersModel": "transformers",
    "VLLMModel": "vllm",
}


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
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    provider: str | None = None,
    **options: Unpack[Options],
) -> T:
    """Make a model, tool or agent hold for its calls; returns the same. Twice is once.

    Args:
        thing: of `smolagents`.
        tools: what a call of a tool holds, by dimension; a callable of its name and arguments.
        limits: of an agent: those of the task that each of its runs is, as of `task_budget`.
        name: of that task; by default, the agent's.
        provider: who answers, where the class of the model does not say; for prices and spans.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.

    Raises:
        TypeError: it is none of these, or has `limits` and is no agent.
    """
    if limits is not None and not isinstance(thing, MultiStepAgent):
        raise TypeError(f"budget({type(thing).__name__}, limits=...): only agents run")
    _put(thing, _Way(CallSettings(**options), tools, provider), limits, name)
    return thing


def _put(
    thing: Any, way: _Way, limits: Mapping[str, Any] | None = None, name: str | None = None
) -> None:
    match thing:
        case Model():
            _put_on_model(thing, way)
        case Tool():
            _put_on_tool(thing, way)
        case MultiStepAgent():
            for part in (thing.model, *thing.tools.values(), *thing.managed_agents.values()):
                _put(part, way)
            executor = getattr(thing, "python_executor", None)
            if isinstance(executor, LocalPythonExecutor):
                subclass(executor, {"__call__": _carrying})
            if limits is not None:
                _put_on_run(thing, limits, task_name(name or thing.name))
        case _ if callable(thing):  # whatever else an agent was given to call
            return
        case _:
            raise TypeError(f"budget({type(thing).__name__}): give a model, a tool or an agent")


def _put_on_run(agent: MultiStepAgent, limits: Mapping[str, Any], name: str) -> None:
    def run(original: Method) -> Method:
        parameters = signature(original)

        def ran(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not parameters.bind(self, *args, **kwargs).arguments.get("stream"):
                with task_budget(name, **limits):
                    return original(self, *args, **kwargs)
            stream = original(self, *args, **kwargs)

            @task_budget(name, **limits)
            def steps() -> Generator[Any]:
                yield from stream

            return steps()

        return ran

    subclass(agent, {"run": run})


def _put_on_model(model: Model, way: _Way) -> None:
    def generate(original: Method) -> Method:
        def generated(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = _Call(self, args, kwargs, way)
            return call.run_sync(lambda: original(self, *args, **kwargs))

        return generated

    def generate_stream(original: Method) -> Method:
        def generated(self: Any, *args: Any, **kwargs: Any) -> Generator[Any]:
            call = _Call(self, args, kwargs, way)
            call.start_sync()

            def see(delta: Any) -> bool:
                call.note(delta, final=True)
                return True

            yield from each_sync(call, iter(original(self, *args, **kwargs)), see)

        return generated

    subclass(model, {"generate": generate, "generate_stream": generate_stream})


class _Call(ModelCall):
    """A call of a model, whose answer keeps what the provider has sent."""

    __slots__ = ()

    def __init__(
        self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], way: _Way
    ) -> None:
        messages = args[0] if args else kwargs.get("messages")
        tools = kwargs.get("tools_to_call_from") or (args[3] if len(args) > 3 else None)
        options = {**kwargs, **model.kwargs}  # as smolagents has it: the model's own win
        super().__init__(
            way.settings,
            provider=way.provider or _provider_of(model),
            model=model.model_id,
            prompt=([_sent(message) for message in messages or ()], _schemas(tools)),
            output_tokens=next((options[most] for most in _MAXIMA if options.get(most)), None),
            answers=options.get("n") or 1,
        )

    def note(self, reported: Any, *, final: bool = False, output: bool = True) -> None:
        """Take the provider's own usage, which tells what was cached, before the one made of it."""
        raw = getattr(reported, "raw", None)
        own = None if raw is None else read_usage(raw)
        super().note(own or getattr(reported, "token_usage", None), final=final, output=output)


def _sent(message: Any) -> Any:
    """What is sent of a message; it also keeps the answer that it came from."""
    if not isinstance(message, ChatMessage):
        return message
    return {"role": "", "content": message.content, "tool_calls": message.tool_calls}


def _schemas(tools: Any) -> list[Any]:
    return [(tool.name, tool.description, tool.inputs) for tool in tools or ()]


def _provider_of(model: Any) -> str:
    named = next(
        (_PROVIDERS[k.__name__] for k in type(model).__mro__ if k.__name__ in _PROVIDERS), None
    )
    prefix, slash, _ = str(model.model_id).partition("/")
    return named or (prefix if slash else "smolagents")


def _put_on_tool(tool: Tool, way: _Way) -> None:
    if tool.name == "final_answer" or charges_itself(tool.forward):
        return

    def call(original: Method) -> Method:
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            is_agents = bool(kwargs.get("sanitize_inputs_outputs"))
            given = {key: kwargs[key] for key in kwargs if key != "sanitize_inputs_outputs"}
            amounts = amounts_of(way.tools, self.name, given or args)
            has_run = False

            def run() -> Any:
                nonlocal has_run
                has_run = True
                return original(self, *args, **kwargs)

            try:
                return run_tool_sync(amounts, self.name, run)
            except Refused as error:
                if has_run or not is_agents:
                    raise
                return refusal_text(error)

        return called

    subclass(tool, {"__call__": call})


def _carrying(original: Method) -> Method:
    """Run code whose tools and agents pay as this thread does: it has a thread of its own."""

    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        carrier = _Carrier()
        tools = self.static_tools
        self.static_tools = {
            name: carrier.carried(tool) if _may_spend(tool) else tool
            for name, tool in (tools or {}).items()
        }
        try:
            return original(self, *args, **kwargs)
        finally:
            self.static_tools = tools

    return called


def _may_spend(tool: object) -> bool:
    return isinstance(tool, Tool | MultiStepAgent) or charges_itself(tool)


class _Carrier:
    """The context of a run, for calls in another thread.

    The same one for all of them, so that the second refusal knows of the first.
    """

    def __init__(self) -> None:
        self._context = copy_context()
        self._is_free = Lock()

    def carried(self, tool: Any) -> Callable[..., Any]:
        """The tool, called in that context; a closure, for the code may look at attributes."""

        def called(*args: Any, **kwargs: Any) -> Any:
            return self._run(lambda: tool(*args, **kwargs))

        for name in ("name", "description", "inputs", "output_type"):
            if hasattr(tool, name):
                setattr(called, name, getattr(tool, name))
        return called

    def _run(self, call: Callable[[], Any]) -> Any:
        if not self._is_free.acquire(blocking=False):  # two calls at once, or one in the other
            return self._context.copy().run(call)
        try:
            return self._context.run(call)
        finally:
            self._is_free.release()

"""Budgets for the Agent Development Kit: a run is a task, its model calls and tools are held.

    from google.adk.agents import LlmAgent
    from google.adk.runners import InMemoryRunner
    from budgetware_integrations.google_adk import wrap

    agent = LlmAgent(name="researcher", model="gemini-2.5-flash", tools=[search])
    runner = wrap(InMemoryRunner(agent=agent), limits={"tokens": 50_000, "usd": "0.25"})

    async for event in runner.run_async(user_id=..., session_id=..., new_message=...):
        ...

`wrap` makes each run of a runner a task with `limits` (without any, put `task_budget` around the
run), and holds for the models and tools of all its agents by a `BudgetPlugin`. Its parts stand
alone: `BudgetPlugin` for `App(plugins=[...])`; `wrap_model` for a model of any kind, `Gemini`,
`Claude`, `LiteLlm`, your own `BaseLlm`; and `wrap_agent(agent, limits=...)` for an agent whose
runs are tasks inside that of the runner, as sub-agent, as `AgentTool`, or transferred to.

**What is held.** For a model call: one call, and tokens: instructions, contents and tools by their
bytes, the answer by `max_output_tokens` times `candidate_count`, else
`default_output_tokens=4_096`; where `usd` is limited, the price of that. What the model retries,
and the client below it, is part of the call. For a tool: `{"calls": 1}`, or what `tools=` says;
nothing where it is `@budgeted`, and nothing for those that run or choose an agent, such as
`AgentTool`, unless `tools` is a callable.

**What is settled.** The usage that the model reports, before the answer is handed on: nothing is
held for it while its tools run. A stream that is left early, breaks, or is cancelled is charged
what was reported by then, else what was held. Usage that is not reported is unknown: what was held
stands. A tool that fails or is cancelled is charged; one that first asks for a confirmation, or
for credentials, has not run.

**When there is not enough**, a model call raises `BudgetExceeded` out of the run, as it is, unless
an `on_model_error_callback` of yours answers it. A tool is not run, and the model reads why in
place of its result. Where the policy is `terminate`, the run ends, and whoever owns the task gets
`BudgetTerminated`: the caller of `run_async` where the run is the task.

A 429 pauses the resources that the call draws on, as its `retry-after` or `RetryInfo` asks.

Limits: live runs (`run_live`) are not held. Once an agent's model was used under a plugin, it holds
wherever it is used. Put the plugin last: one before it that answers for a tool spares it, and
nothing is held. asyncio only, as ADK is.

Errors: those of ADK, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar, Unpack, cast

from budgetware import Reservation, errors, reserve, task_budget

from ._cancelled_once import cancelled_once
from ._gemini_wire import signal
from ._model_calls import LONGEST_CALL, ModelCall, current_call
from ._options import CallSettings, Options
from ._requirements import require
from ._streams import each
from ._subclasses import Method, subclass
from ._task_names import task_name
from ._tool_calls import (
    ONE_CALL,
    Refused,
    ToolAmounts,
    amounts_of,
    call_name,
    ends_run,
    refusal_text,
)

require("google-adk", "2.13", "3")  # before, a cancelled tool is not told of

from google.adk.agents import BaseAgent  # noqa: E402
from google.adk.models import BaseLlm, LLMRegistry  # noqa: E402
from google.adk.models.llm_request import LlmRequest  # noqa: E402
from google.adk.models.llm_response import LlmResponse  # noqa: E402
from google.adk.plugins import BasePlugin  # noqa: E402
from google.adk.runners import Runner  # noqa: E402
from google.adk.tools.agent_tool import AgentTool  # noqa: E402
from google.adk.tools.base_tool import BaseTool  # noqa: E402

A = TypeVar("A", bound=BaseAgent)
R = TypeVar("R", bound=Runner)
T = TypeVar("T")

_STEERING: Final = frozenset(
    {"transfer_to_agent", "exit_loop", "finish_task", "set_model_response"}
)
_PROVIDERS: Final = {"Gemini": "gcp.gemini", "AnthropicLlm": "anthropic"}


def wrap(
    runner: R,
    *,
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    **options: Unpack[Options],
) -> R:
    """Make a runner hold for the models and tools of its runs; returns the same one. Once only.

    Args:
        runner: a `Runner`, as `InMemoryRunner`.
        limits: of each run, as of `task_budget`; None: whatever is around the run pays.
        name: of the task of a run; by default the name of the app.
        tools: what a call of a tool holds, as of `BudgetPlugin`.
        provider: who answers, as of `wrap_model`.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`, for the models.
    """
    _check("wrap", runner, Runner)
    plugins = runner.plugin_manager
    if not any(isinstance(plugin, BudgetPlugin) for plugin in plugins.plugins):
        plugins.register_plugin(BudgetPlugin(tools=tools, provider=provider, **options))
    return _as_tasks(runner, limits, name or task_name(runner.app_name, "run"), _run_once)


def wrap_agent(agent: A, *, limits: Mapping[str, Any], name: str | None = None) -> A:
    """Make each run of an agent a task inside the run around it; returns the same agent.

    Args:
        agent: of any kind; its sub-agents run inside its task.
        limits: of each run, as of `task_budget`.
        name: of the task; by default that of the agent.
    """
    _check("wrap_agent", agent, BaseAgent)
    return _as_tasks(agent, limits, name or task_name(agent.name))


def wrap_model(
    model: BaseLlm | str, *, provider: str | None = None, **options: Unpack[Options]
) -> BaseLlm:
    """Make a model hold for its calls; returns the same one, or a new one for a name.

    Args:
        model: for `LlmAgent(model=...)`: a model, or the name of one.
        provider: who answers; for prices, spans and events. By default `gcp.gemini` for Gemini,
            `anthropic` for Claude, for others what stands before the slash in their name.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    made = LLMRegistry.new_llm(model) if isinstance(model, str) else model
    _check("wrap_model", made, BaseLlm)
    settings = CallSettings(**options)

    def hold(original: Method) -> Method:
        def generate_content_async(
            self: BaseLlm, llm_request: LlmRequest, *how: Any, **named: Any
        ) -> AsyncGenerator[LlmResponse, None]:
            responses = original(self, llm_request, *how, **named)
            if current_call() is not None:
                return cast("AsyncGenerator[LlmResponse, None]", responses)
            return _held(_call_of(self, llm_request, settings, provider), responses)

        return generate_content_async

    return subclass(made, {"generate_content_async": hold})


async def _held(call: ModelCall, responses: Any) -> AsyncGenerator[LlmResponse, None]:
    """Settle before the answer is handed on: until ADK asks for more, it runs the tools."""

    def see(response: LlmResponse) -> bool:
        usage = _usage_of(response)
        is_whole = not response.partial
        knows_answer = is_whole or getattr(usage, "candidates_token_count", None) is not None
        call.note(usage, final=is_whole, output=knows_answer)
        if is_whole:
            call.end()
        return True

    await call.start()
    try:
        async with aclosing(each(_Signalled(call), responses, see)) as seen:
            async for response in seen:
                yield response
    finally:
        await responses.aclose()


def _usage_of(response: LlmResponse) -> Any:
    """What was used; models that are not Gemini's may count thoughts among the answer, too."""
    usage: Any = response.usage_metadata
    thoughts = getattr(usage, "thoughts_token_count", None) or 0
    candidates = getattr(usage, "candidates_token_count", None) or 0
    if not thoughts or usage.total_token_count != (usage.prompt_token_count or 0) + candidates:
        return usage
    return usage.model_copy(update={"candidates_token_count": candidates - thoughts})


class _Signalled:
    """A call that hears of what an error asks for before it ends with it."""

    def __init__(self, call: ModelCall) -> None:
        self._call = call
        self.inside = call.inside

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        if error is not None:
            signal(self._call, error)
        self._call.end(error, broken=broken)


def _call_of(
    model: BaseLlm, request: LlmRequest, settings: CallSettings, provider: str | None
) -> ModelCall:
    config: Any = request.config
    prompt = {
        "contents": request.contents,
        "system_instruction": config.system_instruction,
        "tools": config.tools,
        "response_schema": config.response_schema or config.response_json_schema,
    }
    name = request.model or model.model
    return ModelCall(
        settings,
        provider=provider or _provider_of(model, name),
        model=name,
        prompt=prompt,
        output_tokens=config.max_output_tokens or _own_maximum(model),
        answers=config.candidate_count or 1,
    )


def _own_maximum(model: BaseLlm) -> object:
    """The longest answer that a model is set to, where its request names none."""
    extra: Any = getattr(model, "_additional_args", None)
    if isinstance(extra, Mapping):
        given = cast("Mapping[str, Any]", extra)
        return given.get("max_completion_tokens") or given.get("max_tokens")
    return getattr(model, "max_tokens", None)


def _provider_of(model: BaseLlm, name: str) -> str:
    kinds = {kind.__name__ for kind in type(model).__mro__}
    known = next((_PROVIDERS[kind] for kind in _PROVIDERS if kind in kinds), None)
    return known or name.partition("/")[0]


class BudgetPlugin(BasePlugin):
    """Holds for the models and tools of all agents of an app: `App(plugins=[BudgetPlugin()])`.

    Args:
        tools: what a call of a tool holds: amounts by dimension, or a callable of its name and
            arguments, or None: nothing.
        provider: who answers the models, as of `wrap_model`.
        name: of the plugin.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`, for the models.
    """

    def __init__(
        self,
        *,
        tools: ToolAmounts = ONE_CALL,
        provider: str | None = None,
        name: str = "budgetware",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(name=name)
        CallSettings(**options)
        self._tools = tools
        self._models: tuple[str | None, Options] = (provider, options)
        self._held: dict[tuple[str, str], Reservation] = {}

    async def before_model_callback(self, *, callback_context: Any, **_rest: Any) -> None:
        """Wrap the model that is about to be called."""
        agent = callback_context.get_invocation_context().agent
        model = getattr(agent, "canonical_model", None)
        if isinstance(model, BaseLlm):
            provider, options = self._models
            wrap_model(model, provider=provider, **options)

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Hold for a tool; what is returned is read in place of its result."""
        amounts = self._amounts_of(tool, tool_args)
        if not amounts:
            return None
        try:
            with errors.soft_termination():
                held = await reserve(
                    kind="tool", name=call_name(tool.name), expires_in=LONGEST_CALL, **amounts
                )
        except Refused as error:
            return _refusal(error, tool_context)
        forgotten = self._held.pop(_key(tool_context), None)
        self._held[_key(tool_context)] = held
        if forgotten is not None:
            forgotten.commit()
        return None

    def _amounts_of(self, tool: BaseTool, arguments: dict[str, Any]) -> Mapping[str, Any]:
        is_steering = isinstance(tool, AgentTool) or tool.name in _STEERING
        if is_steering and not callable(self._tools):
            return {}
        return amounts_of(self._tools, tool.name, arguments, getattr(tool, "func", None))

    async def after_tool_callback(self, *, tool_context: Any, **_rest: Any) -> None:
        """Settle."""
        held = self._held.pop(_key(tool_context), None)
        if held is None:
            return
        call_id, actions = tool_context.function_call_id, tool_context.actions
        asked = actions.requested_tool_confirmations, actions.requested_auth_configs
        if any(call_id in waiting for waiting in asked):
            held.release()
        else:
            held.commit()

    async def on_tool_error_callback(
        self, *, tool_context: Any, error: BaseException, **_rest: Any
    ) -> dict[str, Any] | None:
        """Settle a tool that failed, or was cancelled; a refusal inside it is told to the model."""
        held = self._held.pop(_key(tool_context), None)
        if held is not None:
            held.cut(error)
        refusal = errors.budget_error(error) if isinstance(error, Exception) else None
        return _refusal(refusal, tool_context) if isinstance(refusal, Refused) else None

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """Settle what other plugins have kept from this one."""
        run = invocation_context.invocation_id
        for key in [key for key in self._held if key[0] == run]:
            self._held.pop(key).commit()


def _key(tool_context: Any) -> tuple[str, str]:
    return tool_context.invocation_id, str(tool_context.function_call_id)


def _refusal(error: BaseException, tool_context: Any) -> dict[str, Any]:
    """What the model reads; where the task of the run was ended, it is not asked again."""
    if ends_run(error):
        tool_context.get_invocation_context().end_invocation = True
    return {"error": refusal_text(error)}


def _same(original: Method) -> Method:
    return original


def _run_once(original: Method) -> Method:
    async def run_async(self: Runner, **how: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(cancelled_once(original(self, **how))) as events:
            async for event in events:
                yield event

    return run_async


def _as_tasks(
    thing: T,
    limits: Mapping[str, Any] | None,
    name: str,
    around: Callable[[Method], Method] = _same,
) -> T:
    """Make each stream of `run_async` a task; without limits, none."""
    if limits:
        task_budget(name, **limits)  # raises now where they cannot be

    def run_async(original: Method) -> Method:
        run = around(original)
        return task_budget(name, **limits)(run) if limits else run

    return subclass(thing, {"run_async": run_async})


def _check(entry: str, given: object, kind: type) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"{entry}({type(given).__name__}): give a {kind.__name__} of google.adk")

"""Budgets for DSPy: each call of a language model holds what it may cost before it is sent.

    import dspy
    from budgetware import task_budget
    from budgetware_integrations.dspy import budget

    dspy.configure(lm=budget(dspy.LM("openai/gpt-5-nano")))
    program = dspy.ChainOfThought("question -> answer")

    with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        program(question="Where do rivers flow?")

`budget` takes an LM of any kind, or a `dspy.Tool`, and returns the same one; its copies hold, too.
Sync and async, `dspy.context(lm=...)`, `streamify`, `asyncify`, ReAct: all of them call the LM. The
threads of `dspy.Parallel`, `Evaluate`, `module.batch` and of optimizers pay as their caller does:
from the first `budget` on, DSPy's `ParallelExecutor` carries its task there.

**What is held.** One call, and tokens: messages and options by their bytes (`count_tokens=` counts
them better), the answer by `max_tokens` or `max_completion_tokens` of the LM or the call, times
`n`; without one, `default_output_tokens=4_096`. Where `usd` is limited, the price of that at the
model's dearest rate. One reservation stands for all attempts of `num_retries`. What DSPy has in its
cache holds nothing. For a `dspy.Tool` `{"calls": 1}`; say otherwise by `tools=`; `@budgeted`
functions hold for themselves, as tools of ReAct, too.

**What is settled.** The usage that the LM reports, as `dspy.track_usage` counts it, which counts on
as before. Streams ask for usage by themselves; the chunk that LiteLLM makes of it is kept from you.
Where none was reported, what was held is charged, as it is after a cancellation. An error that the
provider answered with charges nothing; a timeout does, since the answer may have been made.

**When there is not enough.** A call of an LM raises `BudgetExceeded` out of the program (or waits,
or ends the task, by the policy) and nothing is sent. ReAct shows the refusal of a tool to the
model as its observation, and goes on. `dspy.Parallel` and `Evaluate` count a refusal as an error of
that example, and stop at `max_errors`. A task that is terminated ends the program at its next call,
whatever catches errors, and its block raises `BudgetTerminated`.

Not held: `lm.forward` and `lm.aforward` called as such, `dspy.Embedder`, and what `unbatchify` and
`AvatarOptimizer` do in threads of their own; `budget.wrap` carries a task there. A saved program
loads with LMs that hold nothing. Rate-limit headers are seen on errors alone.

Errors: those of DSPy and of `reserve`; `TypeError` where it is neither LM nor tool.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final, TypeVar, Unpack

from anyio import to_thread

from budgetware import Usage, charge

from ._model_calls import ModelCall, current_call, read_usage
from ._options import CallSettings, Options
from ._requirements import require
from ._subclasses import Method, subclass
from ._tool_calls import ONE_CALL, ToolAmounts, amounts_of, charges_itself, run_tool, run_tool_sync

require("dspy", "3.4", "3.5")

import dspy  # noqa: E402
from dspy.clients.execution import IGNORED_CACHE_KEYS, prepare  # noqa: E402
from dspy.utils.parallelizer import ParallelExecutor  # noqa: E402
from dspy.utils.usage_tracker import UsageTracker  # noqa: E402

T = TypeVar("T", bound=dspy.BaseLM | dspy.Tool)

_MAXIMA: Final = ("max_completion_tokens", "max_tokens")
_NOT_SENT: Final = frozenset({"api_key", "api_base", "base_url", "headers", "cache", "rollout_id"})
_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}


@dataclass(frozen=True, slots=True)
class _Way:
    """How calls are held."""

    settings: CallSettings
    provider: str | None


def budget(
    thing: T,
    *,
    tools: ToolAmounts = ONE_CALL,
    provider: str | None = None,
    **options: Unpack[Options],
) -> T:
    """Make an LM or a tool hold for its calls; returns the same. Twice is once.

    Args:
        thing: a `dspy.LM`, another `dspy.BaseLM`, or a `dspy.Tool`.
        tools: what a call of the tool holds, by dimension; a callable of its name and arguments.
        provider: who answers, where the prefix of the model does not say; for prices and spans.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.

    Raises:
        TypeError: it is neither.
    """
    _carry_into_threads()
    if isinstance(thing, dspy.BaseLM):
        _put_on_lm(thing, _Way(CallSettings(**options), provider))
    elif isinstance(thing, dspy.Tool):  # pyright: ignore[reportUnnecessaryIsInstance]
        _put_on_tool(thing, tools)
    else:
        raise TypeError(f"budget({type(thing).__name__}): give a dspy.LM or a dspy.Tool")
    return thing


def _put_on_lm(lm: dspy.BaseLM, way: _Way) -> None:
    def call(original: Method) -> Method:
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            if current_call() is not None:
                return original(self, *args, **kwargs)
            asked = _asked(args, kwargs)
            held = _LmCall(self, asked, way)
            if not _is_cached(self, asked, asynchronous=False):
                held.start_sync()
            with held.settling(), held.inside():
                return original(self, *args, **kwargs)

        return called

    def acall(original: Method) -> Method:
        async def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            if current_call() is not None:
                return await original(self, *args, **kwargs)
            asked = _asked(args, kwargs)
            held = _LmCall(self, asked, way)
            peek = functools.partial(_is_cached, self, asked, asynchronous=True)
            if not (_may_be_cached(self, asked) and await to_thread.run_sync(peek)):
                await held.start()
            with held.settling(), held.inside():
                return await original(self, *args, **kwargs)

        return called

    subclass(lm, {"__call__": call, "acall": acall})


def _asked(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(("prompt",), args, strict=False)), **kwargs}


class _LmCall(ModelCall):
    """A call of an LM, which tells what it used by DSPy's own tracker."""

    __slots__ = ()

    def __init__(self, lm: Any, asked: Mapping[str, Any], way: _Way) -> None:
        options = {**lm.kwargs, **asked}
        request = asked.get("request") or asked.get("prompt")
        config = getattr(request, "config", None)
        prefix, slash, model = str(lm.model).partition("/")
        super().__init__(
            way.settings,
            provider=way.provider or (_PROVIDERS.get(prefix, prefix) if slash else "openai"),
            model=model if slash else prefix,
            prompt={name: options[name] for name in options if name not in _NOT_SENT},
            output_tokens=getattr(config, "max_tokens", None)
            or next((options[most] for most in _MAXIMA if options.get(most)), None),
            answers=options.get("n") or 1,
        )

    def tell(self, usage: Usage | None) -> None:
        """Take in what was used, all of it; None: it is not known."""
        if self.is_open:
            self.note(usage, final=True)
        elif usage is not None:  # it seemed to be cached, and was not
            charge(calls=1, **usage.amounts())

    @contextmanager
    def settling(self) -> Generator[None]:
        """Listen to what is used in the block; settle as it ends."""
        tracker = _Tracker(dspy.settings.usage_tracker)
        try:
            with _tracking(tracker):
                yield
        except BaseException as error:
            if tracker.total is not None:
                self.tell(tracker.total)
            self.end(error)
            raise
        if not tracker.is_told:
            self.release()
            return
        self.tell(tracker.total)
        self.end()


class _Tracker(UsageTracker):  # type: ignore[misc]
    """Counts what one call used, for the tracker there was, too; never told of what was cached."""

    def __init__(self, outer: Any) -> None:
        super().__init__()
        self._outer = outer
        self.is_told = False
        self.total: Usage | None = None

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        self.is_told = True
        usage = read_usage(usage_entry)
        if usage is not None:
            self.total = usage if self.total is None else self.total + usage
        if self._outer is not None:
            self._outer.add_usage(lm, usage_entry)


@contextmanager
def _tracking(tracker: _Tracker) -> Generator[None]:
    """Have DSPy tell the tracker, and LiteLLM's streams report usage without showing it."""
    settings = dspy.settings
    stream = settings.send_stream
    changes: dict[str, Any] = {"usage_tracker": tracker}
    if stream is not None and not settings.track_usage:
        changes |= {"track_usage": True, "send_stream": _WithoutUsage(stream)}
    with settings.context(**changes):
        yield


class _WithoutUsage:
    """A stream of chunks, without those that only tell of usage."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send(self, item: Any) -> None:
        if getattr(item, "usage", None) is None:
            await self._stream.send(item)


def _may_be_cached(lm: Any, asked: Mapping[str, Any]) -> bool:
    return bool(asked.get("cache", lm.cache))


def _is_cached(lm: Any, asked: Mapping[str, Any], *, asynchronous: bool) -> bool:
    """Look whether DSPy has the answer: then nothing need be held for it."""
    if not _may_be_cached(lm, asked):
        return False
    given = dict(asked)
    try:
        call = prepare(
            lm,
            given.pop("prompt", None),
            given.pop("messages", None),
            given,
            asynchronous=asynchronous,
        )
        key = call.key(lm, asynchronous) if call.cache else None
        return key is not None and dspy.cache.get(key, IGNORED_CACHE_KEYS) is not None
    except Exception:  # the call itself will say what is wrong with it
        return False


def _put_on_tool(tool: dspy.Tool, tools: ToolAmounts) -> None:
    function, name = tool.func, tool.name or "tool"
    if charges_itself(function):
        return

    @functools.wraps(function)
    def held(**arguments: Any) -> Any:
        amounts = amounts_of(tools, name, arguments)
        if inspect.iscoroutinefunction(function):
            return run_tool(amounts, name, lambda: function(**arguments))
        return run_tool_sync(amounts, name, lambda: function(**arguments))

    held.__budgeted__ = True  # type: ignore[attr-defined]
    tool.func = held


def _carry_into_threads() -> None:
    """Let the threads of DSPy's executor pay as the code does that starts them; once."""
    original: Any = ParallelExecutor.execute
    if getattr(original, "__budgetware__", False):
        return

    @functools.wraps(original)
    def execute(self: Any, function: Callable[[Any], Any], data: Any) -> Any:
        caller = copy_context()

        @functools.wraps(function)
        def carried(item: Any) -> Any:
            own = copy_context()

            def run() -> Any:
                for variable, value in caller.items():
                    if variable not in own:
                        variable.set(value)
                return function(item)

            return own.copy().run(run)

        return original(self, carried, data)

    made: Any = execute
    made.__budgetware__ = True
    ParallelExecutor.execute = made

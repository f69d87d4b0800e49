"""Budgets for LiteLLM: each call holds what it may cost before it is sent.

    from budgetware import task_budget
    from budgetware_integrations.litellm import acompletion

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await acompletion(model="openai/gpt-5-nano", messages=[...])

`acompletion`, `completion`, `atext_completion`, `text_completion`, `aembedding`, `embedding`,
`aresponses` and `responses` are those of LiteLLM, with the same arguments and results;
`wrap(litellm.acompletion, max_wait="30s")` makes one that is told more.

`instrument()` makes LiteLLM's own functions hold, for the whole process: a `Router`, and the
frameworks that call LiteLLM, are under budgets then. Names that were imported from LiteLLM
before, by `from litellm import acompletion`, are not reached.

`BudgetCallback` does it without replacing anything, as one of `litellm.callbacks`, for async calls:

    import litellm
    litellm.callbacks.append(BudgetCallback())

**What is held.** One call, and tokens: the prompt by its bytes (`count_tokens=` counts it better),
the answer by `max_completion_tokens`, `max_tokens` or `max_output_tokens`, times `n`; a request
without a maximum holds `default_output_tokens=4_096`. Where `usd` is limited, the price of that at
the model's dearest rate. Prices are budgetware's, not those of `litellm.completion_cost`. One
reservation stands for all that `num_retries` makes of a call. Each model of `fallbacks=`, and each
attempt of a `Router`, is held by itself, for the model that is tried, and given back where it
fails without being billed; a refusal ends them, and the next model is not asked.

**What is settled.** The usage that the provider reports. Streams report it when asked: they are
asked, and the chunk that tells of it is kept from you (`include_usage=False` leaves the request
alone). Where a provider reports none, what was held is charged, also after a stream that was
left early: what LiteLLM counts in its place is not taken. An error that the provider answered
with, or a connection that was never made, charges nothing; a timeout does, since the answer may
have been made. Answers of LiteLLM's cache cost nothing.

**When there is not enough**, the call raises `BudgetExceeded` (or waits, or ends the task, by the
policy) and nothing is sent. The error is a `litellm.BudgetExceededError`, too: a `Router` does not
try again, and holds it against no deployment. A 429, or a rate limit of which nothing is left,
pauses the resources that the call draws on.

**Limits of the callback.** LiteLLM tells callbacks of async calls alone: `completion()` and
`Router.completion()` hold nothing. It tells nothing of a call that was cancelled, or of a stream
that was left: those are charged once Python has collected them, or two hours later. A stream
settles shortly after its end; the chunk with its usage reaches you; and where the provider reported
none, it is charged what LiteLLM has counted. `instrument()` has none of these limits.
With the callback, LiteLLM takes a refusal for one more failure of its `fallbacks=`: the next model
is asked for, and held, and the last error is LiteLLM's own.

**Limits.** `context_window_fallback_dict=`, `model_list=` and `litellm.model_fallbacks` ask other
models inside one reservation, which is sized and priced for the model that was asked for first.
`batch_completion` and its kin hold under `instrument()` only.

Not: images, audio, rerank, batches, realtime, `anthropic_messages`; use `reserve` around those.

Errors: those of LiteLLM, and those of `reserve`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, Unpack

from budgetware import BudgetwareError

from ._model_calls import ModelCall, current_call
from ._options import CallSettings, Options
from ._requirements import require

require("litellm", "1.103", "2")

import litellm  # noqa: E402

from . import _litellm_calls as calls  # noqa: E402
from ._litellm_callback import BudgetCallback  # noqa: E402
from ._litellm_fallbacks import ask_in_turn, ask_in_turn_sync, has_fallbacks  # noqa: E402
from ._litellm_streams import watch  # noqa: E402

__all__ = [
    "BudgetCallback",
    "acompletion",
    "aembedding",
    "aresponses",
    "atext_completion",
    "completion",
    "embedding",
    "instrument",
    "responses",
    "text_completion",
    "uninstrument",
    "wrap",
]

P = ParamSpec("P")
R = TypeVar("R")

_HOMES: Final = (
    "litellm",
    "litellm.main",
    "litellm.responses.main",
    "litellm.litellm_core_utils.asyncify",
)
_BATCHES: Final = sys.modules["litellm.batch_completion.main"]
_RUN_ASYNC: Final = "run_async_function"
_INNER: Final = ("acompletion", "aembedding", "atext_completion", "aresponses")
"""Flags by which LiteLLM's async functions call the sync ones."""


def instrument(*, include_usage: bool = True, **options: Unpack[Options]) -> None:
    """Make LiteLLM's functions hold for all calls of the process. Twice is once.

    Args:
        include_usage: ask streams to report usage, and hide that chunk.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    settings = CallSettings(**options)
    uninstrument()
    for name in calls.NAMES:
        _replace(name, partial(_holding, name, settings=settings, include_usage=include_usage))
    _replace(_RUN_ASYNC, _carrying)
    vars(_BATCHES)["ThreadPoolExecutor"] = _CarryingThreads


def uninstrument() -> None:
    """Undo `instrument`."""
    for name in (*calls.NAMES, _RUN_ASYNC):
        for module in _modules():
            function = vars(module).get(name)
            if getattr(function, "__budgetware__", False):
                setattr(module, name, function.__wrapped__)
    vars(_BATCHES)["ThreadPoolExecutor"] = ThreadPoolExecutor


def _replace(name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` answers in the place of a function, in each module that has its name."""
    made = {id(function): make(function) for function in _functions(name)}
    for module in _modules():
        function = vars(module).get(name)
        if id(function) in made:
            setattr(module, name, made[id(function)])


def _functions(name: str) -> list[Any]:
    """The function of that name: as users call it, and as LiteLLM does inside."""
    found = [vars(sys.modules[module]).get(name) for module in _HOMES if module in sys.modules]
    return list({id(function): function for function in found if function is not None}.values())


def _modules() -> list[Any]:
    return [
        module
        for path, module in list(sys.modules.items())
        if path.split(".")[0] == "litellm" and module is not None
    ]


def _carrying(run: Any) -> Any:
    """What a `Router` runs its sync methods by: in a thread of its own, where a loop runs here."""

    @functools.wraps(run)
    def carried(async_function: Any, *args: Any, **named: Any) -> Any:
        context = copy_context()

        async def inside(*args: Any, **named: Any) -> Any:
            for variable, value in context.items():
                variable.set(value)
            try:
                return await async_function(*args, **named)
            except BudgetwareError as error:
                return _Refused(error)

        result = run(inside, *args, **named)
        if isinstance(result, _Refused):
            raise result.error
        return result

    made: Any = carried
    made.__budgetware__ = True
    return made


class _Refused:
    """A refusal as a result: LiteLLM takes a `RuntimeError` there for "no loop is running"."""

    def __init__(self, error: BudgetwareError) -> None:
        self.error = error


class _CarryingThreads(ThreadPoolExecutor):
    """The threads of `batch_completion`, which draw on the budgets of the code that asks."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


def _holding(name: str, function: Any, *, settings: CallSettings, include_usage: bool) -> Any:
    """A function that holds for each of its calls, async or sync as the one it wraps."""

    @functools.wraps(function)
    async def held_async(*args: Any, **named: Any) -> Any:
        if current_call() is not None:
            return await function(*args, **named)
        asked = calls.arguments_of(name, args, named)
        if has_fallbacks(name, asked):
            return await ask_in_turn(held_async, asked)
        call = calls.model_call(calls.operation_of(name), asked, settings)
        await calls.start(call)
        named, hides_usage = calls.asking(name, asked, named, include_usage=include_usage)
        try:
            with call.inside():
                result = await function(*args, **named)
        except BaseException as error:
            calls.fail(call, error)
            raise
        return _settle(call, result, hides_usage=hides_usage)

    @functools.wraps(function)
    def held(*args: Any, **named: Any) -> Any:
        if current_call() is not None or any(named.get(flag) is True for flag in _INNER):
            return function(*args, **named)
        asked = calls.arguments_of(name, args, named)
        if has_fallbacks(name, asked):
            return ask_in_turn_sync(held, asked)
        call = calls.model_call(calls.operation_of(name), asked, settings)
        calls.start_sync(call)
        named, hides_usage = calls.asking(name, asked, named, include_usage=include_usage)
        try:
            with call.inside():
                result = function(*args, **named)
        except BaseException as error:
            calls.fail(call, error)
            raise
        return _settle(call, result, hides_usage=hides_usage)

    made: Any = held_async if name.startswith("a") else held
    made.__budgetware__ = True
    return made


def _settle(call: ModelCall, result: Any, *, hides_usage: bool) -> Any:
    """Settle now where the answer was read, else when its stream ends."""
    calls.tell_limits(call, result)
    if calls.is_cached(result):
        call.release()
    elif hasattr(result, "__anext__") or hasattr(result, "__next__"):
        return watch(result, call, hides_usage=hides_usage)
    else:
        call.note(result, final=True)
        call.end()
    return result


def wrap(
    function: Callable[P, R], *, include_usage: bool = True, **options: Unpack[Options]
) -> Callable[P, R]:
    """Make one of LiteLLM's functions hold for its calls; returns another one. Twice is once.

    Args:
        function: such as `litellm.acompletion`.
        include_usage: ask streams to report usage, and hide that chunk.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    name = getattr(function, "__name__", "")
    if name not in calls.NAMES:
        raise TypeError(
            f"wrap({name or function!r}): give one of LiteLLM's {', '.join(calls.NAMES)}"
        )
    settings = CallSettings(**options)
    if getattr(function, "__budgetware__", False):
        return function
    held: Callable[P, R] = _holding(name, function, settings=settings, include_usage=include_usage)
    return held


def _dropped_in(name: str) -> Any:
    """LiteLLM's function of that name, as it is when it is called, holding for each call."""
    function: Any = getattr(litellm, name)

    async def late_async(*args: Any, **named: Any) -> Any:
        return await getattr(litellm, name)(*args, **named)

    def late(*args: Any, **named: Any) -> Any:
        return getattr(litellm, name)(*args, **named)

    found = late_async if name.startswith("a") else late
    named = functools.update_wrapper(found, function)
    return _holding(name, named, settings=CallSettings(), include_usage=True)


completion = _dropped_in("completion")
acompletion = _dropped_in("acompletion")
text_completion = _dropped_in("text_completion")
atext_completion = _dropped_in("atext_completion")
embedding = _dropped_in("embedding")
aembedding = _dropped_in("aembedding")
responses = _dropped_in("responses")
aresponses = _dropped_in("aresponses")

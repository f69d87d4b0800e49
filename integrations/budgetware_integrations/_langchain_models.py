"""Chat models of LangChain that hold for their calls. Not here: the agents that call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Final, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import convert_to_openai_messages
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.errors import GraphBubbleUp
from pydantic import Field

from budgetware import BudgetwareError, Usage

from ._model_calls import ModelCall, current_call, read_usage
from ._options import CallSettings
from ._stainless import MOST_TOKENS, answers_of, listen
from ._streams import each, each_sync

M = TypeVar("M", bound=BaseChatModel)

_KEPT_IN_PROMPT: Final = ("tools", "functions", "response_format")
_MAXIMA: Final = (
    "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens",
    "max_tokens_to_sample", "num_predict",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a model are held; `stops`: a refusal is a `Stopped`, as inside an agent."""

    settings: CallSettings = field(default_factory=CallSettings)
    provider: str | None = None
    stops: bool = False


class Stopped(GraphBubbleUp):
    """A refusal on its way out of an agent's middleware, none of which takes it for a failure."""

    def __init__(self, refusal: BudgetwareError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def refusal_of(error: BaseException) -> BaseException:
    """Return the refusal that a `Stopped` carries; others are it."""
    return error.refusal if isinstance(error, Stopped) else error


def is_held(model: BaseChatModel) -> bool:
    """Say whether a model holds for its calls."""
    return "budgetware_way" in model.__dict__


def held(model: M, way: Way) -> M:
    """Return a copy of a model, of a subclass, that holds; of one that does, in another way."""
    made = model.model_copy()
    if not is_held(model):
        object.__setattr__(made, "__class__", _subclass(type(model)))
    cast("Any", made).__dict__["budgetware_way"] = way
    return made


@cache
def _subclass(kind: type[Any]) -> type[Any]:
    """The class of models of a kind that hold, by the same name."""
    names: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__annotations__": {"budgetware_way": Any},
        "__reduce_ex__": lambda self, _: (_restored, (kind, self.__getstate__())),
        "budgetware_way": Field(default_factory=Way, exclude=True, repr=False),
        "_generate": _generate(kind),
        "_agenerate": _agenerate(kind),
    }
    none: Any = BaseChatModel
    if kind._stream is not none._stream:
        names["_stream"] = _stream(kind)
    if kind._astream is not none._astream:
        names["_astream"] = _astream(kind)
    return type(kind.__name__, (kind,), names)


def _restored(kind: type[Any], state: Any) -> Any:
    """Make a model that holds again, of what was pickled of it."""
    subclass: Any = _subclass(cast("Any", kind))
    made = subclass.__new__(subclass)
    made.__setstate__(state)
    return made


def _generate(kind: type[Any]) -> Any:
    original = kind._generate

    @wraps(original)
    def _generate(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self, self.budgetware_way, messages, kwargs)
        _start_sync(call, self.budgetware_way)
        try:
            with call.inside():
                result = original(self, messages, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return _noted(call, result)

    return _generate


def _agenerate(kind: type[Any]) -> Any:
    original = kind._agenerate

    @wraps(original)
    async def _agenerate(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self, self.budgetware_way, messages, kwargs)
        _hear(self, call)
        await _start(call, self.budgetware_way)
        try:
            with call.inside():
                result = await original(self, messages, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return _noted(call, result)

    return _agenerate


async def _start(call: ModelCall, way: Way) -> None:
    try:
        await call.start()
    except BudgetwareError as error:
        if not way.stops:
            raise
        refusal = error
    else:
        return
    raise Stopped(refusal)


def _start_sync(call: ModelCall, way: Way) -> None:
    try:
        call.start_sync()
    except BudgetwareError as error:
        if not way.stops:
            raise
        refusal = error
    else:
        return
    raise Stopped(refusal)


def _hear(model: Any, call: ModelCall) -> None:
    """Hear of rate limits in what clients of OpenAI and Anthropic are answered."""
    for name in ("root_async_client", "_async_client"):
        client = getattr(model, name, None)
        if any(kind.__name__ == "AsyncAPIClient" for kind in type(client).__mro__):
            listen(client, call)
            call.billing.is_sent = True  # it may be another client that it sends by


def _noted(call: ModelCall, result: Any) -> Any:
    message = result.generations[0].message if result.generations else None
    usage = read_usage(message) or read_usage(result.llm_output)
    if usage is not None:
        call.note(usage, final=True)
    call.end()
    return result


def _stream(kind: type[Any]) -> Any:
    original = kind._stream

    @wraps(original)
    def _stream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        reading = _Reading(self, messages, kwargs)
        _start_sync(reading.call, self.budgetware_way)
        chunks = original(self, messages, *args, **kwargs, **reading.asked)
        with closing(each_sync(reading, chunks, reading.see)) as passed:
            yield from passed

    return _stream


def _astream(kind: type[Any]) -> Any:
    original = kind._astream

    @wraps(original)
    async def _astream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        reading = _Reading(self, messages, kwargs)
        _hear(self, reading.call)
        await _start(reading.call, self.budgetware_way)
        chunks = original(self, messages, *args, **kwargs, **reading.asked)
        async with aclosing(each(reading, chunks, reading.see)) as passed:
            async for chunk in passed:
                yield chunk

    return _astream


class _Reading:
    """One stream: adds up the usage of its chunks, for the call that pays for it."""

    def __init__(self, model: Any, messages: Any, kwargs: Mapping[str, Any]) -> None:
        self.call = call_of(model, model.budgetware_way, messages, kwargs)
        self.inside = self.call.inside
        self._payer = current_call() or self.call
        self._used: Usage | None = None
        self.asked = {"stream_usage": True} if _is_silent(model, kwargs) else {}
        """What asks for the usage, on our account: then it is kept from the caller."""

    def see(self, chunk: Any) -> bool:
        message = chunk.message
        usage = read_usage(message)
        if usage is None:
            return True
        if usage != self._used:  # a last chunk that sums up tells it all again
            self._used = usage if self._used is None else self._used + usage
        self._payer.note(self._used, output=False)
        return not (self.asked and _is_usage_alone(message))

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        if error is None and self._used is not None:
            self._payer.note(self._used, final=self._payer is self.call)
        self.call.end(error, broken=broken)


def _is_silent(model: Any, kwargs: Mapping[str, Any]) -> bool:
    """Say whether its streams tell of usage only where they are asked: OpenAI's chat completions.

    Not where somebody has said whether they are to tell.
    """
    if not hasattr(model, "_should_stream_usage") or model.stream_usage is not None:
        return False
    given = {**kwargs, **(getattr(model, "model_kwargs", None) or {})}
    has_responses = getattr(model, "_use_responses_api", None)
    return not (
        {"stream_usage", "stream_options"} & given.keys()
        or (has_responses is not None and has_responses(given))
    )


def _is_usage_alone(message: Any) -> bool:
    return not (
        message.content
        or getattr(message, "tool_call_chunks", None)
        or message.additional_kwargs
        or message.response_metadata.get("finish_reason")
    )


# What is asked of a model.


def call_of(model: Any, way: Way, messages: Any, kwargs: Mapping[str, Any]) -> ModelCall:
    """Make the call that holds for some messages, and what is given with them."""
    about = _about(model, kwargs)
    prompt: dict[str, Any] = {}
    if current_call() is None:
        prompt = {"messages": _messages(messages)}
        prompt |= {key: _sendable(kwargs[key]) for key in _KEPT_IN_PROMPT if kwargs.get(key)}
    return ModelCall(
        way.settings,
        provider=way.provider or about.get("ls_provider") or "unknown",
        model=about.get("ls_model_name"),
        prompt=prompt,
        output_tokens=_most_of(model, about, kwargs, way.settings.default_output_tokens),
        answers=_answers_of(model, kwargs),
    )


def _places(model: Any, kwargs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where else than in its own fields a model is told of limits."""
    places = (
        kwargs,
        kwargs.get("extra_body"),
        getattr(model, "model_kwargs", None),
        getattr(model, "extra_body", None),
    )
    return [cast("Mapping[str, Any]", place) for place in places if isinstance(place, Mapping)]


def _most_of(
    model: Any, about: Mapping[str, Any], kwargs: Mapping[str, Any], default: int
) -> int | None:
    """The largest maximum that may apply; a call that takes it away has the default."""
    told = [about.get("ls_max_tokens") or getattr(model, "max_tokens", None)]
    for place in _places(model, kwargs):
        told += [place[name] or default for name in _MAXIMA if name in place]
    counts = [value for value in told if type(value) is int and value > 0]
    return min(max(counts), MOST_TOKENS) if counts else None


def _answers_of(model: Any, kwargs: Mapping[str, Any]) -> int:
    places = [place for place in _places(model, kwargs) if place.get("n")]
    return max(answers_of(place, "n") for place in places or [{"n": getattr(model, "n", None)}])


def _about(model: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its names and its maximum, as every chat model tells tracers of them."""
    plain = {key: value for key, value in kwargs.items() if key not in _KEPT_IN_PROMPT}
    try:
        return cast("Mapping[str, Any]", model._get_ls_params(**plain))
    except Exception:
        return {"ls_model_name": getattr(model, "model_name", None)}


def _messages(messages: Any) -> Any:
    """Messages as they are sent to OpenAI; those that it could not be sent, by their content."""
    try:
        return convert_to_openai_messages(messages)
    except Exception:
        return [
            {"role": m.type, "content": m.content, "tool_calls": getattr(m, "tool_calls", None)}
            for m in messages
        ]


def _sendable(value: Any) -> Any:
    """Tools and schemas as JSON; what cannot be, as it is."""
    if isinstance(value, list | tuple):
        return [_sendable(item) for item in value]
    if isinstance(value, Mapping):
        return value
    try:
        return convert_to_openai_tool(value)
    except Exception:
        return value

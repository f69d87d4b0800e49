"""Chat models of LangChain that hold for their calls. Not here: the agents that call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from typing import Any, Final, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import convert_to_openai_messages
from langchain_core.utils.function_calling import convert_to_openai_tool

from budgetware import Usage

from ._model_calls import ModelCall, current_call, read_usage
from ._options import CallSettings
from ._stainless import listen
from ._streams import each, each_sync

M = TypeVar("M", bound=BaseChatModel)

_KEPT_IN_PROMPT: Final = ("tools", "functions", "response_format")


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a model are held; `asks`: its streams are asked for usage on our account."""

    settings: CallSettings = field(default_factory=CallSettings)
    provider: str | None = None
    asks: bool = False


def is_held(model: BaseChatModel) -> bool:
    """Say whether a model holds for its calls."""
    return "budgetware_way" in model.__dict__


def held(model: M, way: Way) -> M:
    """Return a copy of a model, of its class, that holds."""
    fields = type(model).model_fields
    asks = "stream_usage" in fields and getattr(model, "stream_usage", True) is None
    made = model.model_copy(update={"stream_usage": True} if asks else None)
    object.__setattr__(made, "__class__", _subclass(type(model)))
    cast("Any", made).__dict__["budgetware_way"] = replace(way, asks=asks)
    return made


@cache
def _subclass(kind: type[Any]) -> type[Any]:
    """The class of models of a kind that hold, by the same name."""
    names: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "_generate": _generate(kind),
        "_agenerate": _agenerate(kind),
    }
    none: Any = BaseChatModel
    if kind._stream is not none._stream:
        names["_stream"] = _stream(kind)
    if kind._astream is not none._astream:
        names["_astream"] = _astream(kind)
    return type(kind.__name__, (kind,), names)


def _generate(kind: type[Any]) -> Any:
    original = kind._generate

    @wraps(original)
    def _generate(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call = call_of(self, self.budgetware_way, messages, kwargs)
        call.start_sync()
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
        await call.start()
        try:
            with call.inside():
                result = await original(self, messages, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return _noted(call, result)

    return _agenerate


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
        reading.call.start_sync()
        chunks = original(self, messages, *args, **kwargs)
        with closing(each_sync(reading, chunks, reading.see)) as passed:
            yield from passed

    return _stream


def _astream(kind: type[Any]) -> Any:
    original = kind._astream

    @wraps(original)
    async def _astream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        reading = _Reading(self, messages, kwargs)
        _hear(self, reading.call)
        await reading.call.start()
        chunks = original(self, messages, *args, **kwargs)
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
        own = {**(getattr(model, "model_kwargs", None) or {}), **kwargs}
        self._hides = (
            model.budgetware_way.asks and not {"stream_usage", "stream_options"} & own.keys()
        )

    def see(self, chunk: Any) -> bool:
        message = chunk.message
        usage = read_usage(message)
        if usage is None:
            return True
        if usage != self._used:  # a last chunk that sums up tells it all again
            self._used = usage if self._used is None else self._used + usage
        self._payer.note(self._used, output=False)
        return not (self._hides and _is_usage_alone(message))

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        if error is None and self._used is not None:
            self._payer.note(self._used, final=self._payer is self.call)
        self.call.end(error, broken=broken)


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
        output_tokens=about.get("ls_max_tokens"),
        answers=kwargs.get("n") or getattr(model, "n", None) or 1,
    )


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

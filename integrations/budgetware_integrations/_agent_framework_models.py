"""Chat middleware of the Agent Framework that holds for model calls. Not here: runs and tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from agent_framework import (
    ChatContext,
    ChatMiddleware,
    ChatResponse,
    FunctionTool,
    ResponseStream,
)

from budgetware import Usage
from budgetware.errors import ConfigurationError

from ._model_calls import ModelCall, read_usage
from ._options import CallSettings
from ._stainless import listen

Next = Callable[[], Awaitable[None]]

_WAY: Final = "budgetware.way"
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_CLIENTS: Final = ("client", "anthropic_client")
_HEARD: Final = frozenset({"openai", "anthropic"})


class BudgetedModels(ChatMiddleware):
    """Holds for each call of a model that reaches the client."""

    def __init__(self, settings: CallSettings, provider: str | None = None) -> None:
        if not isinstance(settings, CallSettings):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"BudgetedModels({settings!r}): take it from budget_middleware(), with its options"
            )
        if provider is not None and not isinstance(provider, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"provider={provider!r}: give a name, such as 'openai'")
        self.settings = settings
        self.provider = provider

    async def process(self, context: ChatContext, call_next: Next) -> None:
        """Have the client hold for what it is asked; the outermost of several says how."""
        context.metadata.setdefault(_WAY, self)
        client: Any = context.client
        client._middleware_handler = _answer_held
        await call_next()

    def call(self, context: ChatContext) -> ModelCall:
        """Return what is to be held for one call of the client."""
        options: Mapping[str, Any] = context.options or {}
        client: Any = context.client
        call = ModelCall(
            self.settings,
            provider=self.provider or str(getattr(client, "OTEL_PROVIDER_NAME", "unknown")),
            model=options.get("model") or getattr(client, "model", None),
            prompt={
                "messages": [message.to_dict() for message in context.messages],
                "instructions": options.get("instructions"),
                "tools": [_declared(tool) for tool in _listed(options.get("tools"))],
                "format": _schema(options.get("response_format")),
            },
            output_tokens=_largest(options, *_MAXIMA),
            answers=_largest(options, "n"),
        )
        for name in _CLIENTS:
            inner = getattr(client, name, None)
            if type(inner).__module__.partition(".")[0] in _HEARD:
                listen(inner, call)
        return call


def _answer_held(context: ChatContext) -> Any:
    """What a client answers with, in place of its `_middleware_handler`: each time held anew."""
    client: Any = context.client
    way: BudgetedModels | None = context.metadata.get(_WAY)

    def send() -> Any:
        return type(client)._middleware_handler(client, context)

    if way is None:
        return send()
    if context.stream:
        opening: Any = _Opening(way, context, send)
        return ResponseStream.from_awaitable(opening)
    return _answer(way.call(context), send)


async def _answer(call: ModelCall, send: Callable[[], Any]) -> ChatResponse[Any]:
    await call.start()
    try:
        with call.inside():
            response: ChatResponse[Any] = await send()
    except BaseException as error:
        call.end(error)
        raise
    call.note(response, final=True)
    _finish(call)
    return response


class _Opening:
    """Opens a held stream when it is read; one that nobody reads is never asked for."""

    def __init__(self, way: BudgetedModels, context: ChatContext, send: Callable[[], Any]) -> None:
        self._way, self._context, self._send = way, context, send

    def __await__(self) -> Generator[Any, None, Any]:
        return self._open().__await__()

    async def _open(self) -> Any:
        call = self._way.call(self._context)
        await call.start()
        try:
            with call.inside():
                stream = self._send()
        except BaseException as error:
            call.end(error)
            raise
        _follow(stream, call)
        return stream


def _follow(stream: ResponseStream[Any, Any], call: ModelCall) -> None:
    """Note what a stream reports, and end the call with it."""
    used = Usage()
    is_begun = False

    def see(update: Any) -> None:
        nonlocal used, is_begun
        is_begun = True
        for content in update.contents:
            usage = read_usage(content.usage_details) if content.type == "usage" else None
            if usage is not None:  # of one call there may be several, which the framework adds
                used = used + usage
                call.note(used)

    @contextmanager
    def step() -> Generator[None]:
        try:
            with call.inside():
                yield
        except StopAsyncIteration:
            _finish(call)
            raise
        except BaseException as error:
            call.end(error, broken=is_begun and isinstance(error, Exception))
            raise

    def close() -> None:
        if call.billing.is_sent:
            call.end(GeneratorExit())
        else:
            call.release()

    stream.with_transform_hook(see).with_pull_context_manager(step).with_cleanup_hook(close)


def _finish(call: ModelCall) -> None:
    """End a call that came to its end; other middleware may have answered it."""
    if call.billing.is_sent:
        call.end()
    else:
        call.release()


def _largest(options: Mapping[str, Any], *names: str) -> int | None:
    """The largest number under these names, in what is sent beside the options, too."""
    beside = options.get("extra_body")
    places = [options, beside] if isinstance(beside, Mapping) else [options]
    given = [place.get(name) for place in places for name in names]
    return max((one for one in given if type(one) is int), default=None)


def _listed(tools: Any) -> list[Any]:
    if tools is None:
        return []
    return list(tools) if isinstance(tools, list | tuple) else [tools]


def _declared(tool: Any) -> Any:
    """A tool as the model reads of it."""
    if isinstance(tool, FunctionTool):
        return tool.name, tool.description, tool.parameters()
    return tool


def _schema(form: Any) -> Any:
    schema = getattr(form, "model_json_schema", None)
    return form if schema is None else schema()

"""Clients made by Stainless, as those of OpenAI and Anthropic: all requests go through `request`.

It lies above the retries, so that one logical call is one reservation however often it is sent.
Not here: what the requests of each provider are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ._model_calls import ModelCall, current_call
from ._options import CallSettings
from ._wire import Look, tee

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks of a model, and how its answer tells what it used.

    `facts` are the arguments of `ModelCall`; `body` replaces what is sent, where that is needed;
    `look` makes what is shown the events of the answer.
    """

    facts: Mapping[str, Any]
    look: Callable[[ModelCall], Look]
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """One provider's: which requests are calls of a model (`read`), what streams are."""

    name: str
    read: Callable[[Any, Way], Request | None]
    streams: tuple[type[Any], ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of a client are held: `provider` names it, `include_usage` asks for usage."""

    settings: CallSettings
    provider: str
    include_usage: bool = True
    marks: dict[str, Any] = field(default_factory=dict[str, Any])


def wrap(client: C, protocol: Protocol, way: Way) -> C:
    """Make a client hold for its calls, and those of its copies; once only.

    Its class becomes a subclass of its own, by the same name.
    """
    kind: type[Any] = type(client)
    if is_wrapped(kind):
        return client
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    subclass = type(kind.__name__, (kind,), names)
    put(subclass, protocol, way)
    client.__class__ = subclass
    return client


def is_wrapped(kind: type[Any]) -> bool:
    """Say whether the clients of a class hold for their calls."""
    return getattr(kind.request, "__budgetware__", False) is True


def put(kind: type[Any], protocol: Protocol, way: Way) -> None:
    """Give a class a `request` that holds, whichever kind of client it is."""
    original = kind.request
    is_async = hasattr(kind, "__aenter__")
    request = _async_request(original, protocol, way) if is_async else None
    made: Any = request or _sync_request(original, protocol, way)
    made.__budgetware__ = True
    made.__wrapped__ = original
    kind.request = made


def take(kind: type[Any]) -> None:
    """Give a class back the `request` it had before `put`."""
    own = kind.__dict__.get("request")
    if own is not None and getattr(own, "__budgetware__", False):
        del kind.request


def _async_request(original: Any, protocol: Protocol, way: Way) -> Any:
    async def request(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        asked = protocol.read(options, way)
        call = None if asked is None else _call(asked, way)
        if asked is None or call is None:
            return await original(self, cast_to, options, **how)
        _listen(self, _on_response_async)
        await call.start()
        try:
            with call.inside():
                sent = _options(options, asked)
                result = await original(self, cast_to, sent, **how)
        except BaseException as error:
            call.end(error)
            raise
        _settle(call, result, asked.look(call), protocol)
        return result

    return request


def _sync_request(original: Any, protocol: Protocol, way: Way) -> Any:
    def request(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        asked = protocol.read(options, way)
        call = None if asked is None else _call(asked, way)
        if asked is None or call is None:
            return original(self, cast_to, options, **how)
        _listen(self, _on_response)
        call.start_sync()
        try:
            with call.inside():
                result = original(self, cast_to, _options(options, asked), **how)
        except BaseException as error:
            call.end(error)
            raise
        _settle(call, result, asked.look(call), protocol)
        return result

    return request


def _call(asked: Request, way: Way) -> ModelCall | None:
    """The call that holds; None inside another adapter's, which does."""
    if current_call() is not None:
        return None
    return ModelCall(way.settings, provider=way.provider, **asked.facts)


def _options(options: Any, asked: Request) -> Any:
    """The options that are sent: a copy, where they differ."""
    changed: dict[str, Any] = {}
    if asked.body is not None:
        changed["json_data"] = asked.body
        headers = options.headers if isinstance(options.headers, Mapping) else {}
        changed["headers"] = {**headers, "Accept-Encoding": "identity"}
    return options.model_copy(update=changed) if changed else options


def _settle(call: ModelCall, result: Any, look: Look, protocol: Protocol) -> None:
    """Settle now where the answer was read, else when its stream ends."""
    response = getattr(result, "http_response", None)
    if isinstance(result, protocol.streams):
        response = result.response
    if response is None:
        call.note(result, final=True)
        call.end()
    elif response.is_closed:
        _show(response, look)
        call.end()
    else:
        tee(response, call, look)


def _show(response: Any, look: Look) -> None:
    try:
        look(json.loads(response.content))
    except (ValueError, RuntimeError):  # no JSON; not read
        return


def _on_response(response: Any) -> None:
    call = current_call()
    if call is not None:
        call.signal(response.status_code, response.headers)


async def _on_response_async(response: Any) -> None:
    _on_response(response)


def _listen(client: Any, hook: Any) -> None:
    """Hear of every answer of the HTTP client, those that are tried again included."""
    hooks = client._client.event_hooks.get("response")  # noqa: SLF001 - nothing public tells
    if hooks is not None and hook not in hooks:
        hooks.append(hook)

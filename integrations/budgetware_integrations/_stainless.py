"""Clients made by Stainless, as those of OpenAI and Anthropic: all requests go through `request`.

It lies above the retries, so that one logical call is one reservation however often it is sent.
Not here: what the requests of each provider are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from budgetware.errors import ConfigurationError

from ._billing import StreamError
from ._model_calls import ModelCall, current_call, passing
from ._options import CallSettings, checked_provider
from ._plain import plain
from ._wire import Look, show, tee, watch

C = TypeVar("C")

MOST_TOKENS: Final = 1 << 40
MOST_ANSWERS: Final = 1 << 10
"""What a request may ask for and still be counted; servers refuse it long before."""
_RAW_RESPONSE: Final = "x-stainless-raw-response"


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
class Way:
    """How the calls of a client are held: `include_usage` asks streams for usage.

    `provider` names who answers; None: what the protocol takes the client for.
    """

    settings: CallSettings
    provider: str | None = None
    include_usage: bool = True

    def __post_init__(self) -> None:
        checked_provider(self.provider)
        if type(self.include_usage) is not bool:
            raise ConfigurationError(f"include_usage={self.include_usage!r}: give True or False")


@dataclass(frozen=True, slots=True)
class Protocol:
    """One provider's: which requests are calls of a model (`read`), who a client's provider is."""

    read: Callable[[Any, Way], Request | None]
    provider: Callable[[Any], str]


def wrap(client: C, protocol: Protocol, way: Way, *, is_told: bool) -> C:
    """Make a client hold for its calls, and those of its copies; once only.

    Its class becomes a subclass of its own, by the same name.

    Args:
        client: sync or async.
        protocol: its provider's.
        way: how its calls are held.
        is_told: somebody chose `way`: it replaces that of an earlier time.
    """
    kind: type[Any] = type(client)
    if "__budgetware_wraps__" in kind.__dict__:
        if not is_told:
            return client
        kind = kind.__budgetware_wraps__
    names: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__budgetware_wraps__": kind,
    }
    subclass: type[Any] = type(kind.__name__, (kind,), names)

    def original(client: Any, *args: Any, **how: Any) -> Any:
        above: Any = super(subclass, client)
        return above.request(*args, **how)

    subclass.request = _request(kind, original, protocol, way)
    client.__class__ = subclass
    return client


def put(kind: type[Any], protocol: Protocol, way: Way) -> None:
    """Give a class a `request` that holds, in place of one that was put there before."""
    take(kind)
    own = kind.__dict__.get("request")
    request = _request(kind, kind.request, protocol, way)
    request.__budgetware_own__ = own
    kind.request = request


def take(kind: type[Any]) -> None:
    """Give a class back the `request` it had before `put`."""
    held: Any = kind.__dict__.get("request")
    if not hasattr(held, "__budgetware_own__"):
        return
    if held.__budgetware_own__ is None:
        del kind.request
    else:
        kind.request = held.__budgetware_own__


def _request(kind: type[Any], original: Any, protocol: Protocol, way: Way) -> Any:
    make = _async_request if hasattr(kind, "__aenter__") else _sync_request
    return make(original, protocol, way)


def _async_request(original: Any, protocol: Protocol, way: Way) -> Any:
    async def request(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        asked = read(options, protocol, way, identity_of(options))
        if asked is None:
            with passing(identity_of(options)):
                return await original(self, cast_to, options, **how)
        call = call_of(asked, protocol, way, self)
        _listen(self, call, _on_request_async, _on_response_async)
        await call.start()
        sent = _options(options, asked)
        call.inner = identity_of(sent)
        try:
            with call.inside():
                result = await original(self, cast_to, sent, **how)
        except BaseException as error:
            _fail(call, error, asked)
            raise
        _settle(call, result, asked)
        return result

    return request


def _sync_request(original: Any, protocol: Protocol, way: Way) -> Any:
    def request(self: Any, cast_to: Any, options: Any, **how: Any) -> Any:
        asked = read(options, protocol, way, identity_of(options))
        if asked is None:
            with passing(identity_of(options)):
                return original(self, cast_to, options, **how)
        call = call_of(asked, protocol, way, self)
        _listen(self, call, _on_request, _on_response)
        call.start_sync()
        sent = _options(options, asked)
        call.inner = identity_of(sent)
        try:
            with call.inside():
                result = original(self, cast_to, sent, **how)
        except BaseException as error:
            _fail(call, error, asked)
            raise
        _settle(call, result, asked)
        return result

    return request


def read(options: Any, protocol: Protocol, way: Way, request: object) -> Request | None:
    """Read a request; None: it calls no model, or a call around it pays for it."""
    if options.method.lower() != "post":
        return None
    asked, outer = protocol.read(options, way), current_call()
    if asked is None or outer is None:
        return asked
    return None if outer.takes_in(request) else asked


def identity_of(options: Any) -> Any:
    """What tells a request from others, and its copies have in common."""
    return getattr(options, "content", None) if options.json_data is None else options.json_data


def call_of(asked: Request, protocol: Protocol, way: Way, client: Any) -> ModelCall:
    """The call that holds for a request."""
    provider = way.provider or protocol.provider(client)
    return ModelCall(way.settings, provider=provider, alone=True, **asked.facts)


def path_of(options: Any) -> str:
    """Where a request goes, without its query."""
    path: str = options.url.partition("?")[0]
    return path.rstrip("/")


def body_of(options: Any) -> dict[str, Any] | None:
    """What is sent, with `extra_body`; None: it is no JSON object."""
    body, extra = options.json_data, options.extra_json
    content = getattr(options, "content", None)
    if body is None and isinstance(content, bytes | bytearray):
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            return None
    if not isinstance(body, Mapping):
        return None
    return {**cast("Mapping[str, Any]", body), **(extra or {})}


def prompt_of(body: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The parts of what is sent that make the prompt, as plain values."""
    prompt: dict[str, Any] = plain({name: body[name] for name in names if name in body})
    return prompt


def most_of(body: Mapping[str, Any], *names: str) -> int | None:
    """The largest of the maxima that a request names; None where it names none that counts."""
    values = [body.get(name) for name in names]
    counts = [value for value in values if type(value) is int and value > 0]
    return min(max(counts), MOST_TOKENS) if counts else None


def answers_of(body: Mapping[str, Any], *names: str) -> int:
    """How many answers a request asks for."""
    return min(most_of(body, *names) or 1, MOST_ANSWERS)


def plain_headers(options: Any) -> dict[str, Any]:
    """Headers that ask for an answer that can be read on its way: not compressed."""
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    return {**headers, "Accept-Encoding": "identity"}


def _options(options: Any, asked: Request) -> Any:
    """The options that are sent: a copy, where they differ."""
    changed: dict[str, Any] = {}
    headers = options.headers if isinstance(options.headers, Mapping) else {}
    is_read_later = any(str(name).lower() == _RAW_RESPONSE for name in headers)
    if asked.body is not None:
        changed |= {"json_data": asked.body, "extra_json": None}
        if getattr(options, "content", None) is not None:
            changed["content"] = None
    if is_read_later or asked.body is not None:
        changed["headers"] = plain_headers(options)
    return options.model_copy(update=changed) if changed else options


def _fail(call: ModelCall, error: BaseException, asked: Request) -> None:
    """End a call that failed, maybe only in reading what was answered and paid for."""
    heard, call.heard = call.heard, None
    if heard is not None and heard.is_success and heard.is_closed:
        show(heard, asked.look(call))
    call.end(error)


def _settle(call: ModelCall, result: Any, asked: Request) -> None:
    """Settle now where the answer was read, else when its stream ends."""
    heard, call.heard = call.heard, None
    if heard is not None and not heard.is_closed:
        tee(heard, call, asked.look(call))
        return
    call.note(result, final=True)
    if heard is not None and not call.is_final:
        settle_read(call, heard, asked.look(call))
    call.end()


def settle_read(call: ModelCall, response: Any, look: Look) -> None:
    """Settle to a response that was read already, a stream of events too."""
    show(response, look)
    if call.is_broken:
        call.end(StreamError("the provider told of an error in its stream"), broken=True)
    call.end()


def _on_request(request: Any) -> None:
    call = current_call()
    if call is not None:
        call.billing.sending()
        watch(request, call.billing)


async def _on_request_async(request: Any) -> None:
    _on_request(request)


def _on_response(response: Any) -> None:
    call = current_call()
    if call is not None:
        call.heard = response
        call.billing.answered(response.status_code)
        call.signal(response.status_code, response.headers)


async def _on_response_async(response: Any) -> None:
    _on_response(response)


def listen(client: Any, call: ModelCall) -> None:
    """Have a call that another adapter holds hear of what goes through an async client."""
    _listen(client, call, _on_request_async, _on_response_async)


def _listen(client: Any, call: ModelCall, on_request: Any, on_response: Any) -> None:
    """Hear of all that the HTTP client sends and is answered, what is tried again included."""
    hooks = client._client.event_hooks
    for name, hook in (("request", on_request), ("response", on_response)):
        if hook not in hooks[name]:
            hooks[name].append(hook)
    call.billing.is_sent = False

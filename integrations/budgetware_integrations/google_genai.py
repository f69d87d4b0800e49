"""Budgets for the Google Gen AI client: each call holds what it may cost before it is sent.

    from google import genai
    from budgetware import task_budget
    from budgetware_integrations.google_genai import wrap

    client = wrap(genai.Client())

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await client.aio.models.generate_content(model="gemini-2.5-flash", contents="Where …?")

`wrap` takes a client of the Gemini API or of Vertex AI and returns the same one: its sync side,
its `aio` and its chats hold from then on. `instrument()` does so for all clients of the process,
those that a framework makes included.

**What is held.** One call, and tokens: the prompt by its bytes (`count_tokens=` counts it better),
the answer by `max_output_tokens` times `candidate_count`; a request without a maximum holds
`default_output_tokens=4_096`, thoughts included. Cached content counts with the size it was
created with, or was last billed with; one that this client knows nothing of is taken for 32,768
tokens. Where `usd` is limited, the price of that at the model's dearest rate. One reservation
stands for all attempts of a call under `HttpRetryOptions`. Pictures are
taken for 1,600 tokens; documents that are sent inline for one by 10 bytes, sound and video for one
by 100, at least 1,600; what is only named, by a URL or an id, for 1,600 whatever its size.

Each request is a call. With Python functions as tools the client asks the model again after each
of them: every turn is held and settled for itself, also where only the last one is returned.

**What is settled.** The usage that the answer reports, thoughts and tool prompts included. Each
chunk of a stream reports what was used so far: a stream that is left early, or breaks, is charged
that; before any chunk came, what was held. What is not reported is unknown: what was held stands,
as for most embeddings. A status of an error, or a connection that was never made, charges
nothing; a timeout does, since the answer may have been made. Counting tokens is free.

**When there is not enough**, the call raises `BudgetExceeded` (or waits, or ends the task, by the
policy) and nothing is sent. A 429 pauses the resources that the call draws on, for as long as its
`retry-after` or its `RetryInfo` asks.

It lies between the client and HTTP, above the retries: whichever of httpx, httpx2, aiohttp and
requests the client takes is the same to it.

Calls: `generate_content`, `generate_content_stream`, `embed_content`, chats. Not: live sessions,
interactions, batches, images, videos, the making of caches; use `reserve` around those. The async
side runs on asyncio only, as the client does.

Errors: those of the client, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, Unpack

from ._billing import StreamError
from ._gemini_wire import Asked, CacheSizes, note, read_request, signal
from ._model_calls import ModelCall, current_call, passing
from ._options import CallSettings, Options, checked_provider
from ._requirements import require
from ._subclasses import Maker, subclass

require("google-genai", "2.0", "4", extra="google-genai")

from google import genai  # noqa: E402
from google.genai._api_client import BaseApiClient  # noqa: E402
from google.genai.errors import APIError  # noqa: E402

__all__ = ["instrument", "uninstrument", "wrap"]

C = TypeVar("C", bound=genai.Client)

_KIND: Final[Any] = BaseApiClient
_opened: ContextVar[list[Any] | None] = ContextVar("budgetware_opened_responses", default=None)
_originals: Final[dict[str, Any]] = {}


def wrap(client: C, *, provider: str | None = None, **options: Unpack[Options]) -> C:
    """Make a client hold for its calls, sync and async; returns the same client. Twice is once.

    Its API client becomes one of a subclass by the same name.

    Args:
        client: a `google.genai.Client`.
        provider: who answers; for prices, spans and events. By default `gcp.gemini`, or
            `gcp.vertex_ai`.
        policy: stricter than the payers' own, as of `reserve`: `"reject"`, `"throttle"`, …
        max_wait: the longest wait for a throttled resource, in seconds or as `"30s"`.
        default_output_tokens: what the answer of a call holds that names no maximum; 4,096.
        count_tokens: given the parts of the prompt as they are sent (a mapping such as
            `{"contents": [...], "tools": [...]}`, of JSON values), returns an int of tokens.

    Raises:
        ConfigurationError: an option that there is not, or that cannot be.
        TypeError: it is no client of google.genai.
    """
    if not isinstance(client, genai.Client):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a google.genai.Client")
    sender: Any = client._api_client  # pyright: ignore[reportPrivateUsage] - nothing else sends
    subclass(sender, _Way(CallSettings(**options), provider).methods())
    return client


def instrument(*, provider: str | None = None, **options: Unpack[Options]) -> None:
    """Make all clients of the process hold for their calls, made before or after. Twice is once.

    The options are those of `wrap`.
    """
    methods = _Way(CallSettings(**options), provider).methods()
    uninstrument()
    for name, make in methods.items():
        _originals[name] = getattr(_KIND, name)
        setattr(_KIND, name, make(_originals[name]))


def uninstrument() -> None:
    """Undo `instrument`; clients that were given to `wrap` stay as they are."""
    while _originals:
        name, original = _originals.popitem()
        setattr(_KIND, name, original)


@dataclass(frozen=True, slots=True)
class _Way:
    """How the calls of a client are held."""

    settings: CallSettings
    provider: str | None
    caches: CacheSizes = field(default_factory=CacheSizes)

    def __post_init__(self) -> None:
        checked_provider(self.provider)

    def methods(self) -> dict[str, Maker]:
        """Methods of what lies between the client and HTTP, each made of the one it had."""

        def bound(make: Callable[[Any, _Way], Any]) -> Maker:
            return lambda original: make(original, self)

        return {name: bound(make) for name, make in _MAKERS.items()}

    def call_of(self, sender: Any, sent: _Sent) -> tuple[ModelCall, Asked] | None:
        """The call that holds for a request; None where it is free, or another adapter holds."""
        asked = read_request(sent.path, sent.body) if sent.method.lower() == "post" else None
        outer = current_call()
        if asked is None or (outer is not None and outer.takes_in(sent.body)):
            return None
        settings, cached = self.settings, self.caches.of(asked.cache)
        if cached:
            settings = settings.counting(lambda prompt: self.settings.count(prompt) + cached)
        gemini = "gcp.vertex_ai" if sender.vertexai else "gcp.gemini"
        call = ModelCall(settings, provider=self.provider or gemini, alone=True, **asked.facts)
        call.inner = sent.body
        return call, asked

    def note(self, call: ModelCall, asked: Asked, body: object, *, whole: bool) -> None:
        """Take in what an answer, or a chunk of one, says."""
        usage = note(call, asked, body, whole=whole)
        self.caches.learn(asked.cache, usage.get("cachedContentTokenCount"))

    def heard(self, sent: _Sent, answer: Any) -> None:
        """Take in an answer that no model gave."""
        if "cachedContents" in sent.path:
            self.caches.read(getattr(answer, "body", None))


class _Sent:
    """A request, by the arguments of the four methods that send one."""

    __slots__ = ("arguments", "body", "method", "path")

    def __init__(
        self, http_method: str, path: str, request_dict: Mapping[str, Any], *more: Any
    ) -> None:
        self.method, self.path, self.body = http_method, path, request_dict
        self.arguments = (http_method, path, request_dict, *more)


def _request(original: Any, way: _Way) -> Any:
    def request(self: Any, *arguments: Any, **named: Any) -> Any:
        sent = _Sent(*arguments, **named)
        held = way.call_of(self, sent)
        if held is None:
            with passing(sent.body):
                answer = original(self, *sent.arguments)
            way.heard(sent, answer)
            return answer
        call, asked = held
        call.start_sync()
        try:
            with call.inside():
                answer = original(self, *sent.arguments)
        except BaseException as error:
            call.end(error)
            raise
        way.note(call, asked, answer.body, whole=True)
        call.end()
        return answer

    return request


def _async_request(original: Any, way: _Way) -> Any:
    async def async_request(self: Any, *arguments: Any, **named: Any) -> Any:
        sent = _Sent(*arguments, **named)
        held = way.call_of(self, sent)
        if held is None:
            with passing(sent.body):
                answer = await original(self, *sent.arguments)
            way.heard(sent, answer)
            return answer
        call, asked = held
        await call.start()
        try:
            with call.inside():
                answer = await original(self, *sent.arguments)
        except BaseException as error:
            call.end(error)
            raise
        way.note(call, asked, answer.body, whole=True)
        call.end()
        return answer

    return async_request


def _request_streamed(original: Any, way: _Way) -> Any:
    def request_streamed(self: Any, *arguments: Any, **named: Any) -> Generator[Any]:
        sent = _Sent(*arguments, **named)
        held = way.call_of(self, sent)
        if held is None:
            with passing(sent.body):
                yield from original(self, *sent.arguments)
            return
        call, asked = held
        call.start_sync()
        came = False
        try:
            with closing(original(self, *sent.arguments)) as chunks:
                while (chunk := _next(call, chunks)) is not None:
                    way.note(call, asked, chunk.body, whole=False)
                    came = True
                    yield chunk
        except BaseException as error:
            _cut(call, error, came=came)
            raise
        call.end()

    return request_streamed


def _async_request_streamed(original: Any, way: _Way) -> Any:
    async def async_request_streamed(self: Any, *arguments: Any, **named: Any) -> Any:
        sent = _Sent(*arguments, **named)
        held = way.call_of(self, sent)
        if held is None:
            with passing(sent.body):
                return await original(self, *sent.arguments)
        call, asked = held
        await call.start()
        opened: list[Any] = []
        try:
            with call.inside(), _opening(opened):
                chunks = await original(self, *sent.arguments)
        except BaseException as error:
            call.end(error)
            raise
        return _chunks(_Closing(chunks, opened), way, call, asked)

    return async_request_streamed


@contextmanager
def _opening(opened: list[Any]) -> Generator[None]:
    """Have the responses of streams that are opened in the block listed."""
    token = _opened.set(opened)
    try:
        yield
    finally:
        _opened.reset(token)


class _Closing:
    """Closes a stream, so that the provider hears of it and stops.

    The client alone leaves its connection open until the garbage collector finds it. It is no
    generator: event loops close those on their own, in any order, when they are collected.
    """

    def __init__(self, chunks: AsyncGenerator[Any], opened: list[Any]) -> None:
        self._chunks, self._opened = chunks, opened

    async def __aenter__(self) -> AsyncGenerator[Any]:
        return self._chunks

    async def __aexit__(self, *_error: object) -> None:
        segments = [getattr(response, "segment_iterator", None) for response in self._opened]
        for generator in (self._chunks, *segments):
            if generator is not None:
                with suppress(RuntimeError):  # the event loop is closing it
                    await generator.aclose()


async def _chunks(stream: Any, way: _Way, call: ModelCall, asked: Asked) -> AsyncGenerator[Any]:
    came = False
    try:
        async with stream as chunks:
            while (chunk := await _anext(call, chunks)) is not None:
                way.note(call, asked, chunk.body, whole=False)
                came = True
                yield chunk
    except BaseException as error:
        _cut(call, error, came=came)
        raise
    call.end()


def _cut(call: ModelCall, error: BaseException, *, came: bool) -> None:
    """End a stream that was cut; a status of an error is free only before the first chunk."""
    is_broken = came and isinstance(error, Exception)
    if is_broken and isinstance(error, APIError):
        error = StreamError("the provider told of an error in its stream")
    call.end(error, broken=is_broken)


def _next(call: ModelCall, chunks: Generator[Any]) -> Any:
    """The next chunk, read inside the call; None: there are no more."""
    with call.inside():
        return next(chunks, None)


async def _anext(call: ModelCall, chunks: AsyncGenerator[Any]) -> Any:
    with call.inside():
        return await anext(chunks, None)


def _request_once(original: Any, way: _Way) -> Any:  # noqa: ARG001 - as of all makers
    def once(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return original(self, *arguments, **named)
        except Exception as error:
            _hear(error)
            raise

    return once


def _async_request_once(original: Any, way: _Way) -> Any:  # noqa: ARG001
    async def once(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            answer = await original(self, *arguments, **named)
        except Exception as error:
            _hear(error)
            raise
        opened = _opened.get()
        if opened is not None:
            opened.append(answer)
        return answer

    return once


def _hear(error: Exception) -> None:
    """Take in how an attempt failed: there may be more of them."""
    call = current_call()
    if call is not None:
        call.billing.failed(error)
        if isinstance(error, APIError):
            signal(call, error)


_MAKERS: Final[Mapping[str, Callable[[Any, _Way], Any]]] = {
    "request": _request,
    "request_streamed": _request_streamed,
    "async_request": _async_request,
    "async_request_streamed": _async_request_streamed,
    "_request_once": _request_once,
    "_async_request_once": _async_request_once,
}

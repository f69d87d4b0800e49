"""Budgets for the Anthropic client: each call holds what it may cost before it is sent.

    import anthropic
    from budgetware import task_budget
    from budgetware_integrations.anthropic import wrap

    client = wrap(anthropic.AsyncAnthropic())

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await client.messages.create(model="claude-haiku-4-5", max_tokens=500, messages=[...])

`wrap` takes a client of any kind (`Anthropic`, `AsyncAnthropic`, and those of Bedrock, Vertex,
Foundry, AWS), and returns the same one, of a subclass by the same name; its copies by
`with_options()` are wrapped, too.
`instrument()` does so for all `Anthropic` and `AsyncAnthropic` clients of the process, those that
a framework makes included. `BudgetMiddleware` is the same as a middleware of the client:

    client = anthropic.AsyncAnthropic(middleware=[BudgetMiddleware()])

It holds each attempt for itself, so that one which is tried again waits its turn again. Put it
last. Where the client is wrapped as well it does nothing.

**What is held.** One call, and tokens: the prompt by its bytes (`count_tokens=` counts it better),
the answer by `max_tokens`. Where `usd` is limited, the price of that at the model's dearest rate.
Pictures are
taken for 1,600 tokens; documents that are sent inline for one by 10 bytes, sound and video for one
by 100, at least 1,600; what is only named, by a URL or an id, for 1,600 whatever its size.

**What is settled.** The usage that the answer reports, what was read from or written to a cache
included. A stream that is left early is charged its prompt, which is known by then, and the answer
as it was held. A status of an error, or a connection that was never made, charges nothing; a
timeout does, since the answer may have been made.

**When there is not enough**, the call raises `BudgetExceeded` (or waits, or ends the task, by the
policy) and nothing is sent. A 429 or 529, or a rate limit of which nothing is left, pauses the
resources that the call draws on.

Calls: `messages` and `beta.messages`, with `stream`, `parse` and raw responses; of a tool runner,
each turn is one. Streams of Bedrock are not read: they are charged what was held. Not:
`count_tokens` (free), batches and managed agents; use `reserve` around those.

Errors: those of the client, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar, Unpack

from ._model_calls import COPY, ModelCall
from ._options import CallSettings, Options
from ._requirements import require
from ._stainless import (
    Protocol,
    Request,
    Way,
    body_of,
    call_of,
    most_of,
    path_of,
    plain_headers,
    prompt_of,
    put,
    read,
    settle_read,
    take,
)
from ._stainless import wrap as wrap_client
from ._wire import Look, tee

require("anthropic", "1.0", "3")

import anthropic  # noqa: E402
from anthropic.lib.bedrock import (  # noqa: E402
    AnthropicBedrock,
    AnthropicBedrockMantle,
    AsyncAnthropicBedrock,
    AsyncAnthropicBedrockMantle,
)
from anthropic.lib.vertex import AnthropicVertex, AsyncAnthropicVertex  # noqa: E402

Client = (
    anthropic.Anthropic
    | anthropic.AsyncAnthropic
    | AnthropicBedrock
    | AsyncAnthropicBedrock
    | AnthropicBedrockMantle
    | AsyncAnthropicBedrockMantle
    | AnthropicVertex
    | AsyncAnthropicVertex
)
"""What `wrap` takes; Foundry's, AWS' and Google Cloud's are subclasses of the first two."""
C = TypeVar("C", bound=Client)

__all__ = ["BudgetMiddleware", "Client", "instrument", "uninstrument", "wrap"]

_PROMPT: Final = ("system", "messages", "tools", "output_config", "output_format")
_KINDS: Final = (anthropic.Anthropic, anthropic.AsyncAnthropic)


def wrap(client: C, *, provider: str | None = None, **options: Unpack[Options]) -> C:
    """Make a client hold for its calls; returns the same client.

    Twice is once: settings that are given the second time replace all those of the first. Its class
    becomes a subclass by the same name.

    Args:
        client: of `anthropic`, sync or async; of another platform, or a subclass, too.
        provider: who answers, where it is not as the client's class says; for prices, spans and
            events.
        policy: stricter than the payers' own, as of `reserve`: `"reject"`, `"throttle"`, …
        max_wait: the longest wait for a throttled resource, in seconds or as `"30s"`.
        default_output_tokens: what the answer of a call holds that names no maximum; 4,096.
        count_tokens: given the parts of the prompt as they are sent (a mapping such as
            `{"messages": [...], "tools": [...]}`, of plain JSON values), returns an int of tokens.

    Raises:
        ConfigurationError: an option that there is not, or that cannot be.
        TypeError: it is no client of anthropic.
    """
    if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a client of anthropic")
    is_told = provider is not None or bool(options)
    return wrap_client(client, _PROTOCOL, Way(CallSettings(**options), provider), is_told=is_told)


def instrument(*, provider: str | None = None, **options: Unpack[Options]) -> None:
    """Make all clients of the process hold for their calls, made before or after.

    Done again, it replaces the settings. A client that was given to `wrap` keeps its own; those
    of Bedrock and Vertex are only held for where they are wrapped. The options are those of `wrap`.
    """
    way = Way(CallSettings(**options), provider)
    for kind in _KINDS:
        put(kind, _PROTOCOL, way)


def uninstrument() -> None:
    """Undo `instrument`; clients that were given to `wrap` stay as they are."""
    for kind in _KINDS:
        take(kind)


class BudgetMiddleware(anthropic.Middleware):
    """Holds for each attempt of each call of the client it is given to, sync or async.

    Args:
        provider: who answers, where that is not Anthropic; for prices, spans and events.
        **options: those of `wrap`.
    """

    def __init__(self, *, provider: str = "anthropic", **options: Unpack[Options]) -> None:
        self._way = Way(CallSettings(**options), provider)

    def handle(
        self,
        request: anthropic.APIRequest,
        call_next: Callable[[anthropic.APIRequest], anthropic.APIResponse[Any]],
    ) -> anthropic.APIResponse[Any]:
        """Hold, pass an attempt on, and settle."""
        asked = read(request.options, _PROTOCOL, self._way, COPY)
        if asked is None:
            return call_next(request)
        call = call_of(asked, _PROTOCOL, self._way, None)
        call.inner = request
        call.start_sync()
        try:
            with call.inside():
                response = call_next(_sent(request, asked))
        except BaseException as error:
            call.end(error)
            raise
        _settle(call, response, asked.look(call))
        return response

    async def handle_async(
        self,
        request: anthropic.APIRequest,
        call_next: Callable[[anthropic.APIRequest], Awaitable[anthropic.AsyncAPIResponse[Any]]],
    ) -> anthropic.AsyncAPIResponse[Any]:
        """Hold, pass an attempt on, and settle."""
        asked = read(request.options, _PROTOCOL, self._way, COPY)
        if asked is None:
            return await call_next(request)
        call = call_of(asked, _PROTOCOL, self._way, None)
        call.inner = request
        await call.start()
        try:
            with call.inside():
                response = await call_next(_sent(request, asked))
        except BaseException as error:
            call.end(error)
            raise
        _settle(call, response, asked.look(call))
        return response


def _sent(request: anthropic.APIRequest, asked: Request) -> anthropic.APIRequest:
    """The request that is passed on: a stream of it can be read on its way."""
    if asked.body is None:
        return request
    options = request.options.model_copy(update={"headers": plain_headers(request.options)})
    return anthropic.APIRequest(
        options=options,
        cast_to=request.cast_to,
        stream=request.stream,
        stream_cls=request.stream_cls,
        retries_taken=request.retries_taken,
    )


def _settle(call: ModelCall, response: Any, look: Look) -> None:
    """Settle an attempt: errors come as responses; other middlewares may answer by themselves."""
    http_response = getattr(response, "http_response", None)
    if http_response is None:
        call.release()
        return
    call.signal(http_response.status_code, http_response.headers)
    if not http_response.is_success:
        message = f"status {http_response.status_code}"
        call.end(anthropic.APIStatusError(message, response=http_response, body=None))
    elif http_response.is_closed:
        settle_read(call, http_response, look)
    else:
        tee(http_response, call, look)


def _read(options: Any, _way: Way) -> Request | None:
    """Read a request that a client is about to send; None: it calls no model."""
    body = body_of(options) if path_of(options).endswith("/messages") else None
    if body is None:
        return None
    once = {name: list(value) for name, value in body.items() if isinstance(value, Iterator)}
    body |= once
    facts = {
        "model": body.get("model"),
        "prompt": prompt_of(body, _PROMPT),
        "output_tokens": most_of(body, "max_tokens"),
    }
    return Request(facts, _look, body if once or body.get("stream") else None)


def _look(call: ModelCall) -> Look:
    """Read the usage: of a stream first that of the prompt, at its end that of the answer."""

    def look(event: Any) -> bool:
        if not isinstance(event, Mapping):
            return True
        kind = event.get("type")
        if kind == "message_start":
            call.note(event, output=False)
        elif kind in {"message", "message_delta"}:
            call.note(event, final=kind == "message" or _is_stop(event))
        elif kind == "error":
            call.is_broken = True
        return True

    return look


def _is_stop(event: Mapping[str, Any]) -> bool:
    delta: object = event.get("delta")
    return isinstance(delta, Mapping) and delta.get("stop_reason") is not None


def _provider(client: Any) -> str:
    name = type(client).__name__
    if "Bedrock" in name:
        return "aws.bedrock"
    return "gcp.vertex_ai" if "Vertex" in name else "anthropic"


_PROTOCOL: Final = Protocol(_read, _provider)

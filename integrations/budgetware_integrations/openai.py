"""Budgets for the OpenAI client: each call holds what it may cost before it is sent.

    import openai
    from budgetware import task_budget
    from budgetware_integrations.openai import wrap

    client = wrap(openai.AsyncOpenAI())

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await client.chat.completions.create(model="gpt-5-nano", messages=[...])

`wrap` takes a client of any kind (`OpenAI`, `AsyncOpenAI`, Azure), sync or async, and returns the
same one; its copies by `with_options()` are wrapped, too. `instrument()` does so for all clients
of the process, those that a framework makes included.

**What is held.** One call, and tokens: the prompt by its bytes (`count_tokens=` counts it better),
the answer by `max_completion_tokens`, `max_tokens` or `max_output_tokens`, times `n`; a request
without a maximum holds `default_output_tokens=4_096`. Where `usd` is limited, the price of that at
the model's dearest rate. One reservation stands for all attempts of a call, however often the
client sends it.

**What is settled.** The usage that the answer reports. A stream of chat completions reports it only
when asked: it is asked for, and the extra chunk is kept from you (`include_usage=False` leaves the
request alone, for servers that know no `stream_options`). Where nothing was reported, as after a
stream that was left early, what was held is charged. A status of an error, or a connection that
was never made, charges nothing; a timeout does, since the answer may have been made.

**When there is not enough**, the call raises `BudgetExceeded` (or waits, or ends the task, by the
policy) and nothing is sent. A 429, or a rate limit of which nothing is left, pauses the resources
that the call draws on.

Calls: chat completions, completions, responses, embeddings, with `parse`, `stream` and raw
responses. Not: realtime, images, audio, batches; use `reserve` around those.

Errors: those of the client, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, Unpack, cast

from ._model_calls import ModelCall
from ._options import CallSettings, Options
from ._requirements import require
from ._stainless import Protocol, Request, Way, put, take
from ._stainless import wrap as wrap_client
from ._wire import Look

require("openai", "2.0", "4")

import openai  # noqa: E402

C = TypeVar("C", bound=openai.OpenAI | openai.AsyncOpenAI)

_PROMPTS: Final = {
    "/chat/completions": ("messages", "tools", "functions", "response_format"),
    "/responses": ("input", "instructions", "tools", "text"),
    "/embeddings": ("input",),
    "/completions": ("prompt", "suffix"),
}
_MAXIMA: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


def wrap(
    client: C, *, provider: str = "openai", include_usage: bool = True, **options: Unpack[Options]
) -> C:
    """Make a client hold for its calls; returns the same client. Twice is once.

    Args:
        client: of `openai`, sync or async, a subclass too.
        provider: who answers, where that is not OpenAI; for prices, spans and events.
        include_usage: ask streams of chat completions to report usage, and hide that chunk.
        **options: `policy`, `max_wait`, `default_output_tokens`, `count_tokens`.
    """
    if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a client of openai")
    return wrap_client(client, _PROTOCOL, _way(provider, options, include_usage=include_usage))


def instrument(
    *, provider: str = "openai", include_usage: bool = True, **options: Unpack[Options]
) -> None:
    """Make all clients of the process hold for their calls, made before or after. Twice is once."""
    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        take(kind)
        put(kind, _PROTOCOL, _way(provider, options, include_usage=include_usage))


def uninstrument() -> None:
    """Undo `instrument`; clients that were given to `wrap` stay as they are."""
    for kind in (openai.OpenAI, openai.AsyncOpenAI):
        take(kind)


def _way(provider: str, options: Options, *, include_usage: bool) -> Way:
    return Way(CallSettings(**options), provider, include_usage)


def _read(options: Any, way: Way) -> Request | None:
    """Read a request that a client is about to send; None: it calls no model."""
    body = options.json_data
    if options.method.lower() != "post" or not isinstance(body, Mapping):
        return None
    body = cast("Mapping[str, Any]", body)
    path = next((path for path in _PROMPTS if options.url.endswith(path)), None)
    if path is None:
        return None
    facts: dict[str, Any] = {
        "model": body.get("model"),
        "prompt": {name: body[name] for name in _PROMPTS[path] if name in body},
    }
    if path == "/embeddings":
        facts["kind"] = "embeddings"
        return Request(facts, _look)
    facts["answers"] = body.get("n") or 1
    facts["output_tokens"] = next((body[name] for name in _MAXIMA if body.get(name)), None)
    is_hidden = path.endswith("/completions") and bool(body.get("stream")) and way.include_usage
    if not is_hidden:
        return Request(facts, _look, dict(body) if body.get("stream") else None)
    asked = cast("Mapping[str, Any]", body.get("stream_options") or {})
    sent = {**body, "stream_options": {**asked, "include_usage": True}}
    return Request(facts, _look if asked.get("include_usage") else _look_and_hide, sent)


def _look(call: ModelCall) -> Look:
    def look(event: Any) -> bool:
        call.note(event, final=True)
        return True

    return look


def _look_and_hide(call: ModelCall) -> Look:
    def look(event: Any) -> bool:
        call.note(event, final=True)
        return not (
            isinstance(event, Mapping) and event.get("choices") == [] and event.get("usage")
        )

    return look


_PROTOCOL: Final = Protocol("openai", _read, (openai.Stream, openai.AsyncStream))

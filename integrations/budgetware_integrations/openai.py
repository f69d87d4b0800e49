"""Budgets for the OpenAI client: each call holds what it may cost before it is sent.

    import openai
    from budgetware import task_budget
    from budgetware_integrations.openai import wrap

    client = wrap(openai.AsyncOpenAI())

    async with task_budget("research", tokens=50_000, calls=40, usd="0.25"):
        await client.chat.completions.create(model="gpt-5-nano", messages=[...])

`wrap` takes a client of any kind (`OpenAI`, `AsyncOpenAI`, Azure), sync or async, and returns the
same one, of a subclass by the same name; its copies by `with_options()` are wrapped, too.
`instrument()` does so for all clients of the process, those that a framework makes included.

**What is held.** One call, and tokens: the prompt by its bytes (`count_tokens=` counts it better),
the answer by `max_completion_tokens`, `max_tokens` or `max_output_tokens`, times `n`; a request
without a maximum holds `default_output_tokens=4_096`. Where `usd` is limited, the price of that at
the model's dearest rate. One reservation stands for all attempts of a call, however often the
client sends it. What the server remembers (`previous_response_id`, stored prompts) is not seen
before the call; it is settled after it. Pictures are
taken for 1,600 tokens; documents that are sent inline for one by 10 bytes, sound and video for one
by 100, at least 1,600; what is only named, by a URL or an id, for 1,600 whatever its size.

**What is settled.** The usage that the answer reports. A stream of chat completions reports it only
when asked: it is asked for, and the extra chunk is kept from you (`include_usage=False` leaves the
request alone, for servers that know no `stream_options`). Where nothing was reported, as after a
stream that was left early or a response in the background, what was held is charged. A status of
an error, or a connection that was never made, charges nothing; a timeout does, since the answer
may have been made, and so does an attempt before the last one that got no answer.

**When there is not enough**, the call raises `BudgetExceeded` (or waits, or ends the task, by the
policy) and nothing is sent. A 429, or a rate limit of which nothing is left, pauses the resources
that the call draws on.

Calls: chat completions, completions, responses, embeddings, with `parse`, `stream` and raw
responses. Not: realtime, images, audio, batches; use `reserve` around those.

Errors: those of the client, and those of `reserve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeVar, Unpack, cast

from ._model_calls import ModelCall
from ._options import CallSettings, Options
from ._requirements import require
from ._stainless import (
    Protocol,
    Request,
    Way,
    answers_of,
    body_of,
    most_of,
    path_of,
    prompt_of,
    put,
    take,
)
from ._stainless import wrap as wrap_client
from ._wire import DONE, Look

require("openai", "2.0", "4")

import openai  # noqa: E402

__all__ = ["instrument", "uninstrument", "wrap"]

C = TypeVar("C", bound=openai.OpenAI | openai.AsyncOpenAI)

_PROMPTS: Final = {
    "/chat/completions": ("messages", "tools", "functions", "response_format"),
    "/responses": ("input", "instructions", "tools", "text"),
    "/responses/compact": ("input", "instructions"),
    "/embeddings": ("input",),
    "/completions": ("prompt", "suffix"),
}
_KINDS: Final = (openai.OpenAI, openai.AsyncOpenAI)
_AZURE: Final = (openai.AzureOpenAI, openai.AsyncAzureOpenAI)
_WHOLE: Final = frozenset({"chat.completion", "text_completion", "response", "list"})
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


def wrap(
    client: C,
    *,
    provider: str | None = None,
    include_usage: bool = True,
    **options: Unpack[Options],
) -> C:
    """Make a client hold for its calls; returns the same client.

    Twice is once: settings that are given the second time replace all those of the first. Its class
    becomes a subclass by the same name.

    Args:
        client: of `openai`, sync or async, a subclass too.
        provider: who answers, where that is not OpenAI or Azure; for prices, spans and events.
        include_usage: ask streams of completions to report usage, and hide that chunk.
        policy: stricter than the payers' own, as of `reserve`: `"reject"`, `"throttle"`, …
        max_wait: the longest wait for a throttled resource, in seconds or as `"30s"`.
        default_output_tokens: what the answer of a call holds that names no maximum; 4,096.
        count_tokens: given the parts of the prompt as they are sent (a mapping such as
            `{"messages": [...], "tools": [...]}`, of plain JSON values), returns an int of tokens.

    Raises:
        ConfigurationError: an option that there is not, or that cannot be.
        TypeError: it is no client of openai.
    """
    if not isinstance(client, _KINDS):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a client of openai")
    is_told = provider is not None or not include_usage or bool(options)
    way = Way(CallSettings(**options), provider, include_usage)
    return wrap_client(client, _PROTOCOL, way, is_told=is_told)


def instrument(
    *, provider: str | None = None, include_usage: bool = True, **options: Unpack[Options]
) -> None:
    """Make all clients of the process hold for their calls, made before or after.

    Done again, it replaces the settings. A client that was given to `wrap` keeps its own.
    The options are those of `wrap`.
    """
    way = Way(CallSettings(**options), provider, include_usage)
    for kind in _KINDS:
        put(kind, _PROTOCOL, way)


def uninstrument() -> None:
    """Undo `instrument`; clients that were given to `wrap` stay as they are."""
    for kind in _KINDS:
        take(kind)


def _read(options: Any, way: Way) -> Request | None:
    """Read a request that a client is about to send; None: it calls no model."""
    url = path_of(options)
    path = next((path for path in _PROMPTS if url.endswith(path)), None)
    body = None if path is None else body_of(options)
    if path is None or body is None:
        return None
    facts: dict[str, Any] = {
        "model": body.get("model"),
        "prompt": prompt_of(body, _PROMPTS[path]),
    }
    if path == "/embeddings":
        return Request(facts | {"kind": "embeddings"}, _look)
    most = most_of(body, "max_completion_tokens", "max_output_tokens", "max_tokens")
    facts |= {"output_tokens": most, "answers": _answers(body)}
    if not body.get("stream"):
        return Request(facts, _look)
    if not path.endswith("completions") or not way.include_usage:
        return Request(facts, partial(_look, streamed=True), body)
    asked: object = body.get("stream_options")
    asked = asked if isinstance(asked, Mapping) else {}
    body["stream_options"] = {**asked, "include_usage": True}
    hides = not asked.get("include_usage")
    return Request(facts, partial(_look, streamed=True, hides=hides), body)


def _answers(body: Mapping[str, Any]) -> int:
    """How many answers are made; completions make them for each prompt of a list of texts."""
    answers = answers_of(body, "n", "best_of")
    if not isinstance(body.get("prompt"), list):
        return answers
    prompts = cast("list[Any]", body["prompt"])
    is_tokens = any(isinstance(item, int) for item in prompts)
    return answers if is_tokens else answers * max(1, len(prompts))


def _look(call: ModelCall, *, streamed: bool = False, hides: bool = False) -> Look:
    """Read the usage: chunks of completions may report it more than once, the whole so far."""
    last: Any = None

    def look(event: Any) -> bool:
        nonlocal last
        if event == DONE:
            call.note(last, final=True)
        if not isinstance(event, Mapping):
            return True
        kind, usage = event.get("type"), event.get("usage")
        is_chunk = streamed and "choices" in event
        last = event if is_chunk and usage else last
        is_final = kind in _ENDS or (not streamed and event.get("object") in _WHOLE)
        call.note(event, final=is_final, output=not (is_chunk and _is_before_answer(usage)))
        if kind in {"error", "response.failed"} or event.get("error"):
            call.is_broken = True
        return not (hides and event.get("choices") == [] and usage is not None)

    return look


def _is_before_answer(usage: object) -> bool:
    return isinstance(usage, Mapping) and usage.get("completion_tokens") == 0


def _provider(client: Any) -> str:
    return "azure.ai.openai" if isinstance(client, _AZURE) else "openai"


_PROTOCOL: Final = Protocol(_read, _provider)

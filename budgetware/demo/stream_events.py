"""Server-sent events of a chat stream, read with care: an endpoint may send anything."""

import json
from typing import Any, NotRequired, TypedDict, cast

from .failures import StreamBroken, plain

MAX_TOKENS = 2**53 - 1
DONE: dict[str, Any] = {}
"""Stands for the line that ends a stream; compare with `is`."""


class ReportedTokens(TypedDict):
    """The part of a usage that is counted, as OpenAI names it; the rest is passed on."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: NotRequired[dict[str, Any]]
    completion_tokens_details: NotRequired[dict[str, Any]]


def parse_event(line: str, seen: int) -> dict[str, Any] | None:
    """Read one line: an event, `DONE`, or None where it is neither.

    Raises:
        StreamBroken: it is no JSON object, or an error; `seen` chunks came before.
    """
    if not line.startswith("data:"):
        return None
    data = line.removeprefix("data:").strip()
    if data == "[DONE]":
        return DONE
    try:
        read = json.loads(data)
    except ValueError as error:
        raise StreamBroken(f"chunk {seen + 1} of the stream is no JSON: {data[:80]!r}") from error
    if not isinstance(read, dict):
        raise StreamBroken(f"chunk {seen + 1} of the stream is no object: {data[:80]!r}")
    event = cast("dict[str, Any]", read)
    if event.get("error"):
        said = plain(str(event["error"]))
        raise StreamBroken(f"the endpoint broke off after {seen} chunks: {said}")
    return event


def text_in(event: dict[str, Any]) -> str:
    """The piece of the reply in an event, or nothing."""
    try:
        content = event["choices"][0]["delta"]["content"]
    except (LookupError, TypeError):
        return ""
    return content if isinstance(content, str) else ""


def usage_in(event: dict[str, Any]) -> ReportedTokens | None:
    """The usage in an event, or None where it brings none.

    Raises:
        StreamBroken: a count is none.
    """
    usage = _object(event.get("usage"))
    if "prompt_tokens" not in usage:
        return None
    usage.setdefault("completion_tokens", 0)
    for name in ("prompt_tokens", "completion_tokens"):
        count = usage[name]
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            raise StreamBroken(f"the endpoint reports {name}={str(count)[:40]!r}: that is no count")
    return cast("ReportedTokens", usage)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

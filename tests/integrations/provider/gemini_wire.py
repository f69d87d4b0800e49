"""Gemini's protocol: generateContent and its stream; candidates leave out thoughts."""

from collections.abc import Iterator
from typing import Any

from .behaviour import ANSWER, CACHED, REASONING, WORDS, Behaviour

Event = tuple[str | None, Any]


def _usage(how: Behaviour, candidates: int, thoughts: int) -> dict[str, Any] | None:
    prompt = how.tokens.prompt
    return how.usage({
        "promptTokenCount": prompt,
        "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + candidates + thoughts,
    })  # fmt: skip


def _content(
    how: Behaviour, part: dict[str, Any], usage: dict[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    answer = {"candidates": [candidate], "modelVersion": how.model}
    return answer if usage is None else answer | {"usageMetadata": usage}


def _call(how: Behaviour) -> dict[str, Any]:
    assert how.tool is not None
    return {"functionCall": {"name": how.tool[0], "args": how.tool[1]}}


def content(how: Behaviour) -> dict[str, Any]:
    part = {"text": ANSWER} if how.tool is None else _call(how)
    usage = _usage(how, how.tokens.completion - REASONING, REASONING)
    return _content(how, part, usage, "STOP")


def content_stream(how: Behaviour) -> Iterator[Event]:
    if how.tool is not None:
        yield None, content(how)
        return
    for said, word in enumerate(WORDS[:-1], start=1):
        yield None, _content(how, {"text": word}, _usage(how, said, 0), None)
    usage = _usage(how, how.tokens.completion - REASONING, REASONING)
    yield None, _content(how, {"text": WORDS[-1]}, usage, "STOP")


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    count = len(body.get("requests", [None]))
    return {"embeddings": [{"values": [0.0, 1.0]} for _ in range(count)]}

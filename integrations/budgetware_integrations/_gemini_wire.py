"""Gemini's protocol, as of the Gemini API and of Vertex AI: what a request may cost, what it did.

Not here: how a client sends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from ._model_calls import ModelCall

UNKNOWN_CACHE_TOKENS: Final = 32_768
"""What cached content is taken for whose size nobody has told."""
_MOST_CACHES: Final = 1_000
_TOTAL: Final = "totalTokenCount"
_PATH: Final = re.compile(
    r"(?P<model>.+):(?P<verb>generateContent|streamGenerateContent"
    r"|embedContent|batchEmbedContents|predict)(?:\?.*)?",
    re.DOTALL,
)
_PROMPT: Final = ("contents", "systemInstruction", "tools")
_SCHEMAS: Final = ("responseSchema", "responseJsonSchema")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks: `facts` are arguments of `ModelCall`, `cache` names cached content."""

    facts: dict[str, Any]
    answers: int = 1
    cache: object = None


class CacheSizes:
    """How many tokens each cached content has, as far as it was seen."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def of(self, name: object) -> int:
        """The tokens of the cached content that a request names; 0 where it names none."""
        return self._sizes.get(str(name), UNKNOWN_CACHE_TOKENS) if name else 0

    def learn(self, name: object, tokens: object) -> None:
        """Remember one; the oldest are forgotten."""
        if isinstance(name, str) and type(tokens) is int and tokens > 0:
            self._sizes[name] = tokens
            if len(self._sizes) > _MOST_CACHES:
                self._sizes.pop(next(iter(self._sizes)), None)

    def read(self, body: object) -> None:
        """Learn from an answer about cached contents: one of them, or a list."""
        document = _json(body)
        for cache in _listed(document.get("cachedContents")) or [document]:
            self.learn(cache.get("name"), _mapping(cache.get("usageMetadata")).get(_TOTAL))


def read_request(path: str, body: Mapping[str, Any]) -> Asked | None:
    """Read what is about to be posted; None: it calls no model that is paid for by tokens."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    model = {"model": found["model"].rpartition("models/")[2]}
    if found["verb"].endswith("enerateContent"):
        return _generation(model, body)
    if found["verb"] == "predict" and not _embeds(body):
        return None
    return Asked(model | {"prompt": _texts(body), "kind": "embeddings"})


def _generation(model: dict[str, Any], body: Mapping[str, Any]) -> Asked:
    config = _mapping(body.get("generationConfig"))
    count = config.get("candidateCount")
    answers = count if type(count) is int and count > 0 else 1
    prompt = {name: body[name] for name in _PROMPT if name in body}
    prompt |= {name: config[name] for name in _SCHEMAS if name in config}
    facts = {"prompt": prompt, "output_tokens": config.get("maxOutputTokens"), "answers": answers}
    return Asked(model | facts, answers, body.get("cachedContent"))


def _embeds(body: Mapping[str, Any]) -> bool:
    """Whether a prediction of Vertex AI is an embedding: images have a `prompt`."""
    instances = _listed(body.get("instances"))
    return bool(instances) and all("content" in instance for instance in instances)


def _texts(body: Mapping[str, Any]) -> list[Any]:
    """What is embedded."""
    parts = _listed(body.get("requests")) or _listed(body.get("instances")) or [body]
    return [part.get("content") for part in parts]


def note(call: ModelCall, asked: Asked, body: object, *, whole: bool) -> Mapping[str, Any]:
    """Take in the usage of an answer, or of a chunk, which has that of all before it.

    Returns the usage. The first chunks may tell of the prompt alone: then the answer is unknown.
    """
    if not isinstance(body, str | bytes) or b"oken" not in _bytes(body):
        return {}
    document = _json(body)
    usage = _mapping(document.get("usageMetadata"))
    if usage:
        ended = [c for c in _listed(document.get("candidates")) if c.get("finishReason")]
        is_last = whole or "promptFeedback" in document or len(ended) >= asked.answers
        call.note(document, final=is_last, output=is_last or "candidatesTokenCount" in usage)
    elif "predictions" in document:
        call.note({"input_tokens": _predicted(document), "output_tokens": 0}, final=True)
    return usage


def _predicted(document: Mapping[str, Any]) -> int:
    """The tokens of embeddings by Vertex AI, which come as numbers such as `6.0`."""
    tokens = 0
    for prediction in _listed(document["predictions"]):
        statistics = _mapping(_mapping(prediction.get("embeddings")).get("statistics"))
        counted = statistics.get("token_count")
        if not isinstance(counted, int | float) or not counted >= 0:
            return 0
        tokens += int(counted)
    return tokens


def signal(call: ModelCall | None, error: BaseException) -> None:
    """Slow down what a call draws on, where an error of the client asks for it.

    In a header, or as `RetryInfo` in its body.
    """
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    if call is None or not isinstance(code, int):
        return
    found = _mapping(getattr(getattr(error, "response", None), "headers", None))
    headers = {str(name).lower(): str(value) for name, value in found.items()}
    for detail in _listed(_mapping(_mapping(details).get("error")).get("details")):
        if "retryDelay" in detail:
            headers.setdefault("retry-after", str(detail["retryDelay"]))
    call.signal(code, headers)


def _bytes(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode(errors="replace")


def _json(body: object) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(cast("str", body)))
    except (ValueError, TypeError):
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _listed(value: object) -> list[Mapping[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping)]

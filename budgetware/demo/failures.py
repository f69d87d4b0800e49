"""What can go wrong with a model, each in words that say what to do.

```
ModelFailed
├── ModelRefused    nothing ran, so nothing is owed: not reachable, 401, 404, 429, 4xx
└── StreamBroken    it may have been paid for: 5xx, or broken off in the middle
```
"""

import json
from typing import Any, Literal, cast

import httpx

from .endpoint import Endpoint

MAX_MESSAGE = 200


class ModelFailed(Exception):
    """The model gave no answer.

    Attributes:
        status_code: the HTTP status, or None where there was none.
    """

    status_code: int | None

    def __init__(self, message: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


class ModelRefused(ModelFailed):
    """The endpoint did not start: nothing was used."""


class StreamBroken(ModelFailed):
    """The endpoint failed after it may have started: what was held stays charged."""


def charge_on_error(error: Exception) -> Literal["charge", "release"]:
    """Say what a failed call costs, for `on_error=`: nothing where the model never ran."""
    return "release" if isinstance(error, ModelRefused) else "charge"


def failure_of_transport(endpoint: Endpoint, error: httpx.HTTPError, *, chunks: int) -> ModelFailed:
    """Turn an error of httpx into one that names the address and the remedy."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return ModelRefused(
                f"cannot reach {endpoint.url} ({plain(str(error)) or 'timed out'}); "
                "is the server running, and is the address right?"
            )
        case httpx.TimeoutException():
            return StreamBroken(f"{endpoint.url} fell silent after {chunks} chunks")
        case _:
            what = plain(str(error)) or type(error).__name__
            return StreamBroken(f"{endpoint.url} broke off after {chunks} chunks: {what}")


def failure_of_status(endpoint: Endpoint, status: int, body: bytes) -> ModelFailed:
    """Turn an HTTP status and its body into an error that says what to do."""
    said = _server_words(body)
    detail = f": {said}" if said else ""
    match status:
        case 401 | 403:
            advice = "set OPENAI_API_KEY to a key this endpoint accepts"
        case 404:
            advice = f"is the path right, and is there a model {endpoint.model!r}?"
        case 429:
            advice = "the endpoint limits its own rate; wait, or use --parallel 1"
        case _:
            advice = "the endpoint's own words are all there is to go by"
    kind = ModelRefused if 400 <= status < 500 else StreamBroken
    return kind(f"{endpoint.url} answered {status}{detail}; {advice}", status)


def plain(text: str) -> str:
    """Make foreign text safe to print: one line, no control characters, cut."""
    kept = clean(" ".join(text.split()))
    return kept if len(kept) <= MAX_MESSAGE else kept[: MAX_MESSAGE - 1] + "…"


def clean(text: str) -> str:
    """Take out of foreign text what could steer a terminal; lines stay lines."""
    return "".join(c for c in text if c.isprintable() or c == "\n")


def _server_words(body: bytes) -> str:
    text = body.decode("utf-8", errors="replace")
    try:
        read: Any = json.loads(text)
    except ValueError:
        return plain(text)
    error = cast("dict[str, Any]", read).get("error") if isinstance(read, dict) else None
    if isinstance(error, dict):
        message = cast("dict[str, Any]", error).get("message")
        return plain(str(message)) if message else ""
    return plain(str(error)) if error else ""

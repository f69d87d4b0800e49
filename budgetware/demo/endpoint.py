"""Where the model is: an OpenAI-compatible address, the model's name and the key for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model behind one OpenAI-compatible address.

    Attributes:
        url: what OpenAI clients call the base URL; usually ends in `/v1`.
        model: the name sent with each request.
        api_key: sent as a bearer token, never shown.
        sampling: sent with each request; which of these a model takes differs.
        is_llama_cpp: the server also speaks llama.cpp's own paths at its root, and the demo may
            use them to count tokens.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    sampling: Mapping[str, object] = field(default_factory=dict[str, object])
    is_llama_cpp: bool = False

    @property
    def limit_name(self) -> str:
        """What this endpoint calls the most that a model may write."""
        is_openai = urlsplit(self.url).hostname == "api.openai.com"
        return "max_completion_tokens" if is_openai else "max_tokens"

    @property
    def root(self) -> str:
        """The address without its path, where llama.cpp answers `/tokenize` and `/metrics`."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def base_url(text: str) -> str:
    """Read the address a user typed: http or https, and `/v1` where no path is given.

    Raises:
        ValueError: it is no http address; the message says what one looks like.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is no http address; try http://localhost:8080/v1")
    path = parts.path.rstrip("/") or "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))

"""What model calls used, on axes that do not overlap. Not here: prices.

A report that is missing is unknown, never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import ismethod
from typing import Final

from . import usage_shapes as shapes
from .errors import InvalidAmount
from .kernel.dims import MAX_AMOUNT
from .usage_fields import Fields, checked, fields, text
from .usage_shapes import AXES

_CARRIERS: Final = (
    "usage",
    "usage_metadata",
    "usageMetadata",
    "usage_details",
    "token_usage",
    "message",
    "response",
    "x_groq",
)
_MODEL: Final = ("model", "model_version", "modelVersion", "model_name")
_PROVIDER: Final = ("provider", "provider_name")
_MAX_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class Usage:
    """Count what one model call, or several, used; no token is on two axes.

    `input_tokens` leaves out audio and what was read from or written to a cache, `output_tokens`
    leaves out reasoning and audio; cached audio counts as cached.

    Raises:
        InvalidAmount: an axis is not an int in 0..2**53-1.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    server_tool_calls: int = 0
    model: str | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        for axis in AXES:
            value = getattr(self, axis)
            if type(value) is not int or value < 0 or value > MAX_AMOUNT:
                checked(axis, value)

    @property
    def total_tokens(self) -> int:
        """All tokens, in and out; server tool calls are not tokens."""
        return self._tokens_in + self._tokens_out

    @property
    def _tokens_in(self) -> int:
        cached = self.cache_read_tokens + self.cache_write_tokens
        return self.input_tokens + cached + self.audio_input_tokens

    @property
    def _tokens_out(self) -> int:
        return self.output_tokens + self.reasoning_tokens + self.audio_output_tokens

    def amounts(self) -> dict[str, int]:
        """Return the dimensions it is charged in; `tokens` is the sum of the other two."""
        came, went = self._tokens_in, self._tokens_out
        return {"tokens": came + went, "input_tokens": came, "output_tokens": went}

    def __add__(self, other: Usage) -> Usage:
        """Add axis by axis; model and provider stay where both name the same."""
        if not isinstance(other, Usage):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        axes = {axis: getattr(self, axis) + getattr(other, axis) for axis in AXES}
        model = self.model if self.model == other.model else None
        provider = self.provider if self.provider == other.provider else None
        return Usage(**axes, model=model, provider=provider)

    def highest(self, other: Usage) -> Usage:
        """Join with a later frame of the same cumulative stream.

        One frame may leave out the input or the output that another told, or tell only later how
        much of it was cached. So each direction is taken as a whole from the frame with more
        tokens in it, the later one where they are equal.
        """
        came = self if self._tokens_in > other._tokens_in else other
        went = self if self._tokens_out > other._tokens_out else other
        return Usage(
            input_tokens=came.input_tokens,
            cache_read_tokens=came.cache_read_tokens,
            cache_write_tokens=came.cache_write_tokens,
            audio_input_tokens=came.audio_input_tokens,
            output_tokens=went.output_tokens,
            reasoning_tokens=went.reasoning_tokens,
            audio_output_tokens=went.audio_output_tokens,
            server_tool_calls=max(self.server_tool_calls, other.server_tool_calls),
            model=other.model or self.model,
            provider=other.provider or self.provider,
        )

    @classmethod
    def of(cls, reported: object) -> Usage:
        """Read a response, a chunk or event of a stream, or a usage, of any known provider.

        SDK objects and their dicts: OpenAI (chat, Responses, embeddings, and what is compatible),
        Anthropic, Gemini, Bedrock, LangChain, pydantic-ai; a `Usage` is returned as it is.

        Raises:
            InvalidAmount: it reports no usage, or a count that is not an int in 0..2**53-1.
        """
        return _required(read_usage(reported), reported)

    @classmethod
    def from_openai(cls, reported: object) -> Usage:
        """Read OpenAI's names: cached is part of input, reasoning of output; raises as `of`."""
        return _required(_read(reported, shapes.inclusive), reported)

    @classmethod
    def from_anthropic(cls, reported: object) -> Usage:
        """Read Anthropic's names: cached comes on top of input; raises as `of`."""
        return _required(_read(reported, shapes.additive), reported)

    @classmethod
    def from_gemini(cls, reported: object) -> Usage:
        """Read Gemini's names: cached is part of the prompt, thoughts on top; raises as `of`."""
        return _required(_read(reported, shapes.gemini), reported)


def read_usage(reported: object) -> Usage | None:
    """Return the usage in `reported` as `Usage.of` does, or None where it reports none.

    Raises:
        InvalidAmount: a reported count is not an int in 0..2**53-1.
    """
    return _read(reported, shapes.any_shape)


def _required(usage: Usage | None, reported: object) -> Usage:
    if usage is None:
        raise InvalidAmount(
            f"no usage in {type(reported).__name__}: pass a response, chunk or usage that has it "
            "(a stream may have to be asked to include it), or Usage(input_tokens=..., ...)"
        )
    return usage


def _read(reported: object, shape: shapes.Shape, depth: int = 0) -> Usage | None:
    if isinstance(reported, Usage):
        return reported
    names = fields(reported)
    axes = shape(names)
    usage = (
        _read_carried(names, shape, depth)
        if axes is None
        else Usage(**axes, model=None, provider=None)
    )
    return None if usage is None else _named(usage, names)


def _read_carried(names: Fields, shape: shapes.Shape, depth: int) -> Usage | None:
    if depth >= _MAX_DEPTH:
        return None
    for name in _CARRIERS:
        carried = names.get(name)
        if name == "usage" and ismethod(carried):
            carried = carried()
        usage = None if carried is None else _read(carried, shape, depth + 1)
        if usage is not None:
            return usage
    return None


def _named(usage: Usage, names: Fields) -> Usage:
    """Add model and provider as the object that carried the usage names them."""
    model = usage.model or text(names, _MODEL)
    provider = usage.provider or text(names, _PROVIDER)
    if (model, provider) == (usage.model, usage.provider):
        return usage
    return replace(usage, model=model, provider=provider)

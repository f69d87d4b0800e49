"""What tokens cost: exact rates, and the price of one call. Not here: where rates come from.

One dollar per million tokens is one micro-dollar per token, so rates need no conversion. They are
kept as ints over one denominator, and a price is rounded once: up, to a micro-dollar.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Final, Protocol, TypeAlias

from ..errors import ConfigurationError

Rate: TypeAlias = int | Decimal | Fraction

MICROS: Final = 1_000_000
_MAX_RATE: Final = 10**9
_MAX_PLACES: Final = 30
# What an axis that has no rate of its own is charged at: the next coarser one, never nothing.
_COARSER: Final = {
    "input": "output",
    "output": "input",
    "cache_read": "input",
    "cache_write": "input",
    "reasoning": "output",
    "audio_input": "input",
    "audio_output": "output",
}
TOKEN_RATES: Final = tuple(_COARSER)


class _Axes(Protocol):
    """What a call used, on disjoint axes: the shape of a `Usage`."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...
    @property
    def audio_input_tokens(self) -> int: ...
    @property
    def audio_output_tokens(self) -> int: ...
    @property
    def server_tool_calls(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold what one model charges, in dollars per million tokens.

    A rate left out is the coarser one: cache and audio input the input's, reasoning and audio
    output the output's, input and output each other's. The attributes show the result.

    Attributes:
        server_tool_call: dollars per call of a tool that the provider runs; left out, 0.
        request: dollars per call of the model, whatever it uses; left out, 0.
        above: `(threshold, rates)` pairs, ascending: a call with more input tokens than the
            threshold (cached and audio included) pays those rates for all it uses.

    Raises:
        ConfigurationError: neither input nor output given; a rate that is negative, not finite,
            above 10**9 or finer than 30 places; thresholds that do not ascend.
    """

    input: Rate | None = None
    output: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    reasoning: Rate | None = None
    audio_input: Rate | None = None
    audio_output: Rate | None = None
    server_tool_call: Rate = 0
    request: Rate = 0
    above: tuple[tuple[int, Rates], ...] = ()
    _weights: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _dearest: int = field(init=False, repr=False, compare=False)
    _fee: int = field(init=False, repr=False, compare=False)
    _scale: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact = [_exact(name, self._fill(name)) for name in TOKEN_RATES]
        exact.append(_exact("server_tool_call", self.server_tool_call) * MICROS)
        exact.append(_exact("request", self.request) * MICROS)
        scale = lcm(*(rate.denominator for rate in exact))
        *weights, fee = (int(rate * scale) for rate in exact)
        self._set("_weights", tuple(weights))
        self._set("_dearest", max(weights[: len(TOKEN_RATES)]))
        self._set("_fee", fee)
        self._set("_scale", scale)
        thresholds = [threshold for threshold, _ in self.above]
        if thresholds != sorted(set(thresholds)):
            raise ConfigurationError(f"thresholds of rates must ascend, not {thresholds}")

    def _fill(self, name: str) -> Rate:
        rate: Rate | None = getattr(self, name)
        if rate is None:
            rate = getattr(self, _COARSER[name])
            if rate is None:
                raise ConfigurationError("rates need at least an input or an output rate")
            self._set(name, rate)
        return rate

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def price(self, axes: _Axes) -> int:
        """Return what these rates ask for `axes`, in micro-dollars, thresholds apart."""
        plain, out, read, write, thought, heard, said, tools = self._weights
        exact = (
            axes.input_tokens * plain
            + axes.output_tokens * out
            + axes.cache_read_tokens * read
            + axes.cache_write_tokens * write
            + axes.reasoning_tokens * thought
            + axes.audio_input_tokens * heard
            + axes.audio_output_tokens * said
            + axes.server_tool_calls * tools
            + self._fee
        )
        return _ceil(exact, self._scale)

    def most(self, tokens: int) -> int:
        """Return the most these rates ask for `tokens`, in micro-dollars, thresholds apart."""
        return _ceil(tokens * self._dearest + self._fee, self._scale)


def cost_micros(rates: Rates, axes: _Axes) -> int:
    """Return the price of one call in micro-dollars, rounded up once."""
    if not rates.above:
        return rates.price(axes)
    tokens_in = (
        axes.input_tokens
        + axes.cache_read_tokens
        + axes.cache_write_tokens
        + axes.audio_input_tokens
    )
    reached = [tier for threshold, tier in rates.above if tokens_in > threshold]
    return (reached[-1] if reached else rates).price(axes)


def dearest_micros(rates: Rates, tokens: int) -> int:
    """Return the most a call using `tokens` in all can cost, in micro-dollars, rounded up.

    Every token at the dearest rate that so many tokens can reach: `cost_micros` of a call that
    stays within `tokens` is never more. Server tool calls come on top.
    """
    reached = [tier for threshold, tier in rates.above if tokens > threshold]
    return max(tier.most(tokens) for tier in (rates, *reached))


def _exact(name: str, rate: object) -> Fraction:
    if isinstance(rate, Decimal) and not _is_sane(rate):
        raise ConfigurationError(f"rate {name}: {rate:.3E} is not a price in dollars")
    if isinstance(rate, bool) or not isinstance(rate, int | Decimal | Fraction):
        raise ConfigurationError(
            f"rate {name} must be an int, Decimal or Fraction, not {type(rate).__name__}"
        )
    if not 0 <= rate <= _MAX_RATE:
        raise ConfigurationError(f"rate {name} must be in 0..10**9 dollars")
    return Fraction(rate)


def _is_sane(rate: Decimal) -> bool:
    """Say whether it is finite and of few digits: 1e-999999 would make an int of a megabyte."""
    exponent = rate.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -_MAX_PLACES and rate.adjusted() < _MAX_PLACES


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)

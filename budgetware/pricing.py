"""Where the price of a model comes from: a table of the user's, then the package genai-prices.

Not here: the arithmetic, which is `kernel.prices`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from .errors import ConfigurationError, UnknownPrice
from .kernel.prices import TOKEN_RATES, Rates, cost_micros, dearest_micros

if TYPE_CHECKING:
    from .usage import Usage

Price: TypeAlias = int | str | Decimal | float
PriceTable: TypeAlias = Mapping[str, Mapping[str, Price]]

MAX_CACHED: Final = 1024
_RATE_NAMES: Final = (*TOKEN_RATES, "server_tool_call", "request")
_DATED: Final = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|latest)$")
# The names that OpenTelemetry gives to providers, where genai-prices has another.
_PROVIDERS: Final = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}
# A Usage does not tell images and video from text: the dearest of what it may have been.
_GENAI_KEYS: Final = {
    "input": ("input_mtok", "input_image_mtok", "input_video_mtok"),
    "output": ("output_mtok", "output_image_mtok", "output_video_mtok"),
    "cache_read": ("cache_read_mtok",),
    "cache_write": ("cache_write_mtok",),
    "reasoning": ("output_reasoning_mtok",),
    "audio_input": ("input_audio_mtok",),
    "audio_output": ("output_audio_mtok",),
}
_ALL_GENAI_KEYS: Final = tuple(key for keys in _GENAI_KEYS.values() for key in keys)
_GENAI_FEES: Final = {"server_tool_call": "web_searches_kcount", "request": "requests_kcount"}


class PriceBook:
    """Look up what models cost, and price calls.

    The table is asked first: for `provider/model`, `model`, and `model` without what its last
    slash ends; then for the same without a trailing date or revision, so that `gpt-4o-mini` also
    prices `gpt-4o-mini-2024-07-18` (and never `gpt-4o-mini-audio`). What it does not answer is
    looked up in genai-prices, imported at that moment, at today's price and, where that depends
    on the hour, the dearest of them. Answers are kept for the life of the book.

    Not told apart, because a `Usage` does not: images and video, priced at the dearer rate, and
    cache entries kept for longer than the provider's default, priced as the default.

    Args:
        table: model to rates, in dollars per million tokens: `input`, `output`, `cache_read`,
            `cache_write`, `reasoning`, `audio_input`, `audio_output`; and dollars per
            `server_tool_call` and per `request`. Ints, str, `Decimal`, or float by its `repr`.
        use_genai_prices: False leaves the table alone to answer.

    Raises:
        ConfigurationError: a rate that is no price, an unknown key, neither input nor output.
    """

    def __init__(self, table: PriceTable | None = None, *, use_genai_prices: bool = True) -> None:
        self._table = {model: _rates_of(model, given) for model, given in (table or {}).items()}
        self._asks_genai = use_genai_prices
        self._found: dict[tuple[str, str | None], Rates | None] = {}
        self._lock = Lock()

    def rates(self, model: str, provider: str | None = None) -> Rates | None:
        """Return what `model` charges, or None where nobody knows."""
        key = (model, provider)
        try:
            return self._found[key]
        except KeyError:
            with self._lock:
                return self._remember(key, self._look_up(model, provider))

    def price_micros(self, model: str, provider: str | None, usage: Usage) -> int:
        """Return the price of one call in micro-dollars, rounded up once.

        Raises:
            UnknownPrice: the model has no price.
        """
        return cost_micros(self._known(model, provider), usage)

    def answering(self, asked: str, answered: str, provider: str | None) -> str:
        """Return which model's price counts: of the one that answered, where that is known.

        A price that the user gives for the one that was asked for comes before genai-prices.
        """
        if self._is_given(answered, provider):
            return answered
        if self._is_given(asked, provider) or self.rates(answered, provider) is None:
            return asked
        return answered

    def _is_given(self, model: str, provider: str | None) -> bool:
        return any(name in self._table for name in _names(model, provider))

    def hold_micros(self, model: str, provider: str | None, tokens: int) -> int:
        """Return the most that `tokens` of `model` can cost, in micro-dollars, rounded up.

        Raises:
            UnknownPrice: the model has no price.
        """
        return dearest_micros(self._known(model, provider), tokens)

    def _known(self, model: str, provider: str | None) -> Rates:
        rates = self.rates(model, provider)
        if rates is None:
            known = self._asks_genai and find_spec("genai_prices") is not None
            install = "" if known else "install budgetware[prices], "
            raise UnknownPrice(
                f"model {model[:128]!r} has no price: pass prices={{{model[:128]!r}: "
                '{"input": ..., "output": ...}} (dollars per million tokens) to connect(), '
                f'{install}or allow it with unpriced="allow"'
            )
        return rates

    def _remember(self, key: tuple[str, str | None], rates: Rates | None) -> Rates | None:
        if len(self._found) >= MAX_CACHED:
            self._found.pop(next(iter(self._found)))
        self._found[key] = rates
        return rates

    def _look_up(self, model: str, provider: str | None) -> Rates | None:
        for name in _names(model, provider):
            if name in self._table:
                return self._table[name]
        return _genai_rates(model, provider) if self._asks_genai else None


def _names(model: str, provider: str | None) -> list[str]:
    names = [model, model.rpartition("/")[2]]
    if provider is not None:
        names.insert(0, f"{provider}/{model}")
    return names + [_DATED.sub("", name) for name in names]


def _rates_of(model: str, given: object) -> Rates:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"prices of {model!r}: give {{'input': '0.15', 'output': '0.60'}}")
    rates = cast("Mapping[str, object]", given)
    unknown = [key for key in rates if key not in _RATE_NAMES]
    if unknown:
        from difflib import get_close_matches

        near = get_close_matches(str(unknown[0]), _RATE_NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(_RATE_NAMES)}"
        raise ConfigurationError(f"prices of {model!r}: unknown rate {unknown[0]!r}; {hint}")
    exact: dict[str, Any] = {key: _decimal(model, key, value) for key, value in rates.items()}
    try:
        return Rates(**exact)
    except ConfigurationError as error:
        raise ConfigurationError(f"prices of {model!r}: {error}") from None


def _decimal(model: str, key: str, value: object) -> Decimal:
    if isinstance(value, int | str | Decimal | float) and not isinstance(value, bool):
        try:
            return Decimal(repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            pass
    raise ConfigurationError(
        f"prices of {model!r}: {key} is not a price; give dollars per million tokens as '0.15'"
    )


def _genai_rates(model: str, provider: str | None) -> Rates | None:
    """Return the rates of genai-prices, with a step at each size where some price changes."""
    found = _genai_model(model, provider)
    choices = [] if found is None else _possible_prices(found.prices)
    base = _dearest_at(choices, 0)
    if base is None:
        return None
    steps = ((start, _dearest_at(choices, start + 1)) for start in _tier_starts(choices))
    return replace(base, above=tuple((start, rates) for start, rates in steps if rates))


def _genai_model(model: str, provider: str | None) -> Any:
    """Return the ModelInfo of genai-prices; None where it has none or is not installed."""
    try:
        genai: Any = import_module("genai_prices")
    except ImportError:
        return None
    nothing = genai.Usage(input_tokens=0, output_tokens=0)
    for ref, provider_id in _genai_refs(model, provider):
        try:
            return genai.calc_price(nothing, ref, provider_id=provider_id).model
        except (LookupError, ValueError):
            continue
    return None


def _genai_refs(model: str, provider: str | None) -> list[tuple[str, str | None]]:
    """Return what to ask for, in order: model of the provider, model, `provider/model` apart."""
    refs: list[tuple[str, str | None]] = [(model, None)]
    if provider is not None:
        refs.insert(0, (model, _PROVIDERS.get(provider, provider)))
    prefix, *rest = re.split("[/:]", model, maxsplit=1)
    return refs + [(name, prefix) for name in rest]


def _possible_prices(prices: Any) -> list[Any]:
    """Return the prices in force today: the latest to have started, and those by the hour."""
    conditional: list[Any] = prices if hasattr(prices, "__len__") else []
    if not conditional:
        return [prices]
    possible: list[Any] = []
    for choice in reversed(conditional):
        is_dated = hasattr(choice.constraint, "start_date")
        if is_dated and not choice.constraint.active(datetime.now(UTC)):
            continue
        possible.append(choice.prices)
        if is_dated or choice.constraint is None:
            break
    return possible or [choice.prices for choice in conditional[:1]]


def _tier_starts(choices: list[Any]) -> list[int]:
    """Return the numbers of input tokens above which some price is another, ascending."""
    prices = [getattr(choice, key, None) for choice in choices for key in _ALL_GENAI_KEYS]
    return sorted({tier.start for price in prices for tier in getattr(price, "tiers", ())})


def _dearest_at(choices: list[Any], tokens: int) -> Rates | None:
    """Return, rate by rate, the dearest of the choices for a call with so many input tokens."""
    known = [rates for choice in choices if (rates := _rates_at(choice, tokens)) is not None]
    if not known:
        return None
    dearest: dict[str, Any] = {
        name: max(getattr(rates, name) for rates in known) for name in _RATE_NAMES
    }
    return Rates(**dearest)


def _rates_at(prices: Any, tokens: int) -> Rates | None:
    rates: dict[str, Any] = {}
    for name, keys in _GENAI_KEYS.items():
        asked = [_rate_at(getattr(prices, key, None), tokens) for key in keys]
        rates[name] = max((rate for rate in asked if rate is not None), default=None)
    if rates["input"] is None and rates["output"] is None:
        return None
    for name, key in _GENAI_FEES.items():
        rates[name] = (_rate_at(getattr(prices, key, None), tokens) or Decimal(0)) / 1000
    return Rates(**rates)


def _rate_at(price: Any, tokens: int) -> Decimal | None:
    reached = [tier.price for tier in getattr(price, "tiers", ()) if tokens > tier.start]
    rate: Decimal | None = reached[-1] if reached else getattr(price, "base", price)
    return rate

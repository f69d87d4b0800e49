"""Where prices come from: the user's table first, then genai-prices, else an error."""

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import genai_prices
import pytest
from genai_prices import data_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)

from budgetware.errors import ConfigurationError, UnknownPrice
from budgetware.pricing import MAX_CACHED, PriceBook
from budgetware.usage import Usage

MINI = {"input": "0.15", "output": "0.60"}


def table_only(table: Any) -> PriceBook:
    return PriceBook(table, use_genai_prices=False)


def test_a_call_is_priced_by_the_table() -> None:
    book = table_only({"gpt-4o-mini": MINI})
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert book.price_micros("gpt-4o-mini", None, usage) == 750_000


def test_a_hold_is_at_the_dearest_rate() -> None:
    assert table_only({"gpt-4o-mini": MINI}).hold_micros("gpt-4o-mini", "openai", 2_000) == 1_200


@pytest.mark.parametrize("price", ["0.15", 0.15, Decimal("0.15")])
def test_a_price_may_be_text_float_or_decimal(price: Any) -> None:
    rates = table_only({"m": {"input": price}}).rates("m")
    assert rates is not None
    assert rates.input == Decimal("0.15")


def test_a_price_may_be_an_int() -> None:
    assert table_only({"m": {"input": 3}}).hold_micros("m", None, 10) == 30


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
        "gpt-4o-mini-20240718",
        "gpt-4o-mini@20240718",
        "gpt-4o-mini-0718",
        "gpt-4o-mini-001",
        "gpt-4o-mini-latest",
        "openai/gpt-4o-mini",
        "openai/gpt-4o-mini-2024-07-18",
    ],
)
def test_the_table_answers_for_dated_and_prefixed_names(name: str) -> None:
    assert table_only({"gpt-4o-mini": MINI}).rates(name) is not None


@pytest.mark.parametrize("name", ["gpt-4o-mini-audio", "gpt-4o", "gpt-4o-mini2", ""])
def test_the_table_does_not_answer_for_other_models(name: str) -> None:
    assert table_only({"gpt-4o-mini": MINI}).rates(name) is None


def test_an_exact_name_wins_over_the_undated_one() -> None:
    book = table_only({"m": {"input": 1}, "m-2024-07-18": {"input": 2}})
    assert book.hold_micros("m-2024-07-18", None, 1) == 2


def test_a_name_with_its_provider_wins_over_the_bare_one() -> None:
    book = table_only({"m": {"input": 1}, "azure/m": {"input": 2}})
    assert [book.hold_micros("m", provider, 1) for provider in ("azure", "other", None)] == [
        2,
        1,
        1,
    ]


def test_an_unknown_model_says_what_to_do() -> None:
    with pytest.raises(UnknownPrice, match="model 'mine' has no price: pass prices=") as caught:
        table_only(None).price_micros("mine", None, Usage())
    assert "budgetware[prices]" in str(caught.value)
    assert 'unpriced="allow"' in str(caught.value)


def test_a_hold_of_an_unknown_model_is_an_error_too() -> None:
    with pytest.raises(UnknownPrice):
        table_only(None).hold_micros("mine", None, 1)


@pytest.mark.parametrize(
    "wrong",
    ["-1", -0.5, "NaN", float("nan"), float("inf"), True, None, "free", "1e-999999", [1], "1" * 99],
)
def test_what_is_no_price_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="prices of 'm': "):
        table_only({"m": {"input": 1, "output": wrong}})


def test_an_unknown_rate_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="unknown rate 'inputs'; did you mean 'input'"):
        table_only({"m": {"inputs": 1}})


def test_an_unknown_rate_like_none_lists_them() -> None:
    with pytest.raises(ConfigurationError, match="unknown rate 'zzz'; use input, output"):
        table_only({"m": {"zzz": 1}})


@pytest.mark.parametrize("wrong", [{}, {"cache_read": "1"}, 5, "0.15"])
def test_a_model_needs_rates(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="prices of 'm': "):
        table_only({"m": wrong})


def test_tool_calls_and_requests_have_prices_of_their_own() -> None:
    book = table_only({"m": {"input": 1, "server_tool_call": "0.01", "request": "0.005"}})
    assert book.price_micros("m", None, Usage(input_tokens=1, server_tool_calls=2)) == 25_001


def test_the_table_comes_before_genai_prices() -> None:
    assert PriceBook({"gpt-4o-mini": {"input": 9}}).hold_micros("gpt-4o-mini", "openai", 1) == 9


def test_genai_prices_is_not_imported_while_the_table_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert PriceBook({"m": {"input": 1}}).hold_micros("m", None, 1) == 1


def test_without_genai_prices_a_model_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(UnknownPrice):
        PriceBook().hold_micros("gpt-4o-mini", "openai", 1)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", None),
        ("gpt-4o-mini", "openai"),
        ("gpt-4o-mini-2024-07-18", "openai"),
        ("openai/gpt-4o-mini", None),
        ("openai:gpt-4o-mini", None),
        ("gpt-4o-mini", "azure.ai.openai"),
        ("gpt-4o-mini", "my-proxy"),
    ],
)
def test_genai_prices_answers_for_names_of_all_styles(model: str, provider: str | None) -> None:
    usage = Usage(input_tokens=1_000_000)
    assert PriceBook().price_micros(model, provider, usage) == 150_000


def test_genai_prices_has_the_rate_of_cached_tokens() -> None:
    usage = Usage(cache_read_tokens=1_000_000)
    assert PriceBook().price_micros("gpt-4o-mini", "openai", usage) == 75_000


def test_a_model_priced_by_the_hour_of_sound_is_unknown() -> None:
    assert PriceBook().rates("whisper-large-v3", "groq") is None


def test_a_model_nobody_knows_is_unknown() -> None:
    assert PriceBook().rates("no-such-model", "no-such-provider") is None


def test_a_long_prompt_pays_the_dearer_tier_and_a_short_one_does_not() -> None:
    book = PriceBook()
    short = book.price_micros("claude-sonnet-4-5", "anthropic", Usage(input_tokens=200_000))
    long = book.price_micros("claude-sonnet-4-5", "anthropic", Usage(input_tokens=200_001))
    assert (short, long) == (600_000, 1_200_006)


@pytest.mark.parametrize(
    ("model", "provider"),
    [("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"), ("gemini-2.5-pro", "google")],
)
@pytest.mark.parametrize("tokens_in", [1, 199_999, 200_000, 200_001, 400_000])
def test_prices_agree_with_genai_prices_rounded_up(
    model: str, provider: str, tokens_in: int
) -> None:
    usage = Usage(input_tokens=tokens_in, cache_read_tokens=7, output_tokens=11)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=tokens_in + 7, cache_read_tokens=7, output_tokens=11),
        model,
        provider_id=provider,
    )
    exact = theirs.total_price * 1_000_000
    assert exact <= PriceBook().price_micros(model, provider, usage) < exact + 1


def test_every_model_of_genai_prices_can_be_read_or_is_unknown() -> None:
    book = PriceBook()
    models = [(m.id, p.id) for p in data_snapshot.get_snapshot().providers for m in p.models]
    found = [rates for model, provider in models if (rates := book.rates(model, provider))]
    assert len(found) > 1_000


def with_prices(monkeypatch: pytest.MonkeyPatch, prices: object) -> PriceBook:
    def calc_price(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(model=SimpleNamespace(prices=prices))

    monkeypatch.setattr(genai_prices, "calc_price", calc_price)
    return PriceBook()


def flat(price: int) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(price), output_mtok=Decimal(price))


def test_a_price_by_the_hour_is_the_dearest_of_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = datetime(2020, 1, 1, tzinfo=UTC).timetz()
    off_peak = TimeOfDateConstraint(start_time=midnight, end_time=midnight)
    book = with_prices(
        monkeypatch, [ConditionalPrice(prices=flat(8)), ConditionalPrice(off_peak, prices=flat(2))]
    )
    assert book.hold_micros("m", None, 1) == 8


def test_a_price_that_has_started_replaces_the_older(monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime.now(UTC).date()
    started = StartDateConstraint(today - timedelta(days=2))
    future = StartDateConstraint(today + timedelta(days=30))
    book = with_prices(
        monkeypatch,
        [
            ConditionalPrice(prices=flat(8)),
            ConditionalPrice(started, prices=flat(5)),
            ConditionalPrice(future, prices=flat(1)),
        ],
    )
    assert book.hold_micros("m", None, 1) == 5


def test_where_no_price_has_started_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    future = StartDateConstraint(datetime.now(UTC).date() + timedelta(days=30))
    book = with_prices(monkeypatch, [ConditionalPrice(future, prices=flat(4))])
    assert book.hold_micros("m", None, 1) == 4


def test_tiers_that_start_at_different_sizes_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prices = ModelPrice(
        input_mtok=TieredPrices(base=Decimal(1), tiers=[Tier(start=10, price=Decimal(2))]),
        output_mtok=TieredPrices(base=Decimal(3), tiers=[Tier(start=20, price=Decimal(5))]),
    )
    book = with_prices(monkeypatch, prices)
    priced = [book.price_micros("m", None, Usage(n, 1)) for n in (10, 11, 20, 21)]
    assert priced == [13, 25, 43, 47]


def test_images_are_priced_at_the_dearer_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = ModelPrice(
        input_mtok=Decimal(1), output_mtok=Decimal(2), output_image_mtok=Decimal(30)
    )
    usage = Usage(output_tokens=1)
    assert with_prices(monkeypatch, prices).price_micros("m", None, usage) == 30


def test_answers_are_kept_the_unknown_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    book = PriceBook()
    known, unknown = book.rates("gpt-4o-mini"), book.rates("no-such-model")
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    assert book.rates("gpt-4o-mini") is known
    assert book.rates("no-such-model") is unknown is None


def test_no_more_answers_are_kept_than_the_cap() -> None:
    book = table_only({"m": {"input": 1}})
    for number in range(MAX_CACHED + 50):
        book.rates(f"model-{number}-x")
    assert len(book._found) == MAX_CACHED  # pyright: ignore[reportPrivateUsage]
    assert book.rates("m") is not None

"""Rates and the price of a call: exact, rounded up once, never free for want of a finer rate."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware.errors import ConfigurationError
from budgetware.kernel.prices import TOKEN_RATES, Rates, cost_micros, dearest_micros
from budgetware.usage import Usage
from budgetware.usage_shapes import AXES

ALL: dict[str, Any] = {
    "input": Decimal(1),
    "output": Decimal(2),
    "cache_read": Decimal(3),
    "cache_write": Decimal(4),
    "reasoning": Decimal(5),
    "audio_input": Decimal(6),
    "audio_output": Decimal(7),
}


def test_a_missing_cache_rate_is_the_input_rate() -> None:
    rates = Rates(input=Decimal("2.50"), output=10)
    usage = Usage(input_tokens=100, cache_read_tokens=900, output_tokens=50)
    assert cost_micros(rates, usage) == 3_000


@pytest.mark.parametrize(
    ("axis", "micros"),
    [
        ("input_tokens", 1),
        ("output_tokens", 2),
        ("cache_read_tokens", 3),
        ("cache_write_tokens", 4),
        ("reasoning_tokens", 5),
        ("audio_input_tokens", 6),
        ("audio_output_tokens", 7),
        ("server_tool_calls", 10_000),
    ],
)
def test_every_axis_is_priced_at_its_own_rate(axis: str, micros: int) -> None:
    rates = Rates(**ALL, server_tool_call=Decimal("0.01"))
    axes: dict[str, Any] = {axis: 10}
    assert cost_micros(rates, Usage(**axes)) == 10 * micros


@pytest.mark.parametrize(
    ("axis", "micros"),
    [
        ("cache_read_tokens", 3),
        ("cache_write_tokens", 3),
        ("audio_input_tokens", 3),
        ("reasoning_tokens", 8),
        ("audio_output_tokens", 8),
    ],
)
def test_a_missing_finer_rate_is_the_coarser(axis: str, micros: int) -> None:
    axes: dict[str, Any] = {axis: 1}
    assert cost_micros(Rates(input=3, output=8), Usage(**axes)) == micros


def test_input_and_output_stand_in_for_each_other() -> None:
    assert cost_micros(Rates(input=3), Usage(output_tokens=1, reasoning_tokens=1)) == 6
    assert cost_micros(Rates(output=3), Usage(input_tokens=1, cache_read_tokens=1)) == 6


def test_the_rates_in_force_can_be_read() -> None:
    rates = Rates(input=3, output=8, cache_read=1)
    assert (rates.cache_read, rates.cache_write, rates.reasoning) == (1, 3, 8)


@pytest.mark.parametrize("given_rates", [{}, {"cache_read": 1}, {"request": 1}])
def test_neither_input_nor_output_is_an_error(given_rates: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="at least an input or an output"):
        Rates(**given_rates)


def test_a_price_is_rounded_up_once() -> None:
    rates = Rates(input=Decimal("0.3"), output=Decimal("0.3"))
    assert cost_micros(rates, Usage(input_tokens=1)) == 1
    assert cost_micros(rates, Usage(input_tokens=1, output_tokens=1)) == 1
    assert cost_micros(rates, Usage(input_tokens=5, output_tokens=5)) == 3


def test_a_free_model_costs_nothing() -> None:
    assert cost_micros(Rates(input=0, output=0), Usage(input_tokens=5)) == 0


def test_a_fee_per_request_is_part_of_price_and_hold() -> None:
    rates = Rates(input=1, output=1, request=Decimal("0.005"))
    assert cost_micros(rates, Usage(input_tokens=10)) == 5_010
    assert dearest_micros(rates, 10) == 5_010


def test_the_hold_is_at_the_dearest_rate() -> None:
    assert dearest_micros(Rates(**ALL), 100) == 700
    assert dearest_micros(Rates(input=Decimal("0.15"), output=Decimal("0.60")), 2_001) == 1_201


def test_above_a_threshold_every_token_pays_the_other_rates() -> None:
    rates = Rates(input=1, output=2, above=((100, Rates(input=10, output=20)),))
    assert cost_micros(rates, Usage(input_tokens=100, output_tokens=1)) == 102
    assert cost_micros(rates, Usage(input_tokens=101, output_tokens=1)) == 1_030
    assert cost_micros(rates, Usage(input_tokens=1, cache_read_tokens=100)) == 1_010


def test_a_hold_counts_only_thresholds_it_can_pass() -> None:
    rates = Rates(input=1, output=2, above=((100, Rates(input=10, output=20)),))
    assert (dearest_micros(rates, 100), dearest_micros(rates, 101)) == (200, 2_020)


def test_a_hold_is_not_lower_for_cheaper_big_calls() -> None:
    rates = Rates(input=5, output=5, above=((100, Rates(input=1, output=1)),))
    assert dearest_micros(rates, 101) == 505


def test_thresholds_must_ascend() -> None:
    step = Rates(input=1)
    with pytest.raises(ConfigurationError, match="ascend"):
        Rates(input=1, above=((200, step), (100, step)))


@pytest.mark.parametrize(
    "wrong",
    [
        True,
        -1,
        Decimal("-0.1"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e-999999"),
        Decimal("1e999999"),
        10**9 + 1,
        0.5,
        "0.5",
    ],
)
def test_what_is_no_rate_is_refused(wrong: int) -> None:
    with pytest.raises(ConfigurationError, match="rate output"):
        Rates(input=1, output=wrong)


def usage_of(tokens: list[int]) -> Usage:
    axes: dict[str, Any] = dict(zip(AXES, tokens, strict=False))
    return Usage(**axes)


rate = st.decimals(0, 1000, places=4) | st.none()
amount = st.integers(0, 10**7)


@st.composite
def any_rates(draw: st.DrawFn, *, tiers: int = 2) -> Rates:
    given_rates: dict[str, Any] = {name: draw(rate) for name in TOKEN_RATES}
    given_rates["input"] = draw(st.decimals(0, 1000, places=4))
    starts = draw(st.lists(st.integers(0, 10**7), max_size=tiers, unique=True))
    above = tuple((start, draw(any_rates(tiers=0))) for start in sorted(starts))
    return Rates(**given_rates, above=above)


@given(any_rates(), st.lists(amount, min_size=7, max_size=7), st.integers(0, 1000))
def test_what_stays_within_a_hold_never_costs_more(
    rates: Rates, tokens: list[int], spare: int
) -> None:
    usage = usage_of(tokens)
    assert cost_micros(rates, usage) <= dearest_micros(rates, usage.total_tokens + spare)


@given(any_rates(tiers=0), st.lists(amount, min_size=7, max_size=7))
def test_a_price_is_the_exact_sum_rounded_up(rates: Rates, tokens: list[int]) -> None:
    usage = usage_of(tokens)
    exact = sum(
        Fraction(getattr(rates, name)) * n for name, n in zip(TOKEN_RATES, tokens, strict=True)
    )
    assert exact <= cost_micros(rates, usage) < exact + 1

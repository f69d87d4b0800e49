"""Numbers for people: the vectors of the contract, and that what is shown can be read back."""

import math
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetware import formats
from budgetware.errors import InvalidAmount
from budgetware.kernel.dims import MAX_AMOUNT

COUNTS = st.integers(0, MAX_AMOUNT)


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (1_500, "1.5k"),
        (999_949, "999.9k"),
        (999_950, "1.0M"),
        (999_999, "1.0M"),
        (1_234_567_890, "1.2G"),
        (999_950_000_000, "1.0T"),
        (2**53 - 1, "9.0P"),
        (2**64, "18446.7P"),
        (-1_500, "-1.5k"),
    ],
)
def test_counts(n: int, shown: str) -> None:
    assert formats.count_text(n) == shown


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (2_048, "2.0 KiB"),
        (1_048_524, "1023.9 KiB"),
        (1_048_575, "1.0 MiB"),
        (64 * 2**20, "64.0 MiB"),
        (-2_048, "-2.0 KiB"),
    ],
)
def test_sizes(n: int, shown: str) -> None:
    assert formats.bytes_text(n) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (1e-9, "0s"),
        (0.000_5, "0.5ms"),
        (0.25, "250ms"),
        (0.999_9, "1s"),
        (1.5, "1.5s"),
        (30, "30s"),
        (59.96, "1m00s"),
        (125, "2m05s"),
        (3_599.6, "1h00m"),
        (9_000, "2h30m"),
        (86_399, "1d00h"),
        (93_600, "1d02h"),
        (-125, "-2m05s"),
        (math.inf, "-"),
        (math.nan, "-"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert formats.duration_text(seconds) == shown


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [
        (5, "$5.00"),
        ("0.012345", "$0.012345"),
        (Decimal("1234.5"), "$1,234.50"),
        ("-0.25", "-$0.25"),
        ("-0.0000001", "$0.00"),
        ("NaN", "-"),
    ],
)
def test_dollars(dollars: Decimal | int | str, shown: str) -> None:
    assert formats.usd_text(dollars) == shown


@pytest.mark.parametrize(
    ("per_second", "shown"),
    [(0.0, "0.0"), (12.54, "12.5"), (999.94, "999.9"), (999.96, "1.0k"), (math.nan, "-")],
)
def test_rates(per_second: float, shown: str) -> None:
    assert formats.rate_text(per_second) == shown


@pytest.mark.parametrize(
    ("dim", "amount", "shown"),
    [
        ("tokens", 1_500, "1.5k"),
        ("usd", "0.25", "$0.25"),
        ("memory", 2_048, "2.0 KiB"),
        ("bytes", 2_048, "2.0 KiB"),
        ("millis", 125_000, "2m05s"),
        ("cpu_micros", 1_500_000, "1.5s"),
        (None, 7, "7"),
        ("tokens", None, "-"),
    ],
)
def test_amounts_are_shown_as_what_they_are(
    dim: str | None, amount: int | str | None, shown: str
) -> None:
    assert formats.amount_text(dim, amount) == shown


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512B", 512),
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("10GB", 10**10),
        ("1.5KiB", 1_536),
        ("1_000kB", 1_000_000),
        (" 2TiB ", 2 * 2**40),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert formats.parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("30", 30),
        ("1.5", 1.5),
        ("2h30m", 9_000),
        ("1d2h", 93_600),
        ("250ms", 0.25),
        (" 2m05s ", 125),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert formats.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("90_000", 90_000),
        ("90,000", 90_000),
        ("1.5k", 1_500),
        ("90K", 90_000),
        ("1M", 1_000_000),
        ("2B", 2 * 10**9),
        ("9_007_199_254_740_991", MAX_AMOUNT),
    ],
)
def test_counts_are_read(text: str, count: int) -> None:
    assert formats.parse_count(text) == count


@pytest.mark.parametrize(
    ("parse", "text", "allowed"),
    [
        (formats.parse_bytes, "64M", "64MiB or 10GB"),
        (formats.parse_bytes, "1.5", "whole bytes"),
        (formats.parse_bytes, "-1", "64MiB"),
        (formats.parse_bytes, "9007199254740992", "whole bytes"),
        (formats.parse_bytes, "", "64MiB"),
        (formats.parse_bytes, "\u0661\u0662", "64MiB"),
        (formats.parse_bytes, "1" * 100_000, "64MiB"),
        (formats.parse_duration, "5 minutes", "30s, 2h30m or 1d2h"),
        (formats.parse_duration, "0", "above 0"),
        (formats.parse_duration, "-5s", "above 0"),
        (formats.parse_duration, "nan", "30s"),
        (formats.parse_duration, "101000d", "30s"),
        (formats.parse_duration, "1" * 100_000, "30s"),
        (formats.parse_count, "1,5k", "90_000, 1.5k, 1M"),
        (formats.parse_count, "1.0001k", "whole number"),
        (formats.parse_count, "9007199254740992", "2**53 - 1"),
        (formats.parse_count, "many", "1M"),
        (formats.parse_count, "1e3", "1M"),
    ],
)
def test_what_cannot_be_read_says_what_is_allowed(
    parse: Callable[[str], float], text: str, allowed: str
) -> None:
    with pytest.raises(InvalidAmount) as caught:
        parse(text)
    assert allowed in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\u200b", "\\u200b"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\x9b", "\\x9b"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    assert formats.visible(text) == shown


@given(st.text())
def test_visible_is_printable_always(text: str) -> None:
    assert formats.visible(text).isprintable()


@given(COUNTS)
def test_a_count_shown_is_read_back_to_its_two_digits(n: int) -> None:
    shown = formats.count_text(n)
    assert abs(formats.parse_count(shown) - n) * 20 <= n
    assert formats.count_text(formats.parse_count(shown)) == shown


@given(st.integers(0, 2**50 - 2**40))
def test_a_size_shown_is_read_back_to_its_two_digits(n: int) -> None:
    shown = formats.bytes_text(n)
    number, word = shown.split()
    unit = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(word)
    assert abs(Decimal(number) * unit - n) * 20 <= n
    assert Decimal(number) < 1024


@given(st.floats(0.001, 3e9))
def test_a_duration_shown_is_read_back_and_shown_the_same(seconds: float) -> None:
    shown = formats.duration_text(seconds)
    again = formats.parse_duration(shown)
    assert again == pytest.approx(seconds, rel=0.051, abs=0.000_6)
    assert formats.duration_text(again) == shown


@given(st.integers(0, MAX_AMOUNT))
def test_whole_bytes_are_read_exactly(n: int) -> None:
    assert formats.parse_bytes(str(n)) == formats.parse_bytes(f"{n}B") == n


@given(st.decimals(0, 10**9, places=6))
def test_dollars_lose_nothing(dollars: Decimal) -> None:
    assert Decimal(formats.usd_text(dollars).replace(",", "").removeprefix("$")) == dollars

"""Values: amounts, dollars, sizes, durations, shares; what is wrong with one, and what is right."""

from decimal import Decimal
from typing import Any

import pytest

from budgetware.kernel.dims import MAX_AMOUNT
from budgetware.manifest import parse_manifest
from tests.manifest.complaints import complaint


def limit_of(dim: str, value: str) -> Any:
    return parse_manifest(f"[budgets.b]\n{dim} = {value}").budgets["b"].limits[dim]


def refusal_of(dim: str, value: str) -> str:
    said = complaint(f"[budgets.b]\n{dim} = {value}")
    place = f"m.toml:2: budgets.b.{dim}: "
    assert said.startswith(place)
    return said.removeprefix(place)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0", "0 is not above 0"),
        ("-1", "-1 is not above 0"),
        ("9007199254740992", "9007199254740992 is too large"),
        ("0x" + "f" * 900, "an int of 3600 bits is too large"),
        ("true", "true is not an int"),
        ("false", "false is not an int"),
        ("1.5", "1.5 is not an int"),
        ("1e6", "1e6 is not an int"),
        ("1e300000", "1e300000 is not an int"),
        ("nan", "nan is not an int"),
        ("-inf", "-inf is not an int"),
        ('"5"', "'5' is not an int"),
        ('"\\u001b"', "'\\x1b' is not an int"),
        ("[1]", "an array is not an int"),
        ("1979-05-27", "1979-05-27 is not an int"),
        ("07:32:00", "07:32:00 is not an int"),
    ],
)
def test_what_is_no_amount_is_shown_with_what_would_be(value: str, shown: str) -> None:
    right = f"; give an int of 1 to {MAX_AMOUNT}, such as 50_000"
    assert refusal_of("tokens", value) == shown + right


@pytest.mark.parametrize("value", ["1", "1_000", "0x10", str(MAX_AMOUNT)])
def test_ints_are_amounts(value: str) -> None:
    assert limit_of("tokens", value) == int(value, 0)


@pytest.mark.parametrize("value", ['"0.1"', "0.1", "1e-1", "0.10"])
def test_dollars_are_read_exactly(value: str) -> None:
    assert limit_of("usd", value) == Decimal("0.1")


@pytest.mark.parametrize(
    "value", ["0.1234567890123456789", '"9007199254.740991"', "1e-6", "3", '"1_000.5"']
)
def test_dollars_keep_every_digit(value: str) -> None:
    assert limit_of("usd", value) == Decimal(value.strip('"'))


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-1",
        "nan",
        "inf",
        "1e300000",
        "1e99999999999999999999",
        "1e-300000",
        "0.0000001",
        "true",
        '"a quarter"',
        '"$1"',
        '"NaN"',
        '"sNaN"',
        '"Infinity"',
        "9007199254.740992",
        "9007199254740993",
        "0." + "1" * 900,
        "[]",
        "2026-01-01T00:00:00Z",
    ],
)
def test_what_is_no_price_is_refused(value: str) -> None:
    said = refusal_of("usd", value)
    assert said.endswith(
        ' is no limit in dollars; give dollars of 0.000001 to 10**9, such as "0.25"'
    )
    assert len(said) < 200


@pytest.mark.parametrize("dim", ["bytes", "memory"])
@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ('"64MiB"', 64 * 2**20),
        ('"10GB"', 10 * 10**9),
        ('"1kB"', 1_000),
        ('"1KB"', 1_000),
        ('"1 KiB"', 1_024),
        ('"2MB"', 2 * 10**6),
        ('"3GiB"', 3 * 2**30),
        ('"1TB"', 10**12),
        ('"1TiB"', 2**40),
        ('"1.5KiB"', 1_536),
        ('"512B"', 512),
        ("5_000", 5_000),
    ],
)
def test_sizes_are_bytes(dim: str, value: str, octets: int) -> None:
    assert limit_of(dim, value) == octets


@pytest.mark.parametrize(
    "value",
    ['"64"', '"0MiB"', '"-1MiB"', '"1.0001kB"', '"9999999TiB"', '"1 PB"', '""'],
)
def test_what_is_no_size_is_refused(value: str) -> None:
    assert refusal_of("bytes", value).endswith(
        ' is no size; give whole bytes above 0, such as 1_000_000, "64MiB" or "10GB"'
    )


def test_only_bytes_and_memory_have_sizes() -> None:
    assert "'64MiB' is not an int" in refusal_of("tokens", '"64MiB"')


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120), ("1.5", 1.5), ('"2m"', 120), ('"2h30m"', 9_000)]
)
def test_durations_are_seconds(value: str, seconds: float) -> None:
    assert limit_of("seconds", value) == seconds


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "nan", "inf", "1e300000", "true", '"2 minutes"', '"0s"', "[]", "3_153_600_001"],
)
def test_what_is_no_duration_is_refused(value: str) -> None:
    assert refusal_of("seconds", value).endswith(
        " is no duration; give seconds above 0, or a text such as '30s', '2h30m'"
    )


@pytest.mark.parametrize("value", ["1_000_000", '"64MiB"', "50_000"])
def test_warn_is_an_amount_of_the_same_kind(value: str) -> None:
    limit = limit_of("bytes", f'{{ limit = "1GiB", warn = {value} }}')
    assert limit.warn == limit_of("bytes", value)

"""Definitions of quotas: what is accepted, and a typed error that names the value for the rest."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal
from typing import Any

import pytest

from budgetware import Capacity, Concurrency, Rate, Reject, Resource, Terminate, Throttle
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware.kernel.dims import MAX_AMOUNT, is_declared
from budgetware.quotas import (
    PERIOD_SECONDS,
    PrincipalDefinition,
    QuotaLimit,
    limit_units,
    quota,
    value_units,
)

SECOND = 1_000_000_000
VAST = 10**5_000
LIMITS: dict[str, Callable[[Any], QuotaLimit]] = {
    "rate": lambda value: Rate(value, "minute"),
    "burst": lambda value: Rate(1, "minute", value),
    "capacity": Capacity,
    "concurrency": Concurrency,
}
each_limit = pytest.mark.parametrize("make", LIMITS.values(), ids=LIMITS)
NEVER: list[tuple[Any, str]] = [
    (0, "0"),
    (-1, "-1"),
    (True, "True"),
    (False, "False"),
    (MAX_AMOUNT + 1, str(MAX_AMOUNT + 1)),
    (VAST, "16610 bits"),
    (0.0, r"0\.0"),
    (-0.5, r"-0\.5"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    ("", "''"),
    ("0", "'0'"),
    ("-1", "-1"),
    ("many", "'many'"),
    ("1e300000", "1e300000"),
    ("NaN", "NaN"),
    (Decimal(0), "0"),
    (Decimal("Infinity"), "Infinity"),
    (Decimal("0.0000001"), "E-7"),
    (b"5", "b'5'"),
    ([5], r"\[5\]"),
    (5j, "5j"),
    (object(), "object"),
]
each_never = pytest.mark.parametrize(("value", "shown"), NEVER, ids=[s for _, s in NEVER])
PERIODS: list[tuple[Any, str]] = [
    ("fortnight", "'fortnight'"),
    ("minutes", "'minutes'"),
    ("Minute", "'Minute'"),
    ("", "''"),
    ("-5s", "'-5s'"),
    (0, "0"),
    (0.0, r"0\.0"),
    (1e-10, "1e-10"),
    (-60, "-60"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (VAST, "16610 bits"),
    (True, "True"),
    (None, "None"),
    (b"minute", "b'minute'"),
    (["minute"], "minute"),
    ("9" * 1_000 + "s", "999"),
]


@each_limit
@each_never
def test_a_limit_that_is_no_positive_amount_is_refused(
    make: Callable[[Any], QuotaLimit], value: Any, shown: str
) -> None:
    with pytest.raises(InvalidAmount, match=shown):
        make(value)


@pytest.mark.parametrize("make", [LIMITS["rate"], LIMITS["capacity"], LIMITS["concurrency"]])
def test_a_limit_without_a_value_is_refused(make: Callable[[Any], QuotaLimit]) -> None:
    with pytest.raises(InvalidAmount, match="None"):
        make(None)


@each_limit
def test_zero_says_how_to_have_no_limit(make: Callable[[Any], QuotaLimit]) -> None:
    with pytest.raises(InvalidAmount, match="a limit is positive; unlimited is `exempt`"):
        make(0)


@each_limit
@pytest.mark.parametrize("value", [1, 7, MAX_AMOUNT])
def test_any_positive_int_is_a_limit(make: Callable[[Any], QuotaLimit], value: int) -> None:
    assert limit_units(make(value), None) == value


@pytest.mark.parametrize("value", [0.5, "0.5", Decimal("0.5"), 1.0])
def test_slots_are_whole(value: Any) -> None:
    with pytest.raises(InvalidAmount, match="an amount is an int"):
        Concurrency(value)


@pytest.mark.parametrize(("period", "shown"), PERIODS, ids=[s for _, s in PERIODS])
def test_a_period_that_is_none_is_refused(period: Any, shown: str) -> None:
    with pytest.raises(InvalidAmount, match=shown) as caught:
        Rate(1, period)
    assert "give one of second, minute, hour, day, month, year, or seconds" in str(caught.value)


@pytest.mark.parametrize(
    ("period", "seconds"),
    [
        ("second", 1),
        ("minute", 60),
        ("hour", 3_600),
        ("day", 86_400),
        ("month", 2_592_000),
        ("year", 31_536_000),
        (1, 1),
        (90, 90),
        (0.5, 0.5),
        ("30s", 30),
        ("2h30m", 9_000),
        ("500ms", 0.5),
        (1e-9, 1e-9),
    ],
)
def test_periods_are_words_seconds_or_texts(period: str | float, seconds: float) -> None:
    assert Rate(1, period).period_ns == round(seconds * SECOND)


def test_every_period_that_is_offered_is_accepted() -> None:
    assert [Rate(1, word).period_ns for word in PERIOD_SECONDS] == [
        seconds * SECOND for seconds in PERIOD_SECONDS.values()
    ]


def test_the_burst_of_a_rate_is_its_value_unless_said_otherwise() -> None:
    assert limit_units(Rate(90, "minute"), None) == 90
    assert limit_units(Rate(90, "minute", 5), None) == 5
    assert limit_units(Rate(90, "minute", 500), None) == 500


@pytest.mark.parametrize("value", ["0.25", 0.25, Decimal("0.25"), Decimal("0.2500009")])
def test_dollars_are_micro_dollars_rounded_down(value: Any) -> None:
    assert limit_units(Capacity(value), "usd") == 250_000
    assert value_units(value, "usd") == 250_000


def test_of_a_dimension_other_than_dollars_a_limit_is_an_int() -> None:
    with pytest.raises(InvalidAmount, match=r"tokens='0\.25'"):
        Resource("r", Capacity("0.25"), dim="tokens")
    with pytest.raises(InvalidAmount, match=r"value=0\.25"):
        Resource("r", Rate(1, "minute", 0.25))


@pytest.mark.parametrize("dim", [None, "tokens", "usd"])
def test_value_units_are_at_least_one(dim: str | None) -> None:
    with pytest.raises(InvalidAmount, match="a limit is positive"):
        value_units(0, dim)


@pytest.mark.parametrize("limit", [Rate(5, "minute", 9), Capacity("0.25"), Concurrency(4)])
def test_limits_are_values(limit: QuotaLimit) -> None:
    assert pickle.loads(pickle.dumps(limit)) == limit
    assert hash(replace(limit)) == hash(limit)
    with pytest.raises(FrozenInstanceError):
        limit.value = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_resource_has_defaults() -> None:
    resource = Resource("browsers", Concurrency(4))
    assert (resource.policy, resource.dim, resource.parent) == (Throttle(), None, None)
    assert (resource.unit, resource.units, resource.max_wait) == ("unit", "units", None)
    assert resource.key == "browsers"


def test_a_resource_with_a_dimension_is_counted_as_that() -> None:
    assert Resource("r", Capacity(5), dim="tokens").key == "tokens"


def test_a_resource_declares_its_dimension() -> None:
    assert not is_declared("gpu_quota_seconds")
    assert Resource("r", Capacity(5), dim="gpu_quota_seconds").key == "gpu_quota_seconds"
    assert is_declared("gpu_quota_seconds")


@pytest.mark.parametrize(
    ("enforcement", "policy"),
    [
        ("throttle", Throttle()),
        ("reject", Reject()),
        ("terminate", Terminate()),
        (Reject(patience=2), Reject(patience=2)),
        (None, Throttle()),
    ],
)
def test_enforcement_is_a_name_or_an_object(enforcement: Any, policy: Any) -> None:
    assert Resource("r", Capacity(5), enforcement).policy == policy


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "a" * 129, "a\n", None, 5, b"r", ["r"]])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"resource name .* is not valid"):
        Resource(name, Capacity(5))
    with pytest.raises(ConfigurationError, match=r"principal name .* is not valid"):
        PrincipalDefinition(name)


@pytest.mark.parametrize("parent", ["", "a b", 5, True, ["r"]])
def test_a_parent_that_is_no_name_is_refused(parent: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"resource name .* is not valid"):
        Resource("r", Capacity(5), parent=parent)
    with pytest.raises(ConfigurationError, match=r"principal name .* is not valid"):
        PrincipalDefinition("p", parent)


@pytest.mark.parametrize("limit", [None, 5, "5", Rate, {"type": "rate"}, Decimal(5), Reject()])
def test_a_limit_of_no_kind_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a Rate, a Capacity or a Concurrency"):
        Resource("r", limit)


@pytest.mark.parametrize("enforcement", ["wait", "Throttle", "", 5, Throttle, True])
def test_an_enforcement_that_is_none_is_refused(enforcement: Any) -> None:
    with pytest.raises(ConfigurationError, match="enforcement="):
        Resource("r", Capacity(5), enforcement)


@pytest.mark.parametrize("dim", ["", "tokenss", "token", "Tokens", "a b", "usd_micros", "seconds"])
def test_a_dimension_that_is_none_is_refused(dim: str) -> None:
    with pytest.raises(InvalidAmount):
        Resource("r", Capacity(5), dim=dim)


@pytest.mark.parametrize("dim", [5, True, b"tokens", ["tokens"], Capacity(5)])
def test_a_dimension_that_is_no_text_is_refused(dim: Any) -> None:
    with pytest.raises(InvalidAmount, match=r"resource 'r': dim=.*: give its name"):
        Resource("r", Capacity(5), dim=dim)


@pytest.mark.parametrize("max_wait", ["soon", "", -1, math.nan, math.inf, True, False, b"1", [1]])
def test_a_longest_wait_that_is_none_is_refused(max_wait: Any) -> None:
    with pytest.raises(InvalidAmount, match="max_wait="):
        Resource("r", Capacity(5), max_wait=max_wait)


@pytest.mark.parametrize("max_wait", [None, 0, 0.0, 0.5, 30, "30s", "2m"])
def test_a_longest_wait_is_seconds_or_a_text(max_wait: float | str | None) -> None:
    assert Resource("r", Capacity(5), max_wait=max_wait).max_wait == max_wait


@pytest.mark.parametrize("word", ["", "a" * 65, "a\nb", "\x1b[2J", None, 5])
@pytest.mark.parametrize("which", ["unit", "units"])
def test_a_word_for_units_that_is_none_is_refused(word: Any, which: str) -> None:
    with pytest.raises(ConfigurationError, match="give 1 to 64 printable characters"):
        replace(Resource("r", Capacity(5)), **{which: word})


@pytest.mark.parametrize(
    ("limit", "dim", "said"),
    [
        (Capacity(5), "millis", "millis is wall clock and cannot be reserved"),
        (Rate(5, "minute"), "memory", "memory is a level: give it a Capacity or a Concurrency"),
        (Concurrency(5), "usd", "dollars are no slots: give a Rate or a Capacity"),
        (Rate("0.5", "minute", 5), "calls", "calls='0.5'"),
    ],
)
def test_a_kind_of_limit_that_its_dimension_cannot_have_is_refused(
    limit: QuotaLimit, dim: str, said: str
) -> None:
    with pytest.raises(InvalidAmount, match=said):
        Resource("r", limit, dim=dim)


@pytest.mark.parametrize("limit", [Capacity(5), Concurrency(5)])
def test_memory_may_have_a_capacity_or_slots(limit: QuotaLimit) -> None:
    assert Resource("r", limit, dim="memory").key == "memory"


@pytest.mark.parametrize("exempt", [None, True, False])
def test_a_principal_is_exempt_or_not_or_as_its_parent(exempt: bool | None) -> None:
    assert PrincipalDefinition("p", exempt=exempt).exempt is exempt


@pytest.mark.parametrize("exempt", ["yes", 0, 1, 2, "false", [True]])
def test_an_exemption_that_is_neither_is_refused(exempt: Any) -> None:
    with pytest.raises(ConfigurationError, match="exempt is True, False or None"):
        PrincipalDefinition("p", exempt=exempt)


def test_a_quota_of_a_principal_rejects_unless_said_otherwise() -> None:
    assert quota("alice", "tokens", Capacity(5)).policy == Reject()
    assert quota("alice", "tokens", Capacity(5), "terminate").policy == Terminate()

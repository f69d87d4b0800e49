"""Definitions and calls that cannot be: a typed error, and nothing has changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import budgetware.resources
from budgetware import (
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import (
    ConfigurationError,
    InvalidAmount,
    ReservationError,
    UnknownResource,
)
from tests.sharing.conftest import Keep

NO_COUNTS: list[Any] = [0, -1, True, False, math.nan, math.inf, -math.inf, [], b"1", 2**53]
NO_NAMES: list[Any] = ["", "a b", "a\nb", "a\x00", "ä", "x" * 129, 5, None, b"org"]


@pytest.fixture(autouse=True)
def pools(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10), "reject", dim="tokens"))
    service.define(Resource("slots", Concurrency(2), "throttle"))


def books(service: QuotaService) -> object:
    return [view.to_dict() for view in service.resources()]


# Limits.


def per_minute(value: Any) -> Rate:
    return Rate(value, "minute")


def burst(value: Any) -> Rate:
    return Rate(5, "minute", max=value)


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("make", [Capacity, Concurrency, per_minute, burst])
def test_a_limit_is_positive_and_finite(make: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(InvalidAmount):
        make(value)


@pytest.mark.parametrize("make", [Capacity, Concurrency, per_minute])
def test_a_limit_is_given(make: Callable[[Any], object]) -> None:
    with pytest.raises(InvalidAmount):
        make(None)


@pytest.mark.parametrize("value", [1.5, "1.5", Decimal("1.5")], ids=repr)
def test_only_dollars_have_fractions(value: Any) -> None:
    for limit in (Capacity(value), Rate(value, "minute"), Rate(5, "minute", value)):
        Resource("money", limit, dim="usd")
        for dim in (None, "tokens"):
            with pytest.raises(InvalidAmount):
                Resource("r", limit, dim=dim)
    with pytest.raises(InvalidAmount):
        Concurrency(value)


@pytest.mark.parametrize(
    "period", ["", "fortnight", "minutes", 0, -1, math.nan, math.inf, True, None, "1e9h", 1e300]
)
def test_a_period_is_one(period: Any) -> None:
    with pytest.raises(InvalidAmount, match="period"):
        Rate(5, period)


def test_months_have_30_days_and_years_365() -> None:
    days = [Rate(1, period).period_ns / 86_400e9 for period in ("day", "month", "year", "36h")]
    assert days == [1, 30, 365, 1.5]


@pytest.mark.parametrize("value", ["1e300000", "1e-300000", "0.0000001", "-1", "NaN", "1" * 50])
def test_a_price_that_is_none_is_refused_quickly(value: str) -> None:
    with pytest.raises(InvalidAmount):
        Resource("money", Capacity(value), dim="usd")


# Resources.


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_a_name_is_one(service: QuotaService, name: Any) -> None:
    before = books(service)
    with pytest.raises(ConfigurationError, match="name") as refused:
        Resource(name, Capacity(5))
    assert str(refused.value).isprintable()
    if name is not None:
        with pytest.raises(ConfigurationError):
            Resource("r", Capacity(5), parent=name)
    uses: list[Callable[[Any], object]] = [
        service.resource,
        service.delete,
        lambda unknown: QuotaToken(unknown, 1),
    ]
    for use in uses:
        with pytest.raises(UnknownResource):
            use(name)
    assert books(service) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": 5},
        {"limit": "5"},
        {"limit": None},
        {"limit": Capacity},
        {"enforcement": "drop"},
        {"enforcement": 5},
        {"dim": "seconds"},
        {"dim": "millis"},
        {"dim": "tokenz"},
        {"dim": "Tokens"},
        {"dim": "usd_micros"},
        {"dim": 5},
        {"unit": ""},
        {"unit": "a\nb"},
        {"units": 5},
        {"units": "x" * 65},
        {"max_wait": -1},
        {"max_wait": math.nan},
        {"max_wait": "soon"},
        {"max_wait": True},
        {"limit": Concurrency(5), "dim": "usd"},
        {"limit": Rate(5, "minute"), "dim": "memory"},
    ],
    ids=repr,
)
def test_a_definition_that_cannot_be(fields: dict[str, Any]) -> None:
    given: dict[str, Any] = {"name": "r", "limit": Capacity(5), **fields}
    with pytest.raises(ConfigurationError):
        Resource(**given)


@pytest.mark.parametrize("strange", [None, "org", 5, {"name": "r"}, Capacity(5)], ids=repr)
def test_only_resources_are_defined(service: QuotaService, strange: Any) -> None:
    before = books(service)
    with pytest.raises(ConfigurationError, match="give a Resource"):
        service.define(strange)
    assert books(service) == before


def test_there_is_a_cap_on_resources(
    service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgetware.resources, "MAX_RESOURCES", 2)
    with pytest.raises(ConfigurationError, match="more than 2 resources"):
        service.define(Resource("third", Capacity(5)))
    service.delete("slots")
    service.define(Resource("third", Capacity(5)))


# Calls.


@pytest.mark.parametrize("amount", [-1, 1.5, True, "5", 2**53, math.nan, [], {}], ids=repr)
def test_an_amount_is_one(service: QuotaService, amount: Any) -> None:
    before = books(service)
    for name in ("org", "slots"):
        with task_budget(tokens=9) as budget:
            with pytest.raises(InvalidAmount):
                reserve_nowait(name, amount)
            assert budget.spent("tokens") == 0
    assert books(service) == before


def test_an_amount_needs_a_target(service: QuotaService) -> None:
    none: Any = None
    with pytest.raises(InvalidAmount, match="without a target"):
        reserve_nowait(none, 5)


def test_an_unknown_dimension_beside_a_target_draws_nothing(service: QuotaService) -> None:
    before = books(service)
    with pytest.raises(InvalidAmount, match="did you mean 'calls'"):
        reserve_nowait("org", 5, call=1)
    assert books(service) == before


@pytest.mark.parametrize("used", [-1, 1.5, True, "5", 2**53, math.nan, ...], ids=repr)
def test_a_settlement_that_cannot_be_settles_nothing(
    service: QuotaService, keep: Keep, used: Any
) -> None:
    held = keep(QuotaToken("org", 5, allowance=5)).reserve_nowait(5)
    with pytest.raises(InvalidAmount):
        held.commit(used)
    assert held.state == "held"
    held.release()
    assert service.resource("org").balance.remaining == 10


def test_a_dimension_that_is_not_held_settles_nothing(service: QuotaService) -> None:
    held = reserve_nowait("org", 5)
    with pytest.raises(InvalidAmount, match="holds tokens"):
        held.commit(calls=1)
    held.commit(tokens=1)


def test_a_reservation_of_a_token_is_entered_once(service: QuotaService, keep: Keep) -> None:
    reservation = keep(QuotaToken("org", 5)).reserve(1)
    with reservation:
        pass
    with pytest.raises(ReservationError, match="once"), reservation:
        pytest.fail("must not run")


def test_a_reservation_that_is_never_entered_warns_and_draws_nothing(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("org", 5))
    with pytest.warns(ResourceWarning, match="never entered"):
        token.reserve(1)
    assert service.resource("org").balance.remaining == 10


def test_a_computed_amount_that_is_none_draws_nothing(service: QuotaService) -> None:
    def asked(amount: Any) -> Any:
        return amount

    @budgeted(target="org", tokens=asked)
    def think(amount: Any) -> None:
        pytest.fail("must not run")

    for amount in (-1, 1.5, "5", None):
        with pytest.raises(InvalidAmount):
            think(amount)
    assert service.resource("org").balance.remaining == 10


def test_a_decorator_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(InvalidAmount):
        budgeted(target="org", tokens=-1)(lambda: None)
    with pytest.raises(ConfigurationError):
        budgeted(target="not a name")(lambda: None)


def test_leaving_what_was_never_entered_does_nothing(service: QuotaService, keep: Keep) -> None:
    keep(QuotaToken("org", 5)).__exit__(None, None, None)
    principal("alice").__exit__(None, None, None)
    with reserve("org", 1):
        pass
    assert service.resource("org").balance.spent == 1

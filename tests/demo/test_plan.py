"""What is kept for the last answer, and that it can pay for one."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from budgetware.demo.plan import DEMO_PRICES, Plan, Prices

PLAN = Plan(
    tokens=6_000,
    calls=60,
    usd=Decimal("0.02"),
    seconds=60,
    policy="reject",
    parallel=3,
    prices=DEMO_PRICES,
)


def test_default_keeps_one_call_and_its_price() -> None:
    assert PLAN.keep == {"tokens": 900, "calls": 1, "usd": Decimal("0.0036")}


def test_small_budget_keeps_a_quarter() -> None:
    assert replace(PLAN, tokens=400).kept_tokens == 100


def test_kept_tokens_are_payable_from_the_kept_dollars() -> None:
    poor = replace(PLAN, usd=Decimal("0.004"))
    assert poor.kept_tokens == 250
    assert poor.keep["usd"] == Decimal("0.001")


def test_without_a_limit_in_dollars_none_are_kept() -> None:
    assert "usd" not in replace(PLAN, usd=None).keep


def test_dollars_of_a_model_priced_elsewhere_are_kept_by_share() -> None:
    assert replace(PLAN, prices=None).keep["usd"] == Decimal("0.005")


def test_single_call_is_not_kept_from_the_work() -> None:
    assert "calls" not in replace(PLAN, calls=1).keep


@given(
    tokens=st.integers(1, 10**6),
    usd=st.decimals("0.000001", "100", places=6),
    price=st.decimals("0.01", "1000", places=2),
)
def test_never_keeps_more_than_half_of_anything(tokens: int, usd: Decimal, price: Decimal) -> None:
    plan = replace(PLAN, tokens=tokens, usd=usd, prices=Prices(price, price))
    assert plan.keep.get("tokens", 0) * 2 <= tokens
    assert Decimal(plan.keep.get("usd", 0)) * 2 <= usd

"""What naming a model means where a payer limits `usd`: the price is held, then replaced."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from budgetware import (
    BudgetExceeded,
    QuotaService,
    Usage,
    UsageEvent,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import AlreadySettled, InvalidAmount, UnknownPrice
from budgetware.events import Subscription
from budgetware.pricing import PriceTable

MODEL = "house-model"
PRICES: PriceTable = {
    MODEL: {"input": 1, "output": 10, "cache_read": "0.1"},
    "openai/house-model": {"input": 2, "output": 20},
}


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect(prices=PRICES) as opened:
        yield opened


@pytest.fixture
def events(service: QuotaService) -> Subscription:
    return service.subscribe()


def taken(events: Subscription) -> UsageEvent:
    event = events.get_nowait()
    assert event is not None
    return event


def usd(text: str) -> Decimal:
    return Decimal(text)


def test_held_tokens_are_held_at_the_dearest_rate(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=2_000, model=MODEL)
        assert reservation.amounts == {"tokens": 2_000, "usd": usd("0.020000")}
        assert budget.remaining("usd") == usd("0.98")
        reservation.release()


def test_tokens_held_by_direction_count_too(service: QuotaService) -> None:
    with task_budget(usd=1):
        reservation = reserve_nowait(input_tokens=1_500, output_tokens=500, model=MODEL)
        assert reservation.amounts["usd"] == usd("0.020000")
        reservation.release()


def test_the_providers_own_price_comes_first(service: QuotaService) -> None:
    with task_budget(usd=1):
        reservation = reserve_nowait(tokens=1_000, model=MODEL, provider="openai")
        assert reservation.amounts["usd"] == usd("0.020000")
        reservation.release()


def test_a_commit_replaces_the_hold_by_the_price_of_the_usage(events: Subscription) -> None:
    with task_budget(usd=1, tokens=10_000) as budget:
        reservation = reserve_nowait(tokens=2_000, model=MODEL)
        reservation.commit(Usage(input_tokens=1_000, output_tokens=50, cache_read_tokens=900))
        assert budget.spent("usd") == usd("0.001590")
        assert budget.spent("tokens") == 1_950
    assert taken(events).charged == {"tokens": 1_950, "usd": usd("0.001590")}


def test_a_commit_of_plain_tokens_is_priced_at_the_dearest_rate(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reserve_nowait(tokens=2_000, model=MODEL).commit(300)
        assert budget.spent("usd") == usd("0.003")


def test_a_commit_of_tokens_by_direction_is_priced_by_direction(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(input_tokens=2_000, output_tokens=500, model=MODEL)
        reservation.commit(input_tokens=1_000, output_tokens=10)
        assert budget.spent("usd") == usd("0.0011")


def test_the_callers_own_word_on_dollars_stands(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=2_000, usd="0.5", model=MODEL)
        assert reservation.amounts["usd"] == usd("0.5")
        reservation.commit(tokens=10, usd="0.25")
        assert budget.spent("usd") == usd("0.25")


def test_dollars_given_are_replaced_by_the_price_of_a_usage(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=2_000, usd="0.5", model=MODEL)
        reservation.commit(Usage(input_tokens=1_000))
        assert budget.spent("usd") == usd("0.001")


def test_usage_that_nobody_reports_costs_what_is_held(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        with reserve(tokens=2_000, model=MODEL):
            pass
        shown = budget.snapshot()["usd"]
        assert (shown.spent, shown.assumed) == (usd("0.02"), usd("0.02"))


def test_an_assumed_price_is_corrected_by_the_usage(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        with reserve(tokens=2_000, model=MODEL) as reservation:
            pass
        reservation.commit(Usage(output_tokens=100))
        assert budget.spent("usd") == usd("0.001")
        reservation.commit(Usage(output_tokens=100))
        with pytest.raises(AlreadySettled):
            reservation.commit(Usage(output_tokens=101))


def test_recorded_usage_is_priced_once_for_the_highest_of_each_axis(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        with reserve(tokens=2_000, model=MODEL) as reservation:
            reservation.record(Usage(input_tokens=1_000, output_tokens=1))
            reservation.record(Usage(output_tokens=100))
        assert budget.spent("usd") == usd("0.002")
        assert budget.spent("tokens") == 1_100


def test_a_price_is_rounded_up_once_per_call(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=10, model=MODEL)
        reservation.commit(Usage(cache_read_tokens=3, input_tokens=1))
        assert budget.spent("usd") == usd("0.000002")


def test_dollars_run_out_before_the_call(service: QuotaService) -> None:
    with task_budget("poor", usd="0.01") as budget:
        with pytest.raises(BudgetExceeded, match="usd") as caught:
            reserve_nowait(tokens=1_001, model=MODEL)
        assert caught.value.requested == usd("0.010010")
        assert budget.spent("tokens") == 0


def test_any_payer_that_limits_dollars_makes_it_cost(service: QuotaService) -> None:
    with task_budget("outer", usd=1) as outer, task_budget("inner", tokens=5_000) as inner:
        reserve_nowait(tokens=1_000, model=MODEL).commit(Usage(output_tokens=100))
        assert outer.spent("usd") == inner.spent("usd") == usd("0.001")


def test_where_nobody_limits_dollars_nothing_is_priced(service: QuotaService) -> None:
    with task_budget(tokens=5_000) as budget:
        reservation = reserve_nowait(tokens=1_000, model="no-such-model-anywhere")
        assert reservation.amounts == {"tokens": 1_000}
        reservation.commit(Usage(output_tokens=100))
        assert budget.spent("usd") == 0


def test_a_call_that_names_no_model_costs_none(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=1_000)
        assert reservation.amounts == {"tokens": 1_000}
        reservation.commit(Usage(output_tokens=100, model=MODEL))
        assert budget.spent("usd") == 0


def test_the_price_is_that_of_the_model_that_answered() -> None:
    prices = {"cheap": {"input": 1, "output": 1}, "dear": {"input": 100, "output": 100}}
    with connect(prices=prices), task_budget(usd=9, tokens=9_000) as budget:
        reservation = reserve_nowait(tokens=2_000, model="cheap")
        reservation.commit(Usage(input_tokens=1_000, output_tokens=1_000, model="dear"))
        assert budget.spent("usd") == usd("0.2")


@pytest.mark.parametrize("answered", ["own-2026-11-01", "a model that nobody knows"])
def test_a_given_price_stands_where_the_model_that_answered_has_none(answered: str) -> None:
    prices = {"own": {"input": 1, "output": 1}}
    with connect(prices=prices), task_budget(usd=9, tokens=9_000) as budget:
        reservation = reserve_nowait(tokens=2_000, model="own")
        reservation.commit(Usage(input_tokens=1_000, output_tokens=1_000, model=answered))
        assert budget.spent("usd") == usd("0.002")


async def test_a_decorated_call_is_priced(events: Subscription) -> None:
    @budgeted(tokens=2_000, kind="llm", model=MODEL, settle=lambda reply: reply["usage"])
    async def think() -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 1_000, "completion_tokens": 100}}

    async with task_budget(usd=1, tokens=9_000) as budget:
        await think()
        await think()
        assert budget.spent("usd") == usd("0.004")
    event = taken(events)
    assert event.reserved == {"tokens": 2_000, "usd": usd("0.02")}
    assert event.charged == {"tokens": 1_100, "usd": usd("0.002")}
    assert event.usage == Usage(input_tokens=1_000, output_tokens=100)


async def test_a_decorated_call_without_settle_costs_what_is_held(service: QuotaService) -> None:
    @budgeted(tokens=2_000, kind="llm", model=MODEL)
    async def think() -> str:
        return "reply"

    async with task_budget(usd=1) as budget:
        await think()
        assert budget.spent("usd") == usd("0.02")


async def test_one_function_is_priced_only_where_dollars_are_limited(
    service: QuotaService,
) -> None:
    @budgeted(tokens=2_000, kind="llm", model=MODEL)
    async def think() -> str:
        return "reply"

    async with task_budget("free", tokens=9_000) as free:
        await think()
    async with task_budget("paid", usd=1) as paid:
        await think()
    assert (free.spent("usd"), paid.spent("usd")) == (0, usd("0.02"))


def test_a_computed_amount_is_priced(service: QuotaService) -> None:
    @budgeted(tokens=len, model=MODEL)
    def think(prompt: str) -> str:
        return prompt

    with task_budget(usd=1) as budget:
        think("x" * 1_000)
        assert budget.spent("usd") == usd("0.01")


# A model without a price.


def test_an_unknown_price_is_an_error_before_the_call(service: QuotaService) -> None:
    ran: list[int] = []

    @budgeted(tokens=1_000, model="no-such-model-anywhere")
    def think() -> None:
        ran.append(1)

    with task_budget(usd=1, tokens=5_000) as budget:
        with pytest.raises(UnknownPrice, match=r"no-such-model-anywhere.*unpriced"):
            think()
        with pytest.raises(UnknownPrice):
            reserve_nowait(tokens=1, model="no-such-model-anywhere")
        assert (ran, budget.spent("tokens"), budget.remaining("tokens")) == ([], 0, 5_000)


def test_unpriced_allow_lets_it_run_for_nothing(service: QuotaService) -> None:
    with task_budget(usd=1, unpriced="allow") as budget:
        reservation = reserve_nowait(tokens=1_000, model="no-such-model-anywhere")
        assert reservation.amounts == {"tokens": 1_000}
        reservation.commit(Usage(output_tokens=100))
        assert (budget.spent("usd"), budget.spent("tokens")) == (0, 100)


def test_unpriced_allow_still_prices_what_has_a_price(service: QuotaService) -> None:
    with task_budget(usd=1, unpriced="allow") as budget:
        reserve_nowait(tokens=1_000, model=MODEL).commit()
        assert budget.spent("usd") == usd("0.01")


def test_a_payer_that_does_not_allow_it_is_not_overruled_by_a_child(service: QuotaService) -> None:
    with task_budget(usd=1), task_budget(usd=1, unpriced="allow"), pytest.raises(UnknownPrice):
        reserve_nowait(tokens=1_000, model="no-such-model-anywhere")


def test_dollars_given_with_an_unpriced_model_stand(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=10, usd="0.2", model="no-such-model-anywhere")
        reservation.commit(tokens=5, usd="0.1")
        assert budget.spent("usd") == usd("0.1")


def test_usage_of_an_unpriced_model_keeps_the_dollars_given(service: QuotaService) -> None:
    with task_budget(usd=1, tokens=100) as budget:
        reservation = reserve_nowait(tokens=10, usd="0.2", model="no-such-model-anywhere")
        reservation.commit(Usage(output_tokens=5))
        assert (budget.spent("usd"), budget.spent("tokens")) == (usd("0.2"), 5)


def test_a_word_that_is_none_is_refused() -> None:
    word: Any = "maybe"
    with pytest.raises(ValueError, match="'error' or 'allow'"):
        task_budget(usd=1, unpriced=word)


def test_a_commit_that_reports_nothing_leaves_the_hold_open(service: QuotaService) -> None:
    with task_budget(usd=1) as budget:
        reservation = reserve_nowait(tokens=100, model=MODEL)
        with pytest.raises(InvalidAmount, match="no usage"):
            reservation.commit({"text": "no usage here"}["text"].encode())
        assert reservation.state == "held"
        reservation.release()
        assert budget.spent("usd") == 0

"""`connect`: which service is current, strictness, prices, the end of it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from decimal import Decimal
from threading import Thread
from typing import Any

import anyio
import pytest

from budgetware import (
    QuotaService,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, NoBudget, UnknownPrice
from budgetware.events import Subscription
from budgetware.pricing import PriceTable


def heard(events: Subscription) -> int:
    count = 0
    while events.get_nowait() is not None:
        count += 1
    return count


def in_a_thread(work: Callable[[], object]) -> None:
    thread = Thread(target=work)
    thread.start()
    thread.join()


def spend() -> None:
    reserve_nowait(calls=1).commit()


def test_without_a_service_there_is_one_in_memory() -> None:
    with task_budget(calls=2) as budget:
        spend()
        assert budget.spent("calls") == 1


async def test_a_service_is_an_async_and_a_sync_context_manager() -> None:
    async with connect() as service:
        assert isinstance(service, QuotaService)
    with connect() as other:
        assert isinstance(other, QuotaService)


def test_the_first_service_entered_is_everybodys() -> None:
    with connect() as service:
        events = service.subscribe()
        spend()
        in_a_thread(spend)
        contextvars.Context().run(spend)
        assert heard(events) == 3


def test_a_second_service_is_current_in_its_own_context() -> None:
    with connect() as first, connect() as second:
        everybodys, ours = first.subscribe(), second.subscribe()
        spend()
        in_a_thread(spend)
        assert (heard(everybodys), heard(ours)) == (1, 1)


def test_the_second_service_ends_with_its_block() -> None:
    with connect() as first:
        events = first.subscribe()
        with connect():
            spend()
        spend()
        assert heard(events) == 1


def test_after_the_first_service_closes_the_next_is_everybodys() -> None:
    with connect():
        pass
    with connect() as service:
        events = service.subscribe()
        in_a_thread(spend)
        assert heard(events) == 1


def test_a_task_belongs_to_the_service_it_was_opened_in() -> None:
    with connect() as first:
        events = first.subscribe()
        with task_budget(calls=9) as budget:
            call = budget.wrap(spend)
            with connect():
                call()
        assert heard(events) == 1


def test_a_task_opened_in_an_inner_service_still_pays_its_ancestors() -> None:
    with connect(), task_budget("outer", calls=9) as outer:
        with connect() as second:
            events = second.subscribe()
            with task_budget("inner", calls=5):
                spend()
            assert heard(events) == 1
        assert outer.spent("calls") == 1


def test_a_service_may_be_named_outright() -> None:
    with connect() as first, connect() as second:
        events = first.subscribe()
        with task_budget(calls=5, service=first):
            spend()
        with first.task_budget("named", calls=5) as budget:
            spend()
            assert budget.name == "named"
        assert heard(events) == 2
        with task_budget(calls=5):
            spend()
        assert heard(events) == 0
        assert second is not first


def test_a_named_service_serves_the_children_too() -> None:
    with connect() as first, connect():
        events = first.subscribe()
        with task_budget(calls=5, service=first), task_budget(calls=5):
            spend()
        assert heard(events) == 1


def test_a_service_is_entered_once() -> None:
    with connect() as service:
        pass
    with pytest.raises(ConfigurationError, match="connect\\(\\) again"):
        service.__enter__()


def test_closing_twice_is_a_no_op() -> None:
    with connect() as service:
        service.close()
        service.close()


def test_closing_ends_the_subscriptions() -> None:
    with connect() as service:
        events = service.subscribe()
    spend()
    assert heard(events) == 0


async def test_what_was_queued_is_read_after_the_end() -> None:
    async with connect() as service:
        events = service.subscribe()
        spend()
    assert [event.outcome async for event in events] == ["completed"]


async def test_a_service_may_close_in_another_context_than_it_was_entered_in() -> None:
    with connect():
        service = connect()
        async with anyio.create_task_group() as group:

            async def enter() -> None:
                await service.__aenter__()

            group.start_soon(enter)
        await service.__aexit__(None, None, None)
        spend()


def test_a_reservation_settles_after_its_service_has_closed() -> None:
    with connect(), task_budget(calls=5) as budget:
        reservation = reserve_nowait(calls=2)
    reservation.commit(1)
    assert budget.spent("calls") == 1


# strict


@budgeted(calls=1)
def tool() -> str:
    return "ran"


@pytest.mark.parametrize("call", [spend, tool])
def test_strict_refuses_calls_outside_any_task(call: Callable[[], object]) -> None:
    with connect(strict=True):
        with pytest.raises(NoBudget, match="task_budget"):
            call()
        with task_budget(calls=5) as budget:
            call()
            assert budget.spent("calls") == 1


async def test_strict_refuses_an_awaited_reserve_outside_any_task() -> None:
    async with connect(strict=True):
        with pytest.raises(NoBudget, match="outside any task"):
            await reserve(calls=1)
        with pytest.raises(NoBudget):
            async with reserve(calls=1):
                pytest.fail("the block must not run")


def test_strict_shows_threads_that_lost_their_task() -> None:
    seen: list[str] = []

    def lost() -> None:
        with pytest.raises(NoBudget):
            spend()
        seen.append("refused")

    with connect(strict=True), task_budget(calls=5) as budget:
        in_a_thread(lost)
        in_a_thread(budget.wrap(spend))
        assert (seen, budget.spent("calls")) == (["refused"], 1)


def test_without_strict_calls_outside_any_task_pass_uncharged() -> None:
    with connect():
        reservation = reserve_nowait(calls=1)
        assert reservation.state == "held"
        reservation.commit()
        assert tool() == "ran"


# prices


def test_prices_of_the_service_come_first() -> None:
    prices: PriceTable = {"gpt-4o-mini": {"input": "1000", "output": 2_000}}
    with connect(prices=prices), task_budget(usd=10) as budget:
        reservation = reserve_nowait(tokens=1_000, model="gpt-4o-mini")
        assert reservation.amounts["usd"] == Decimal(2)
        reservation.release()
        assert budget.spent("usd") == 0


def test_prices_of_one_service_are_not_anothers() -> None:
    first, second = connect(prices={"house-model": {"input": 1}}), connect()
    with first, second, task_budget(usd=10), pytest.raises(UnknownPrice):
        reserve_nowait(tokens=1_000, model="house-model")


@pytest.mark.parametrize(
    ("prices", "named"),
    [
        ({"m": {"input": "cheap"}}, "input is not a price"),
        ({"m": {"inptu": 1}}, "did you mean 'input'"),
        ({"m": {"input": -1}}, "must be in"),
        ({"m": {"input": float("nan")}}, "not a price"),
        ({"m": {}}, "at least"),
        ({"m": 5}, "give"),
    ],
)
def test_a_price_that_is_none_is_refused_at_once(prices: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        connect(prices=prices)

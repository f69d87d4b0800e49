# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""Calls that need several things at once: all or nothing, in no order that could block."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Reject,
    Resource,
    Terminate,
    connect,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import BudgetExceeded, BudgetTerminated
from budgetware.testing import LoopClock, run_virtual
from tests.waiting.desk import balance_of, now, open_desk, take, turns

DIMS = ("pages", "files", "lines")


@pytest.fixture
def three(service: QuotaService) -> Iterator[QuotaService]:
    """Three kinds of slots, two of each, bound."""
    with ExitStack() as stack:
        for dim in DIMS:
            service.define(Resource(dim, Concurrency(2), dim=dim))
            token = stack.enter_context(QuotaToken(dim, 1))
            stack.callback(token.close)
        yield service


def reserved(service: QuotaService) -> list[int]:
    return [int(balance_of(service, dim).reserved) for dim in DIMS]


async def test_nothing_is_held_while_one_of_them_is_short(three: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("files", files=2)
        await desk.arrive("all", pages=2, files=2, lines=2)
        assert reserved(three) == [0, 2, 0]
        async with reserve(pages=1, lines=1):  # nobody waits for these yet
            assert reserved(three) == [1, 2, 1]
        await desk.leave("files")
        assert reserved(three) == [2, 2, 2]


async def test_opposite_orders_do_not_block(three: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("pages", pages=2, seconds=1)
        await desk.arrive("files", files=2, seconds=2)
        await desk.arrive("one", pages=2, files=2, seconds=1)
        await desk.arrive("other", files=2, pages=2, seconds=1)
    assert [desk.at(name) for name in ("one", "other")] == [2.0, 3.0]


async def test_a_place_that_was_reached_is_kept(three: QuotaService) -> None:
    """`all` has waited for pages; while it waits for files, nobody takes the pages."""
    async with open_desk() as desk:
        await desk.arrive("pages", pages=2, seconds=1)
        await desk.arrive("files", files=2, seconds=5)
        await desk.arrive("all", pages=2, files=2, seconds=1)
        await anyio.sleep(2)
        await desk.arrive("late", pages=1)
        assert desk.entered == ["pages", "files"]
        with pytest.raises(QuotaExceeded):
            reserve_nowait(pages=1)
        await anyio.sleep(4)
    assert [desk.at(name) for name in ("all", "late")] == [5.0, 6.0]


async def test_a_place_taken_again_is_in_front_of_all_who_came_later(
    three: QuotaService,
) -> None:
    async with open_desk() as desk:
        await desk.arrive("files", files=2, seconds=2)
        await desk.arrive("all", pages=2, files=2, seconds=1)  # waits for files alone
        await desk.arrive("pages", pages=2, seconds=5)  # and pages go to another one
        await desk.arrive("later", files=2, seconds=1)
        await desk.arrive("latest", pages=2, files=2, seconds=1)
    assert [desk.at(name) for name in ("pages", "later", "all", "latest")] == [0, 2, 5, 6]


async def test_a_small_one_may_pass_where_nobody_waits(three: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("files", files=2, seconds=2)
        await desk.arrive("all", pages=1, files=2)
        await desk.arrive("small", pages=1, seconds=0)
        await desk.arrive("other", lines=2, seconds=0)
        assert [desk.at(name) for name in ("small", "other")] == [0, 0]


async def test_who_needs_all_three_does_not_starve(three: QuotaService) -> None:
    """Each is always wanted by somebody who needs no other."""
    waits: list[float] = []

    async def need(dim: str) -> None:
        one: dict[str, Any] = {dim: 1}
        while now() < 50:
            async with reserve(**one):
                await anyio.sleep(1)

    async def need_all() -> None:
        for _ in range(5):
            asked = now()
            async with reserve(pages=2, files=2, lines=2):
                waits.append(now() - asked)
                await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for dim in DIMS * 4:
            group.start_soon(need, dim)
        await anyio.sleep(0.5)
        group.start_soon(need_all)
        group.start_soon(need_all)
    assert len(waits) == 10
    assert max(waits) <= 12


async def test_a_rate_and_slots_at_once(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second"), dim="tokens"))
    service.define(Resource("slots", Concurrency(1)))
    with QuotaToken("tokens", 1) as token:
        async with open_desk() as desk:
            for name in "abcd":
                await desk.arrive(name, "slots", tokens=5, seconds=0.2)
        token.close()
    assert [desk.at(name) for name in "abcd"] == [0.0, 0.2, 0.5, 1.0]


async def test_a_task_a_principal_a_token_and_resources_at_once(service: QuotaService) -> None:
    """Every kind of payer is short, and comes back at another time."""
    service.define_principal(
        "alice", quotas={"calls": Resource("calls", Concurrency(1), dim="calls")}
    )
    service.define(Resource("all", Concurrency(1)))
    service.define(Resource("slots", Concurrency(2), dim="calls", parent="all"))
    async with open_desk() as desk:
        outside = QuotaToken("slots", 1, allowance=1)
        with principal("alice"):
            await desk.arrive("hers", calls=1, seconds=1)
        await desk.arrive("all", "all", seconds=2)
        async with task_budget("crawl", calls=10, bytes=9, policy="throttle"):
            await desk.arrive("task", calls=8, bytes=1, used=0, seconds=3)
            with principal("alice"):
                await desk.arrive("waiter", outside, calls=1, bytes=5, seconds=0)
            await anyio.sleep(5)
        outside.close()
    assert desk.error("waiter") is None
    assert desk.at("waiter") == 2.0


# Each payer's own policy.


async def test_one_that_rejects_refuses_at_once(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with task_budget("crawl", tokens=100):
        _held = take("slots", tokens=90)
        with pytest.raises(BudgetExceeded) as refused:
            await reserve("slots", tokens=20)
        assert (refused.value.budget, now()) == ("crawl", 0)


async def test_one_that_rejects_refuses_when_it_is_short_at_the_end_of_the_wait(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with task_budget("crawl", tokens=100) as budget, open_desk() as desk:
        await desk.arrive("holder", "slots", tokens=1)
        await desk.arrive("waiter", "slots", tokens=90)
        await desk.arrive("next", "slots", tokens=1)
        budget.charge(tokens=20)
        assert desk.error("waiter") is None
        await desk.leave("holder")
        error = desk.error("waiter")
        assert isinstance(error, QuotaExceeded)
        assert (error.budget, error.available) == ("crawl", 79)
        assert desk.entered == ["holder", "next"]


async def test_one_that_terminates_does_so_at_the_end_of_the_wait(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        with pytest.raises(BudgetTerminated) as ended:
            async with task_budget("crawl", tokens=100, policy=Terminate()) as budget:
                await desk.arrive("waiter", "slots", tokens=90, inside=budget)
                budget.charge(tokens=20)
                desk.start(desk.leave, "holder")
                await anyio.sleep_forever()
        assert (ended.value.dim, now()) == ("tokens", 0)
        await turns()
        assert isinstance(desk.error("waiter"), BudgetTerminated)
        assert balance_of(service, "slots").reserved == 0


def test_the_end_of_a_wait_ends_the_task_although_the_waiter_is_cancelled() -> None:
    """It is cancelled natively in the tick in which its refusal latches the task."""

    ended: list[bool] = []

    async def wait() -> None:
        await reserve("slots", tokens=90)

    async def main() -> None:
        service.define(Resource("slots", Concurrency(1)))
        holder = take("slots")
        with pytest.raises(BudgetTerminated):
            async with task_budget("crawl", tokens=100, policy=Terminate()) as budget:
                waiter = asyncio.create_task(wait())
                waiter.add_done_callback(lambda task: ended.append(task.cancelled()))
                await turns()
                budget.charge(tokens=20)
                holder.release()
                waiter.cancel()
                await anyio.sleep_forever()
        await turns()
        assert ended == [True]

    with connect(clock=LoopClock()) as service:
        run_virtual(main)


async def test_a_call_may_be_stricter_but_not_weaker(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    service.define(Resource("strict", Concurrency(1), enforcement=Reject()))
    _held = take("slots"), take("strict")
    with pytest.raises(QuotaExceeded):
        await reserve("slots", policy="reject")
    with pytest.raises(QuotaExceeded):
        await reserve("strict", policy="throttle")
    with pytest.raises(BudgetTerminated):
        async with task_budget("crawl", calls=1):
            await reserve("slots", policy="terminate")
    assert now() == 0


async def test_a_throttled_task_inside_one_that_rejects(service: QuotaService) -> None:
    async with task_budget("outer", tokens=100), open_desk() as desk:
        async with task_budget("inner", tokens=50, policy="throttle"):
            await desk.arrive("holder", tokens=50, used=50, seconds=1)
            await desk.arrive("waiter", tokens=10)
            await anyio.sleep(2)
            assert isinstance(desk.error("waiter"), QuotaExceeded)
            with pytest.raises(BudgetExceeded) as refused:
                await reserve(tokens=60)
            assert refused.value.budget == "outer"


async def test_the_same_dimension_of_a_resource_and_of_a_task(service: QuotaService) -> None:
    service.define(Resource("tokens", Capacity(100), dim="tokens"))
    async with task_budget("crawl", tokens=50, policy="throttle") as budget:
        async with open_desk() as desk:
            await desk.arrive("one", "tokens", 50, used=10, seconds=1)
            await desk.arrive("other", "tokens", 30, used=30, seconds=0)
            await anyio.sleep(2)
        assert desk.at("other") == 1.0
        assert (budget.spent("tokens"), balance_of(service, "tokens").spent) == (40, 40)


async def test_a_warning_is_given_when_the_wait_is_over(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    warned: list[float] = []
    async with (
        task_budget("crawl", tokens=100, warn_at=0.5, on_warn=lambda _b, _v: warned.append(now())),
        open_desk() as desk,
    ):
        await desk.arrive("holder", "slots", seconds=3)
        await desk.arrive("waiter", "slots", tokens=60, seconds=0)
    assert warned == [3.0]

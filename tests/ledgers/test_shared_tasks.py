# ruff: noqa: PT012 - what raises is a loop, or an owner's block
"""`task_budget(shared=True)`: blocks of one name pay from one budget, in whichever service."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    TaskBudget,
    reserve,
    reserve_nowait,
    task_budget,
)
from tests.ledgers.places import Place, soon, soon_async

Pair = tuple[QuotaService, QuotaService]


@pytest.fixture
def pair(place: Place) -> Iterator[Pair]:
    with place.connect() as one, place.connect() as two:
        yield one, two


def shared(service: QuotaService, tokens: int = 100, **options: str) -> TaskBudget:
    return service.task_budget("job", tokens=tokens, shared=True, **options)


def spend_all() -> int:
    """Take 3 after 3 until they are refused, then 1 after 1."""
    units = 0
    for n in (3, 1):
        with pytest.raises(BudgetExceeded):
            while True:
                reserve_nowait(tokens=n).commit()
                units += n
    return units


def test_blocks_one_after_the_other_share_the_limit(place: Place, pair: Pair) -> None:
    one, two = pair
    with shared(one):
        reserve_nowait(tokens=70).commit()
    soon(lambda: place.books("t/job/tokens") == (70, 0, 0))
    with shared(two) as budget:
        with pytest.raises(BudgetExceeded, match="30 of 100"):
            reserve_nowait(tokens=31)
        reserve_nowait(tokens=30).commit(20)
        assert budget.remaining("tokens") == 10
    soon(lambda: place.books("t/job/tokens") == (90, 0, 0))
    place.assert_at_rest()


async def test_blocks_at_once_spend_exactly_the_limit(place: Place, pair: Pair) -> None:
    spent: list[int] = []

    async def work(service: QuotaService) -> None:
        units = 0
        async with shared(service):
            with pytest.raises(BudgetExceeded):
                while True:
                    (await reserve(tokens=1)).commit()
                    units += 1
        spent.append(units)

    async with anyio.create_task_group() as group:
        for service in pair * 2:
            group.start_soon(work, service)
    assert sum(spent) <= 100
    with shared(pair[0]):
        assert sum(spent) + spend_all() == 100
    await soon_async(lambda: place.books("t/job/tokens") == (100, 0, 0))


async def test_one_that_is_terminated_ends_everywhere(pair: Pair) -> None:
    one, two = pair
    ended: list[str] = []

    async def other() -> None:
        with pytest.raises(BudgetTerminated, match="enough"):
            async with shared(two):
                ended.append("entered")
                await anyio.sleep_forever()
        ended.append("terminated")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await soon_async(lambda: ended == ["entered"])
        with pytest.raises(BudgetTerminated):
            async with shared(one) as budget:
                budget.terminate("enough")
                await anyio.sleep_forever()
    assert ended == ["entered", "terminated"]
    with pytest.raises(BudgetTerminated):
        async with shared(two):
            await reserve(tokens=1)


def test_a_top_up_is_for_all(pair: Pair) -> None:
    one, two = pair
    with shared(one, 10) as budget:
        reserve_nowait(tokens=10).commit()
        budget.top_up(tokens=5)
        reserve_nowait(tokens=2).commit()
    with shared(two, 10) as budget:
        reserve_nowait(tokens=3).commit()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=1)
        assert budget.snapshot()["tokens"].limit == 15


def test_tasks_below_it_pay_from_it(place: Place, pair: Pair) -> None:
    with shared(pair[0], 50):
        with task_budget("child", tokens=30):
            reserve_nowait(tokens=20).commit()
        with task_budget("carved", tokens=25, carve=True):
            reserve_nowait(tokens=5).commit()
        with pytest.raises(BudgetExceeded), task_budget("big", tokens=26, carve=True):
            pass
    soon(lambda: place.books("t/job/tokens") == (25, 0, 0))


def test_a_carve_is_refused_by_what_another_block_has_spent(place: Place, pair: Pair) -> None:
    one, two = pair
    with shared(one, 50):
        reserve_nowait(tokens=40).commit()
    soon(lambda: place.books("t/job/tokens") == (40, 0, 0))
    with shared(two, 50):
        with pytest.raises(BudgetExceeded), task_budget("greedy", tokens=11, carve=True):
            pass
        with task_budget("carved", tokens=10, carve=True) as carved:
            reserve_nowait(tokens=10).commit()
        assert carved.spent("tokens") == 10


async def test_a_throttled_one_waits_for_another_block(pair: Pair) -> None:
    one, two = pair
    async with shared(one, 10, policy="throttle"):
        held = await reserve(tokens=10)

    async def give_back() -> None:
        await anyio.sleep(0)
        held.release()

    async with anyio.create_task_group() as group, shared(two, 10, policy="throttle"):
        group.start_soon(give_back)
        async with reserve(tokens=10, max_wait=10):
            pass


def test_a_reservation_that_outlives_its_block_is_booked(place: Place, pair: Pair) -> None:
    with shared(pair[0]):
        held = reserve_nowait(tokens=30)
    held.commit(12)
    soon(lambda: place.books("t/job/tokens") == (12, 0, 0))
    place.assert_at_rest()


def test_a_checkpoint_knows_what_others_have_spent(pair: Pair) -> None:
    one, two = pair
    with shared(one, 10):
        reserve_nowait(tokens=10).commit()
    with shared(two, 10) as budget, pytest.raises(BudgetExceeded):
        soon(lambda: budget.remaining("tokens") == 0)
        budget.checkpoint()
        reserve_nowait(tokens=1)

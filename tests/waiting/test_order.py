"""Whose turn it is: first come, first served, whatever the amounts."""

import anyio
import pytest

from budgetware import (
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Rate,
    Resource,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import BudgetExceeded
from tests.waiting.desk import balance_of, open_desk, turns

NAMES = [str(number) for number in range(40)]


async def test_slots_go_to_those_who_came_first(service: QuotaService) -> None:
    service.define(Resource("browsers", Concurrency(2)))
    async with open_desk() as desk:
        for name in NAMES:
            await desk.arrive(name, "browsers", seconds=1)
    assert [desk.at(name) for name in NAMES] == [number // 2 for number in range(40)]


async def test_what_refills_goes_to_those_who_came_first(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(4, "second")))
    async with open_desk() as desk:
        for name in NAMES:
            await desk.arrive(name, "tokens", 1, seconds=0)
    assert desk.entered == NAMES
    assert [desk.at(name) for name in NAMES] == [max(0, number - 3) / 4 for number in range(40)]


async def test_room_in_a_task_goes_to_those_who_came_first() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget:
        async with open_desk() as desk:
            for name in NAMES:
                await desk.arrive(name, tokens=50, used=1, seconds=1)
        assert desk.entered == NAMES
        assert budget.spent("tokens") == 40


async def test_room_of_a_principal_goes_to_those_who_came_first(service: QuotaService) -> None:
    service.define_principal(
        "alice", quotas={"calls": Resource("calls", Concurrency(1), dim="calls")}
    )
    with principal("alice"):
        async with open_desk() as desk:
            for name in NAMES:
                await desk.arrive(name, calls=1, seconds=0)
    assert desk.entered == NAMES


async def test_a_parent_is_one_line_for_all_its_children(service: QuotaService) -> None:
    service.define(Resource("all", Concurrency(1)))
    service.define(Resource("left", Concurrency(1), parent="all"))
    service.define(Resource("right", Concurrency(1), parent="all"))
    async with open_desk() as desk:
        for number, name in enumerate(NAMES):
            await desk.arrive(name, ["left", "right", "all"][number % 3], seconds=1)
    assert desk.entered == NAMES


async def test_a_big_request_at_the_head_is_not_passed_by_small_ones(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        for name in "abcd":
            await desk.arrive(name, "slots")
        await desk.arrive("big", "slots", 4)
        await desk.arrive("small", "slots")
        for name in "abc":
            await desk.leave(name)
        assert desk.entered == list("abcd")
        await desk.leave("d")
        assert desk.entered == [*"abcd", "big"]
        await desk.leave("big")
    assert desk.entered == [*"abcd", "big", "small"]


async def test_a_big_request_on_a_rate_is_not_passed_by_small_ones(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(10, "second")))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("big", "tokens", 10, seconds=0)
        for name in "abc":
            await anyio.sleep(0.1)
            await desk.arrive(name, "tokens", 1, seconds=0)
    assert desk.entered == ["all", "big", *"abc"]
    assert [desk.at(name) for name in ["big", *"abc"]] == [1.0, 1.1, 1.2, 1.3]


async def test_nobody_passes_the_line_without_waiting(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        await desk.arrive("in", "slots", 1)
        await desk.arrive("big", "slots", 4)
        with pytest.raises(QuotaExceeded) as refused:
            reserve_nowait("slots", 1)
        assert (refused.value.available, refused.value.retry_after) == (3, None)
        with pytest.raises(QuotaExceeded):
            async with reserve("slots", 1, policy="reject"):
                pass
        with pytest.raises(QuotaExceeded):
            async with reserve("slots", 1, max_wait=0):
                pass
        assert balance_of(service, "slots").reserved == 1


async def test_what_has_a_queue_nowhere_passes_it(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    service.define(Resource("others", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("in", "slots")
        await desk.arrive("waits", "slots")
        reserve_nowait("others").release()
        reserve_nowait("slots", 0).release()  # nothing to wait for


async def test_nobody_passes_the_line_of_a_task() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await desk.arrive("in", tokens=60, used=0)
        await desk.arrive("big", tokens=80, used=0)
        with pytest.raises(BudgetExceeded) as refused:
            reserve_nowait(tokens=10)
        assert (refused.value.available, refused.value.retry_after) == (40, None)


async def test_who_gave_up_makes_room_for_the_next(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        await desk.arrive("in", "slots", 3)
        await desk.arrive("big", "slots", 4, max_wait=5)
        await desk.arrive("small", "slots", 1)
        assert desk.entered == ["in"]
        await anyio.sleep(5)
        await turns()
        assert desk.entered == ["in", "small"]
        assert desk.at("small") == 5.0


async def test_how_many_wait_is_shown(service: QuotaService) -> None:
    view = service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        assert view.waiting == 0
        for name in "abc":
            await desk.arrive(name, "slots")
        assert view.waiting == 2
        await desk.cancel("b")
        assert view.waiting == 1
    assert view.waiting == 0


async def test_a_thousand_wait_in_line(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    came: list[int] = []
    entered: list[int] = []

    async def call(number: int) -> None:
        came.append(number)
        async with reserve("slots"):
            entered.append(number)

    async with anyio.create_task_group() as group:
        async with reserve("slots"):
            for number in range(1_000):
                group.start_soon(call, number)
            await turns()
            assert service.resource("slots").waiting == len(came) == 1_000
        await turns()
    assert entered == came
    assert balance_of(service, "slots").reserved == 0

"""Calls inside other calls hold something while they wait: no two may wait for each other."""

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    reserve,
    task_budget,
)
from tests.waiting.desk import Desk, balance_of, now, open_desk, turns


async def test_a_caller_that_holds_a_part_goes_before_those_who_wait(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(3)))
    async with open_desk() as desk:
        async with reserve("slots"):
            await desk.arrive("big", "slots", 3)
            async with reserve("slots", 2):
                assert desk.entered == []
        await turns()
        assert desk.entered == ["big"]


async def test_it_goes_first_when_it_has_to_wait_itself(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(3)))
    async with open_desk() as desk:
        await desk.arrive("other", "slots", 2, seconds=1)
        async with reserve("slots"):
            await desk.arrive("big", "slots", 3)
            async with reserve("slots", 2):
                assert (now(), desk.entered) == (1.0, ["other"])
        await turns()
        assert desk.entered == ["other", "big"]


async def test_two_who_hold_a_part_are_served_in_their_order(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4)))
    order: list[str] = []

    async def nested(name: str) -> None:
        async with reserve("slots"):
            await turns()
            async with reserve("slots", 2):
                order.append(name)
                await anyio.sleep(1)

    async with open_desk() as desk:
        await desk.arrive("other", "slots", 2, seconds=1)
        desk.start(nested, "first")
        await turns(2)
        desk.start(nested, "second")
        await anyio.sleep(0.5)
        await desk.arrive("last", "slots", 1)
    assert order == ["first", "second"]
    assert desk.at("last") == 2.0


async def test_a_caller_that_holds_a_part_of_a_rate_waits_in_line(service: QuotaService) -> None:
    """A rate refills whoever holds what, and the big one would starve."""
    service.define(Resource("tokens", Rate(10, "second")))
    async with open_desk() as desk, reserve("tokens", 5):
        await desk.arrive("big", "tokens", 10, seconds=0)
        async with reserve("tokens", 1):
            assert now() == 0.6
        assert desk.at("big") == 0.5


async def hold_two(desk: Desk, service: QuotaService) -> tuple[QuotaToken, QuotaToken]:
    """Two slots of a kind, each taken; and one who waits for both."""
    service.define(Resource("pages", Concurrency(1), dim="calls"))
    service.define(Resource("files", Concurrency(1), dim="bytes"))
    return QuotaToken("pages", 1), QuotaToken("files", 1)


async def test_nobody_waits_behind_one_who_waits_for_what_it_holds(
    service: QuotaService,
) -> None:
    """`both` is first for pages, which are free, and waits for files; the holder of files calls."""
    async with open_desk() as desk:
        pages, files = await hold_two(desk, service)
        async with pages, files:
            await desk.arrive("page", calls=1)
            async with reserve(bytes=1):
                await desk.arrive("both", calls=1, bytes=1)
                await desk.leave("page")
                async with reserve(calls=1):
                    assert desk.entered == ["page"]
            await turns()
            assert desk.entered == ["page", "both"]
            desk.send_away()
            await turns()
        pages.close()
        files.close()


async def test_nor_behind_one_who_begins_to_wait_for_it_later(service: QuotaService) -> None:
    """The same, but the holder of files waits in line before `both` gets to be first there."""
    order: list[str] = []

    async def nested() -> None:
        async with reserve(bytes=1):
            await anyio.sleep(0.5)
            async with reserve(calls=1):
                order.append("nested")

    async with open_desk() as desk:
        pages, files = await hold_two(desk, service)
        async with pages, files:
            await desk.arrive("page", calls=1, seconds=1)
            desk.start(nested)
            await turns()
            await desk.arrive("both", calls=1, bytes=1, seconds=1)
            await anyio.sleep(5)
        assert order == ["nested"]
        assert desk.at("both") == 1.0
        pages.close()
        files.close()


async def test_nor_behind_one_who_waits_behind_another_who_does(service: QuotaService) -> None:
    for dim in ("a", "b", "c"):
        service.define(Resource(dim, Concurrency(1), dim=f"slots_{dim}"))
    a, b, c = (QuotaToken(dim, 1) for dim in ("a", "b", "c"))
    async with open_desk() as desk, a, b, c:
        async with reserve(slots_c=1):
            await desk.arrive("b", slots_b=1)
            await desk.arrive("b and c", slots_b=1, slots_c=1)
            await desk.arrive("a", slots_a=1)
            await desk.arrive("a and b", slots_a=1, slots_b=1)
            await desk.leave("b")
            await desk.leave("a")
            # `a and b` is first for a, waits for b behind `b and c`, who waits for c
            async with reserve(slots_a=1):
                assert desk.entered == ["b", "a"]
        await turns()
        assert desk.entered == ["b", "a", "b and c"]
    assert desk.entered == ["b", "a", "b and c", "a and b"]
    for token in (a, b, c):
        token.close()


async def test_who_holds_what_nobody_waits_for_waits_in_line(service: QuotaService) -> None:
    async with open_desk() as desk:
        pages, files = await hold_two(desk, service)
        async with pages, files:
            await desk.arrive("page", calls=1, seconds=1)
            await desk.arrive("next", calls=1, seconds=1)
            async with reserve(bytes=1), reserve(calls=1):
                assert (now(), desk.entered) == (2.0, ["page", "next"])
        pages.close()
        files.close()


async def test_a_place_taken_again_is_that_of_the_waiter_not_of_who_serves_it(
    service: QuotaService,
) -> None:
    """Whoever gives back serves, and may hold something of what the waiter still waits for."""
    service.define(Resource("pages", Concurrency(1), dim="calls"))
    service.define(Resource("files", Concurrency(1), dim="bytes"))
    async with open_desk() as desk:
        async with QuotaToken("pages", 1) as pages, QuotaToken("files", 1) as files:
            async with reserve(bytes=1):
                await desk.arrive("both", calls=1, bytes=1)  # waits for files, pages are free
                async with reserve(calls=1):
                    service.update("files", limit=Concurrency(2))
                    service.update("files", limit=Concurrency(1))  # now waits for pages
                await turns()
                assert desk.error("both") is None
            await turns()
            assert desk.entered == ["both"]
            desk.send_away()
            await turns()
        pages.close()
        files.close()


async def test_a_cycle_of_holders_ends_by_the_longest_wait(service: QuotaService) -> None:
    """What two calls hold of each other is theirs to avoid; a longest wait ends it."""
    service.define(Resource("left", Concurrency(1)))
    service.define(Resource("right", Concurrency(1)))
    done: list[str] = []

    async def call(one: str, other: str, seconds: float) -> None:
        async with reserve(one):
            await turns()
            try:
                async with reserve(other, max_wait=seconds):
                    done.append(one)
            except RuntimeError:
                done.append(f"{one} gave up")

    async with anyio.create_task_group() as group:
        group.start_soon(call, "left", "right", 5)
        group.start_soon(call, "right", "left", 3)
    assert done == ["right gave up", "left"]
    assert now() == 3.0


@pytest.mark.parametrize("limit", [Capacity(10), Concurrency(10)])
async def test_nested_calls_of_many_tasks_all_end(
    service: QuotaService, limit: Capacity | Concurrency
) -> None:
    service.define(Resource("outer", Concurrency(3)))
    service.define(Resource("inner", limit))
    ended: list[int] = []

    async def call(number: int) -> None:
        async with reserve("outer"):
            await turns(number % 5)
            async with reserve("inner", 1 + number % 7) as inner:
                await anyio.sleep(0.1)
                inner.release()
        ended.append(number)

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(call, number)
    assert sorted(ended) == list(range(60))
    assert balance_of(service, "inner").reserved == balance_of(service, "outer").reserved == 0


async def test_a_task_and_slots_held_at_once(service: QuotaService) -> None:
    """A call that holds slots and pays from a task, while others want both at once."""
    service.define(Resource("slots", Concurrency(1)))
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await desk.arrive("holder", tokens=90, used=0, seconds=1)
        async with reserve("slots", tokens=1):
            await desk.arrive("both", "slots", tokens=50, used=0, seconds=0)
            await anyio.sleep(2)
            async with reserve(tokens=30):
                assert desk.entered == ["holder"]
        await turns()
        assert desk.entered == ["holder", "both"]

# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""Room that comes back, in whatever way, goes to whoever waits for it, at once."""

import gc
from collections.abc import Generator

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Reservation,
    Resource,
    TaskBudget,
    budgeted,
    principal,
    reserve,
    task_budget,
)
from tests.waiting.desk import Desk, open_desk, turns


async def throttled(desk: Desk) -> None:
    """Somebody who holds all of a task of 100, and somebody who waits for half of it."""
    await desk.arrive("holder", tokens=100)
    await desk.arrive("waiter", tokens=50)
    assert desk.entered == ["holder"]


async def test_committing_less() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await throttled(desk)
        await desk.leave("holder", used=50)
        assert desk.at("waiter") == 0.0


async def test_committing_before_the_block_ends() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await throttled(desk)
        reservation = desk.callers["holder"].reservation
        assert reservation is not None
        reservation.commit(50)
        await turns()
        assert desk.at("waiter") == 0.0


async def test_releasing() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await throttled(desk)
        reservation = desk.callers["holder"].reservation
        assert reservation is not None
        reservation.release()
        await turns()
        assert desk.at("waiter") == 0.0


async def test_leaving_the_block(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        await desk.leave("holder")
        assert desk.at("waiter") == 0.0


async def test_an_error_that_means_nothing_was_paid_for() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        with pytest.raises(KeyError):
            async with reserve(tokens=100, on_error="release"):
                await desk.arrive("waiter", tokens=50)
                raise KeyError
        await turns()
        assert desk.at("waiter") == 0.0


async def test_an_error_after_which_slots_come_back(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        with pytest.raises(KeyError):
            async with reserve("slots"):
                await desk.arrive("waiter", "slots")
                raise KeyError
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_cancelled_holder(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        await desk.arrive("waiter", "slots")
        await desk.cancel("holder")
        assert desk.at("waiter") == 0.0


async def test_a_cancelled_holder_whose_usage_was_recorded() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await throttled(desk)
        reservation = desk.callers["holder"].reservation
        assert reservation is not None
        reservation.record(tokens=10)
        await desk.cancel("holder")
        assert desk.at("waiter") == 0.0


async def test_a_reservation_that_expires(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    forgotten = await reserve("slots", expires_in=5)
    async with open_desk() as desk:
        await desk.arrive("waiter", "slots", seconds=0)
        await desk.arrive("next", "slots", seconds=0)
    assert (desk.at("waiter"), desk.at("next"), forgotten.state) == (5.0, 5.0, "assumed")


async def test_a_reservation_that_was_made_while_others_waited_expires(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    kept: list[Reservation] = []

    async def forget() -> None:
        kept.append(await reserve("slots", expires_in=5))

    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        desk.start(forget)
        await turns()
        await desk.arrive("waiter", "slots", seconds=0)
        await anyio.sleep(1)
        await desk.leave("holder")
    assert desk.at("waiter") == 6.0


async def test_an_expiry_that_comes_earlier_than_what_was_to_come(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(2)))
    service.define(Resource("tokens", Rate(10, "hour", max=10)))
    late = await reserve("slots", 2, expires_in=50)
    async with open_desk() as desk:
        await desk.arrive("waiter", "slots", 1, seconds=0)
        late.release()
        early = await reserve("slots", 2, expires_in=5)
        await desk.arrive("next", "slots", 1, seconds=0)
    assert (desk.at("next"), early.state) == (5.0, "assumed")


async def test_an_expiry_that_gives_back_what_a_rate_would_have_to_refill(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(10, "hour")))
    forgotten = await reserve("tokens", 10, expires_in=5)
    forgotten.record(2)
    async with open_desk() as desk:
        await desk.arrive("waiter", "tokens", 8, seconds=0)
    assert desk.at("waiter") == 5.0


async def test_a_correction_of_what_was_assumed() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        async with reserve(tokens=60) as unsettled:
            pass
        await desk.arrive("holder", tokens=40)
        await desk.arrive("waiter", tokens=30)
        assert (unsettled.state, desk.entered) == ("assumed", ["holder"])
        unsettled.commit(10)
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_carve_that_ends() -> None:
    opened, done = anyio.Event(), anyio.Event()

    async def part() -> None:
        async with task_budget("part", tokens=80, carve=True):
            opened.set()
            await done.wait()

    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        desk.start(part)
        await opened.wait()
        await desk.arrive("waiter", tokens=50)
        assert desk.entered == []
        done.set()
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_carve_that_ends_after_the_carve_it_was_made_in() -> None:
    opened, done = anyio.Event(), anyio.Event()

    async def part_of_part() -> None:
        async with task_budget("inner", tokens=80, carve=True):
            opened.set()
            await done.wait()

    async with task_budget("crawl", tokens=100, policy="throttle") as budget, open_desk() as desk:
        async with task_budget("outer", tokens=80, carve=True) as outer:
            desk.start(outer.wrap(part_of_part))
            await opened.wait()
        await desk.arrive("waiter", tokens=50, inside=budget)
        assert desk.entered == []
        done.set()
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_call_that_settles_after_its_carve_has_ended() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget, open_desk() as desk:
        async with task_budget("part", tokens=80, carve=True) as part:
            await desk.arrive("late", tokens=80, inside=part)
        await desk.arrive("waiter", tokens=50, inside=budget)
        assert desk.entered == ["late"]
        await desk.leave("late", used=10)
        assert desk.at("waiter") == 0.0


async def test_top_up() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget, open_desk() as desk:
        await throttled(desk)
        budget.top_up(tokens=49)
        await turns()
        assert desk.entered == ["holder"]
        budget.top_up(tokens=1)
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_limit_that_is_raised(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        for name in "abcd":
            await desk.arrive(name, "slots")
        service.update("slots", limit=Concurrency(3))
        await turns()
        assert sorted(desk.entered) == ["a", "b", "c"]


async def test_a_parent_whose_limit_is_raised(service: QuotaService) -> None:
    service.define(Resource("all", Concurrency(1)))
    service.define(Resource("slots", Concurrency(5), parent="all"))
    async with open_desk() as desk:
        for name in "abc":
            await desk.arrive(name, "slots")
        service.update("all", limit=Concurrency(2))
        await turns()
        assert desk.entered == ["a", "b"]


async def test_a_capacity_that_is_raised(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(100)))
    async with open_desk() as desk:
        await desk.arrive("holder", "pages", 100)
        await desk.arrive("waiter", "pages", 50)
        service.update("pages", limit=Capacity(150))
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_quota_that_is_raised(service: QuotaService) -> None:
    quota = Resource("calls", Concurrency(1), dim="calls")
    service.define_principal("alice", quotas={"calls": quota})
    with principal("alice"):
        async with open_desk() as desk:
            await desk.arrive("holder", calls=1)
            await desk.arrive("waiter", calls=1)
            more = Resource("calls", Concurrency(2), dim="calls")
            service.define_principal("alice", quotas={"calls": more})
            await turns()
            assert desk.at("waiter") == 0.0


async def test_a_quota_that_is_taken_away(service: QuotaService) -> None:
    quota = Resource("tokens", Capacity(10), dim="tokens")
    service.define_principal("alice", quotas={"tokens": quota})
    with principal("alice"):
        async with open_desk() as desk:
            await desk.arrive("holder", tokens=10)
            await desk.arrive("waiter", tokens=5)
            await desk.arrive("next", tokens=10)
            service.define_principal("alice", quotas={})
            await turns()
            assert (desk.at("waiter"), desk.at("next")) == (0.0, 0.0)


async def test_what_one_part_of_an_allowance_did_not_use(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(1_000)))
    token = QuotaToken("pages", 10, allowance=100)
    part = token.split(5, allowance=60)
    async with open_desk() as desk:
        await desk.arrive("holder", token, 40)
        await desk.arrive("waiter", token, 30)
        assert desk.entered == ["holder"]
        part.close()
        await turns()
        assert desk.at("waiter") == 0.0
        desk.send_away()
        await turns()
        token.close()


async def test_an_allowance_that_is_merged_in(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(1_000)))
    token, other = QuotaToken("pages", 1, allowance=40), QuotaToken("pages", 1, allowance=60)
    async with open_desk() as desk:
        await desk.arrive("holder", token, 40)
        await desk.arrive("waiter", token, 30)
        token.merge(other)
        await turns()
        assert desk.at("waiter") == 0.0
        desk.send_away()
        await turns()
        token.close()


async def test_what_an_open_reservation_of_a_closed_part_gives_back(
    service: QuotaService,
) -> None:
    service.define(Resource("pages", Capacity(1_000)))
    token = QuotaToken("pages", 10, allowance=100)
    part = token.split(5, allowance=60)
    async with open_desk() as desk:
        await desk.arrive("holder", token, 40)
        await desk.arrive("late", part, 60)
        await desk.arrive("waiter", token, 30)
        part.close()
        await turns()
        assert desk.entered == ["holder", "late"]
        await desk.leave("late", used=20)
        assert desk.at("waiter") == 0.0
        desk.send_away()
        await turns()
        token.close()


async def test_a_reservation_that_is_collected(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    forgotten = [await reserve("slots")]
    async with open_desk() as desk:
        await desk.arrive("waiter", "slots", seconds=0)
        forgotten.clear()
        gc.collect(0)
    assert desk.at("waiter") == 0.0


async def test_a_token_that_is_collected(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(1_000)))
    token = QuotaToken("pages", 10, allowance=100)
    part = [token.split(5, allowance=60)]
    async with open_desk() as desk:
        await desk.arrive("holder", token, 40)
        await desk.arrive("waiter", token, 30)
        with pytest.warns(ResourceWarning, match="collected without close"):
            part.clear()
        await turns()
        assert desk.at("waiter") == 0.0
        desk.send_away()
        await turns()
        token.close()


@budgeted(target="slots", calls=1)
def numbers() -> Generator[int]:
    yield 1
    yield 2


async def test_a_generator_that_is_closed_early(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        stream = numbers()
        next(stream)
        await desk.arrive("waiter", "slots", seconds=0)
        stream.close()
        await turns()
        assert desk.at("waiter") == 0.0


async def test_a_waiting_call_that_is_never_run_again(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(2)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots")
        abandoned = reserve("slots", 2).__aenter__()
        abandoned.send(None)
        await desk.arrive("waiter", "slots")
        assert desk.entered == ["holder"]
        abandoned.close()
        await turns()
        assert desk.at("waiter") == 0.0


async def test_only_so_many_are_let_in_as_there_is_room_for(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(5)))
    async with open_desk() as desk:
        await desk.arrive("all", "slots", 5)
        for name, slots in zip("abcd", [2, 2, 2, 1], strict=True):
            await desk.arrive(name, "slots", slots)
        await desk.leave("all")
        assert sorted(desk.entered) == ["a", "all", "b"]


async def test_what_is_charged_wakes_nobody() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget:
        async with open_desk() as desk:
            await throttled(desk)
            budget.charge(tokens=10)
            await turns()
            assert desk.entered == ["holder"]
            await desk.leave("holder", used=40)
            assert desk.at("waiter") == 0.0


async def test_a_task_of_its_own_for_each_caller(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    tasks: list[TaskBudget] = []

    async def call() -> None:
        async with task_budget("agent", calls=1) as budget, reserve("slots", calls=1):
            tasks.append(budget)
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(call)
    assert [budget.spent("calls") for budget in tasks] == [1] * 5
    assert anyio.current_time() == 5.0

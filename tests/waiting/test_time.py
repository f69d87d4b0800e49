# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""Refills, longest waits and deadlines: exactly on time, and one alarm for each resource."""

from typing import Any

import anyio
import pytest

from budgetware import (
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    Throttle,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.admission import parking
from budgetware.admission.waiters import Waiter
from budgetware.errors import BudgetExceeded, NoBudget
from tests.waiting.desk import now, open_desk, take, turns


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When an alarm went off, of any waiter."""
    times: list[float] = []
    look_again = parking.look_again

    def counted(waiter: Waiter) -> None:
        times.append(now())
        look_again(waiter)

    monkeypatch.setattr(parking, "look_again", counted)
    return times


# Refills.


async def test_a_refill_wakes_at_its_nanosecond(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(7, 3, max=7)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 7, seconds=0)
        await desk.arrive("waiter", "tokens", 5, seconds=0)
    assert desk.at("waiter") == 2.142857143  # 5 * 3 / 7, rounded up to a nanosecond


async def test_a_refill_that_takes_days(service: QuotaService) -> None:
    service.define(Resource("calls", Rate(4, "month")))
    async with open_desk() as desk:
        for name in "abcdefgh":
            await desk.arrive(name, "calls", 1, seconds=0)
    days = [(desk.at(name) or 0) / 86_400 for name in "abcdefgh"]
    assert days == [0, 0, 0, 0, 7.5, 15, 22.5, 30]


async def test_debt_of_a_rate_is_refilled_first(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second")))
    async with open_desk() as desk:
        async with reserve("tokens", 1) as first:
            first.commit(31)
        await desk.arrive("waiter", "tokens", 1, seconds=0)
    assert desk.at("waiter") == 2.2


async def test_only_the_first_in_line_has_an_alarm(
    service: QuotaService, looks: list[float]
) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        for number in range(50):
            await desk.arrive(str(number), "tokens", 1, seconds=0)
    assert len(looks) == 50
    assert now() == 50.0


async def test_slots_need_no_alarm(service: QuotaService, looks: list[float]) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        for number in range(20):
            await desk.arrive(str(number), "slots", seconds=1)
    assert looks == []


async def test_who_is_first_no_more_does_not_look_again_and_again(
    service: QuotaService, looks: list[float]
) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    one, other = QuotaToken("tokens", 1), QuotaToken("tokens", 1)
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("a", one, 1, seconds=0)
        await anyio.sleep(1)
        await desk.arrive("b", one, 2, seconds=0)
        await desk.arrive("c", other, 10, seconds=0)  # its token has had nothing yet
    assert desk.entered == ["all", "a", "c", "b"]
    assert len(looks) < 10
    one.close()
    other.close()


async def test_a_rate_that_is_raised_moves_the_alarm(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "hour", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("waiter", "tokens", 4, seconds=0)
        await anyio.sleep(1_800)
        service.update("tokens", limit=Rate(1, "second", max=10))
    assert desk.at("waiter") == 1_803.5


async def test_a_rate_that_is_lowered_moves_the_alarm(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("waiter", "tokens", 4, seconds=0)
        await anyio.sleep(1)
        service.update("tokens", limit=Rate(1, "minute", max=10))
    assert desk.at("waiter") == 181.0


async def test_what_was_not_used_of_a_rate_comes_back_before_its_refill(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(1, "hour", max=10)))
    async with open_desk() as desk:
        await desk.arrive("holder", "tokens", 10)
        await desk.arrive("waiter", "tokens", 4, seconds=0)
        await anyio.sleep(1)
        await desk.leave("holder", used=3)
    assert desk.at("waiter") == 1.0


# The longest wait.


async def waited(service: QuotaService, **options: Any) -> float:
    """How long a call waits for a slot that never comes back."""
    with pytest.raises(QuotaExceeded, match=r"after a wait of \d+ s resource 'slots'"):
        async with reserve("slots", **options):
            pass
    return now()


async def test_the_call_says_how_long(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    assert await waited(service, max_wait="30s") == 30.0


async def test_the_resource_says_how_long(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1), max_wait=20))
    _held = take("slots")
    assert await waited(service) == 20.0


async def test_the_policy_says_how_long(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1), enforcement=Throttle(max_wait="10s")))
    _held = take("slots")
    assert await waited(service) == 10.0


@pytest.mark.parametrize(
    ("call", "resource", "policy"), [(1, 2, 3), (2, 1, 3), (2, 3, 1), (1, 1, 1)]
)
async def test_the_shortest_counts(
    service: QuotaService, call: float, resource: float, policy: float
) -> None:
    enforcement = Throttle(max_wait=policy)
    service.define(Resource("slots", Concurrency(1), enforcement=enforcement, max_wait=resource))
    _held = take("slots")
    assert await waited(service, max_wait=call) == 1.0


async def test_the_call_may_give_a_policy_that_says_how_long(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1), max_wait=9))
    _held = take("slots")
    with pytest.raises(QuotaExceeded):
        await reserve("slots", policy=Throttle(max_wait=4))
    assert now() == 4.0


async def test_a_parent_says_how_long(service: QuotaService) -> None:
    service.define(Resource("all", Concurrency(1), max_wait=3))
    service.define(Resource("slots", Concurrency(5), parent="all", max_wait=9))
    _held = take("all")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("slots")
    assert (now(), refused.value.resource) == (3.0, "all")


async def test_a_task_says_how_long(service: QuotaService) -> None:
    async with task_budget("crawl", tokens=100, policy=Throttle(max_wait="1m")):
        _held = take(tokens=80, expires_in="1h")
        async with open_desk() as desk:
            await desk.arrive("waiter", tokens=30)
        assert now() == 60.0
        error = desk.error("waiter")
        assert isinstance(error, QuotaExceeded)
        assert (error.resource, error.waited_seconds, error.available) == ("crawl", 60.0, 20)
        assert str(error).startswith("after a wait of 60 s task 'crawl' has 20 of 100 tokens")


async def test_no_wait_at_all(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    with pytest.raises(QuotaExceeded, match=r"^resource 'slots' has 0 of 1 units left"):
        await reserve("slots", max_wait=0)
    assert now() == 0.0


async def test_no_wait_at_all_for_what_is_there(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with reserve("slots", max_wait=0):
        pass


async def test_a_wait_is_in_time_at_the_last_moment(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second")))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 1, seconds=0)
        await desk.arrive("waiter", "tokens", 1, max_wait=1, seconds=0)
    assert (desk.at("waiter"), desk.error("waiter")) == (1.0, None)


async def test_the_wait_of_one_who_is_not_first_ends_too(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "hour")))
    async with open_desk() as desk:
        for name in "abcd":
            await desk.arrive(name, "tokens", 1, max_wait=30 if name == "c" else None, seconds=0)
    assert desk.entered == ["a", "b", "d"]
    assert desk.error("c").waited_seconds == 30.0
    assert desk.at("d") == 7_200.0


# When to try again.


async def test_retry_after_a_wait_in_vain_is_when_the_line_would_be_served(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("first", "tokens", 5, seconds=0)
        await desk.arrive("waiter", "tokens", 4, max_wait=2, seconds=0)
        await desk.arrive("last", "tokens", 3, seconds=0)
    # 2 have come; 5 and 3 are for others who are in line; then its own 4
    assert desk.error("waiter").retry_after == 10.0


async def test_retry_after_does_not_count_the_call_itself(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("waiter", "tokens", 5, max_wait=1)
    assert desk.error("waiter").retry_after == 4.0


async def test_retry_after_of_one_who_does_not_wait(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(100, "second")))
    async with open_desk() as desk:
        await desk.arrive("some", "tokens", 90, seconds=0)
        with pytest.raises(QuotaExceeded) as refused:
            reserve_nowait("tokens", 20)
        assert refused.value.retry_after == 0.1
        await desk.arrive("waiter", "tokens", 30, seconds=0)
        with pytest.raises(QuotaExceeded) as refused:
            reserve_nowait("tokens", 20)
        assert refused.value.retry_after == 0.4
        assert "retry after 0.4 s, or ask for less" in str(refused.value)


@pytest.mark.parametrize("limit", [Capacity(10), Concurrency(10)])
async def test_time_alone_gives_nothing_else_back(
    service: QuotaService, limit: Capacity | Concurrency
) -> None:
    service.define(Resource("pages", limit))
    _held = take("pages", 10)
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("pages", 1, max_wait=1)
    assert (refused.value.retry_after, refused.value.waited_seconds) == (None, 1.0)


async def test_of_several_the_latest_to_have_room_counts(service: QuotaService) -> None:
    service.define(Resource("all", Rate(10, "minute")))
    service.define(Resource("tokens", Rate(10, "second"), parent="all"))
    _held = take("tokens", 10)
    with pytest.raises(QuotaExceeded) as refused:
        _held = take("tokens", 5)
    assert refused.value.retry_after == 30.0


async def test_nobody_knows_when_if_the_first_in_line_waits_for_something_else(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(10, "second"), dim="tokens"))
    service.define(Resource("slots", Concurrency(1), dim="calls"))
    async with QuotaToken("tokens", 1) as tokens, QuotaToken("slots", 1) as slots:
        async with open_desk() as desk:
            await desk.arrive("slot", calls=1)
            await desk.arrive("all", tokens=10, seconds=0)
            await desk.arrive("both", tokens=1, calls=1)
            await anyio.sleep(5)
            with pytest.raises(QuotaExceeded) as refused:
                reserve_nowait(tokens=1)
            assert (refused.value.available, refused.value.retry_after) == (10, None)
            desk.send_away()
        tokens.close()
        slots.close()


# Deadlines.


async def test_a_deadline_ends_the_wait_and_the_task(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    with pytest.raises(BudgetTerminated) as ended:
        async with task_budget("agent", seconds=7):
            await reserve("slots")
    assert (ended.value.dim, now()) == ("millis", 7.0)
    assert service.resource("slots").waiting == 0


async def test_a_deadline_ends_the_wait_of_a_foreign_task(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    errors: list[object] = []

    async def foreign() -> None:
        try:
            await reserve("slots")
        except BudgetTerminated as error:
            errors.append((error.dim, now()))

    async with anyio.create_task_group() as group:
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", seconds=7) as budget:
                group.start_soon(budget.wrap(foreign))
                await anyio.sleep(9)
    assert errors == [("millis", 7.0)]


async def test_a_deadline_that_was_moved_lets_wait_on(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    async with open_desk() as desk:
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", seconds=7) as budget:
                await desk.arrive("waiter", "slots", inside=budget)
                await anyio.sleep(5)
                budget.top_up(seconds=10)
                await anyio.sleep(5)
                assert service.resource("slots").waiting == 1
                await anyio.sleep(10)
    assert now() == 17.0
    assert isinstance(desk.error("waiter"), BudgetTerminated)


async def test_the_wait_of_an_outer_deadline_ends_with_it(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    with pytest.raises(BudgetTerminated) as ended:
        async with task_budget("outer", seconds=3), task_budget("inner", seconds=9):
            await reserve("slots")
    assert (ended.value.budget, now()) == ("outer", 3.0)


async def test_a_warning_before_the_deadline_is_given_while_the_call_waits(
    service: QuotaService,
) -> None:
    warned: list[tuple[object, float]] = []
    service.define(Resource("tokens", Rate(1, 10)))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 1, seconds=0)
        async with (
            task_budget(
                seconds=20, warn_at=0.4, on_warn=lambda _b, v: warned.append((v.dim, now()))
            ),
            reserve("tokens", 1),
        ):
            assert now() == 10.0
    assert warned == [("millis", 8.0)]


async def test_a_wait_that_times_out_is_no_deadline(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    async with task_budget("agent", seconds=7):
        with pytest.raises(QuotaExceeded):
            await reserve("slots", max_wait=3)
        assert now() == 3.0


async def test_a_principal_and_a_task_wait_for_the_later_of_both(service: QuotaService) -> None:
    service.define_principal(
        "alice", quotas={"tokens": Resource("tokens", Rate(1, 10, max=10), dim="tokens")}
    )
    with principal("alice"):
        async with task_budget("crawl", tokens=30, policy="throttle") as budget:
            async with open_desk() as desk:
                await desk.arrive("all", tokens=10, used=10, seconds=30)
                await desk.arrive("more", tokens=5, used=0, seconds=0)
                await desk.arrive("waiter", tokens=5, used=1, seconds=0)
            assert [desk.at("more"), desk.at("waiter")] == [50.0, 50.0]
            assert budget.spent("tokens") == 11


async def test_a_deadline_inside_a_last_answer(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    _held = take("slots")
    async with open_desk() as desk:
        async with task_budget("outer", tokens=10, keep={"tokens": 5}, seconds=60) as outer:
            with pytest.raises(BudgetTerminated) as ended:
                async with outer.finish(), task_budget("inner", seconds=2) as inner:
                    await desk.arrive("foreign", "slots", inside=inner)
                    await anyio.sleep(5)
            assert (ended.value.budget, now()) == ("inner", 2.0)
        await turns()
        assert desk.error("foreign").budget == "inner"


async def test_who_comes_after_the_end_is_refused_at_once() -> None:
    async with task_budget("crawl", tokens=10, policy="throttle") as budget:
        pass
    async with open_desk() as desk:
        await desk.arrive("late", tokens=1, inside=budget)
        assert isinstance(desk.error("late"), NoBudget)
        assert not isinstance(desk.error("late"), BudgetExceeded)
        await turns()

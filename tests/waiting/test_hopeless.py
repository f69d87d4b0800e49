"""What waiting cannot help is refused at once, with no time to try again."""

from contextlib import AsyncExitStack
from contextvars import copy_context

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.admission.prospects import could_ever
from budgetware.errors import BudgetExceeded
from budgetware.kernel.nodes import Node
from budgetware.quotas import QuotaLimit
from tests.waiting.desk import balance_of, now, open_desk, take, turns

LIMITS = pytest.mark.parametrize(
    "limit", [Rate(10, "second"), Rate(5, "second", max=10), Capacity(10), Concurrency(10)]
)


@LIMITS
async def test_more_than_there_ever_is(service: QuotaService, limit: QuotaLimit) -> None:
    service.define(Resource("pages", limit))
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("pages", 11)
    error = refused.value
    assert (error.requested, error.available, error.limit) == (11, 10, 10)
    assert (error.retry_after, error.waited_seconds, now()) == (None, 0, 0)


@LIMITS
async def test_all_there_ever_is_may_be_waited_for(
    service: QuotaService, limit: QuotaLimit
) -> None:
    service.define(Resource("pages", limit))
    async with open_desk() as desk:
        await desk.arrive("holder", "pages", 1, used=0, seconds=1)
        await desk.arrive("waiter", "pages", 10, seconds=1)
    assert desk.error("waiter") is None


async def test_more_than_was_left_by_what_is_spent(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(10)))
    async with reserve("pages", 4) as spent:
        spent.commit()
    _held = take("pages", 6)
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("pages", 7)
    assert (refused.value.available, refused.value.retry_after) == (0, None)


async def test_more_than_a_task_has_left(service: QuotaService) -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget:
        budget.charge(tokens=40)
        _held = take(tokens=60)
        with pytest.raises(BudgetExceeded) as refused:
            await reserve(tokens=61)
        error = refused.value
        assert not isinstance(error, QuotaExceeded)
        assert (error.available, error.retry_after, now()) == (0, None, 0)


async def test_more_than_a_task_has_beside_what_it_keeps(service: QuotaService) -> None:
    async with task_budget("crawl", tokens=100, keep={"tokens": 30}, policy="throttle"):
        _held = take(tokens=70)
        with pytest.raises(BudgetExceeded):
            await reserve(tokens=71)
        assert now() == 0


async def test_what_a_task_keeps_may_be_waited_for_by_its_last_answer(
    service: QuotaService,
) -> None:
    async with task_budget("crawl", tokens=100, keep={"tokens": 30}, policy="throttle") as budget:
        async with open_desk() as desk:
            await desk.arrive("holder", tokens=70, used=0, seconds=1)
            async with budget.finish():
                await desk.arrive("answer", tokens=100, used=0, seconds=0)
                await anyio.sleep(2)
        assert desk.at("answer") == 1.0


async def test_more_than_the_level_of_a_task(service: QuotaService) -> None:
    async with task_budget("crawl", memory=100, policy="throttle"), open_desk() as desk:
        await desk.arrive("holder", memory=80, seconds=1)
        await desk.arrive("waiter", memory=100, seconds=1)
        with pytest.raises(BudgetExceeded) as refused:
            await reserve(memory=101)
        assert refused.value.retry_after is None
        await anyio.sleep(3)
        assert desk.at("waiter") == 1.0


async def test_more_than_an_allowance(service: QuotaService) -> None:
    service.define(Resource("pages", Rate(100, "second")))
    token = QuotaToken("pages", 1, allowance=10)
    with pytest.raises(QuotaExceeded) as refused:
        await token.reserve(11)
    assert (refused.value.limit, refused.value.retry_after) == (10, None)
    token.close()


async def test_more_than_the_quota_of_a_principal(service: QuotaService) -> None:
    quota = Resource("tokens", Rate(10, "second"), dim="tokens")
    service.define_principal("alice", quotas={"tokens": quota})
    with principal("alice"), pytest.raises(QuotaExceeded) as refused:
        await reserve(tokens=11)
    assert (refused.value.limit, refused.value.retry_after) == (10, None)


async def test_a_parent_that_has_less(service: QuotaService) -> None:
    service.define(Resource("all", Concurrency(2)))
    service.define(Resource("slots", Concurrency(5), parent="all"))
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("slots", 3)
    assert (refused.value.resource, refused.value.retry_after) == ("all", None)


def test_what_has_no_limit_is_never_hopeless() -> None:
    node = Node("alice", "id", None, kind="principal")
    assert could_ever(node.cell("tokens"), 10**15, 10**15, frozenset())


# What becomes hopeless later.


async def test_others_have_used_what_was_waited_for(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(10)))
    async with open_desk() as desk:
        await desk.arrive("holder", "pages", 10)
        await desk.arrive("waiter", "pages", 5)
        await desk.arrive("small", "pages", 2)
        await anyio.sleep(3)
        await desk.leave("holder", used=6)
        error = desk.error("waiter")
        assert isinstance(error, QuotaExceeded)
        assert (error.available, error.retry_after, error.waited_seconds) == (4, None, 3.0)
        assert desk.at("small") == 3.0


async def test_others_have_used_what_was_waited_for_in_a_task() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle"), open_desk() as desk:
        await desk.arrive("holder", tokens=100)
        await desk.arrive("waiter", tokens=50)
        await desk.leave("holder", used=51)
        assert isinstance(desk.error("waiter"), QuotaExceeded)


async def test_what_is_charged_makes_it_hopeless() -> None:
    async with task_budget("crawl", tokens=100, policy="throttle") as budget, open_desk() as desk:
        await desk.arrive("holder", tokens=50, used=0)
        await desk.arrive("waiter", tokens=80)
        budget.charge(tokens=21)
        await turns()
        assert desk.error("waiter").retry_after is None


async def test_one_who_is_not_first_is_told_when_it_is(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(10)))
    async with open_desk() as desk:
        await desk.arrive("one", "pages", 4)
        await desk.arrive("other", "pages", 5)
        await desk.arrive("first", "pages", 5, used=0)
        await desk.arrive("second", "pages", 9)
        await desk.leave("one", used=4)
        assert desk.error("second") is None
        await desk.leave("other", used=0)
        assert desk.entered == ["one", "other", "first"]
        assert isinstance(desk.error("second"), QuotaExceeded)


async def test_a_limit_that_is_lowered_refuses_all_for_whom_it_is_too_low(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(4)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", 4)
        await desk.arrive("small", "slots", 1)
        await desk.arrive("big", "slots", 3)
        service.update("slots", limit=Concurrency(2))
        await turns()
        assert isinstance(desk.error("big"), QuotaExceeded)
        assert balance_of(service, "slots").overrun == 2
        await desk.leave("holder")
        assert desk.at("small") == 0.0


async def test_a_burst_that_is_lowered(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second")))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        await desk.arrive("waiter", "tokens", 10)
        service.update("tokens", limit=Rate(10, "second", max=9))
        await turns()
        assert (desk.error("waiter").limit, desk.error("waiter").retry_after) == (9, None)


async def test_a_line_that_is_full(service: QuotaService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetware.admission.closely.MAX_WAITERS", 2)
    service.define(Resource("tokens", Rate(1, "second")))
    async with open_desk() as desk:
        for name in "abc":
            await desk.arrive(name, "tokens", 1, seconds=0)
        with pytest.raises(QuotaExceeded) as refused:
            await reserve("tokens", 1)
        assert refused.value.retry_after == 3.0
    assert desk.entered == ["a", "b", "c"]


# Nested calls.


async def test_a_call_does_not_wait_for_what_its_caller_holds(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(2)))
    async with reserve("slots"):
        async with reserve("slots"):
            with pytest.raises(QuotaExceeded) as refused:
                await reserve("slots")
            assert (refused.value.retry_after, now()) == (None, 0)
        with pytest.raises(QuotaExceeded):
            await reserve("slots", 2)
        async with reserve("slots"):
            pass


async def test_a_call_waits_for_what_others_hold_beside_its_caller(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(2)))
    async with open_desk() as desk:
        await desk.arrive("other", "slots", seconds=2)
        async with reserve("slots"), reserve("slots"):
            assert now() == 2.0


async def test_another_task_may_wait_for_what_this_one_holds(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        async with reserve("slots"):
            await desk.arrive("other", "slots", 1)
            await anyio.sleep(1)
        await turns()
        assert desk.at("other") == 1.0


async def test_four_of_250_pass_and_a_fifth_is_denied() -> None:
    async with task_budget("crawl", tokens=1_000, policy="throttle"), AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(reserve(tokens=250))
        with pytest.raises(BudgetExceeded) as refused:
            await reserve(tokens=1)
        assert refused.value.retry_after is None


async def test_a_call_does_not_wait_for_a_bare_reservation_of_its_own(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    bare = await reserve("slots")
    with pytest.raises(QuotaExceeded):
        await reserve("slots")
    bare.release()
    async with reserve("slots"):
        pass


async def test_nor_for_one_that_was_made_inside_a_block_that_has_ended(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    service.define(Resource("others", Concurrency(3)))
    async with reserve("others"), reserve("others"), reserve("others"):
        bare = await reserve("slots")
    with pytest.raises(QuotaExceeded) as refused:
        await reserve("slots")
    assert (refused.value.retry_after, bare.state) == (None, "held")


async def test_what_somebody_else_settles_meanwhile_is_not_held_any_more(
    service: QuotaService,
) -> None:
    service.define(Resource("pages", Capacity(10)))
    async with open_desk() as desk:
        mine = await reserve("pages", 3)
        await desk.arrive("other", "pages", 5, used=0)

        async def settle() -> None:
            await anyio.sleep(1)
            mine.commit(3)
            await anyio.sleep(1)
            await desk.leave("other")

        desk.start(settle)
        async with reserve("pages", 7):  # all but the 3
            assert now() == 2.0


async def test_a_rate_refills_whatever_the_caller_holds(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second")))
    async with reserve("tokens", 10), reserve("tokens", 10):
        assert now() == 1.0


async def test_a_refused_call_inside_another_holds_nothing(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with reserve("slots") as outer:
        with pytest.raises(QuotaExceeded):
            reserve_nowait("slots")
        assert balance_of(service, "slots").reserved == 1
        outer.release()
        async with reserve("slots"):
            assert balance_of(service, "slots").reserved == 1


async def test_a_block_that_is_left_in_another_context(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    outer = reserve("slots")
    copy_context().run(outer.__enter__)
    outer.__exit__(None, None, None)
    async with reserve("slots"):
        pass

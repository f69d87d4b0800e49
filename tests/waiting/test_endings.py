# ruff: noqa: PT012, SIM117 - what raises is an owner's block, and its body is the test
"""Whoever waits is told, at once and clearly, when there is nothing left to wait for."""

import anyio
import pytest

from budgetware import (
    BudgetTerminated,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    connect,
    reserve,
    task_budget,
)
from budgetware.errors import (
    ConfigurationError,
    NoBudget,
    TokenConsumed,
    UnknownResource,
)
from budgetware.testing import LoopClock
from tests.waiting.desk import Desk, balance_of, now, open_desk, take, turns


@pytest.fixture
def slot(service: QuotaService) -> QuotaService:
    """A service with one slot."""
    service.define(Resource("slot", Concurrency(1)))
    return service


# Tasks.


async def test_terminate_ends_the_wait_of_its_own_call(slot: QuotaService) -> None:
    _held = take("slot")

    async def terminate_soon() -> None:
        await anyio.sleep(3)
        budget.terminate("enough")

    async with anyio.create_task_group() as group:
        with pytest.raises(BudgetTerminated, match="enough"):
            async with task_budget("agent", calls=5) as budget:
                group.start_soon(terminate_soon)
                await reserve("slot")
    assert (now(), slot.resource("slot").waiting) == (3.0, 0)
    assert balance_of(slot, "slot").reserved == 1


async def test_terminate_ends_the_wait_of_a_child_task(slot: QuotaService) -> None:
    _held = take("slot")
    with pytest.raises(BudgetTerminated, match="enough"):
        async with task_budget("outer", calls=5) as outer, task_budget("inner", calls=5):
            async with anyio.create_task_group() as group:
                group.start_soon(reserve("slot").__aenter__)
                await turns()
                outer.terminate("enough")
                await anyio.sleep_forever()
    assert (now(), slot.resource("slot").waiting) == (0.0, 0)


async def test_terminate_refuses_a_foreign_task_that_waits(slot: QuotaService) -> None:
    _held = take("slot")
    async with open_desk() as desk:
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", calls=5) as budget:
                await desk.arrive("foreign", "slot", inside=budget)
                await desk.arrive("stranger", "slot", is_stranger=True)
                budget.terminate("enough")
                await anyio.sleep_forever()
        await turns()
        error = desk.error("foreign")
        assert isinstance(error, BudgetTerminated)
        assert (error.budget, error.reason) == ("agent", "enough")
        assert slot.resource("slot").waiting == 1  # the stranger has nothing to do with it
        await desk.cancel("stranger")


async def test_terminate_gives_the_turn_on(slot: QuotaService) -> None:
    slot.update("slot", limit=Concurrency(4))
    async with open_desk() as desk:
        await desk.arrive("holder", "slot", 2)
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", calls=5) as budget:
                await desk.arrive("big", "slot", 4, inside=budget)
                await desk.arrive("small", "slot", 2, is_stranger=True)
                budget.terminate("enough")
                await anyio.sleep_forever()
        await turns()
        assert desk.entered == ["holder", "small"]


async def test_a_last_answer_waits_on_after_its_task_was_terminated(slot: QuotaService) -> None:
    budget = task_budget("agent", tokens=100, keep={"tokens": 50})
    async with open_desk() as desk:
        await desk.arrive("holder", "slot", seconds=2)
        with pytest.raises(BudgetTerminated):
            async with budget:
                budget.terminate("enough")
        async with budget.finish(), reserve("slot", tokens=50):
            assert now() == 2.0


async def test_a_last_answer_that_waits_is_not_refused_by_terminate(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot", seconds=2)
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", tokens=100, keep={"tokens": 50}) as budget:
                async with budget.finish():
                    await desk.arrive("answer", "slot", tokens=50)
                await desk.arrive("other", "slot", tokens=5)
                budget.terminate("enough")
                await turns()
        await turns()
        assert isinstance(desk.error("other"), BudgetTerminated)
        await anyio.sleep(3)
        assert desk.at("answer") == 2.0


async def test_all_who_are_in_line_when_a_refusal_ends_their_task(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        with pytest.raises(BudgetTerminated):
            async with task_budget("agent", tokens=10, policy="terminate") as budget:
                await desk.arrive("one", "slot", tokens=6)
                await desk.arrive("other", "slot", tokens=2)
                budget.charge(tokens=5)
                desk.callers["holder"].left.set()
                await anyio.sleep_forever()
        await turns()
        assert isinstance(desk.error("one"), BudgetTerminated)
        assert isinstance(desk.error("other"), BudgetTerminated)
        assert balance_of(slot, "slot").reserved == 0


async def test_the_end_of_a_task_refuses_a_foreign_task_that_waits_in_it() -> None:
    async with open_desk() as desk:
        async with task_budget("agent", tokens=10, policy="throttle") as budget:
            await desk.arrive("holder", tokens=10, inside=budget)
            await desk.arrive("waiter", tokens=5, inside=budget)
        await turns()
        error = desk.error("waiter")
        assert isinstance(error, NoBudget)
        assert "task 'agent' has ended" in str(error)


async def test_the_end_of_a_task_refuses_who_waits_for_a_resource(slot: QuotaService) -> None:
    _held = take("slot")
    async with open_desk() as desk:
        async with task_budget("agent", calls=5) as budget:
            await desk.arrive("waiter", "slot", inside=budget)
        await turns()
        assert isinstance(desk.error("waiter"), NoBudget)
        assert slot.resource("slot").waiting == 0


async def test_the_end_of_an_outer_task_refuses_who_waits_in_an_inner_one(
    slot: QuotaService,
) -> None:
    _held = take("slot")
    errors: list[str] = []

    async def inner() -> None:
        try:
            async with task_budget("inner", calls=5):
                await reserve("slot")
        except NoBudget as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group, task_budget("outer", calls=5) as outer:
        group.start_soon(outer.wrap(inner))
        await turns()
    assert [error.split(" has")[0] for error in errors] == ["task 'outer'"]


# Resources.


async def test_a_resource_that_is_deleted(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "hour")))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 1, seconds=0)
        for name in "abc":
            await desk.arrive(name, "tokens", 1)
        service.delete("tokens")
        await turns()
        for name in "abc":
            assert isinstance(desk.error(name), UnknownResource)
            assert "resource 'tokens' was deleted" in str(desk.error(name))


async def test_a_child_that_is_deleted_leaves_the_line_of_its_parent(
    service: QuotaService,
) -> None:
    service.define(Resource("all", Concurrency(1)))
    service.define(Resource("slots", Concurrency(5), parent="all"))
    async with open_desk() as desk:
        await desk.arrive("holder", "all")
        await desk.arrive("child", "slots")
        await desk.arrive("next", "all")
        service.delete("slots")
        await desk.leave("holder")
        assert isinstance(desk.error("child"), UnknownResource)
        assert desk.entered == ["holder", "next"]


@pytest.mark.parametrize("enforcement", ["reject", "terminate"])
async def test_a_resource_that_lets_nobody_wait_any_more(
    slot: QuotaService, enforcement: str
) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        await desk.arrive("waiter", "slot")
        await desk.arrive("next", "slot")
        await anyio.sleep(2)
        slot.update("slot", enforcement=enforcement)
        await turns()
        for name in ("waiter", "next"):
            assert isinstance(desk.error(name), QuotaExceeded)
            assert desk.error(name).waited_seconds == 2.0


async def test_a_resource_that_terminates_from_now_on_ends_the_task_that_waits(
    slot: QuotaService,
) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")

        async def update() -> None:
            slot.update("slot", enforcement="terminate")

        with pytest.raises(BudgetTerminated, match="resource 'slot': 0 of 1"):
            async with task_budget("agent", calls=5):
                desk.start(update)
                await reserve("slot")


async def test_a_shorter_wait_is_for_those_who_come_from_now_on(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        await desk.arrive("before", "slot")
        slot.update("slot", max_wait=5)
        await desk.arrive("after", "slot")
        await anyio.sleep(6)
        assert desk.error("before") is None
        assert desk.error("after").waited_seconds == 5.0


async def test_what_changes_nothing_lets_everybody_wait(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        await desk.arrive("waiter", "slot")
        slot.update("slot", units="slots")
        slot.define_principal("alice")
        await turns()
        assert (desk.error("waiter"), slot.resource("slot").waiting) == (None, 1)


# Tokens.


async def drawing(service: QuotaService, desk: Desk) -> tuple[QuotaToken, QuotaToken]:
    """Two tokens of one slot, and somebody who waits by the second one."""
    token, other = QuotaToken("slot", 5), QuotaToken("slot", 5)
    await desk.arrive("holder", "slot")
    await desk.arrive("waiter", other)
    return token, other


async def test_a_token_that_is_merged_away(slot: QuotaService) -> None:
    async with open_desk() as desk:
        token, other = await drawing(slot, desk)
        token.merge(other)
        await turns()
        error = desk.error("waiter")
        assert isinstance(error, TokenConsumed)
        assert "quota token of 'slot' is over" in str(error)
        token.close()


async def test_a_token_that_is_closed(slot: QuotaService) -> None:
    async with open_desk() as desk:
        token, other = await drawing(slot, desk)
        await desk.arrive("next", token)
        other.close()
        await turns()
        assert isinstance(desk.error("waiter"), TokenConsumed)
        await desk.leave("holder")
        assert desk.entered == ["holder", "next"]
        await desk.leave("next")
        token.close()


async def test_a_bound_token_that_is_closed(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "hour"), dim="tokens"))
    token = QuotaToken("tokens", 1)
    async with open_desk() as desk:
        async with token:
            await desk.arrive("all", tokens=1, seconds=0)
            await desk.arrive("waiter", tokens=1)
            token.close()
        await turns()
        assert isinstance(desk.error("waiter"), TokenConsumed)


# Services.


async def test_a_service_that_is_closed() -> None:
    async with open_desk() as desk:
        async with connect(clock=LoopClock()) as service:
            service.define(Resource("slot", Concurrency(1)))
            await desk.arrive("holder", "slot")
            await desk.arrive("waiter", "slot")
        await turns()
        error = desk.error("waiter")
        assert isinstance(error, ConfigurationError)
        assert "closed while the call waited" in str(error)


async def test_a_service_that_is_closed_lets_nobody_in_instead() -> None:
    async with open_desk() as desk:
        async with connect(clock=LoopClock()) as service:
            service.define(Resource("slots", Concurrency(4)))
            await desk.arrive("holder", "slots", 2)
            await desk.arrive("big", "slots", 4)
            await desk.arrive("small", "slots", 1)
        await turns()
        assert desk.entered == ["holder"]
        assert isinstance(desk.error("big"), ConfigurationError)
        assert isinstance(desk.error("small"), ConfigurationError)


async def test_a_service_that_is_closed_leaves_others_alone(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        await desk.arrive("waiter", "slot")
        async with connect(clock=LoopClock()):
            pass
        await turns()
        assert desk.error("waiter") is None
        await desk.leave("holder")
        assert desk.entered == ["holder", "waiter"]

"""Exempt principals pass the lines of rates and capacities, and of nothing else."""

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
from budgetware.errors import BudgetExceeded
from budgetware.quotas import QuotaLimit
from tests.waiting.desk import balance_of, now, open_desk, turns


@pytest.fixture
def ops(service: QuotaService) -> QuotaService:
    """A service with a principal that is exempt."""
    service.define_principal("ops", exempt=True)
    return service


@pytest.mark.parametrize("limit", [Rate(10, "hour"), Capacity(10)])
async def test_an_exempt_one_passes_and_is_counted(ops: QuotaService, limit: QuotaLimit) -> None:
    ops.define(Resource("pages", limit))
    async with open_desk() as desk:
        await desk.arrive("all", "pages", 10)
        await desk.arrive("waiter", "pages", 5)
        with principal("ops"):
            async with reserve("pages", 20) as reservation:
                reservation.commit(3)
        assert now() == 0
        assert balance_of(ops, "pages").overrun == 3
        assert desk.entered == ["all"]
        await desk.cancel("waiter")


async def test_an_exempt_one_waits_for_slots(ops: QuotaService) -> None:
    ops.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", seconds=1)
        await desk.arrive("first", "slots", seconds=1)
        with principal("ops"):
            await desk.arrive("exempt", "slots", seconds=1)
    assert desk.entered == ["holder", "first", "exempt"]


async def test_an_exempt_one_waits_for_its_task(ops: QuotaService) -> None:
    with principal("ops"):
        async with task_budget("crawl", tokens=10, policy="throttle"), open_desk() as desk:
            await desk.arrive("holder", tokens=10, used=0, seconds=1)
            async with reserve(tokens=5):
                assert now() == 1.0


async def test_an_exempt_one_that_waits_for_slots_does_not_wait_for_the_rate(
    ops: QuotaService,
) -> None:
    ops.define(Resource("tokens", Rate(1, "hour"), dim="tokens"))
    ops.define(Resource("slots", Concurrency(1)))
    with QuotaToken("tokens", 1) as token, principal("ops"):
        async with open_desk() as desk:
            await desk.arrive("holder", "slots", seconds=2)
            await desk.arrive("exempt", "slots", tokens=50, seconds=0)
        token.close()
    assert desk.at("exempt") == 2.0


async def test_an_exempt_one_waits_on_while_others_spend_all_there_is(ops: QuotaService) -> None:
    ops.define(Resource("pages", Capacity(10), dim="pages"))
    ops.define(Resource("slots", Concurrency(1)))
    with QuotaToken("pages", 1) as token:
        async with open_desk() as desk:
            await desk.arrive("holder", "slots", seconds=2)
            with principal("ops"):
                await desk.arrive("exempt", "slots", pages=5, seconds=0)
            await desk.arrive("other", "slots", pages=5)
            await desk.arrive("all", pages=10, used=10, seconds=1)
            await anyio.sleep(1)
            await turns()
            assert isinstance(desk.error("other"), QuotaExceeded)
        assert desk.at("exempt") == 2.0
        token.close()


async def test_its_allowance_is_an_own_matter(ops: QuotaService) -> None:
    ops.define(Resource("tokens", Rate(100, "hour")))
    token = QuotaToken("tokens", 1, allowance=10)
    with principal("ops"), pytest.raises(BudgetExceeded):
        reserve_nowait(token, 11)
    token.close()


async def test_one_that_becomes_exempt_waits_no_longer(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "hour")))
    service.define_principal("boss")
    service.define_principal("alice", parent="boss")
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 1, seconds=0)
        await desk.arrive("other", "tokens", 1, seconds=0)
        with principal("alice"):
            await desk.arrive("hers", "tokens", 1, seconds=0)
        await anyio.sleep(1)
        service.define_principal("boss", exempt=True)
        await turns()
        assert (desk.at("hers"), desk.at("other")) == (1.0, None)
        await desk.cancel("other")


async def test_one_that_is_exempt_no_more_waits_from_now_on(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second")))
    service.define_principal("ops", exempt=True)
    with principal("ops"):
        async with open_desk() as desk:
            await desk.arrive("one", "tokens", 1, seconds=0)
            await desk.arrive("two", "tokens", 1, seconds=0)
            service.define_principal("ops")
            await desk.arrive("three", "tokens", 1, seconds=0)
    assert [desk.at(name) for name in ("one", "two", "three")] == [0.0, 0.0, 2.0]

"""Paused resources grant nothing until the end of the pause, and then to the nanosecond."""

from __future__ import annotations

import math
import threading
from pathlib import Path
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
    budgeted,
    connect,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import (
    BlockingInEventLoop,
    BudgetExceeded,
    InvalidAmount,
    ReservationError,
    UnknownResource,
)
from budgetware.quotas import QuotaLimit
from budgetware.testing import VirtualClock
from tests.waiting.desk import balance_of, now, open_desk, take, turns
from tests.waiting.threads import Thread, in_line, wait_until

LIMITS = [Rate(600, "minute"), Capacity(600), Concurrency(600)]
every_kind = pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: type(limit).__name__)


async def refused(*target: Any, **options: Any) -> QuotaExceeded:
    """Why a call is refused."""
    with pytest.raises(QuotaExceeded) as caught:
        async with reserve(*target, **options):
            pass
    return caught.value


# Those that reject.


@every_kind
async def test_calls_are_refused_meanwhile_with_the_time_left(
    service: QuotaService, limit: QuotaLimit
) -> None:
    service.define(Resource("api", limit, enforcement="reject"))
    service.pause("api", 10)
    await anyio.sleep(4)
    error = await refused("api", 1)
    assert (error.retry_after, error.is_paused, error.available) == (6.0, True, 0)
    assert str(error) == "resource 'api' is paused: retry after 6 s"
    await anyio.sleep(6)
    async with reserve("api", 1):
        pass


@every_kind
async def test_nowait_is_refused_where_it_would_wait(
    service: QuotaService, limit: QuotaLimit
) -> None:
    service.define(Resource("api", limit))
    service.pause("api", 10)
    with pytest.raises(QuotaExceeded) as caught:
        reserve_nowait("api", 1)
    assert caught.value.retry_after == 10.0
    assert balance_of(service, "api").reserved == 0


async def test_a_refill_that_takes_longer_is_told_of(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute"), enforcement="reject"))
    async with reserve("api", 60):
        pass
    service.pause("api", 10)
    assert (await refused("api", 1)).retry_after == 10.0
    assert (await refused("api", 30)).retry_after == 30.0


async def test_slots_that_others_hold_come_back_after_a_pause_at_the_earliest(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1), enforcement="reject"))
    async with reserve("slots"):
        service.pause("slots", 10)
        assert (await refused("slots")).retry_after == 10.0
        assert (await refused("slots", 2)).retry_after is None


async def test_what_is_used_up_does_not_come_back_after_a_pause(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(10), enforcement="reject"))
    service.pause("pages", 10)
    assert (await refused("pages", 11)).retry_after is None


async def test_a_pause_ends_no_task_that_a_shortage_would_end(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5), enforcement="terminate"))
    service.pause("api", 10)
    async with task_budget("agent", calls=10) as task:
        error = await refused("api", 1, policy=Terminate())
        assert error.is_paused
        assert task.verdict.name == "continue"
        async with reserve(calls=1):
            pass


async def test_refusals_in_a_row_end_a_task_that_spins(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5), enforcement=Reject(patience=3)))
    service.pause("api", 10)
    with pytest.raises(Exception, match="after 3 refusals in a row"):  # noqa: PT012
        async with task_budget("agent", calls=10):
            for _ in range(3):
                with pytest.raises(BudgetExceeded):
                    reserve_nowait("api", 1)
                await turns()


async def test_a_draw_of_nothing_passes(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute"), enforcement="reject"))
    async with reserve("api", 0) as nothing:
        nothing.pause(10)
    assert service.resource("api").paused_seconds == 0.0
    service.pause("api", 10)
    async with reserve("api", 0):
        pass


# Those that wait.


@every_kind
async def test_calls_that_throttle_wait_exactly_until_its_end(
    service: QuotaService, limit: QuotaLimit
) -> None:
    service.define(Resource("api", limit))
    service.pause("api", 12.345678901)
    async with open_desk() as desk:
        for name in "abc":
            await desk.arrive(name, "api", 1, seconds=0)
    assert [desk.at(name) for name in "abc"] == [12.345678901] * 3


async def test_a_clock_that_jumps_wakes_them() -> None:
    clock = VirtualClock()
    with connect(clock=clock) as service:
        service.define(Resource("api", Capacity(5)))
        service.pause("api", 10)
        async with open_desk() as desk:
            caller = await desk.arrive("a", "api", 1, seconds=0)
            clock.advance(9.999999999)
            await turns()
            assert caller.at is None
            clock.advance(0.000000001)
            await turns()
            assert caller.at is not None


async def test_who_came_first_goes_first_and_a_refill_is_waited_for(service: QuotaService) -> None:
    service.define(Resource("api", Rate(10, "second")))
    async with open_desk() as desk:
        await desk.arrive("all", "api", 10, seconds=0)
        await desk.arrive("early", "api", 10, seconds=0)
        service.pause("api", 4)
        await desk.arrive("late", "api", 5, seconds=0)
        await anyio.sleep(3)
        await desk.arrive("last", "api", 1, seconds=0)
    assert desk.entered == ["all", "early", "late", "last"]
    assert [desk.at(name) for name in ("early", "late", "last")] == [4.0, 4.5, 4.6]


async def test_weights_of_tokens_hold_after_a_pause(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    heavy, light = QuotaToken("slots", 30), QuotaToken("slots", 10)
    service.pause("slots", 5)
    async with open_desk() as desk:
        for number in range(4):
            await desk.arrive(f"light{number}", light, seconds=1)
        for number in range(4):
            await desk.arrive(f"heavy{number}", heavy, seconds=1)
    assert desk.entered[:5] == ["light0", "heavy0", "heavy1", "heavy2", "light1"]
    heavy.close()
    light.close()


async def test_slots_given_back_meanwhile_are_granted_at_its_end(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", seconds=2)
        await desk.arrive("waiter", "slots", seconds=0)
        service.pause("slots", 7)
    assert desk.at("waiter") == 7.0


async def test_a_longer_pause_counts_and_a_shorter_one_does_not(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5)))
    async with open_desk() as desk:
        service.pause("api", 5)
        await desk.arrive("waiter", "api", 1, seconds=0)
        service.pause("api", 20)
        service.pause("api", 1)
    assert desk.at("waiter") == 20.0


async def test_zero_lifts_it_and_serves_who_waits(service: QuotaService) -> None:
    service.define(Resource("api", Rate(10, "second")))
    async with open_desk() as desk:
        service.pause("api", 3_600)
        await desk.arrive("a", "api", 10, seconds=0)
        await desk.arrive("b", "api", 1, seconds=0)
        await anyio.sleep(1)
        service.pause("api", 0)
    assert (desk.at("a"), desk.at("b")) == (1.0, 1.1)


async def test_the_longest_wait_may_be_over_before(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5), max_wait=3))
    service.pause("api", 10)
    error = await refused("api", 1)
    assert (now(), error.retry_after, error.waited_seconds) == (3.0, 7.0, 3.0)
    assert str(error) == "after a wait of 3 s resource 'api' is paused: retry after 7 s"


async def test_a_cancelled_waiter_leaves_the_line(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    service.pause("slots", 10)
    async with open_desk() as desk:
        await desk.arrive("a", "slots", seconds=0)
        await desk.arrive("b", "slots", seconds=0)
        await desk.cancel("a")
        assert service.resource("slots").waiting == 1
    assert (desk.entered, desk.at("b")) == (["b"], 10.0)


async def test_what_else_it_needs_is_not_held_meanwhile(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute"), dim="calls"))
    service.define(Resource("slots", Concurrency(1)))
    service.pause("api", 10)
    with QuotaToken("api", 1) as token:
        async with open_desk() as desk:
            await desk.arrive("both", "slots", calls=1, seconds=0)
            assert balance_of(service, "slots").reserved == 0
            await desk.arrive("one", "slots", seconds=0)
        token.close()
    assert (desk.at("one"), desk.at("both")) == (0.0, 10.0)


async def test_everything_adds_up_when_pauses_come_at_random(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(7, "second", max=10)))
    async with open_desk() as desk:
        for number in range(60):
            await desk.arrive(str(number), "tokens", 1 + number % 10, seconds=0.3, used=number % 7)
            if number % 5 == 0:
                service.pause("tokens", number % 4)
            if number % 9 == 0:
                await desk.cancel(str(number - number // 2))
            balance_of(service, "tokens")
            await anyio.sleep(0.1)
    assert service.resource("tokens").waiting == 0
    assert balance_of(service, "tokens").reserved == 0


# Where it is drawn on otherwise.


async def test_a_reservation_pauses_what_it_draws_on_and_nothing_above(
    service: QuotaService,
) -> None:
    service.define(Resource("org", Capacity(100)))
    service.define(Resource("api", Rate(60, "minute"), parent="org"))
    service.define(Resource("tokens", Capacity(100), dim="tokens"))
    service.define(Resource("calls", Capacity(100), dim="calls"))
    with QuotaToken("tokens", 1) as bound, QuotaToken("calls", 1) as other:
        async with reserve("api", 1, tokens=5) as reservation:
            reservation.pause(10)
        bound.close()
        other.close()
    left = {view.name: view.paused_seconds for view in service.resources()}
    assert left == {"org": 0.0, "api": 10.0, "tokens": 10.0, "calls": 0.0}


async def test_the_end_of_a_reservation_does_not_matter(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5), enforcement="reject"))
    reservation = reserve("api", 1)
    with pytest.raises(ReservationError):
        reservation.pause(1)
    await reservation
    reservation.release()
    reservation.pause(5)
    reservation.pause(0)
    assert (await refused("api", 1)).retry_after == 5.0


async def test_without_a_resource_nothing_is_paused(service: QuotaService) -> None:
    async with task_budget("agent", calls=5):
        async with reserve(calls=1) as reservation:
            reservation.pause(10)
        async with reserve(calls=1):
            pass


async def test_a_paused_parent_stops_what_is_below(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(100)))
    service.define(Resource("api", Rate(60, "minute"), parent="org"))
    service.pause("org", 5)
    async with open_desk() as desk:
        await desk.arrive("a", "api", 1, seconds=0)
    assert desk.at("a") == 5.0


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_exempt_principal_waits_too(service: QuotaService, is_late: bool) -> None:
    service.define_principal("ops", exempt=True)
    service.define(Resource("pages", Capacity(5), dim="calls"))
    service.define(Resource("slots", Concurrency(1)))
    with QuotaToken("pages", 1) as token:
        async with open_desk() as desk, reserve("pages", 5):
            await desk.arrive("holder", "slots", seconds=2, is_stranger=True)
            if not is_late:
                service.pause("pages", 10)
            with principal("ops"):
                await desk.arrive("ops", "slots", calls=1, seconds=0)
            if is_late:
                service.pause("pages", 10)
        token.close()
    assert desk.at("ops") == 10.0


async def test_a_function_is_refused_then_runs_as_ever(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(50), enforcement="reject"))

    @budgeted(target="api")
    async def call() -> int:
        return 1

    async with task_budget("agent", calls=50):
        assert [await call(), await call()] == [1, 1]
        service.pause("api", 10)
        with pytest.raises(QuotaExceeded):
            await call()
        await anyio.sleep(10)
        assert [await call(), await call()] == [1, 1]
    assert balance_of(service, "api").spent == 4


async def test_one_that_rejects_is_paused_while_a_call_waits_elsewhere(
    service: QuotaService,
) -> None:
    service.define(Resource("slots", Concurrency(1)))
    service.define(Resource("api", Capacity(5), dim="calls", enforcement="reject"))
    with QuotaToken("api", 1) as token:
        async with open_desk() as desk:
            await desk.arrive("holder", "slots", seconds=2)
            await desk.arrive("waiter", "slots", calls=1, seconds=0)
            service.pause("api", 10)
            await anyio.sleep(3)
            assert desk.error("waiter").retry_after == 8.0
        token.close()


# Its definition changes meanwhile.


async def test_a_paused_resource_can_be_changed(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute")))
    service.pause("api", 10)
    async with open_desk() as desk:
        await desk.arrive("a", "api", 1, seconds=0)
        service.update("api", limit=Rate(120, "minute"))
        await turns()
        assert service.resource("api").paused_seconds == 10.0
    assert desk.at("a") == 10.0


async def test_who_waits_is_refused_when_it_rejects_from_now_on(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute")))
    service.pause("api", 10)
    async with open_desk() as desk:
        await desk.arrive("a", "api", 1, seconds=0)
        service.update("api", enforcement="reject")
        await turns()
        assert desk.error("a").retry_after == 10.0


async def test_who_waits_is_refused_when_it_is_deleted(service: QuotaService) -> None:
    service.define(Resource("api", Rate(60, "minute")))
    service.pause("api", 10)
    async with open_desk() as desk:
        await desk.arrive("a", "api", 1, seconds=0)
        service.delete("api")
        await turns()
        assert isinstance(desk.error("a"), UnknownResource)
        service.define(Resource("api", Rate(60, "minute")))
        async with reserve("api", 1):
            assert now() == 0.0


# Threads.


async def test_sync_code_does_not_block_an_event_loop(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5)))
    service.pause("api", 10)
    with pytest.raises(BlockingInEventLoop), reserve("api", 1):
        pass


def test_a_thread_waits_for_its_end() -> None:
    clock = VirtualClock()
    with connect(clock=clock) as service:
        service.define(Resource("api", Capacity(5)))
        service.pause("api", 10)
        entered = threading.Event()

        def call() -> None:
            with reserve("api", 1):
                entered.set()

        thread = Thread(call)
        wait_until(in_line(service, 1, "api"))
        clock.advance(9)
        assert not entered.is_set()
        clock.advance(1)
        assert entered.wait(10)
        thread.raise_it()


# Bad input.


@pytest.mark.parametrize(
    "seconds",
    [-1, -0.1, math.nan, math.inf, True, False, "soon", "", None, 86_401, "2d", 10**40, b"1"],
)
def test_nonsense_is_refused(service: QuotaService, seconds: Any) -> None:
    service.define(Resource("api", Capacity(5)))
    with pytest.raises(InvalidAmount, match="give seconds from 0 to 86,400"):
        service.pause("api", seconds)
    held = take("api", 1)
    with pytest.raises(InvalidAmount):
        held.pause(seconds)
    assert service.resource("api").paused_seconds == 0.0
    held.release()


def test_an_unknown_resource(service: QuotaService) -> None:
    with pytest.raises(UnknownResource):
        service.pause("nothing", 5)


def test_a_text_and_a_whole_day(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5)))
    service.pause("api", "1d")
    assert service.resource("api").paused_seconds <= 86_400.0


# What is shown, and what it costs.


async def test_it_is_shown(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(5)))
    service.pause("api", 5)
    await anyio.sleep(1)
    assert service.resource("api").to_dict()["paused_seconds"] == 4.0
    await anyio.sleep(10)
    assert service.resource("api").to_dict()["paused_seconds"] == 0.0


async def test_after_a_pause_calls_take_the_quick_path_again(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(50)))
    cell = service.runtime.resources.get("api").cell
    before = cell.floor
    service.pause("api", 5)
    assert cell.floor > before
    await anyio.sleep(5)
    async with reserve("api", 1):
        assert cell.floor == before


# With a ledger.


@pytest.mark.parametrize("policy", ["throttle", "reject"])
@every_kind
def test_what_a_ledger_has_is_paused_in_this_process(
    tmp_path: Path, limit: QuotaLimit, policy: str
) -> None:
    with connect(ledger=f"sqlite:///{tmp_path}/ledger.db") as service:
        service.define(Resource("api", limit, enforcement=policy))
        with reserve("api", 1):
            pass
        service.pause("api", 3_600)
        with pytest.raises(QuotaExceeded) as caught, reserve("api", 1, max_wait=0):
            pass
        assert caught.value.is_paused
        assert 3_590 < (caught.value.retry_after or 0) <= 3_600
        with pytest.raises(QuotaExceeded):
            reserve_nowait("api", 1)
        service.pause("api", 0)
        with reserve("api", 1):
            pass


@every_kind
def test_a_call_waits_for_what_a_ledger_has_until_its_end(
    tmp_path: Path, limit: QuotaLimit
) -> None:
    with connect(ledger=f"sqlite:///{tmp_path}/ledger.db") as service:
        service.define(Resource("api", limit))
        service.pause("api", 0.2)
        with reserve("api", 1):
            assert service.resource("api").paused_seconds == 0.0


def test_others_may_draw_on_the_ledger_meanwhile(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/ledger.db"
    with connect(ledger=address) as other, connect(ledger=address) as service:
        other.define(Resource("slots", Concurrency(1)))
        service.refresh()
        service.pause("slots", 3_600)
        with service.task_budget("here", calls=1), pytest.raises(QuotaExceeded):
            reserve("slots", max_wait=0.05).wait()
        with other.task_budget("elsewhere", calls=1), reserve("slots", max_wait=10):
            assert other.resource("slots").paused_seconds == 0.0

"""How a reservation ends: every row of the table, for every way to make one."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    QuotaService,
    Reservation,
    TaskBudget,
    Usage,
    UsageEvent,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import AlreadySettled, ConfigurationError, ReservationError
from budgetware.events import Subscription

Way = Callable[..., AbstractAsyncContextManager[Reservation]]
Books = tuple[object, object, object, object]
Told = tuple[str, int, dict[str, object]]


class HandClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def time(self) -> float:
        return self.ns / 1e9

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


class Oops(Exception):
    """What the body of a block raises."""


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(clock: HandClock) -> Iterator[QuotaService]:
    with connect(clock=clock) as opened:
        yield opened


@pytest.fixture
def events(service: QuotaService) -> Subscription:
    return service.subscribe()


@pytest.fixture
def kept() -> list[Reservation]:
    """Where a block leaves its reservation for what comes after it."""
    return []


def told(events: Subscription) -> list[Told]:
    found: list[Told] = []
    while (event := events.get_nowait()) is not None:
        found.append((event.outcome, event.status, dict(event.charged)))
    return found


def taken(events: Subscription) -> UsageEvent:
    event = events.get_nowait()
    assert event is not None
    return event


def books(budget: TaskBudget) -> Books:
    """Tokens spent, reserved, remaining, and how much of the spent is assumed."""
    shown = budget.snapshot()["tokens"]
    return shown.spent, shown.reserved, shown.remaining, shown.assumed


@asynccontextmanager
async def by_async_with(**options: Any) -> AsyncGenerator[Reservation]:
    async with reserve(**options) as reservation:
        yield reservation


@asynccontextmanager
async def by_with(**options: Any) -> AsyncGenerator[Reservation]:
    with reserve(**options) as reservation:
        yield reservation


@asynccontextmanager
async def by_await(**options: Any) -> AsyncGenerator[Reservation]:
    async with await reserve(**options) as reservation:
        yield reservation


@asynccontextmanager
async def by_nowait(**options: Any) -> AsyncGenerator[Reservation]:
    with reserve_nowait(**options) as reservation:
        yield reservation


every_way = pytest.mark.parametrize("way", [by_async_with, by_with, by_await, by_nowait])


@every_way
async def test_while_it_is_open_it_is_reserved(way: Way, service: QuotaService) -> None:
    async with task_budget(tokens=100) as budget, way(tokens=30) as reservation:
        assert (reservation.state, reservation.amounts) == ("held", {"tokens": 30})
        assert books(budget) == (0, 30, 70, 0)


@every_way
async def test_committing_less_returns_the_rest(way: Way, events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.commit(12)
            assert books(budget) == (12, 0, 88, 0)
        assert reservation.state == "committed"
        assert books(budget) == (12, 0, 88, 0)
    assert told(events) == [("completed", 200, {"tokens": 12})]


@every_way
async def test_committing_more_is_debt_that_refuses_the_next(
    way: Way, events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.commit(130)
        assert budget.snapshot()["tokens"].overrun == 30
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=1)
    assert told(events) == [
        ("completed", 200, {"tokens": 130}),
        ("rejected", 429, {"tokens": 0}),
    ]


@every_way
async def test_releasing_returns_all(way: Way, events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.release()
        assert reservation.state == "released"
        assert books(budget) == (0, 0, 100, 0)
    assert told(events) == [("completed", 200, {"tokens": 0})]


@every_way
async def test_a_record_is_booked_by_a_normal_end(way: Way, events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.record(10)
            reservation.record(25)
            reservation.record(15)
        assert reservation.state == "committed"
        assert books(budget) == (25, 0, 75, 0)
    assert told(events) == [("completed", 200, {"tokens": 25})]


@every_way
async def test_left_unsettled_it_is_assumed_as_held(way: Way, events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            pass
        assert reservation.state == "assumed"
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("completed", 200, {"tokens": 30})]


@every_way
async def test_an_error_leaves_it_assumed_as_held(
    way: Way, kept: list[Reservation], events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        with suppress(Oops):
            async with way(tokens=30) as reservation:
                kept.append(reservation)
                raise Oops
        assert kept[0].state == "assumed"
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("failed", 500, {"tokens": 30})]


@every_way
async def test_an_error_after_a_record_leaves_the_record_assumed(
    way: Way, kept: list[Reservation], events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        with suppress(Oops):
            async with way(tokens=30) as reservation:
                kept.append(reservation)
                reservation.record(11)
                raise Oops
        assert kept[0].state == "assumed"
        assert books(budget) == (11, 0, 89, 11)
    assert told(events) == [("failed", 500, {"tokens": 11})]


def says_release(error: Exception) -> Any:
    return "release" if isinstance(error, Oops) else "charge"


@every_way
@pytest.mark.parametrize("on_error", ["release", says_release])
async def test_an_error_that_means_nothing_was_paid_releases(
    way: Way, kept: list[Reservation], on_error: Any, events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        with suppress(Oops):
            async with way(tokens=30, on_error=on_error) as reservation:
                kept.append(reservation)
                raise Oops
        assert kept[0].state == "released"
        assert books(budget) == (0, 0, 100, 0)
    assert told(events) == [("failed", 500, {"tokens": 0})]


@every_way
async def test_an_error_that_on_error_charges_is_assumed(way: Way, events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        with pytest.raises(KeyError):
            async with way(tokens=30, on_error=says_release):
                raise KeyError
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("failed", 500, {"tokens": 30})]


@every_way
async def test_an_on_error_that_raises_is_seen_and_the_call_is_charged(
    way: Way, events: Subscription
) -> None:
    def broken(error: Exception) -> Any:
        raise LookupError("no table") from error

    async with task_budget(tokens=100) as budget:
        with pytest.raises(LookupError, match="no table"):
            async with way(tokens=30, on_error=broken):
                raise Oops
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("failed", 500, {"tokens": 30})]


@every_way
async def test_cancellation_leaves_it_assumed_whatever_on_error_says(
    way: Way, kept: list[Reservation], events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        with anyio.CancelScope() as scope:
            async with way(tokens=30, on_error="release") as reservation:
                kept.append(reservation)
                scope.cancel()
                await checkpoint()
        assert kept[0].state == "assumed"
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("cancelled", 499, {"tokens": 30})]


@every_way
async def test_cancellation_after_a_record_leaves_the_record_assumed(
    way: Way, kept: list[Reservation], events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        with anyio.CancelScope() as scope:
            async with way(tokens=30) as reservation:
                kept.append(reservation)
                reservation.record(7)
                scope.cancel()
                await checkpoint()
        assert kept[0].state == "assumed"
        assert books(budget) == (7, 0, 93, 7)
    assert told(events) == [("cancelled", 499, {"tokens": 7})]


@every_way
async def test_what_was_committed_stands_when_the_block_then_fails(
    way: Way, kept: list[Reservation], service: QuotaService
) -> None:
    async with task_budget(tokens=100) as budget:
        with suppress(Oops):
            async with way(tokens=30, on_error="release") as reservation:
                kept.append(reservation)
                reservation.commit(20)
                raise Oops
        assert kept[0].state == "committed"
        assert books(budget) == (20, 0, 80, 0)


@every_way
async def test_a_commit_without_numbers_books_the_record(way: Way, service: QuotaService) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.record(9)
            reservation.commit()
        assert reservation.state == "committed"
        assert books(budget) == (9, 0, 91, 0)


@every_way
async def test_a_commit_without_numbers_or_record_books_what_is_held(
    way: Way, service: QuotaService
) -> None:
    async with task_budget(tokens=100) as budget:
        async with way(tokens=30) as reservation:
            reservation.commit()
        assert reservation.state == "committed"
        assert books(budget) == (30, 0, 70, 0)


USED: list[Any] = [
    12,
    {"tokens": 12},
    Usage(input_tokens=10, output_tokens=2),
    {"usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}},
]


@pytest.mark.parametrize("used", USED, ids=["int", "mapping", "Usage", "reply"])
def test_a_commit_reads_what_is_used_in_every_form(used: Any, service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        reserve_nowait(tokens=30).commit(used)
        reserve_nowait(tokens=30).commit(tokens=12)
        assert books(budget) == (24, 0, 76, 0)


def test_a_commit_keeps_the_dimensions_it_does_not_name_as_held(service: QuotaService) -> None:
    with task_budget(tokens=100, calls=5) as budget:
        reserve_nowait(tokens=30, calls=2).commit(tokens=10)
        assert (budget.spent("tokens"), budget.spent("calls")) == (10, 2)


def test_records_are_the_highest_per_dimension(service: QuotaService) -> None:
    with task_budget(tokens=100, calls=9) as budget:
        with reserve(tokens=30, calls=5) as reservation:
            reservation.record(tokens=20, calls=1)
            reservation.record(tokens=10, calls=3)
        assert (budget.spent("tokens"), budget.spent("calls")) == (20, 3)


def test_cumulative_frames_of_a_stream_count_once(service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        with reserve(tokens=90) as reservation:
            for output in (10, 25, 40):
                reservation.record(Usage(output_tokens=output))
        assert books(budget) == (40, 0, 60, 0)


def test_frames_that_tell_of_different_axes_are_joined(service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        with reserve(tokens=90) as reservation:
            reservation.record(Usage(input_tokens=30, output_tokens=1))
            reservation.record(Usage(output_tokens=25))
        assert books(budget) == (55, 0, 45, 0)


# A bare reservation, which no block ends.


async def test_a_bare_reservation_expires_after_ten_minutes(
    clock: HandClock, events: Subscription
) -> None:
    async with task_budget(tokens=100) as budget:
        reservation = await reserve(tokens=30)
        clock.advance(599)
        assert books(budget) == (0, 30, 70, 0)
        clock.advance(1)
        assert reservation.state == "assumed"
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("completed", 200, {"tokens": 30})]


@pytest.mark.parametrize("expires_in", [90, "90s", "1m30s", 90.0])
def test_a_bare_reservation_expires_when_told(
    expires_in: Any, clock: HandClock, service: QuotaService
) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30, expires_in=expires_in)
        clock.advance(89.9)
        assert books(budget) == (0, 30, 70, 0)
        clock.advance(0.1)
        assert books(budget) == (30, 0, 70, 30)
        assert reservation.state == "assumed"


def test_an_expired_reservation_with_a_record_books_the_record(
    clock: HandClock, service: QuotaService
) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.record(4)
        clock.advance(601)
        assert books(budget) == (4, 0, 96, 4)
        assert reservation.state == "assumed"


def test_a_commit_after_the_expiry_corrects(clock: HandClock, events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        clock.advance(601)
        reservation.commit(12)
        assert reservation.state == "committed"
        assert books(budget) == (12, 0, 88, 0)
    assert told(events) == [
        ("completed", 200, {"tokens": 30}),
        ("corrected", 200, {"tokens": -18}),
    ]


def test_a_reservation_in_a_block_does_not_expire_unless_told(
    clock: HandClock, service: QuotaService
) -> None:
    with task_budget(tokens=100) as budget, reserve(tokens=30) as reservation:
        clock.advance(86_400)
        assert books(budget) == (0, 30, 70, 0)
        reservation.release()


def test_a_reservation_in_a_block_expires_when_told(clock: HandClock, events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        with reserve(tokens=30, expires_in=5) as reservation:
            clock.advance(6)
            assert books(budget) == (30, 0, 70, 30)
        assert reservation.state == "assumed"
    assert told(events) == [("completed", 200, {"tokens": 30})]


def test_an_expired_hold_makes_room_no_sooner_than_it_is_looked_at(
    clock: HandClock, service: QuotaService
) -> None:
    with task_budget(tokens=100) as budget:
        kept = reserve_nowait(tokens=60)
        kept.record(10)
        clock.advance(601)
        reserve_nowait(tokens=70).release()
        assert books(budget) == (10, 0, 90, 10)


async def test_a_collected_reservation_is_assumed(events: Subscription) -> None:
    async with task_budget(tokens=100) as budget:
        reservation = await reserve(tokens=30)
        del reservation
        gc.collect()
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("completed", 200, {"tokens": 30})]


def test_a_collected_reservation_with_a_record_books_the_record(events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.record(6)
        del reservation
        gc.collect()
        assert books(budget) == (6, 0, 94, 6)
    assert told(events) == [("completed", 200, {"tokens": 6})]


def test_a_block_that_nobody_can_leave_any_more_is_assumed(events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        stack = ExitStack()
        stack.enter_context(reserve(tokens=30))
        del stack
        gc.collect()
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("completed", 200, {"tokens": 30})]


def test_a_coroutine_closed_within_the_block_is_assumed(events: Subscription) -> None:
    class Stop:
        def __await__(self) -> Generator[None]:
            yield

    async def stopped() -> None:
        async with reserve(tokens=30):
            await Stop()

    with task_budget(tokens=100) as budget:
        coroutine = stopped()
        coroutine.send(None)
        assert books(budget) == (0, 30, 70, 0)
        coroutine.close()
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("cancelled", 499, {"tokens": 30})]


def test_a_reserve_that_was_never_entered_warns() -> None:
    with pytest.warns(ResourceWarning, match=r"never entered or awaited: nothing was held"):
        reserve(tokens=30)


async def test_one_reserve_is_one_block(service: QuotaService) -> None:
    async with task_budget(tokens=100) as budget:
        wanted = reserve(tokens=30)
        async with wanted as reservation:
            with pytest.raises(ReservationError, match=r"reserve\(\) again"):
                await wanted.__aenter__()
            reservation.commit(5)
        assert books(budget) == (5, 0, 95, 0)


# Settling again.


@pytest.fixture
def assumed(events: Subscription) -> Iterator[tuple[TaskBudget, Reservation]]:
    """A task of 100 tokens with one reservation of 30 that was left unsettled."""
    with ExitStack() as stack:
        budget = stack.enter_context(task_budget(tokens=100))
        with reserve(tokens=30) as reservation:
            pass
        taken(events)
        yield budget, reservation


@pytest.mark.parametrize("used", [0, 12, 45])
def test_an_assumed_reservation_is_corrected_exactly(
    used: int, assumed: tuple[TaskBudget, Reservation], events: Subscription
) -> None:
    budget, reservation = assumed
    reservation.commit(used)
    assert reservation.state == "committed"
    assert books(budget) == (used, 0, 100 - used, 0)
    event = taken(events)
    assert (event.outcome, event.charged) == ("corrected", {"tokens": used - 30})
    assert event.request_id == reservation.id


def test_an_assumed_reservation_may_be_released(
    assumed: tuple[TaskBudget, Reservation], events: Subscription
) -> None:
    budget, reservation = assumed
    reservation.release()
    assert reservation.state == "released"
    assert books(budget) == (0, 0, 100, 0)
    assert told(events) == [("corrected", 200, {"tokens": -30})]


def test_a_correction_happens_once(
    assumed: tuple[TaskBudget, Reservation], events: Subscription
) -> None:
    budget, reservation = assumed
    first = reservation.commit(12)
    assert reservation.commit(12) == first
    with pytest.raises(AlreadySettled, match="12"):
        reservation.commit(13)
    with pytest.raises(AlreadySettled):
        reservation.release()
    assert books(budget) == (12, 0, 88, 0)
    assert len(told(events)) == 1


def test_an_assumed_record_is_corrected_from_the_record(events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        with suppress(Oops), reserve(tokens=30) as reservation:
            reservation.record(10)
            raise Oops
        reservation.commit(14)
        assert books(budget) == (14, 0, 86, 0)
    assert told(events) == [("failed", 500, {"tokens": 10}), ("corrected", 200, {"tokens": 4})]


def test_a_second_commit_of_the_same_numbers_returns_the_first_outcome(
    events: Subscription,
) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        first = reservation.commit(12)
        assert reservation.commit(tokens=12) == first
        assert books(budget) == (12, 0, 88, 0)
    assert len(told(events)) == 1


def test_a_second_commit_of_other_numbers_is_refused(events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.commit(12)
        with pytest.raises(AlreadySettled, match=r"committed.*12"):
            reservation.commit(13)
        assert reservation.state == "committed"
        assert books(budget) == (12, 0, 88, 0)
    assert len(told(events)) == 1


def test_a_commit_after_a_release_is_refused(service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        reservation.release()
        with pytest.raises(AlreadySettled, match="released"):
            reservation.commit(12)
        assert books(budget) == (0, 0, 100, 0)


def test_releasing_twice_is_a_no_op(service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        assert reservation.release() == reservation.release()
        assert reservation.state == "released"
        assert books(budget) == (0, 0, 100, 0)


def test_a_wrong_commit_leaves_it_open(service: QuotaService) -> None:
    with task_budget(tokens=100) as budget:
        reservation = reserve_nowait(tokens=30)
        with pytest.raises(ConfigurationError):
            reservation.commit(-1)
        assert reservation.state == "held"
        assert books(budget) == (0, 30, 70, 0)
        reservation.commit(3)
        assert books(budget) == (3, 0, 97, 0)


# After the task.


def test_an_open_reservation_stays_held_on_the_ancestors(service: QuotaService) -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", tokens=50) as inner:
            reservation = reserve_nowait(tokens=30)
        assert books(outer) == (0, 30, 70, 0)
        reservation.commit(10)
        assert books(outer) == (10, 0, 90, 0)
        assert books(inner) == (10, 0, 40, 0)


def test_an_assumed_reservation_is_corrected_after_its_task(service: QuotaService) -> None:
    with task_budget("outer", tokens=100) as outer:
        with task_budget("inner", tokens=50), reserve(tokens=30) as reservation:
            pass
        reservation.commit(31)
        assert books(outer) == (31, 0, 69, 0)


def test_a_charge_books_what_has_happened_and_tells_of_it(events: Subscription) -> None:
    with task_budget(tokens=100) as budget:
        assert charge(tokens=130).is_exhausted
        assert books(budget) == (130, 0, 0, 0)
        assert budget.snapshot()["tokens"].overrun == 30
    assert told(events) == [("completed", 200, {"tokens": 130})]


# @budgeted


async def test_a_call_without_settle_commits_what_was_held(events: Subscription) -> None:
    @budgeted(tokens=30)
    async def work() -> str:
        return "done"

    @budgeted(tokens=30)
    def sync_work() -> str:
        return "done"

    async with task_budget(tokens=100) as budget:
        assert (await work(), sync_work()) == ("done", "done")
        assert books(budget) == (60, 0, 40, 0)
    assert told(events) == [("completed", 200, {"tokens": 30})] * 2


async def test_settle_says_what_was_used(events: Subscription) -> None:
    @budgeted(tokens=30, settle=len)
    async def work(text: str) -> str:
        return text

    @budgeted(tokens=30, settle=len)
    def sync_work(text: str) -> str:
        return text

    async with task_budget(tokens=100) as budget:
        await work("12345")
        sync_work("1234567")
        assert books(budget) == (12, 0, 88, 0)
    assert told(events) == [
        ("completed", 200, {"tokens": 5}),
        ("completed", 200, {"tokens": 7}),
    ]


async def test_a_settle_that_raises_is_seen_and_the_call_is_charged_in_full(
    events: Subscription,
) -> None:
    def broken(result: str) -> int:
        raise LookupError(result)

    @budgeted(tokens=30, settle=broken)
    async def work() -> str:
        return "no usage"

    @budgeted(tokens=30, settle=broken)
    def sync_work() -> str:
        return "no usage"

    async with task_budget(tokens=100) as budget:
        with pytest.raises(LookupError, match="no usage"):
            await work()
        with pytest.raises(LookupError, match="no usage"):
            sync_work()
        assert books(budget) == (60, 0, 40, 60)
    assert [charged for _outcome, _status, charged in told(events)] == [{"tokens": 30}] * 2


@pytest.mark.parametrize(
    ("on_error", "expected"), [("charge", (60, 0, 40, 60)), ("release", (0, 0, 100, 0))]
)
async def test_a_call_that_fails_ends_as_on_error_says(
    on_error: Any, expected: Books, events: Subscription
) -> None:
    @budgeted(tokens=30, on_error=on_error)
    async def work() -> None:
        raise Oops

    @budgeted(tokens=30, on_error=on_error)
    def sync_work() -> None:
        raise Oops

    async with task_budget(tokens=100) as budget:
        with pytest.raises(Oops):
            await work()
        with pytest.raises(Oops):
            sync_work()
        assert books(budget) == expected
    assert [(outcome, status) for outcome, status, _c in told(events)] == [("failed", 500)] * 2


async def test_a_cancelled_call_is_assumed(events: Subscription) -> None:
    @budgeted(tokens=30, on_error="release")
    async def work() -> None:
        await anyio.sleep_forever()

    async with task_budget(tokens=100) as budget:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await checkpoint()
                scope.cancel()
        assert books(budget) == (30, 0, 70, 30)
    assert told(events) == [("cancelled", 499, {"tokens": 30})]


async def test_a_cancelled_call_is_assumed_when_nobody_listens() -> None:
    @budgeted(tokens=30)
    async def work() -> None:
        await anyio.sleep_forever()

    async with task_budget(tokens=100) as budget:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await checkpoint()
                scope.cancel()
        assert books(budget) == (30, 0, 70, 30)


class TestGenerators:
    """A decorated generator holds from its first step to its last."""

    @staticmethod
    @budgeted(tokens=30)
    def count(to: int) -> Iterator[int]:
        yield from range(to)

    @staticmethod
    @budgeted(tokens=30, settle=lambda item: item)
    def grow() -> Iterator[int | None]:
        yield from (4, None, 9, 7)

    @staticmethod
    @budgeted(tokens=30, settle=lambda item: item)
    def break_after(item: int | None) -> Iterator[int]:
        if item is not None:
            yield item
        raise Oops

    def test_holds_nothing_before_its_first_step(self, service: QuotaService) -> None:
        with task_budget(tokens=100) as budget:
            steps: Any = self.count(2)
            assert books(budget) == (0, 0, 100, 0)
            next(steps)
            assert books(budget) == (0, 30, 70, 0)
            steps.close()

    def test_read_to_the_end_commits_what_was_held(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            assert list(self.count(3)) == [0, 1, 2]
            assert books(budget) == (30, 0, 70, 0)
        assert told(events) == [("completed", 200, {"tokens": 30})]

    def test_items_settle_cumulatively_and_none_is_passed_over(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            assert list(self.grow()) == [4, None, 9, 7]
            assert books(budget) == (9, 0, 91, 0)
        assert told(events) == [("completed", 200, {"tokens": 9})]

    def test_closed_early_it_is_assumed_and_cancelled(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            steps: Any = self.count(3)
            next(steps)
            steps.close()
            assert books(budget) == (30, 0, 70, 30)
        assert told(events) == [("cancelled", 499, {"tokens": 30})]

    def test_closed_early_after_a_report_it_is_the_report(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            steps: Any = self.grow()
            next(steps)
            steps.close()
            assert books(budget) == (4, 0, 96, 4)
        assert told(events) == [("cancelled", 499, {"tokens": 4})]

    def test_dropped_half_read_it_is_assumed(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            steps: Any = self.count(3)
            next(steps)
            del steps
            gc.collect()
            assert books(budget) == (30, 0, 70, 30)
        assert told(events) == [("cancelled", 499, {"tokens": 30})]

    def test_failing_after_an_item_it_is_broken(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            with pytest.raises(Oops):
                list(self.break_after(5))
            assert books(budget) == (5, 0, 95, 5)
        assert told(events) == [("broken", 0, {"tokens": 5})]

    def test_failing_before_its_first_item_it_is_failed(self, events: Subscription) -> None:
        with task_budget(tokens=100) as budget:
            with pytest.raises(Oops):
                list(self.break_after(None))
            assert books(budget) == (30, 0, 70, 30)
        assert told(events) == [("failed", 500, {"tokens": 30})]

    def test_a_settle_that_raises_ends_it_charged_in_full(self, events: Subscription) -> None:
        def broken(item: int) -> int:
            raise LookupError(item)

        @budgeted(tokens=30, settle=broken)
        def count() -> Iterator[int]:
            yield 1

        with task_budget(tokens=100) as budget:
            with pytest.raises(LookupError):
                list(count())
            assert books(budget) == (30, 0, 70, 30)
        assert [charged for _o, _s, charged in told(events)] == [{"tokens": 30}]

    def test_returns_and_receives_as_before(self, service: QuotaService) -> None:
        @budgeted(tokens=30)
        def echo() -> Generator[str, str, str]:
            sent = yield "first"
            return f"last {sent}"

        with task_budget(tokens=100):
            steps = echo()
            assert next(steps) == "first"
            with pytest.raises(StopIteration, match="last word"):
                steps.send("word")


class TestAsyncGenerators:
    """The same, on an event loop."""

    @staticmethod
    @budgeted(tokens=30, settle=lambda item: item)
    async def grow(*items: int) -> AsyncIterator[int]:
        for item in items:
            yield item
            await checkpoint()

    @staticmethod
    @budgeted(tokens=30, on_error="release")
    async def break_after(count: int) -> AsyncIterator[int]:
        for item in range(count):
            yield item
        raise Oops

    async def test_read_to_the_end_commits(self, events: Subscription) -> None:
        async with task_budget(tokens=100) as budget:
            assert [item async for item in self.grow(3, 8)] == [3, 8]
            assert books(budget) == (8, 0, 92, 0)
        assert told(events) == [("completed", 200, {"tokens": 8})]

    async def test_closed_early_it_is_the_report_and_cancelled(self, events: Subscription) -> None:
        async with task_budget(tokens=100) as budget:
            steps: Any = self.grow(3, 8)
            await steps.__anext__()
            await steps.aclose()
            assert books(budget) == (3, 0, 97, 3)
        assert told(events) == [("cancelled", 499, {"tokens": 3})]

    async def test_cancelled_it_is_the_report_and_cancelled(self, events: Subscription) -> None:
        async with task_budget(tokens=100) as budget:
            with anyio.CancelScope() as scope:
                async for _item in self.grow(3, 8):
                    scope.cancel()
            assert books(budget) == (3, 0, 97, 3)
        assert told(events) == [("cancelled", 499, {"tokens": 3})]

    @pytest.mark.parametrize(("items", "expected"), [(0, ("failed", 500)), (2, ("broken", 0))])
    async def test_failing_it_is_broken_after_the_first_item(
        self, items: int, expected: tuple[str, int], events: Subscription
    ) -> None:
        async with task_budget(tokens=100) as budget:
            with pytest.raises(Oops):
                _ = [item async for item in self.break_after(items)]
            assert books(budget) == (0, 0, 100, 0)
        assert told(events) == [(*expected, {"tokens": 0})]


def test_a_second_settlement_by_default_means_what_is_held() -> None:
    with task_budget(tokens=100):
        released = reserve_nowait(tokens=50)
        released.release()
        with pytest.raises(AlreadySettled):
            released.commit()
        committed = reserve_nowait(tokens=30)
        committed.commit(20)
        with pytest.raises(AlreadySettled):
            committed.commit()
        with pytest.raises(AlreadySettled):
            committed.record(25)
        assert committed.commit(20) == "committed"

"""Resources that ask for each call, those that keep little in stock, and leases that end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Resource,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
)
from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.memory import MemoryLedger
from budgetware.testing import VirtualClock
from tests.ledgers.places import Line, Place, inside, soon


@pytest.fixture
def exact(place: Place) -> Iterator[QuotaService]:
    with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject", dim="tokens", per_call=True))
        yield service


# Asked for each call.


async def test_what_was_settled_is_in_the_ledger_when_the_block_is_left(
    place: Place, exact: QuotaService
) -> None:
    async with reserve("org", tokens=50) as reservation:
        reservation.commit(20)
    assert place.books("r/org") == (20, 0, 0)
    with reserve("org", tokens=50) as again:
        again.commit(70)
    assert place.books("r/org") == (90, 0, 0)


async def test_and_when_a_function_has_returned(place: Place, exact: QuotaService) -> None:
    @budgeted(target="org", tokens=50, settle=len)
    async def answer(text: str) -> str:
        return text

    @budgeted(target="org", tokens=50, settle=len)
    def answer_sync(text: str) -> str:
        return text

    await answer("12345")
    assert place.books("r/org") == (5, 0, 0)
    answer_sync("12345")
    assert place.books("r/org") == (10, 0, 0)


async def test_an_error_of_the_block_is_told_too(place: Place, exact: QuotaService) -> None:
    with pytest.raises(ZeroDivisionError):
        async with reserve("org", tokens=50):
            raise ZeroDivisionError
    assert place.books("r/org") == (50, 0, 0)


def test_nothing_is_kept_in_stock(place: Place, exact: QuotaService) -> None:
    with place.connect() as other, inside(other):
        with reserve("org", tokens=60) as reservation:
            with inside(exact), pytest.raises(QuotaExceeded, match="40 of 100"):
                reserve_nowait("org", tokens=41)
            reservation.commit(10)
        soon(lambda: place.books("r/org") == (10, 0, 0))


def test_no_more_is_in_stock_than_is_allowed(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(1_000), "reject", max_lease=3))
        for _ in range(50):
            reserve_nowait("org", 1).commit()
        service.flush()
        used, out, _stranded = place.books("r/org")
    assert used == 50
    assert out <= 2 * 3


# Leases that end.


class Crash:
    """Services on a virtual clock, one of which is cut off while it has something."""

    def __init__(
        self, stranded: str, limit: Capacity | Concurrency, *, per_call: bool = False
    ) -> None:
        self.clock = VirtualClock()
        self.ledger = MemoryLedger(now=lambda: self.clock.now_ns() / 1e9, wall=self.clock.time)
        away, self.line = Line.to(self.ledger)
        self.lost = connect(ledger=away, clock=self.clock)
        self.other = connect(ledger=self.ledger, clock=self.clock)
        self.resource = Resource("org", limit, "reject", stranded=stranded, per_call=per_call)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def books(self) -> tuple[int, int, int]:
        state = self.ledger.read("r/org")[0]
        return state.used, state.out, state.stranded


@pytest.mark.parametrize(("stranded", "left"), [("keep", 60), ("free", 100)])
def test_what_was_lost_is_gone_or_free_as_the_resource_says(stranded: str, left: int) -> None:
    crash = Crash(stranded, Capacity(100), per_call=True)
    with crash.other as other, crash.lost as lost:
        lost.define(crash.resource)
        other.define(crash.resource)
        with inside(lost):
            held = reserve_nowait("org", 40)
        crash.line.is_cut = True
        crash.clock.advance(10.5)
        with inside(other):
            with pytest.raises(QuotaExceeded):
                reserve_nowait("org", left + 1)
            reserve_nowait("org", left).release()
        crash.line.is_cut = False
        held.commit(30)  # it was away, not dead
    assert crash.books() == (30, 0, 0)
    assert crash.ledger.verify() == []


def test_slots_of_one_who_was_lost_are_free_after_a_while() -> None:
    crash = Crash("keep", Concurrency(2))
    with crash.other as other, crash.lost as lost:
        lost.define(crash.resource)
        other.define(crash.resource)
        with inside(lost):
            held = reserve_nowait("org", 2)
        crash.line.is_cut = True
        crash.clock.advance(13)
        with inside(other), reserve("org", 2):
            pass
        crash.line.is_cut = False
        held.release()
    assert crash.books() == (0, 0, 0)


def test_a_holder_stops_before_its_lease_ends_without_any_timer() -> None:
    crash = Crash("keep", Capacity(1_000))
    with crash.lost as lost:
        lost.define(crash.resource)
        reserve_nowait("org", 30).release()
        reserve_nowait("org", 10).commit()
        crash.line.is_cut = True
        crash.clock.advance(8.9)
        reserve_nowait("org", 10).commit()
        crash.clock.advance(0.2)
        with pytest.raises(LedgerUnavailable):
            reserve_nowait("org", 10)
        crash.line.is_cut = False
        crash.clock.advance(5)
        soon(lambda: crash.books()[0] == 20)
    assert crash.books() == (20, 0, 0)

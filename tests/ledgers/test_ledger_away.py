"""While a ledger is away: nothing is granted that cannot be booked, and nothing is forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from budgetware import Capacity, QuotaService, Resource, reserve, reserve_nowait
from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.leases import OnLedgerError
from tests.ledgers.places import Line, Place, inside, soon

SOON_SECONDS = 5.0


@dataclass
class Cut:
    """A service whose line to its ledger can be cut."""

    service: QuotaService
    line: Line

    def define(self, mode: OnLedgerError, **options: bool) -> None:
        limit = Capacity(100)
        resource = Resource("org", limit, "reject", on_ledger_error=mode, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.service.define(resource)

    def notices(self) -> None:
        """Ask until it is known that the ledger is away."""
        soon(lambda: not granted(99))


def granted(units: int) -> bool:
    try:
        reserve_nowait("org", units).release()
    except LedgerUnavailable:
        return False
    return True


@pytest.fixture
def cut(place: Place) -> Iterator[Cut]:
    ledger, line = Line.to(place.make())
    with Place(lambda: ledger).connect(lease_seconds=1) as service:
        yield Cut(service, line)
        line.is_cut = False


async def test_what_is_not_leased_is_refused(place: Place, cut: Cut) -> None:
    cut.define("lease")
    cut.line.is_cut = True
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await reserve("org", 5)
    with pytest.raises(LedgerUnavailable):
        reserve_nowait("org", 5)
    assert time.monotonic() - began < SOON_SECONDS
    cut.line.is_cut = False
    soon(lambda: granted(5))
    cut.service.close()
    place.assert_at_rest(org=0)


def test_what_is_leased_is_spent_and_reported_once(place: Place, cut: Cut) -> None:
    cut.define("lease")
    reserve_nowait("org", 4).commit()
    cut.service.flush()
    cut.line.is_cut = True
    reserve_nowait("org", 1).commit()
    cut.notices()
    assert place.books("r/org")[0] == 4
    cut.line.is_cut = False
    soon(lambda: place.books("r/org")[0] == 5)
    cut.service.close()
    place.assert_at_rest(org=5)


def test_or_not_even_that(place: Place, cut: Cut) -> None:
    cut.define("reject")
    reserve_nowait("org", 50).release()
    reserve_nowait("org", 4).commit()
    cut.line.is_cut = True
    cut.notices()
    with pytest.raises(LedgerUnavailable):
        reserve_nowait("org", 1)
    cut.line.is_cut = False
    soon(lambda: granted(1))
    cut.service.close()
    place.assert_at_rest(org=4)


async def test_or_everything_which_is_booked_later(place: Place, cut: Cut) -> None:
    cut.define("open")
    cut.line.is_cut = True
    (await reserve("org", 60)).commit()
    reserve_nowait("org", 70).commit(80)
    cut.line.is_cut = False
    soon(lambda: place.books("r/org")[0] == 140)
    cut.service.close()
    assert place.state("r/org").debt == 40
    place.assert_at_rest(org=140)


def test_one_that_is_open_goes_back_to_its_limit(cut: Cut) -> None:
    cut.define("open")
    cut.line.is_cut = True
    reserve_nowait("org", 60).release()
    cut.line.is_cut = False
    soon(lambda: refused_for_good(101))
    assert granted(100)


def refused_for_good(units: int) -> bool:
    try:
        reserve_nowait("org", units).release()
    except LedgerUnavailable:
        return False
    except Exception:
        return True
    return False


async def test_a_settlement_that_cannot_be_told_is_not_waited_for(place: Place, cut: Cut) -> None:
    cut.define("lease", per_call=True)
    began = time.monotonic()
    async with reserve("org", 10) as reservation:
        cut.line.is_cut = True
        reservation.commit(7)
    assert time.monotonic() - began < SOON_SECONDS
    assert place.books("r/org") == (0, 10, 0)
    cut.line.is_cut = False
    soon(lambda: place.books("r/org") == (7, 0, 0))


def test_a_quota_that_cannot_be_put_there_is_not_in_force_here(cut: Cut) -> None:
    cut.line.is_cut = True
    with pytest.raises(LedgerUnavailable):
        cut.service.define_principal("alice", quotas={"tokens": Capacity(10)})
    assert cut.service.principal("alice") is None


def test_nor_is_a_resource(cut: Cut) -> None:
    cut.line.is_cut = True
    with pytest.raises(LedgerUnavailable):
        cut.define("lease")
    cut.line.is_cut = False
    cut.define("lease")
    assert granted(100)


async def test_a_service_is_not_opened_without_its_ledger(place: Place) -> None:
    ledger, line = Line.to(place.make())
    line.is_cut = True
    with pytest.raises(LedgerUnavailable):
        async with Place(lambda: ledger).connect():
            pass


def test_a_shared_task_is_not_entered_without_it(cut: Cut) -> None:
    cut.line.is_cut = True
    task = cut.service.task_budget("job", tokens=10, shared=True)
    with pytest.raises(LedgerUnavailable):
        task.__enter__()
    with inside(cut.service):
        pass

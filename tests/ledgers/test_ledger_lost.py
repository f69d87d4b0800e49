"""A ledger that goes away, comes back, or has forgotten: every call hears of it, and none waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from budgetware import (
    Capacity,
    QuotaService,
    Rate,
    Resource,
    connect,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import LedgerUnavailable, QuotaExceeded
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.terms import Claim
from tests.ledgers.places import Line, Place, soon

LEAVE = """
import sys
from budgetware import Capacity, Resource, connect, reserve
service = connect(ledger=sys.argv[1])
service.__enter__()
service.define(Resource("pages", Capacity(100), "reject"))
for _ in range(10):
    with reserve("pages", 1) as reservation:
        reservation.commit()
"""


@pytest.fixture
def line() -> Line:
    return Line(MemoryLedger())


@pytest.fixture
def service(line: Line) -> Iterator[QuotaService]:
    with connect(ledger=line, lease_seconds=1) as connected:  # pyright: ignore[reportArgumentType]
        connected.define(Resource("first", Capacity(100), "throttle"))
        connected.define(Resource("second", Capacity(100), "reject"))
        connected.define(Resource("third", Capacity(100), "throttle"))
        yield connected
        line.is_cut = False


@pytest.mark.usefixtures("service")
def test_each_resource_is_refused_at_once_after_the_first_was(line: Line) -> None:
    line.is_cut = True
    for name in ("first", "second", "third", "second", "first"):
        with pytest.raises(LedgerUnavailable):
            reserve_nowait(name, 1)
        with pytest.raises(LedgerUnavailable), reserve(name, 1, max_wait=0):
            pass


@pytest.mark.usefixtures("service")
async def test_and_so_is_each_that_would_wait(line: Line) -> None:
    line.is_cut = True
    for name in ("first", "second", "third", "second", "first"):
        with pytest.raises(LedgerUnavailable):
            await reserve(name, 1)
    line.is_cut = False
    for name in ("first", "second", "third"):
        soon(partial(is_granted, name))


def is_granted(name: str) -> bool:
    try:
        reserve_nowait(name, 1).release()
    except LedgerUnavailable:
        return False
    return True


def test_a_ledger_that_recovers_is_away_and_uses_nobody_s_patience() -> None:
    ledger = MemoryLedger()
    with connect(ledger=ledger, lease_seconds=30) as service:
        service.define(Resource("pages", Capacity(1_000), "reject"))
        ledger.sync([Claim("r/pages", "elsewhere", 7, used=1, held=1, ttl_ms=30_000)])
        with task_budget("agent", calls=5_000) as task:
            for _ in range(200):
                with pytest.raises(LedgerUnavailable, match="was restarted or restored"):
                    reserve_nowait("pages", 1)
            task.checkpoint()


def test_what_the_ledger_has_forgotten_can_be_defined_again() -> None:
    ledger = MemoryLedger()
    with connect(ledger=ledger, lease_seconds=0.2) as service:
        service.define(Resource("pages", Capacity(1_000), "reject"))
        reserve_nowait("pages", 1).commit()
        service.flush()
        ledger._nodes.clear()  # pyright: ignore[reportPrivateUsage]
        ledger._leases.clear()  # pyright: ignore[reportPrivateUsage]
        soon(lambda: not is_granted("pages"))
        with pytest.raises(LedgerUnavailable, match=r"resource 'pages'.*define it again"):
            reserve_nowait("pages", 1)
        service.define(Resource("pages", Capacity(1_000), "reject"))
        soon(lambda: is_granted("pages"))


def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/budgetware.db"
    subprocess.run([sys.executable, "-W", "error", "-c", LEAVE, address], check=True, timeout=50)
    with connect(ledger=address) as service:
        balance = service.resource("pages").balance
    assert (balance.spent, balance.granted, balance.remaining) == (10, 0, 90)


def test_what_a_rate_has_is_granted_at_once_to_who_is_alone(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("day", Rate(30_000, "day"), "reject"))
        assert service.resource("day").balance.remaining == 30_000
        reserve_nowait("day", 100).commit()
        reserve_nowait("day", 25_000).commit()
        with pytest.raises(QuotaExceeded) as refused:
            reserve_nowait("day", 25_000)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 3_600


def test_a_principal_defined_elsewhere_later_has_its_quotas_here(place: Place) -> None:
    with place.connect() as first, place.connect() as second:
        first.define_principal("team", quotas={"tokens": Capacity(100)})
        first.define_principal("alice", parent="team")
        with second.task_budget("work", tokens=1_000), principal("alice"):
            reserve_nowait(tokens=90).commit()
            with pytest.raises(QuotaExceeded):
                reserve_nowait(tokens=90)

"""What was reserved of a rate and given back is there again, whatever became of the shares."""

from __future__ import annotations

import time

import pytest

from budgetware import Capacity, QuotaExceeded, QuotaService, Rate, Resource, reserve_nowait
from tests.ledgers.places import Place, soon


def define(service: QuotaService, value: int = 1_000) -> None:
    service.define(Resource("model", Rate(value, "day"), "reject"))


def drain(service: QuotaService, units: int, wanted: int) -> int:
    """Draw so many at a time until all that is wanted came, and what comes beyond it at once."""
    drawn, deadline = 0, time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with service.task_budget("job", calls=10**6):
                reserve_nowait("model", units).commit()
            drawn += units
        except QuotaExceeded:
            if drawn >= wanted:
                break
    return drawn


def inside(service: QuotaService, held: int, used: int) -> int:
    with service.task_budget("job", calls=10**6):
        reservation = reserve_nowait("model", held)
        shared = service.runtime.shared
        assert shared is not None
        lease = shared.leases["r/model"]
        before = lease.epoch
        soon(lambda: lease.epoch > before and lease.asking is None)  # its share has changed
        reservation.commit(used)
    return used


@pytest.mark.parametrize(("held", "used"), [(1_000, 0), (400, 10), (900, 1)])
def test_it_is_drawn_again_to_the_last_unit(place: Place, held: int, used: int) -> None:
    with place.connect(lease_seconds=2) as service:
        define(service)
        spent = sum(inside(service, held, used) for _ in range(2))
        assert spent + drain(service, 1, 1_000 - spent) == 1_000


def test_refused_calls_cost_nothing(place: Place) -> None:
    with place.connect(lease_seconds=2) as service:
        define(service)
        with service.task_budget("job", calls=10**6):
            reserve_nowait("model", 1_000).commit()
            waits: list[float] = []
            for _ in range(40):
                with pytest.raises(QuotaExceeded) as refused:
                    reserve_nowait("model", 1)
                waits.append(refused.value.retry_after or 0.0)
        assert max(waits) < 200


def test_a_raised_rate_has_more_at_once(place: Place) -> None:
    with place.connect(lease_seconds=2) as service:
        define(service, 100)
        service.update("model", limit=Rate(200, "day"))
        assert drain(service, 10, 200) == 200


def test_capacities_are_raised_alike(place: Place) -> None:
    with place.connect(lease_seconds=2) as service:
        service.define(Resource("model", Capacity(100), "reject"))
        service.update("model", limit=Capacity(200))
        assert drain(service, 10, 200) == 200

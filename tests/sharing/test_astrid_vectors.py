"""The vectors of Astrid's reserve and settle per principal (ANCHORS, section 3)."""

from __future__ import annotations

import anyio
import pytest

from budgetware import (
    Capacity,
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
from budgetware.errors import InvalidAmount
from budgetware.testing import VirtualClock
from tests.sharing.conftest import Keep


@pytest.mark.parametrize("enforcement", ["throttle", "reject"])
async def test_four_nested_calls_of_250_pass_and_a_fifth_is_denied_at_once(
    looped: QuotaService, enforcement: str
) -> None:
    quota = Resource("q", Capacity(1_000), enforcement)
    looped.define_principal("alice", quotas={"cpu_micros": quota})
    depth = 0

    async def nest() -> None:
        nonlocal depth
        async with reserve(cpu_micros=250):
            depth += 1
            await nest()

    async with principal("alice"):
        with pytest.raises(QuotaExceeded):
            await nest()
    assert (depth, anyio.current_time()) == (4, 0)


def test_a_reservation_survives_the_roll_of_a_window(
    service: QuotaService, clock: VirtualClock
) -> None:
    service.define_principal("alice", quotas={"cpu_micros": Rate(1_000, "second")})
    with principal("alice"):
        held = reserve_nowait(cpu_micros=600)
        clock.advance(10)
        assert held.state == "held"
        held.commit(100)
        view = service.principal("alice")
        assert view is not None
        balance = view.snapshot()["cpu_micros"]
        assert (balance.overrun, balance.reserved, balance.remaining) == (0, 0, 1_000)


@pytest.mark.parametrize("limit", [Capacity(1_000), Rate(1_000, "day")])
def test_two_held_a_third_denied_and_after_settling_500_fit(
    service: QuotaService, limit: Capacity | Rate
) -> None:
    service.define_principal("alice", quotas={"cpu_micros": limit})
    with principal("alice"):
        first, second = reserve_nowait(cpu_micros=600), reserve_nowait(cpu_micros=400)
        with pytest.raises(QuotaExceeded):
            reserve_nowait(cpu_micros=1)
        first.commit(500)
        second.commit(0)
        reserve_nowait(cpu_micros=500).commit()
        with pytest.raises(QuotaExceeded):
            reserve_nowait(cpu_micros=1)


async def test_of_twenty_tasks_of_ten_exactly_ten_pass(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"cpu_micros": Capacity(100)})
    passed = 0

    async def work() -> None:
        nonlocal passed
        try:
            async with task_budget(calls=1), reserve(cpu_micros=10):
                passed += 1
                await anyio.sleep(1)
        except QuotaExceeded:
            return

    async with principal("alice"), anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(work)
    assert passed == 10


def test_twice_the_budget_does_not_pass_at_a_boundary(
    service: QuotaService, clock: VirtualClock
) -> None:
    service.define_principal("alice", quotas={"cpu_micros": Rate(1_000, "second")})
    passed = 0
    with principal("alice"):
        clock.advance(0.999)
        for _ in range(3):
            clock.advance(0.001)
            for _ in range(1_000):
                try:
                    reserve_nowait(cpu_micros=1).commit()
                except QuotaExceeded:
                    break
                passed += 1
    assert passed == 1_002


def test_delegated_20_spent_8_returned_12(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("allocated", Capacity(100), "reject"))
    owner = keep(QuotaToken("allocated", 100, allowance=50))
    owner.reserve_nowait(10).commit()
    delegate = owner.split(20, allowance=20)
    assert owner.snapshot()["allocated"].remaining == 50 - 10 - 20
    delegate.reserve_nowait(8).commit()
    delegate.close()
    assert owner.snapshot()["allocated"].remaining == 50 - 10 - 20 + 12


def test_a_missing_principal_is_bounded_by_what_all_share(service: QuotaService) -> None:
    service.define(Resource("cpu", Rate(10, "hour"), "reject", dim="cpu_micros"))
    service.define_principal("ops", exempt=True)
    with pytest.raises(QuotaExceeded):
        reserve_nowait("cpu", 11)
    with principal("ops"):
        reserve_nowait("cpu", 11).commit()


def test_an_unknown_principal_is_nothing_rather_than_zeros(service: QuotaService) -> None:
    assert service.principal("nobody") is None


@pytest.mark.parametrize("dim", ["memory", "cpu_micros"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_are_positive(service: QuotaService, dim: str, value: int) -> None:
    with pytest.raises(InvalidAmount):
        service.define_principal("alice", quotas={dim: Capacity(value)})
    with pytest.raises(InvalidAmount):
        service.define_principal("alice", quotas={dim: Rate(value, "second")})
    assert service.principal("alice") is None


def test_every_quota_shows_limit_used_reserved_and_remaining(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"cpu_micros": Capacity(100), "memory": Capacity(64)})
    with principal("alice"), reserve(memory=40), reserve(memory=10):
        reserve_nowait(cpu_micros=30).commit()
        held = reserve_nowait(cpu_micros=20)
        view = service.principal("alice")
        assert view is not None
        cpu, memory = view.snapshot()["cpu_micros"], view.snapshot()["memory"]
        assert (cpu.limit, cpu.spent, cpu.reserved, cpu.remaining) == (100, 30, 20, 50)
        assert (memory.limit, memory.reserved, memory.remaining) == (64, 50, 14)
        held.release()
    assert (view.snapshot()["memory"].spent, view.snapshot()["memory"].reserved) == (50, 0)

"""Metrics: money is read from them, so they must add up to the ledger in every case."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    Usage,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from tests.telemetry.sdk import Sdk
from tests.telemetry.virtual import VirtualClock


@budgeted(tokens=100, calls=1, settle=lambda used: {"tokens": used})
async def work(used: int) -> int:
    return used


@budgeted(tokens=100, calls=1)
async def fixed() -> None:
    return None


def given(n: int) -> int:
    return n


@budgeted(tokens=given, memory=1)
async def computed(n: int) -> None:
    return None


@budgeted(tokens=100, kind="llm", model="m", settle=lambda u: u)
def think() -> Usage:
    return Usage(input_tokens=150, output_tokens=7)


@budgeted(tokens=50)
async def fail() -> None:
    raise LookupError


PRICES = {"m": {"input": "1", "output": "2"}}


async def every_ending(root: str, service: QuotaService) -> dict[str, int]:
    """Spend in every way there is, and return what the root says was spent."""
    async with service.task_budget(root, tokens=10_000, calls=100, usd="5") as budget:
        await fixed()
        await work(60)
        await work(130)
        await computed(11)
        think()
        with suppress(LookupError):
            await fail()
        with suppress(BudgetExceeded):
            await computed(10**9)
        async with task_budget("team", tokens=1_000), task_budget("agent", calls=10):
            await fixed()
            charge(tokens=33, usd="0.25")
            async with reserve(tokens=10):
                pass
        async with task_budget("carved", carve=True, tokens=200):
            await work(150)
            charge(tokens=500)
        assumed = reserve_nowait(tokens=70)
        del assumed
        kept = reserve_nowait(tokens=70, usd="0.01")
        with suppress(LookupError), kept:
            raise LookupError
        kept.commit(tokens=20, usd="0.002")
        more = reserve_nowait(tokens=70)
        with suppress(LookupError), more:
            raise LookupError
        more.commit(tokens=90)
        reserve_nowait(tokens=5).release()
        with anyio.CancelScope() as scope:
            async with reserve(tokens=40) as reservation:
                reservation.record(tokens=15)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        gc.collect()
        dims = budget.snapshot().dims
        return {
            "tokens": int(dims["tokens"].spent),
            "calls": int(dims["calls"].spent),
            "usd_micros": int(dims["usd"].spent * 1_000_000),
        }


def net(sdk: Sdk) -> dict[str, int]:
    usage = sdk.sums("budgetware.usage", "budgetware.dim")
    given_back = sdk.sums("budgetware.corrections", "budgetware.dim")
    return {dim: n - given_back.get(dim, 0) for dim, n in usage.items()}


async def test_usage_minus_corrections_is_what_the_root_spent(sdk: Sdk) -> None:
    with connect(prices=PRICES, **sdk.providers) as service:
        spent = await every_ending("org", service)
    assert spent == net(sdk)
    assert sdk.sums("budgetware.corrections", "budgetware.dim")["tokens"] == 50


async def test_the_roots_gauge_agrees(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("org", tokens=1_000), task_budget("agent", calls=10):
        await work(60)
        await fixed()
        where = {"budgetware__dim": "tokens", "budgetware__quota__state": "used"}
        used = sdk.sums("budgetware.quota.usage", "budgetware.budget.name", **where)
        assert used["org"] == net(sdk)["tokens"] == 160


async def test_sampling_changes_no_metric() -> None:
    recording, unsampled = Sdk(), Sdk(sampler=ALWAYS_OFF)
    found: list[dict[str, int]] = []
    for sdk in (recording, unsampled):
        with connect(prices=PRICES, **sdk.providers) as service:
            spent = await every_ending("org", service)
            found.append(net(sdk))
            assert net(sdk) == spent
    assert found[0] == found[1]
    assert unsampled.spans == []
    for name in ("budgetware.usage", "budgetware.admissions", "budgetware.overdraft"):
        assert recording.series(name) == unsampled.series(name)
    recording.close()
    unsampled.close()


async def test_usage_is_counted_once_at_the_leaf(service: QuotaService, sdk: Sdk) -> None:
    outer = service.task_budget("org", calls=10)
    async with outer, task_budget("team", calls=5), task_budget("agent", calls=3):
        await work(1)
    (series,) = [s for s in sdk.series("budgetware.usage") if ("budgetware.dim", "calls") in s]
    assert dict(series) == {
        "budgetware.dim": "calls",
        "budgetware.budget.name": "agent",
        "gen_ai.operation.name": "execute_tool",
    }


async def test_gauges_show_every_level_of_the_tree(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("org", tokens=1_000), task_budget("team", tokens=500):
        await work(60)
        async with reserve(tokens=7):
            limits = sdk.sums("budgetware.quota.limit", "budgetware.budget.name")
            where = {"budgetware__dim": "tokens", "budgetware__quota__state": "used"}
            used = sdk.sums("budgetware.quota.usage", "budgetware.budget.name", **where)
            where["budgetware__quota__state"] = "reserved"
            reserved = sdk.sums("budgetware.quota.usage", "budgetware.budget.name", **where)
            tasks = sdk.series("budgetware.active_tasks")
    assert limits == {"org": 1_000, "team": 500}
    assert used == {"org": 60, "team": 60}
    assert reserved == {"org": 7, "team": 7}
    assert tasks == {frozenset(): 2}
    assert sdk.series("budgetware.active_tasks") == {frozenset(): 0}
    assert sdk.series("budgetware.quota.limit") == {}


async def test_admissions_name_who_decided(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("org", calls=1), task_budget("agent", tokens=10_000):
        await fixed()
        with pytest.raises(BudgetExceeded):
            await fixed()
    found = {
        tuple(sorted(dict(s).items())): n for s, n in sdk.series("budgetware.admissions").items()
    }
    admitted = {
        "budgetware.decision": "admitted",
        "budgetware.budget.name": "agent",
        "gen_ai.operation.name": "execute_tool",
    }
    rejected = {
        "budgetware.decision": "rejected",
        "budgetware.budget.name": "org",
        "budgetware.dim": "calls",
        "gen_ai.operation.name": "execute_tool",
    }
    assert found == {tuple(sorted(admitted.items())): 1, tuple(sorted(rejected.items())): 1}


async def test_a_termination_counts_as_such(service: QuotaService, sdk: Sdk) -> None:
    @service.task_budget("agent", calls=1, policy="terminate")
    async def agent() -> None:
        await fixed()
        await fixed()

    with pytest.raises(BudgetTerminated):
        await agent()
    assert sdk.sums("budgetware.admissions", "budgetware.decision") == {
        "admitted": 1,
        "terminated": 1,
    }


async def test_overdraft_counts_at_each_level_that_was_exceeded(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("org", tokens=150), task_budget("agent", tokens=100):
        await work(130)
        charge(tokens=40)
    assert sdk.sums("budgetware.overdraft", "budgetware.budget.name") == {"org": 20, "agent": 70}


async def test_the_number_of_tasks_adds_no_series(service: QuotaService, sdk: Sdk) -> None:
    async def run() -> None:
        async with service.task_budget("agent", calls=5, tokens=10_000):
            await fixed()

    await run()
    before = {name: len(sdk.series(name)) for name in ("budgetware.usage", "budgetware.admissions")}
    for _ in range(999):
        await run()
    assert {name: len(sdk.series(name)) for name in before} == before
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"calls": 1_000, "tokens": 10**5}


async def test_names_beyond_200_fold_into_other(service: QuotaService, sdk: Sdk) -> None:
    for i in range(250):
        async with service.task_budget(f"agent-{i}", calls=5):
            charge(calls=1)
    sums = sdk.sums("budgetware.usage", "budgetware.budget.name")
    assert len(sums) == 201
    assert sums["other"] == 50


async def test_duration_has_the_buckets_of_the_standard_and_names_errors(sdk: Sdk) -> None:
    clock = VirtualClock()

    @budgeted(calls=1)
    async def slow(seconds: float) -> None:
        clock.advance(seconds)
        if seconds > 1:
            raise LookupError

    with connect(clock=clock, **sdk.providers) as service:
        async with service.task_budget("agent", calls=5):
            await slow(0.015)
            with suppress(LookupError):
                await slow(3.0)
    metric = sdk.metrics()["budgetware.call.duration"]
    fast, failed = metric.data.data_points
    assert metric.unit == "s"
    assert fast.explicit_bounds == tuple(0.01 * 2**k for k in range(14))
    assert dict(fast.attributes) == {"gen_ai.operation.name": "execute_tool"}
    assert fast.sum == pytest.approx(0.015)
    assert fast.bucket_counts[1] == 1
    assert dict(failed.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "error.type": "LookupError",
    }
    assert failed.sum == pytest.approx(3.0)


async def test_names_kinds_and_units_are_those_of_the_contract(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("agent", tokens=120):
        charge(tokens=130)
        held = reserve_nowait(tokens=0)
        held.release()
        with suppress(BudgetExceeded):
            await work(1)
        await computed(0)
        found = {
            name: (type(m.data).__name__, m.unit, getattr(m.data, "is_monotonic", None))
            for name, m in sdk.metrics().items()
        }
    assert found == {
        "budgetware.usage": ("Sum", "{unit}", True),
        "budgetware.overdraft": ("Sum", "{unit}", True),
        "budgetware.admissions": ("Sum", "{admission}", True),
        "budgetware.quota.limit": ("Sum", "{unit}", False),
        "budgetware.quota.usage": ("Sum", "{unit}", False),
        "budgetware.active_tasks": ("Sum", "{task}", False),
        "budgetware.call.duration": ("Histogram", "s", None),
    }


async def test_counters_outlive_their_service_and_gauges_do_not(sdk: Sdk) -> None:
    with connect(**sdk.providers) as service:
        async with service.task_budget("agent", tokens=1_000):
            await work(60)
    assert sdk.sums("budgetware.usage", "budgetware.dim")["tokens"] == 60
    assert sdk.series("budgetware.quota.limit") == {}
    with connect(**sdk.providers) as service:
        async with service.task_budget("agent", tokens=1_000):
            await work(40)
            assert sdk.series("budgetware.active_tasks") == {frozenset(): 1}
    assert sdk.sums("budgetware.usage", "budgetware.dim")["tokens"] == 100


async def test_a_closed_service_is_not_kept_alive(sdk: Sdk) -> None:
    with connect(**sdk.providers) as service:
        async with service.task_budget("agent", tokens=1_000):
            await work(60)
    runtime = weakref.ref(service.runtime)
    del service
    sdk.memory.clear()
    gc.collect()
    assert runtime() is None
    assert sdk.sums("budgetware.usage", "budgetware.dim")["tokens"] == 60


async def test_two_readers_see_the_same(sdk: Sdk) -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(metric_readers=readers)
    with connect(meter_provider=provider) as service:
        async with service.task_budget("agent", tokens=1_000):
            await work(60)
    for reader in readers:
        sdk.reader = reader
        assert sdk.sums("budgetware.usage", "budgetware.dim")["tokens"] == 60
    provider.shutdown()


async def test_it_can_be_read_while_calls_run(service: QuotaService, sdk: Sdk) -> None:
    task = service.task_budget("agent", tokens=10**9, calls=10**6)
    async with task, anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, sdk.metrics)
        for i in range(200):
            await work(i)
    assert sdk.sums("budgetware.usage", "budgetware.dim")["calls"] == 200

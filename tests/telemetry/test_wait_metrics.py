"""Metrics of waiting, of resources and of principals: they add up to the ledger, and stay few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from threading import Thread
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from budgetware import (
    BudgetwareError,
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    charge,
    connect,
    principal,
    reserve,
    reserve_nowait,
)
from budgetware.kernel.balances import Balance
from budgetware.telemetry import logs
from budgetware.testing import LoopClock, VirtualClock, virtual_backend
from tests.telemetry.queueing import ask, behind, slot
from tests.telemetry.sdk import Sdk

WAITS = "budgetware.admission.wait.duration"
NAME = "budgetware.budget.name"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


def opened(sdk: Sdk) -> QuotaService:
    made = connect(clock=LoopClock(), **sdk.providers)
    made.define(Resource("browsers", Concurrency(1)))
    return made


@pytest.fixture
def service(sdk: Sdk) -> Iterator[QuotaService]:
    with opened(sdk) as made:
        yield made


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def still(sdk: Sdk, clock: VirtualClock) -> Iterator[QuotaService]:
    """A service whose time stands still."""
    with connect(clock=clock, **sdk.providers) as made:
        yield made


def points(sdk: Sdk, name: str) -> list[Any]:
    metric = sdk.metrics().get(name)
    return [] if metric is None else list(metric.data.data_points)


def gauge(sdk: Sdk, name: str) -> dict[str, int]:
    """`used`, `reserved` and `limit` of one name."""
    shown = sdk.sums(
        "budgetware.quota.usage", "budgetware.quota.state", budgetware__budget__name=name
    )
    limit = sdk.sums("budgetware.quota.limit", NAME, budgetware__budget__name=name)
    return shown | {"limit": limit[name]}


def as_gauge(balance: Balance) -> dict[str, Any]:
    return {"used": balance.spent, "reserved": balance.reserved, "limit": balance.limit}


# Waits.


async def test_a_wait_is_in_the_histogram_of_whom_it_waited_for(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", calls=50):
        await behind("browsers", 0.75, slot(), slot())
        await behind("browsers", 400.0, slot())
    metric = sdk.metrics()[WAITS]
    (point,) = points(sdk, WAITS)
    assert (metric.unit, type(metric.data).__name__) == ("s", "Histogram")
    assert point.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
    assert dict(point.attributes) == {NAME: "browsers", "budgetware.dim": "units"}
    assert (point.count, point.sum) == (2, 400.75)
    assert point.bucket_counts == (0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1)


async def test_calls_that_do_not_wait_are_not_in_it(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=50):
        await ask(slot())
        await behind("browsers", 5.0, slot(max_wait=0), slot(policy="reject"))
    assert points(sdk, WAITS) == []


async def test_waits_that_were_in_vain_are_in_it(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=50):
        await behind("browsers", 5.0, slot(max_wait=2))
        with anyio.move_on_after(1):
            await behind("browsers", 5.0, slot())
    (point,) = points(sdk, WAITS)
    assert (point.count, point.sum) == (2, 3.0)


async def test_admissions_name_who_was_waited_for_and_who_refused(
    service: QuotaService, sdk: Sdk
) -> None:
    service.define(Resource("tokens-a-day", Capacity(100), "reject", dim="tokens"))
    async with service.task_budget("research", calls=50, tokens=1_000):
        await behind("browsers", 2.0, slot(), slot(max_wait=0))
        await behind("browsers", 2.0, slot(max_wait=1))
        await ask(lambda: reserve("tokens-a-day", 101))
    own = {NAME: "browsers", "budgetware.dim": "units"}
    tool, plain = {"gen_ai.operation.name": "execute_tool"}, {"gen_ai.operation.name": "reserve"}
    assert sdk.series("budgetware.admissions") == {
        frozenset({"budgetware.decision": "throttled", **own, **tool}.items()): 1,
        frozenset({"budgetware.decision": "rejected", **own, **tool}.items()): 1,
        frozenset(
            {
                "budgetware.decision": "rejected",
                NAME: "tokens-a-day",
                "budgetware.dim": "tokens",
                **plain,
            }.items()
        ): 1,
        frozenset({"budgetware.decision": "admitted", NAME: "research", **tool}.items()): 1,
        frozenset({"budgetware.decision": "admitted", NAME: "research", **plain}.items()): 2,
    }


async def test_the_end_of_its_task_is_counted_whatever_ends_the_wait(
    service: QuotaService, sdk: Sdk
) -> None:
    with suppress(BudgetwareError):
        async with service.task_budget("research", calls=5, seconds=2):
            await behind("browsers", 9.0, slot())
    assert sdk.sums("budgetware.admissions", NAME, budgetware__decision="terminated") == {
        "research": 1
    }


# Every level has its gauges.


async def test_a_capacity_and_a_concurrency_are_shown_as_in_their_snapshots(
    service: QuotaService, sdk: Sdk
) -> None:
    service.define(Resource("org", Capacity(900), dim="tokens"))
    service.define(Resource("team", Capacity(500), dim="tokens", parent="org"))
    reserve_nowait("team", 40).commit(30)
    async with reserve("team", 7), reserve("browsers"):
        shown = {name: gauge(sdk, name) for name in ("org", "team", "browsers")}
        balances = {r.name: as_gauge(r.balance) for r in service.resources()}
    assert shown == balances
    assert shown["team"] == {"used": 30, "reserved": 7, "limit": 500}
    assert shown["browsers"] == {"used": 0, "reserved": 1, "limit": 1}
    (series,) = [s for s in sdk.series("budgetware.quota.limit") if (NAME, "team") in s]
    assert dict(series) == {NAME: "team", "budgetware.dim": "tokens"}


async def test_money_of_a_resource_is_shown_in_millionths(service: QuotaService, sdk: Sdk) -> None:
    service.define(Resource("month", Capacity(Decimal("5")), dim="usd"))
    reserve_nowait("month", "0.25").commit()
    assert gauge(sdk, "month") == {"used": 250_000, "reserved": 0, "limit": 5_000_000}


def test_a_rate_is_shown_as_it_is_now_and_refilled_by_nobody(
    still: QuotaService, sdk: Sdk, clock: VirtualClock
) -> None:
    still.define(Resource("api", Rate(60, "minute", max=90), dim="calls"))
    cell = still.runtime.resources.get("api").cell
    reserve_nowait("api", 50).commit(40)
    held = reserve_nowait("api", 20)
    seen = [gauge(sdk, "api")]
    for seconds in (15, 30, 3_600):
        clock.advance(seconds)
        seen.append(gauge(sdk, "api"))
    assert cell.free == 30
    assert seen == [
        {"used": 40, "reserved": 20, "limit": 90},
        {"used": 25, "reserved": 20, "limit": 90},
        {"used": 0, "reserved": 15, "limit": 90},
        {"used": 0, "reserved": 0, "limit": 90},
    ]
    held.commit()
    assert gauge(sdk, "api") == as_gauge(still.resource("api").balance)


def test_a_debt_of_a_rate_is_more_than_its_limit(still: QuotaService, sdk: Sdk) -> None:
    still.define(Resource("api", Rate(60, "minute"), dim="calls"))
    reserve_nowait("api", 50).commit(75)
    assert gauge(sdk, "api") == {"used": 75, "reserved": 0, "limit": 60}
    assert sdk.sums("budgetware.overdraft", NAME) == {"api": 15}


def test_what_has_changed_or_gone_is_shown_so(still: QuotaService, sdk: Sdk) -> None:
    still.define(Resource("api", Capacity(60), dim="calls"))
    reserve_nowait("api", 50).commit()
    still.update("api", limit=Capacity(20))
    assert gauge(sdk, "api") == {"used": 50, "reserved": 0, "limit": 20}
    still.delete("api")
    assert sdk.series("budgetware.quota.limit") == {}
    assert sdk.series("budgetware.quota.usage") == {}


def test_a_closed_service_shows_nothing_of_its_resources(sdk: Sdk) -> None:
    with connect(**sdk.providers) as made:
        made.define(Resource("api", Capacity(60), dim="calls"))
        reserve_nowait("api", 50).commit()
    assert sdk.series("budgetware.quota.limit") == {}
    assert sum(sdk.series("budgetware.usage").values()) == 50


# Principals have no name.


def define_principals(service: QuotaService, n: int) -> None:
    service.define_principal("team", quotas={"calls": Capacity(100)})
    for i in range(n):
        service.define_principal(
            f"user-{i}", parent="team", quotas={"calls": Capacity(5), "tokens": Capacity(10)}
        )


def test_principals_are_one_series_in_which_nothing_counts_twice(
    still: QuotaService, sdk: Sdk
) -> None:
    define_principals(still, 3)
    for i in range(3):
        with principal(f"user-{i}"):
            reserve_nowait(calls=2, tokens=4).commit()
    with principal("user-0"):
        held = reserve_nowait(calls=1)
        assert sdk.sums(
            "budgetware.quota.limit", "budgetware.dim", budgetware__budget__name="principals"
        ) == {"calls": 100, "tokens": 30}
        states = {
            state: sdk.sums(
                "budgetware.quota.usage",
                "budgetware.dim",
                budgetware__budget__name="principals",
                budgetware__quota__state=state,
            )
            for state in ("used", "reserved")
        }
        held.release()
    assert states == {"used": {"calls": 6, "tokens": 12}, "reserved": {"calls": 1, "tokens": 0}}


def test_no_principal_is_in_any_metric(still: QuotaService, sdk: Sdk) -> None:
    define_principals(still, 10)
    still.define(Resource("api", Capacity(1_000), dim="calls"))
    for i in range(10):
        with principal(f"user-{i}"), still.task_budget("research", calls=20):
            reserve_nowait("api", 3).commit(8)
            with suppress(BudgetwareError):
                reserve_nowait(calls=4)
    shown = str([metric.to_json() for metric in sdk.metrics().values()])
    assert sdk.sums("budgetware.overdraft", NAME) == {"principals": 10 * 3}
    assert sdk.sums("budgetware.admissions", NAME, budgetware__decision="rejected") == {
        "principals": 10
    }
    assert "user-" not in shown
    assert "team" not in shown


async def test_a_wait_for_a_principal_names_none(service: QuotaService, sdk: Sdk) -> None:
    one = Resource("alice", Concurrency(1), "throttle", dim="calls")
    service.define_principal("alice", quotas={"calls": one})
    with principal("alice"):
        held = reserve_nowait(calls=1)
        async with anyio.create_task_group() as group:
            group.start_soon(ask, lambda: reserve(calls=1))
            await anyio.sleep(1)
            held.release()
    (point,) = points(sdk, WAITS)
    assert dict(point.attributes) == {NAME: "principals", "budgetware.dim": "calls"}
    assert sdk.sums("budgetware.admissions", NAME, budgetware__decision="throttled") == {
        "principals": 1
    }


# What does not grow.


def test_resources_beyond_200_fold_into_other(still: QuotaService, sdk: Sdk) -> None:
    for i in range(250):
        still.define(Resource(f"resource-{i}", Capacity(10)))
        reserve_nowait(f"resource-{i}", 3).commit()
    for name in ("budgetware.quota.limit", "budgetware.usage"):
        assert len(sdk.series(name)) == 201
        assert {dict(series)["budgetware.dim"] for series in sdk.series(name)} == {"units"}
    limits = sdk.sums("budgetware.quota.limit", NAME)
    usage = sdk.sums("budgetware.usage", NAME)
    assert (limits["other"], sum(limits.values())) == (500, 2_500)
    assert sum(usage.values()) == 750


def test_refusals_by_resources_with_units_of_their_own_have_one_dimension(
    still: QuotaService, sdk: Sdk
) -> None:
    for i in range(250):
        still.define(Resource(f"resource-{i}", Capacity(10), "reject"))
        with suppress(BudgetwareError):
            reserve_nowait(f"resource-{i}", 11)
    where = {"budgetware__decision": "rejected"}
    assert len(sdk.sums("budgetware.admissions", NAME, **where)) == 201
    assert sdk.sums("budgetware.admissions", "budgetware.dim", **where) == {"units": 250}


async def test_the_number_of_tasks_and_principals_adds_no_series(
    service: QuotaService, sdk: Sdk
) -> None:
    async def run(i: int) -> None:
        task = service.task_budget("agent", calls=5, principal=f"user-{i}")
        async with task:
            await behind("browsers", 0.5, slot())

    def found() -> dict[str, int]:
        return {name: len(metric.data.data_points) for name, metric in sdk.metrics().items()}

    for i in range(2):
        service.define_principal(f"user-{i}", quotas={"calls": Capacity(100)})
        await run(i)
    before = found()
    for i in range(2, 300):
        service.define_principal(f"user-{i}", quotas={"calls": Capacity(100)})
        await run(i)
    assert found() == before
    (point,) = points(sdk, WAITS)
    assert (point.count, point.sum) == (300, 150.0)


# The ledger.


def test_units_of_its_own_are_used_under_the_name_of_the_resource(
    still: QuotaService, sdk: Sdk
) -> None:
    still.define(Resource("pages", Capacity(100)))
    still.define(Resource("browsers", Concurrency(4)))
    with still.task_budget("research", calls=9):
        with reserve("pages", 10) as reservation:
            reservation.commit(7)
        with reserve("browsers", 2, calls=1):
            pass
        assumed = reserve_nowait("pages", 5)
        with suppress(LookupError), assumed:
            raise LookupError
        assumed.commit(1)
    tool = ("gen_ai.operation.name", "reserve")
    assert sdk.series("budgetware.usage") == {
        frozenset({(NAME, "pages"), ("budgetware.dim", "units"), tool}): 12,
        frozenset({(NAME, "research"), ("budgetware.dim", "calls"), tool}): 1,
    }
    assert sum(sdk.series("budgetware.corrections").values()) == 4
    assert still.resource("pages").balance.spent == 12 - 4 == gauge(sdk, "pages")["used"]


def test_a_resource_named_like_a_dimension_is_told_from_it(still: QuotaService, sdk: Sdk) -> None:
    still.define(Resource("bytes", Capacity(100)))
    with still.task_budget("research", bytes=50):
        reserve_nowait("bytes", 7).commit()
        charge(bytes=3)
    where = {"budgetware__dim": "units"}
    assert sdk.sums("budgetware.usage", NAME, **where) == {"bytes": 7}
    assert sdk.sums("budgetware.usage", NAME, budgetware__dim="bytes") == {"research": 3}


def test_an_allowance_is_no_level_of_its_own(still: QuotaService, sdk: Sdk) -> None:
    still.define(Resource("api", Capacity(10), dim="calls"))
    token = QuotaToken("api", 5, allowance=8)
    with still.task_budget("research", calls=100):
        token.reserve_nowait(6).commit(14)
    assert sdk.sums("budgetware.overdraft", NAME) == {"api": 4}
    assert gauge(sdk, "api") == {"used": 14, "reserved": 0, "limit": 10}
    token.close()


async def everything(made: QuotaService) -> dict[str, int]:
    """Wait, fail to wait, be cut and be refused; what the ledger then says."""
    made.define(Resource("org", Capacity(1_000), dim="tokens"))
    made.define(Resource("api", Rate(60, "minute"), dim="tokens", parent="org"))
    with made.subscribe() as events:
        async with made.task_budget("research", tokens=10_000) as budget:
            for wanted in (50, 40, 70, 30):
                await ask(lambda n=wanted: reserve("api", n))  # type: ignore[misc]
            await ask(lambda: reserve("api", 60, max_wait=3))
            with anyio.move_on_after(2):
                await reserve("api", 60)
            await behind("browsers", 1.0, slot(), slot(), slot(max_wait=0.5))
            await behind("browsers", 2.0, slot(max_wait=0.5))
            async with reserve("api", 10) as reservation:
                reservation.commit(25)
            spent = int(budget.spent("tokens"))
        heard: list[Any] = []
        while (event := events.get_nowait()) is not None:
            heard.append(event)
    return {
        "spent": spent,
        "org": int(made.resource("org").balance.spent),
        "admitted": sum(event.outcome == "completed" for event in heard),
        "refused": sum(event.outcome == "rejected" for event in heard),
        "cancelled": sum(event.outcome == "cancelled" for event in heard),
        "waits": sum(event.wait_ms > 0 for event in heard),
        "wait_ms": round(sum(event.wait_ms for event in heard)),
        "tokens": sum(event.charged.get("tokens", 0) for event in heard),
    }


async def test_metrics_ledger_and_events_agree_sampled_or_not() -> None:
    recording, unsampled = Sdk(), Sdk(sampler=ALWAYS_OFF)
    found: list[dict[str, int]] = []
    for sdk in (recording, unsampled):
        with opened(sdk) as made:
            ledger = await everything(made)
            found.append(ledger)
            assert gauge(sdk, "org")["used"] == ledger["org"]
        decided = sdk.sums("budgetware.admissions", "budgetware.decision")
        (browsers, api) = sorted(
            points(sdk, WAITS), key=lambda p: p.attributes["budgetware.dim"] == "tokens"
        )
        assert sdk.sums("budgetware.usage", "budgetware.dim")["tokens"] == ledger["spent"]
        assert ledger["spent"] == ledger["org"] == ledger["tokens"]
        assert decided["admitted"] + decided["throttled"] == ledger["admitted"]
        assert decided["rejected"] == ledger["refused"]
        assert browsers.count + api.count == ledger["waits"]
        assert round(1_000 * (browsers.sum + api.sum)) == ledger["wait_ms"]
    assert found[0] == found[1]
    assert found[0]["cancelled"] == 1
    assert recording.series("budgetware.admissions") == unsampled.series("budgetware.admissions")
    assert unsampled.spans == []
    recording.close()
    unsampled.close()


def test_refusals_of_many_threads_are_counted_each(still: QuotaService, sdk: Sdk) -> None:
    still.define(Resource("api", Capacity(10), "reject", dim="calls"))

    def refused() -> None:
        for _ in range(200):
            with suppress(BudgetwareError):
                reserve_nowait("api", 11)

    threads = [Thread(target=refused) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sdk.sums("budgetware.admissions", NAME, budgetware__decision="rejected") == {
        "api": 1_600
    }


# Whatever else happens.


class Stopped:
    """A clock that breaks."""

    def __init__(self) -> None:
        self.is_broken = False

    def now_ns(self) -> int:
        if self.is_broken:
            raise RuntimeError("no time")
        return 1_000_000_000

    def time(self) -> float:
        return 1.0


def test_a_clock_that_raises_costs_the_exporter_one_metric(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "_failures", set[str]())
    clock = Stopped()
    with connect(clock=clock, **sdk.providers) as made:
        made.define(Resource("api", Capacity(60), dim="calls"))
        reserve_nowait("api", 50).commit()
        clock.is_broken = True
        assert sdk.series("budgetware.quota.usage") == {}
        assert sdk.sums("budgetware.quota.limit", NAME) == {"api": 60}
        clock.is_broken = False
        assert gauge(sdk, "api")["used"] == 50
    assert [r.name for r in caplog.records] == ["budgetware"]


async def test_it_can_be_read_while_calls_wait(service: QuotaService, sdk: Sdk) -> None:
    service.define(Resource("api", Rate(1_000, "second"), dim="calls"))
    async with service.task_budget("agent", calls=10**6), anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, sdk.metrics)
        for _ in range(50):
            group.start_soon(ask, lambda: reserve("api", 100))
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"calls": 5_000}

"""The JSON of a report, and adding two of them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from budgetware import (
    BudgetExceeded,
    Capacity,
    Rate,
    Terminate,
    UsageReport,
    budgeted,
    charge,
    connect,
    reserve,
    task_budget,
)
from budgetware.errors import BudgetTerminated, InvalidAmount
from budgetware.reports.tallies import MOST
from tests.reports.stage import DAY, MIDNIGHT, PLACES, event, put, service_in

pytestmark = pytest.mark.parametrize("place", PLACES)


@budgeted(calls=1)
def search() -> None:
    """A tool."""


def search_twice() -> None:
    search()
    search()


def test_it_has_the_sections_that_are_always_there(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        with service.task_budget("job", calls=5, principal="alice"):
            search()
        service.flush()
        found = service.report("alice").to_dict()
    assert list(found) == [
        "api_key_name", "since", "until", "sessions", "compute", "usage", "daily",
    ]  # fmt: skip
    assert found["api_key_name"] == "alice"
    assert found["since"].endswith("Z")
    assert found["until"].endswith("Z")
    assert found["sessions"] == {"started": 1, "completed": 1, "failed": 0}
    assert found["compute"]["executed_slot_count"] == 1
    assert len(found["daily"]) == 8
    assert found["daily"][0]["usage"]["calls"] == 0
    json.dumps(found)


def test_sessions_are_task_budgets_and_last_as_long_as_they(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        with service.task_budget("ended", calls=5):
            pass
        with pytest.raises(KeyError), service.task_budget("failed", calls=5):
            raise KeyError
        task = service.task_budget("terminated", calls=1, policy=Terminate())
        with pytest.raises(BudgetTerminated), task:
            search_twice()
        with service.task_budget("open", calls=5) as task:
            began = task.snapshot()["millis"].spent
            service.flush()
            report = service.report()
    assert report.sessions.to_dict() == {"started": 4, "completed": 1, "failed": 2}
    assert report.compute.session_duration_ms >= 0
    assert began is not None


async def test_a_stream_is_one_session(place: str, tmp_path: Path) -> None:
    @task_budget("stream", calls=5)
    async def numbers() -> AsyncGenerator[int]:
        for number in range(3):
            await anyio.sleep(0)
            yield number

    with service_in(place, tmp_path) as service:
        assert [number async for number in numbers()] == [0, 1, 2]
        service.flush()
        assert service.report().sessions.to_dict() == {"started": 1, "completed": 1, "failed": 0}


def test_refused_calls_are_counted_apart(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        with service.task_budget("job", calls=2):
            search()
            search()
            for _ in range(3):
                with pytest.raises(BudgetExceeded):
                    search()
        service.flush()
        usage = service.report().usage
    assert (usage.calls, usage.refused, usage.charged) == (2, 3, {"calls": 2})


def test_a_counter_is_a_section_of_those_who_have_it(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        service.count("bundle_builds", principal="alice", requested=2)
        service.count("bundle_builds", principal="alice", requested=3, failed=1)
        service.count("bundle_builds", principal="bob", requested=0)
        service.flush()
        found = {name: service.report(name).to_dict() for name in ("alice", "bob", "carol")}
        past = service.report("alice", since=MIDNIGHT, until=MIDNIGHT + DAY).to_dict()
        both = service.report().to_dict()
    assert found["alice"]["bundle_builds"] == {"requested": 5, "failed": 1}
    assert found["bob"]["bundle_builds"] == {"requested": 0}
    assert "bundle_builds" not in found["carol"]
    assert past["bundle_builds"] == {"requested": 0, "failed": 0}
    assert both["bundle_builds"] == {"requested": 5, "failed": 1}
    assert all("bundle_builds" in day for day in found["alice"]["daily"])


def test_a_count_is_of_the_current_principal(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        with service.task_budget("job", calls=1, principal="alice"):
            service.count("builds", requested=1)
        service.flush()
        assert service.report("alice").counters == {"builds": {"requested": 1}}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("usage", {"n": 1}),
        ("sessions", {"n": 1}),
        ("daily", {"n": 1}),
        ("Builds", {"n": 1}),
        ("b" * 65, {"n": 1}),
        ("builds", {}),
        ("builds", {"n": -1}),
        ("builds", {"n": True}),
        ("builds", {"n": 1.0}),
        ("builds", {"n": 2**53}),
        ("builds", {"N": 1}),
    ],
)
def test_a_wrong_count_counts_nothing(
    place: str, tmp_path: Path, name: str, counts: dict[str, Any]
) -> None:
    with service_in(place, tmp_path) as service:
        with pytest.raises(InvalidAmount):
            service.count(name, **counts)
        service.flush()
        assert service.report().counters == {}


def test_the_json_form_reads_back_as_the_same_and_unknown_keys_are_passed_over(
    place: str, tmp_path: Path
) -> None:
    with service_in(place, tmp_path) as service:
        put(service, [event(MIDNIGHT + 1, principal="alice"), event(MIDNIGHT + DAY + 1)])
        service.count("builds", requested=4)
        service.flush()
        report = service.report(since=MIDNIGHT, by=("principal", "day"))
    table = json.loads(json.dumps(report.to_dict()))
    assert UsageReport.from_dict(table) == report
    table["new_in_version_9"] = "text"
    table["daily"][0]["new_too"] = ["x"]
    assert UsageReport.from_dict(table).to_dict() == report.to_dict()


WINDOW = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    "wrong",
    [
        None, [], "", 3, {}, {"since": "x", "until": "y"}, {"since": 1, "until": 2},
        {**WINDOW, "daily": 3}, {**WINDOW, "daily": [3]}, {**WINDOW, "daily": [], "groups": 3},
        {**WINDOW, "daily": [], "groups": [3]}, {**WINDOW, "sessions": {"started": "x"}},
        {**WINDOW, "usage": {"charged": {"usd": "x"}}}, {**WINDOW, "usage": {"wait_ms": "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_report_is_said(place: str, wrong: Any) -> None:
    del place
    with pytest.raises(InvalidAmount):
        UsageReport.from_dict(wrong)


def test_merging_adds_field_by_field_and_saturates(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        huge = event(MIDNIGHT + 1, principal="alice", charged={"tokens": 2**53 - 1})
        put(service, [huge])
        report = service.report(since=MIDNIGHT, until=MIDNIGHT + DAY, by="principal")
    twice = report.merge(report)
    assert twice.usage.calls == 2
    assert twice.usage.units["tokens"] == 2 * (2**53 - 1)
    assert twice.groups[0].usage.calls == 2
    for _ in range(20):
        twice = twice.merge(twice)
    assert twice.usage.units["tokens"] == MOST
    with pytest.raises(InvalidAmount, match="different windows"):
        report.merge(UsageReport(None, report.since, report.until + timedelta(days=1)))


def test_a_capacity_that_others_have_leased_of_adds_up(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        service.define_principal("alice", quotas={"usd": Capacity("5")})
        with service.task_budget("job", calls=5, principal="alice"), reserve(usd="0.5"):
            charge(usd="0.25")
            service.flush()
            found = service.resource_usage("alice")
            if place == "sqlite":  # another process
                with connect(ledger=f"sqlite:///{tmp_path}/usage.db") as other:
                    found = other.resource_usage("alice")
    assert found is not None
    usd = found.quotas["usd"]
    assert usd.used == Decimal("0.25")
    assert usd.reserved >= Decimal("0.5")
    assert usd.used + usd.reserved + usd.remaining == usd.limit == 5


def test_memory_that_is_not_known_is_null(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        service.define_principal("alice", quotas={"memory": Capacity(1_000)})
        service.define_principal("bob")
        with service.task_budget("job", calls=5, principal="alice"), reserve(memory=300):
            service.flush()
            alice, bob = (service.resource_usage(name) for name in ("alice", "bob"))
    assert alice is not None
    assert bob is not None
    assert alice.memory_bytes_current_total is not None
    assert alice.memory_bytes_current_total >= 300
    assert alice.memory_bytes_peak_total == 300
    nothing = None if place == "sqlite" else 0
    assert bob.memory_bytes_current_total is nothing
    assert bob.memory_bytes_peak_total is nothing


def test_resource_usage_has_every_quota_and_null_for_what_is_unknown(
    place: str, tmp_path: Path
) -> None:
    with service_in(place, tmp_path) as service:
        assert service.resource_usage("alice") is None
        service.define_principal("team", quotas={"cpu_micros": Rate(250_000, "second")})
        service.define_principal(
            "alice", parent="team", quotas={"tokens": Capacity(1_000), "usd": Rate("5", "day")}
        )
        with service.task_budget("job", calls=5, principal="alice"):
            charge(tokens=300, cpu_micros=1_234)
        service.flush()
        alice, team = (service.resource_usage(name) for name in ("alice", "team"))
    assert alice is not None
    assert team is not None
    found = alice.to_dict()
    assert found["cpu_fuel_consumed_total"] == team.cpu_fuel_consumed_total == 1_234
    assert found["cpu_fuel_per_sec_limit"] == 250_000
    assert found["exempt"] is False
    assert found["memory_bytes_limit_per_instance"] is None
    tokens = {"type": "capacity", "limit": 1_000, "used": 300, "reserved": 0, "remaining": 700}
    assert found["quotas"]["tokens"] == {**tokens, "window": None}
    assert found["quotas"]["usd"]["window"] == "day"
    assert found["quotas"]["usd"]["limit"] == "5.000000"


def test_what_all_have_used_of_a_rate_is_shown(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        service.define_principal(
            "alice", quotas={"tokens": Rate(1_000, "day"), "usd": Rate("6", "minute")}
        )
        with service.task_budget("job", calls=5, principal="alice"):
            charge(tokens=600, usd="4")
        service.flush()
        found = service.resource_usage("alice")
    if place == "sqlite":  # another process
        with connect(ledger=f"sqlite:///{tmp_path}/usage.db") as other:
            found = other.resource_usage("alice")
    assert found is not None
    tokens, usd = found.quotas["tokens"], found.quotas["usd"]
    assert 590 <= tokens.used <= 600
    assert tokens.remaining == 1_000 - tokens.used
    assert Decimal("2") < usd.used <= 4


def test_recorded_events_come_in_order_with_numbers_that_grow(place: str, tmp_path: Path) -> None:
    with service_in(place, tmp_path) as service:
        with service.task_budget("job", calls=50):
            for _ in range(5):
                search()
        service.flush()
        found = service.recorded()
        last = service.last_recorded()
        rest = service.recorded(after=found[2][0], limit=1)
        late = service.recorded(since=datetime.now(UTC) + timedelta(hours=1))
    numbers = [number for number, _event in found]
    assert len(numbers) == 5
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= last
    assert rest == found[3:4]
    assert late == []
    assert {each["name"] for _number, each in found} == {"search"}

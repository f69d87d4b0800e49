"""A report is what a sum over the events themselves would be, wherever they are kept."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budgetware import QuotaService, Usage, UsageEvent
from budgetware.errors import ConfigurationError, InvalidAmount
from tests.reports.stage import DAY, HOUR, MIDNIGHT, PLACES, event, put, refusal, service_in


@pytest.fixture(params=[*PLACES, "valkey"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[QuotaService]:
    with service_in(request.param, tmp_path) as made:
        yield made


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def keys(groups: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [(*(group[name] for name in names), group["usage"]["calls"]) for group in groups]


def test_days_are_gapless_and_what_ends_at_midnight_is_of_the_day_before(
    service: QuotaService,
) -> None:
    put(service, [event(MIDNIGHT), event(MIDNIGHT + 0.001), event(MIDNIGHT + 2 * DAY)])
    report = service.report(since=MIDNIGHT - DAY, until=MIDNIGHT + 2.5 * DAY)
    found = [(b.start, b.end, b.tally.usage.calls) for b in report.buckets]
    assert found == [
        (at(MIDNIGHT - DAY), at(MIDNIGHT), 1),
        (at(MIDNIGHT), at(MIDNIGHT + DAY), 1),
        (at(MIDNIGHT + DAY), at(MIDNIGHT + 2 * DAY), 1),
        (at(MIDNIGHT + 2 * DAY), at(MIDNIGHT + 2.5 * DAY), 0),
    ]
    assert report.usage.calls == 3


def test_a_window_counts_what_is_after_its_begin_and_not_after_its_end(
    service: QuotaService,
) -> None:
    put(service, [event(MIDNIGHT + second) for second in (10, 20, 30, 40)])
    report = service.report(since=MIDNIGHT + 20, until=MIDNIGHT + 30)
    assert report.usage.calls == 1
    assert [(b.start, b.end) for b in report.buckets] == [(at(MIDNIGHT + 20), at(MIDNIGHT + 30))]


def test_hours_are_gapless(service: QuotaService) -> None:
    put(service, [event(MIDNIGHT + hour * HOUR + 1) for hour in (0, 2, 2)])
    report = service.report(since=MIDNIGHT, until=MIDNIGHT + 4 * HOUR, bucket="hour")
    assert [bucket.tally.usage.calls for bucket in report.buckets] == [1, 0, 2, 0]
    assert "hourly" in report.to_dict()


def test_money_comes_out_in_dollars_and_usage_as_reported(service: QuotaService) -> None:
    charged = {"usd": Decimal("0.000123"), "tokens": 50}
    usage = Usage(input_tokens=30, cache_read_tokens=5, output_tokens=10, reasoning_tokens=5)
    put(service, [event(MIDNIGHT + 1, charged=charged, usage=usage, kind="llm", model="m")] * 3)
    found = service.report(since=MIDNIGHT, until=MIDNIGHT + DAY).to_dict()["usage"]
    assert found["charged"] == {"tokens": 150, "usd": "0.000369"}
    assert found["reported"] == {"input_tokens": 105, "output_tokens": 45}


def test_refused_cut_and_corrected_calls_are_no_calls_that_ran(service: QuotaService) -> None:
    cut = event(MIDNIGHT + 3, charged={"calls": 0}, duration_ms=0.0, outcome="cancelled")
    back = event(MIDNIGHT + 4, charged={"tokens": -5}, duration_ms=0.0, outcome="corrected")
    failed = event(MIDNIGHT + 5, charged={"tokens": 9}, outcome="failed")
    put(service, [event(MIDNIGHT + 1), refusal(MIDNIGHT + 2), cut, back, failed])
    usage = service.report(since=MIDNIGHT, until=MIDNIGHT + DAY).usage
    assert (usage.calls, usage.refused, usage.corrected) == (2, 1, 1)
    assert usage.charged == {"calls": 1, "tokens": 4}


def test_calls_are_grouped_by_what_is_asked_for(service: QuotaService) -> None:
    put(
        service,
        [
            event(MIDNIGHT + 1, principal="alice", model="a"),
            event(MIDNIGHT + 2, principal="alice", model=None),
            event(MIDNIGHT + DAY + 2, principal="alice", model="a"),
            event(MIDNIGHT + 3, principal="bob", model="a"),
            refusal(MIDNIGHT + 4, principal="bob"),
        ],
    )
    window: dict[str, Any] = {"since": MIDNIGHT, "until": MIDNIGHT + 2 * DAY}
    days = [at(MIDNIGHT).date().isoformat(), at(MIDNIGHT + DAY).date().isoformat()]
    by_day = service.report(**window, by=("principal", "day")).to_dict()["groups"]
    assert keys(by_day, "principal", "day") == [
        ("alice", days[0], 2), ("alice", days[1], 1), ("bob", days[0], 1),
    ]  # fmt: skip
    by_model = service.report("alice", **window, by="model").to_dict()["groups"]
    assert keys(by_model, "model") == [(None, 1), ("a", 2)]
    outcomes = service.report("bob", **window, by="outcome").to_dict()["groups"]
    assert keys(outcomes, "outcome") == [("completed", 1), ("rejected", 0)]


def test_those_below_a_principal_count_for_it(service: QuotaService) -> None:
    service.define_principal("team")
    service.define_principal("alice", parent="team")
    put(service, [event(MIDNIGHT + 1, principal=name) for name in ("team", "alice", "bob", None)])
    window: dict[str, Any] = {"since": MIDNIGHT, "until": MIDNIGHT + DAY}
    calls = [service.report(name, **window).usage.calls for name in ("team", "alice", None)]
    assert calls == [2, 1, 4]


def test_an_empty_window_has_one_empty_bucket(service: QuotaService) -> None:
    put(service, [event(MIDNIGHT)])
    for moment in (MIDNIGHT, MIDNIGHT + 0.5):
        report = service.report(since=moment, until=moment)
        assert [bucket.tally.usage.calls for bucket in report.buckets] == [0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": 10, "until": 9},
        {"since": 0, "until": 2e9},
        {"since": MIDNIGHT - 500 * DAY, "until": MIDNIGHT, "bucket": "hour"},
        {"since": "yesterday"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - it has no zone
        {"since": float("nan")},
        {"until": True},
        {"until": -1},
        {"until": datetime.max.replace(tzinfo=UTC)},
        {"since": 10**400},
        {"by": 3},
        {"by": "modell"},
        {"by": ("model", "moon")},
        {"bucket": "week"},
        {"principal": "no such\nname"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_said(wrong: dict[str, Any], tmp_path: Path) -> None:
    with service_in("nowhere", tmp_path) as service, pytest.raises(ConfigurationError):
        service.report(**wrong)


def test_a_slip_is_pointed_at(tmp_path: Path) -> None:
    with service_in("nowhere", tmp_path) as service:
        pass  # without a ledger it can be asked for afterwards, too
    with pytest.raises(InvalidAmount, match="did you mean 'model'"):
        service.report(by="modell")


def test_without_records_there_is_no_report(tmp_path: Path) -> None:
    with service_in("nowhere", tmp_path, record_usage=False) as service:
        pass
    with pytest.raises(ConfigurationError, match="record_usage=True"):
        service.report()


def test_where_events_are_gone_the_window_is_widened_to_their_hour(tmp_path: Path) -> None:
    with service_in("sqlite", tmp_path, usage_retention="1d") as service:
        put(service, [event(MIDNIGHT + HOUR + minute * 60) for minute in range(1, 60)])
        put(
            service, [event(MIDNIGHT + 3 * DAY) for _ in range(3)]
        )  # whose writing deletes old ones
        report = service.report(since=MIDNIGHT + 1.5 * HOUR, until=MIDNIGHT + DAY)
        assert report.since == at(MIDNIGHT + HOUR)
        assert report.usage.calls == 59


EVENTS = st.lists(
    st.builds(
        event,
        st.one_of(
            st.integers(0, 3 * 24).map(lambda hour: MIDNIGHT + hour * HOUR),
            st.integers(0, 23 * DAY).map(lambda n: MIDNIGHT + n / 8),
        ),
        principal=st.sampled_from(["alice", "bob", None]),
        model=st.sampled_from(["a", "b", None]),
        name=st.sampled_from(["search", "größe"]),
        charged=st.dictionaries(st.sampled_from(["calls", "tokens"]), st.integers(0, 2**40)),
        outcome=st.sampled_from(["completed", "failed", "rejected", "corrected"]),
    ),
    max_size=30,
)
MOMENTS = st.one_of(
    st.integers(-24, 5 * 24).map(lambda hour: MIDNIGHT + hour * HOUR),
    st.integers(-8 * DAY, 32 * DAY).map(lambda n: MIDNIGHT + n / 8),
)


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, moments=st.tuples(MOMENTS, MOMENTS), bucket=st.sampled_from(["day", "hour"]))
def test_a_report_is_the_sum_of_its_events(
    place: str,
    tmp_path_factory: pytest.TempPathFactory,
    events: list[UsageEvent],
    moments: tuple[float, float],
    bucket: Any,
) -> None:
    since, until = sorted(moments)
    with service_in(place, tmp_path_factory.mktemp("reports")) as service:
        put(service, events)
        report = service.report(since=since, until=until, by=("principal", "model"), bucket=bucket)
    inside = [each for each in events if since < each.timestamp <= until]
    ran = [e for e in inside if e.outcome in ("completed", "failed")]
    total = report.usage
    assert total.calls == len(ran)
    assert total.corrected == sum(each.outcome == "corrected" for each in inside)
    for dim in ("calls", "tokens"):
        assert total.units.get(dim, 0) == sum(each.charged.get(dim, 0) for each in inside)
    spans = [(b.start.timestamp(), b.end.timestamp()) for b in report.buckets]
    assert [end for _start, end in spans[:-1]] == [start for start, _end in spans[1:]]
    for (start, end), found in zip(spans, report.buckets, strict=True):
        assert found.tally.usage.calls == sum(start < e.timestamp <= end for e in ran)
    grouped = {tuple(group.key.values()): group.usage.calls for group in report.groups}
    for principal in ("alice", "bob", None):
        for model in ("a", "b", None):
            own = [e for e in ran if (e.principal, e.model) == (principal, model)]
            assert grouped.get((principal, model), 0) == len(own)

"""What keeps usage events in memory: nothing lost, nothing twice, no call disturbed."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from budgetware import Capacity, Resource, UsageEvent, budgeted, connect, reserve, task_budget
from budgetware.memory_records import MOST_EVENTS, MemoryRecords
from budgetware.testing import VirtualClock
from budgetware.usage_sums import HOUR, MAX_GROUPS, OTHER, CallGroup, Groups, hour_end, read_group
from tests.reports.stage import event, put, service_in

THREADS, CALLS = 8, 2_000


@budgeted(calls=1, usd="0.000001")
def plain() -> None:
    """Book what is held."""


@budgeted(tokens=9, settle=lambda used: used)
def settled() -> int:
    return 4


def by_hand() -> None:
    with reserve(tokens=5) as reservation:
        reservation.commit(3)


def test_calls_of_many_threads_are_all_counted_while_others_read() -> None:
    with connect() as service, task_budget("job", calls=10**9, tokens=10**9) as task:

        def work() -> None:
            for _ in range(CALLS):
                plain()
                settled()
                by_hand()

        with ThreadPoolExecutor(THREADS) as pool:
            done = [pool.submit(task.wrap(work)) for _ in range(THREADS)]
            seen = [0]
            while wait(done, timeout=0.001).not_done:  # a reader that spins keeps all others out
                usage = service.report().usage
                assert usage.calls >= seen[-1]
                seen.append(usage.calls)
            for each in done:
                each.result()
        usage = service.report().usage
    total = THREADS * CALLS
    assert usage.calls == 3 * total
    assert usage.units == {"calls": total, "usd": total, "tokens": 7 * total}
    assert usage.units["tokens"] == task.spent("tokens")


def test_each_task_and_call_site_is_counted_by_itself() -> None:
    with connect() as service:
        for name, times in (("one", 300), ("two", 500)):
            with task_budget(name, calls=10**6, tokens=10**6, principal=f"user-{name}"):
                for _ in range(times):
                    plain()
                by_hand()
        found = {
            (group.key["task"], group.key["principal"], group.key["name"]): group.usage.calls
            for group in service.report(by=("task", "principal", "name")).groups
        }
    assert found == {
        ("one", "user-one", "plain"): 300, ("one", "user-one", None): 1,
        ("two", "user-two", "plain"): 500, ("two", "user-two", None): 1,
    }  # fmt: skip


def test_a_call_belongs_to_the_hour_in_which_it_ended() -> None:
    clock = VirtualClock(epoch=1_800_000_000)
    with connect(clock=clock) as service, task_budget(calls=100):
        start = clock.time()
        for _ in range(4):
            plain()
            plain()
            clock.advance(HOUR)
        report = service.report(since=start - HOUR, until=start + 4 * HOUR, bucket="hour")
    assert [bucket.tally.usage.calls for bucket in report.buckets] == [2, 2, 2, 2, 0]


def test_slots_and_memory_are_not_added_up() -> None:
    with connect() as service, task_budget(memory=1_000):
        with reserve(memory=300):
            pass
        assert service.report().usage.charged == {}


def test_draws_on_a_resource_are_counted_under_its_name() -> None:
    with connect() as service:
        service.define(Resource("pages", Capacity(10)))
        with reserve("pages", 3):
            pass
        assert service.report().usage.charged == {"pages": 3}


def test_the_newest_events_are_kept_and_all_are_counted() -> None:
    with connect() as service, task_budget(calls=10**6):
        for _ in range(MOST_EVENTS + 700):
            plain()
        first = service.recorded(limit=1)[0][0]
        assert service.last_recorded() - first < MOST_EVENTS
        assert service.report().usage.calls == MOST_EVENTS + 700


def test_an_event_that_cannot_be_made_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    records = MemoryRecords(VirtualClock())

    def broken() -> UsageEvent:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "budgetware"):
        for _ in range(300):
            records.put(broken)
        records.put(lambda: event(1_800_000_000.0))
        assert records.last() == 1
    assert "cannot be added up" in caplog.text


def test_a_closed_service_records_no_more_and_can_be_asked() -> None:
    with connect() as service, task_budget(calls=5):
        late = reserve(calls=1)
        reservation = late.__enter__()
        plain()
    reservation.commit()
    assert service.report().usage.calls == 1


def test_old_events_go_with_time() -> None:
    clock = VirtualClock(epoch=1_800_000_000)
    with connect(clock=clock, usage_retention="1h") as service, task_budget("job", calls=100):
        plain()
        service.report()
        clock.advance("3h")
        plain()
        assert len(service.recorded()) == 1
        assert service.report().usage.calls == 2


def test_too_many_groups_of_an_hour_are_counted_together(tmp_path: Path) -> None:
    groups = Groups()
    texts = {
        groups.text(CallGroup("alice", f"task-{n}", None, None, None, None, "completed"), HOUR)
        for n in range(MAX_GROUPS + 500)
    }
    assert len(texts) == MAX_GROUPS + 1
    with service_in("nowhere", tmp_path) as service:
        put(service, [event(1_800_000_000.0, task=f"t-{n}", name="x") for n in range(2_500)])
        report = service.report(since=1_799_999_000, until=1_800_001_000, by="task")
    assert report.usage.calls == 2_500
    assert OTHER in {group.key["task"] for group in report.groups}


def test_a_group_of_a_newer_version_is_passed_over() -> None:
    assert read_group('["call","too","short"]') is None
    assert read_group('["something new",1]') is None


@pytest.mark.parametrize(
    ("at", "ends"), [(0.0, 0), (0.5, 3_600), (3_600, 3_600), (3_600.001, 7_200)]
)
def test_the_end_of_an_hour_is_in_it(at: float, ends: int) -> None:
    assert hour_end(at) == ends

"""A hundred thousand charges are exact, and leave nothing behind."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from decimal import Decimal

import pytest

from budgetware import (
    BudgetExceeded,
    Reject,
    Usage,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.memory_records import MOST_EVENTS

BATCH = 10_000
SLACK_BYTES = 20_000
"""Two bytes per call: far below what any object kept per call would take."""


@budgeted(tokens=3, usd="0.000001")
def plain() -> None:
    """Book what is held."""


@budgeted(tokens=9, usd="0.000002", settle=lambda used: used)
def settled() -> dict[str, object]:
    return {"tokens": 3, "usd": "0.000001"}


def by_hand() -> None:
    with reserve(tokens=5, usd="0.000003") as reservation:
        reservation.commit(tokens=3, usd="0.000001")


def bare() -> None:
    reserve_nowait(tokens=5, usd="0.000003").commit(tokens=3, usd="0.000001")


def unsettled_then_corrected() -> None:
    with reserve(tokens=5, usd="0.000003") as reservation:
        pass
    reservation.commit(tokens=3, usd="0.000001")


def dropped() -> None:
    reserve_nowait(tokens=3, usd="0.000001")


def charged() -> None:
    charge(tokens=3, usd="0.000001")


def nested() -> None:
    with task_budget("inner", carve=True, tokens=10, usd="0.01"):
        plain()


WAYS = [plain, settled, by_hand, bare, unsettled_then_corrected, dropped, charged, nested]


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def growth_bytes(call: Callable[[], object], times: int) -> int:
    """What a second batch leaves behind that the first has not."""
    repeat(call, times)
    gc.collect()
    tracemalloc.start()
    before, _peak = tracemalloc.get_traced_memory()
    repeat(call, times)
    gc.collect()
    after, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def test_a_hundred_thousand_charges_are_exact() -> None:
    with task_budget("outer", tokens=10**9, usd=10) as outer, task_budget("inner", calls=10**9):
        repeat(plain, 50_000)
        repeat(by_hand, 25_000)
        repeat(settled, 25_000)
        assert outer.spent("tokens") == 300_000
        assert outer.spent("usd") == Decimal("0.100000")
        assert outer.remaining("tokens") == 10**9 - 300_000


@pytest.mark.parametrize("call", WAYS, ids=lambda call: call.__name__)
def test_calls_leave_nothing_behind(call: Callable[[], object]) -> None:
    with task_budget("outer", tokens=10**9, usd=1_000) as outer:
        grown = growth_bytes(call, BATCH)
        assert outer.spent("tokens") == 2 * BATCH * 3
    assert grown < SLACK_BYTES


def test_calls_outside_any_task_leave_nothing_behind() -> None:
    assert growth_bytes(plain, BATCH) < SLACK_BYTES


def test_refusals_leave_nothing_behind() -> None:
    def refused() -> None:
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=2)

    with task_budget(tokens=1, policy=Reject(patience=None)):
        assert growth_bytes(refused, BATCH // 2) < SLACK_BYTES


def test_a_listener_that_never_reads_holds_no_more_than_its_bound() -> None:
    with connect(record_usage=False) as service:
        events = service.subscribe(maxsize=10)
        with task_budget(tokens=10**9):
            assert growth_bytes(by_hand, BATCH // 2) < SLACK_BYTES
        assert events.dropped == BATCH - 10


def test_amounts_that_always_differ_leave_nothing_behind() -> None:
    class Counter:
        n = 0

        def __call__(self) -> int:
            self.n += 1
            return self.n

    counter = Counter()

    @budgeted(tokens=counter, settle=lambda used: used)
    def estimated() -> Usage:
        return Usage(output_tokens=counter.n)

    with task_budget(tokens=10**9):
        assert growth_bytes(estimated, BATCH) < SLACK_BYTES


def test_recorded_usage_is_kept_up_to_a_bound() -> None:
    with connect() as service, task_budget(tokens=10**9, usd=1_000):
        tracemalloc.start()
        repeat(plain, 2 * MOST_EVENTS)
        before, _peak = tracemalloc.get_traced_memory()
        repeat(plain, BATCH)
        after, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert after - before < 5 * SLACK_BYTES
        assert service.report().usage.calls == 2 * MOST_EVENTS + BATCH

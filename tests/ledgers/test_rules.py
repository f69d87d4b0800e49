"""How a ledger decides: corners of the pure functions, and long runs of a divided rate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware.errors import ConfigurationError
from budgetware.ledgers import rules
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.rows import LeaseRow, NodeRow
from budgetware.ledgers.terms import FINE, MICRO, MOST, Claim, Terms
from budgetware.testing.ledger_contract.crowds import Crowd

START_US = 1_000_000_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


def node_of(terms: Terms, **changes: int) -> NodeRow:
    node = NodeRow("r/x", terms, "", 1, anchor_us=START_US, level_micro=terms.burst * MICRO)
    for name, value in changes.items():
        setattr(node, name, value)
    return node


def rate_of(value: int, period_us: int = SECOND_US, burst: int = 0) -> Terms:
    return Terms("rate", value, period_us, burst or value)


# A run of many holders.


class Run:
    """A crowd on a memory ledger, with a clock of microseconds."""

    def __init__(
        self,
        terms: Terms,
        *,
        holders: int,
        ttl_ms: int,
        units: int = 1,
        lost: int = 0,
        deaths: int = 0,
        seed: int = 1,
    ) -> None:
        self.now_us = START_US
        self.ledger = MemoryLedger(now=lambda: self.now_us / 1_000_000)
        self.ledger.define("r/rate", terms, "")
        self.crowd = Crowd(
            self.ledger, terms, START_US, holders=holders, ttl_ms=ttl_ms,
            units=units, lost=lost, deaths=deaths, seed=seed,
        )  # fmt: skip

    def go(self, steps: int, step_us: int) -> Crowd:
        for _ in range(steps):
            self.now_us += step_us
            self.crowd.step(self.now_us)
        return self.crowd

    @property
    def part(self) -> float:
        """How much of what may pass has passed."""
        return self.crowd.window.passed / self.crowd.allowed(self.now_us)


RUNS = {
    "one holder": (rate_of(100), 1, 1, 500, 20_000),
    "twenty holders": (rate_of(100), 20, 1, 1_000, 20_000),
    "as many holders as units": (rate_of(10, 60 * SECOND_US), 10, 1, 1_500, 200_000),
    "fifty holders of ten a minute": (rate_of(10, 60 * SECOND_US), 50, 1, 1_000, 300_000),
    "one a day": (rate_of(1, DAY_US), 3, 1, 2_000, 200 * SECOND_US),
    "one a month": (rate_of(1, 30 * DAY_US), 1, 1, 2_000, 7_200 * SECOND_US),
    "a bucket of one": (rate_of(10, SECOND_US, 1), 4, 1, 2_000, 10_000),
    "big calls": (rate_of(100_000, 60 * SECOND_US), 5, 60_000, 2_000, 100_000),
    "as big as the bucket": (rate_of(50, 10 * SECOND_US), 3, 50, 1_000, 100_000),
    "giant values": (rate_of(MOST), 4, 2**48, 300, 20_000),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_keeps_to_the_bound_and_nobody_starves(name: str) -> None:
    terms, holders, units, steps, step_us = RUNS[name]
    run = Run(terms, holders=holders, ttl_ms=max(10_000, step_us // 250), units=units)
    crowd = run.go(steps, step_us)
    assert crowd.window.excess == 0
    assert run.part > 0.6
    assert all(holder.used for holder in crowd.holders)


@pytest.mark.parametrize("seed", range(5))
def test_run_with_deaths_and_lost_answers_keeps_to_the_bound(seed: int) -> None:
    run = Run(rate_of(40), holders=6, ttl_ms=1_000, lost=300, deaths=15, seed=seed)
    crowd = run.go(1_500, 20_000)
    assert crowd.window.excess == 0
    assert run.part > 0.15


def test_rate_is_used_up_after_all_others_died_at_once() -> None:
    run = Run(rate_of(100), holders=5, ttl_ms=2_000)
    run.go(300, 20_000)
    del run.crowd.holders[1:]
    run.go(200, 20_000)
    before = run.crowd.window.passed
    run.go(100, 20_000)
    assert run.crowd.window.passed - before > 190
    assert run.crowd.window.excess == 0


@pytest.mark.parametrize("terms", [rate_of(10), rate_of(10, SECOND_US, 3), rate_of(50, burst=200)])
def test_changed_definition_is_kept_to_once_everybody_knows(terms: Terms) -> None:
    run = Run(rate_of(100), holders=5, ttl_ms=2_000)
    run.go(300, 20_000)
    run.ledger.define("r/rate", terms, "")
    run.go(650, 20_000)  # until what was used before has come back
    run.crowd.terms = terms
    run.crowd.window = type(run.crowd.window)(terms, run.now_us)
    run.crowd.started_us = run.now_us
    run.go(500, 20_000)
    assert run.crowd.window.excess == 0
    assert run.part > 0.4


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    value=st.integers(1, 30),
    burst=st.integers(1, 30),
    holders=st.integers(1, 8),
    lost=st.sampled_from([0, 300]),
    seed=st.integers(0, 100),
    units=st.integers(1, 5),
)
def test_any_run_keeps_to_the_bound(
    value: int, burst: int, holders: int, lost: int, seed: int, units: int
) -> None:
    terms = rate_of(value, SECOND_US, max(burst, units))
    run = Run(terms, holders=holders, ttl_ms=1_000, lost=lost, seed=seed, units=units, deaths=3)
    assert run.go(300, 20_000).window.excess == 0


def test_claims_settle_down_once_shares_are_balanced() -> None:
    run = Run(rate_of(100), holders=5, ttl_ms=10_000)
    run.go(1_000, 20_000)
    before = run.crowd.claims
    run.go(1_000, 20_000)
    assert run.crowd.claims - before <= 5 * 20 / (10 / 3) + 5


# Refill.


def test_refill_of_anything_else_than_a_rate_does_nothing() -> None:
    node = node_of(Terms("capacity", 10))
    rules.refill(node, START_US + SECOND_US)
    assert node.level_micro == 0
    assert node.anchor_us == START_US


def test_refill_in_small_steps_is_that_in_one() -> None:
    stepped, once = (node_of(rate_of(7, DAY_US), level_micro=0) for _ in range(2))
    for step in range(1, 1_001):
        rules.refill(stepped, START_US + step * 9_973)
    rules.refill(once, START_US + 1_000 * 9_973)
    assert once.level_micro - stepped.level_micro in {0, 1}


def test_refill_stops_at_the_burst() -> None:
    node = node_of(rate_of(10, SECOND_US, 4), level_micro=0)
    rules.refill(node, START_US + DAY_US)
    assert node.level_micro == 4 * MICRO


def test_clock_that_goes_back_refills_nothing() -> None:
    node = node_of(rate_of(10), level_micro=0)
    rules.refill(node, START_US - SECOND_US)
    assert node.level_micro == 0
    assert node.anchor_us == START_US


def test_time_without_a_part_of_its_own_is_no_time_for_the_ledger() -> None:
    node = node_of(rate_of(10), level_micro=0, shares=10 * FINE)
    rules.refill(node, START_US + SECOND_US)
    node.shares = 0
    rules.refill(node, START_US + SECOND_US)
    assert node.level_micro == 0


def test_rest_of_a_slow_refill_does_not_count_at_a_faster_one() -> None:
    leases = {"a": LeaseRow("a", 1, share=1_023, cap=1, demand=1, expires_us=START_US + DAY_US)}
    node = node_of(rate_of(1, 10 * DAY_US), level_micro=0, shares=1_023, caps=1)
    claim = Claim("r/x", "a", 2, share=1_023, cap=1, is_last=True)
    rules.sync(node, leases, claim, START_US + 3_600 * SECOND_US)
    assert node.shares == 0
    assert node.anchor_us == START_US + 3_600 * SECOND_US


# Claims.


def test_share_of_a_holder_that_ends_in_a_recovery_is_free() -> None:
    node = node_of(rate_of(10))
    rules.sync(node, {}, Claim("r/x", "a", 5, share=10 * FINE, cap=10, demand=10), START_US)
    assert node.shares == 10 * FINE
    lease = LeaseRow("a", 5, share=10 * FINE, cap=10)
    rules.sync(
        node, {"a": lease}, Claim("r/x", "a", 6, share=10 * FINE, cap=10, is_last=True), START_US
    )
    assert (node.shares, node.caps, lease.is_over) == (0, 0, True)


def test_holder_that_waits_for_nothing_is_not_in_line() -> None:
    node = node_of(Terms("capacity", 10), out=10)
    step = rules.sync(node, {}, Claim("r/x", "a", 1, need=3), START_US)
    assert step.changed[0].ticket_us == 0
    assert step.answer.retry_ms is not None


def test_turn_of_a_holder_in_line_is_told() -> None:
    node = node_of(rate_of(1), level_micro=0)
    others = {
        name: LeaseRow(name, 1, expires_us=START_US + DAY_US, demand=1, head=1, ticket_us=at)
        for at, name in enumerate("bc", start=1)
    }
    claim = Claim("r/x", "a", 1, head=1, waits=True, demand=1)
    assert rules.sync(node, others, claim, START_US).answer.retry_ms == 3_000


def test_turn_is_at_most_a_third_of_a_lease_away() -> None:
    node = node_of(rate_of(1, DAY_US), level_micro=0)
    other = LeaseRow("b", 1, expires_us=START_US + DAY_US, demand=1, head=1, ticket_us=1)
    claim = Claim("r/x", "a", 1, head=1, waits=True, demand=1, ttl_ms=9_000)
    assert rules.sync(node, {"b": other}, claim, START_US).answer.retry_ms == 3_000


def test_nothing_is_journalled_where_nothing_changed() -> None:
    node = node_of(Terms("capacity", 10))
    assert rules.sync(node, {}, Claim("r/x", "a", 1), START_US).journal == []


@pytest.mark.parametrize(
    ("demands", "level"),
    [([], 12), ([0, 0], 12), ([12], 12), ([4], 12), ([4, 20], 8), ([6, 6, 6], 4), ([1, 2, 3], 9)],
)
def test_fair_level_fills_up_from_below(demands: list[int], level: int) -> None:
    assert rules._fair(12, demands) == level  # pyright: ignore[reportPrivateUsage]


# Definitions.


def defined(
    node: NodeRow | None,
    new: NodeRow,
    *,
    is_declared: bool = False,
    expected_revision: int | None = None,
    idle_us: int | None = None,
) -> NodeRow | None:
    return rules.define(
        node, new, is_declared=is_declared, expected_revision=expected_revision, idle_us=idle_us
    )


def test_new_rate_begins_with_a_full_bucket() -> None:
    made = defined(None, NodeRow("r/x", rate_of(5), "", 0, touched_us=START_US))
    assert made is not None
    assert (made.revision, made.level_micro, made.anchor_us) == (1, 5 * MICRO, START_US)


def test_deleted_node_of_another_kind_begins_anew() -> None:
    old = NodeRow("r/x", Terms("capacity", 5), "", 7, is_deleted=True)
    made = defined(old, NodeRow("r/x", rate_of(5), "", 0, touched_us=START_US))
    assert made is not None
    assert made.revision == 8


def test_smaller_burst_spills_what_is_over_it() -> None:
    node = node_of(rate_of(10))
    new = NodeRow("r/x", rate_of(10, SECOND_US, 3), "", 0, touched_us=START_US)
    assert defined(node, new) is node
    assert node.level_micro == 3 * MICRO


def test_time_before_a_change_of_a_slow_rate_is_over() -> None:
    node = node_of(rate_of(1, DAY_US), level_micro=0)
    now_us = START_US + 10
    new = NodeRow("r/x", rate_of(1_000_000, 1, 1), "", 0, touched_us=now_us)
    assert defined(node, new) is node
    rules.refill(node, now_us)
    assert node.level_micro == 0


def test_what_was_used_before_a_change_stays_used() -> None:
    node = node_of(rate_of(10, DAY_US), level_micro=4 * MICRO)
    assert defined(node, NodeRow("r/x", rate_of(20, DAY_US), "", 0, touched_us=START_US)) is node
    assert node.level_micro == 14 * MICRO
    assert defined(node, NodeRow("r/x", rate_of(5, DAY_US), "", 0, touched_us=START_US)) is node
    assert node.level_micro == -1 * MICRO


def test_expected_revision_of_an_idle_node_is_zero() -> None:
    old = NodeRow("r/x", Terms("capacity", 5), "", 7, touched_us=START_US)
    new = NodeRow("r/x", Terms("capacity", 5), "", 0, touched_us=START_US + 11)
    with pytest.raises(ConfigurationError, match="revision 0 in the ledger, not 7"):
        defined(old, new, expected_revision=7, idle_us=10)


def test_top_up_changes_the_value_alone() -> None:
    terms = Terms("capacity", 5, 6, 7, "free")
    assert rules.added(terms, 3) == Terms("capacity", 8, 6, 7, "free")

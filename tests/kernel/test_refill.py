"""Rates refill without drift, without more than they should give, and to the nanosecond."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware.kernel.nodes import Item, Node, QuotaCell, payers, refresh
from budgetware.kernel.quota import put_rate
from budgetware.kernel.refill import Refill
from budgetware.kernel.tree import settle, try_hold

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
BOTTOMLESS = 10**18

values = st.integers(1, 10**6)
periods = st.one_of(st.integers(1, 100), st.integers(1, 10**10))
instants = st.integers(0, 10**11)
many = settings(max_examples=200, deadline=None)


@many
@given(value=values, period=periods, start=instants, asks=st.lists(instants, max_size=20))
def test_asking_often_gives_what_asking_once_gives(
    value: int, period: int, start: int, asks: list[int]
) -> None:
    often = Refill(value, period, BOTTOMLESS, start)
    once = Refill(value, period, BOTTOMLESS, start)
    times = [start + passed for passed in sorted(asks)]
    assert sum(often.due(now) for now in times) == sum(once.due(now) for now in times[-1:])


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.integers(1, 20 * SECOND), min_size=1, max_size=300))
def test_a_day_at_one_unit_per_seven_seconds_gives_the_floor(steps: list[int]) -> None:
    refill = Refill(1, 7 * SECOND, BOTTOMLESS, 5)
    now, units = 5, 0
    while now + steps[0] < 5 + DAY:
        for step in steps:
            now = min(now + step, 5 + DAY)
            units += refill.due(now)
        steps = [step * 3 for step in steps]
    units += refill.due(5 + DAY)
    assert units == 86_400 // 7


@pytest.mark.parametrize("step_ns", [SECOND // 3, 999_999_999, 7 * SECOND - 1, 3_600 * SECOND])
def test_a_day_asked_at_a_steady_pace_gives_the_floor(step_ns: int) -> None:
    refill = Refill(1, 7 * SECOND, BOTTOMLESS, 0)
    assert sum(refill.due(now) for now in [*range(0, DAY, step_ns), DAY]) == 12_342


@many
@given(value=values, period=periods, asks=st.lists(instants, min_size=1, max_size=20))
def test_a_clock_that_goes_back_gives_nothing_and_loses_nothing(
    value: int, period: int, asks: list[int]
) -> None:
    refill = Refill(value, period, BOTTOMLESS, 0)
    total = sum(refill.due(now) for now in asks)
    assert total == max(asks) * value // period


@many
@given(value=values, period=periods, passed=instants, back=st.integers(1, 10**11))
def test_going_back_gives_nothing(value: int, period: int, passed: int, back: int) -> None:
    refill = Refill(value, period, BOTTOMLESS, 0)
    refill.due(passed)
    assert refill.due(passed - back) == 0


@many
@given(
    value=values,
    period=periods,
    passed=instants,
    back=st.integers(0, 10**11),
    more=st.integers(0, 10**11),
)
def test_a_bucket_that_is_full_while_the_clock_is_back_gives_nothing_twice(
    value: int, period: int, passed: int, back: int, more: int
) -> None:
    refill = Refill(value, period, BOTTOMLESS, 0)
    total = refill.due(passed)
    refill.stop(passed - back)
    total += refill.due(passed + more)
    assert total <= (passed + more) * value // period


@many
@given(value=values, period=periods, asked=instants, deficit=st.integers(1, 10**9))
def test_ready_is_the_first_nanosecond_at_which_it_is_given(
    value: int, period: int, asked: int, deficit: int
) -> None:
    refill = Refill(value, period, BOTTOMLESS, 0)
    refill.due(asked)
    ready = refill.ready_ns(deficit)
    early = Refill(value, period, BOTTOMLESS, 0)
    early.due(asked)
    assert early.due(ready - 1) < deficit
    assert refill.due(ready) >= deficit


def test_a_full_bucket_stops_the_clock() -> None:
    refill = Refill(1, 7 * SECOND, 10, 0)
    refill.due(6 * SECOND)
    refill.stop(6 * SECOND)
    assert refill.due(13 * SECOND - 1) == 0
    assert refill.due(13 * SECOND) == 1


@pytest.mark.parametrize(
    ("deficit", "seconds"), [(0, 0.0), (1, 0.01), (10, 0.1), (15, 0.15), (100, 1.0), (250, 2.5)]
)
def test_at_100_per_second_a_deficit_is_a_hundredth_of_a_second_each(
    deficit: int, seconds: float
) -> None:
    assert Refill(100, SECOND, 100, 0).wait_seconds(deficit, 0) == seconds


def test_what_has_passed_shortens_the_wait_down_to_none() -> None:
    refill = Refill(100, SECOND, 100, 0)
    assert refill.wait_seconds(10, SECOND // 20) == 0.05
    assert refill.wait_seconds(10, SECOND) == 0.0


@many
@given(
    old=st.tuples(values, periods),
    new=st.tuples(values, periods),
    changed=instants,
    passed=instants,
)
def test_a_change_keeps_what_was_given_and_the_part_of_a_unit_that_had_come(
    old: tuple[int, int], new: tuple[int, int], changed: int, passed: int
) -> None:
    refill = Refill(*old, BOTTOMLESS, 0)
    total = refill.due(changed)
    refill.change(*new, BOTTOMLESS, changed)
    total += refill.due(changed + passed)
    come = Fraction(changed * old[0], old[1]) + Fraction(passed * new[0], new[1])
    a_nanosecond = Fraction(new[0], new[1])
    assert floor(come - a_nanosecond) <= total <= floor(come)


def test_changing_nothing_again_and_again_does_not_hold_up_the_next_unit() -> None:
    refill = Refill(1, 7 * SECOND, 10, 0)
    for now in range(SECOND, 7 * SECOND, SECOND):
        assert refill.due(now) == 0
        refill.change(1, 7 * SECOND, 10, now)
    assert refill.due(7 * SECOND) == 1


def test_a_change_while_the_clock_is_back_gives_nothing_twice() -> None:
    refill = Refill(1, SECOND, 10, 0)
    assert refill.due(5 * SECOND) == 5
    refill.change(1, SECOND, 10, 2 * SECOND)
    assert refill.due(5 * SECOND) == 0
    assert refill.due(6 * SECOND) == 1


class Bucket:
    """A rate, as a resource has it."""

    def __init__(self, value: int, period: int, most: int) -> None:
        node = Node("r", "r", None, kind="resource")
        self.cell = QuotaCell(node, "r", None)
        node.cells["r"] = self.cell
        self.now = 0
        put_rate(self.cell, value, period, most, 0)

    def wait(self, passed: int) -> None:
        self.now += passed

    def draw(self, units: int) -> tuple[Item, ...] | None:
        refresh(self.cell, self.now)
        items: tuple[Item, ...] = (("r", units, payers((self.cell.node,), "r")),)
        return items if try_hold(items) else None


@dataclass
class Exact:
    """The reference model: a bucket in fractions, refilled whenever time passes."""

    rate: Fraction
    most: int
    level: Fraction

    def wait(self, passed: int) -> None:
        self.level = min(Fraction(self.most), self.level + passed * self.rate)

    def back(self, units: int) -> None:
        self.level = min(Fraction(self.most), self.level + units)

    def draw(self, units: int) -> bool:
        if units > self.level:
            return False
        self.level -= units
        return True


# (how long to wait, how much to draw, which of the open draws to give back in part)
moves = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 25), st.none() | st.integers(0, 5)),
    max_size=40,
)
rates = st.tuples(st.integers(1, 20), st.integers(1, 50), st.integers(1, 30))


@many
@given(rate=rates, moves=moves)
def test_a_bucket_grants_exactly_what_one_in_fractions_grants(
    rate: tuple[int, int, int], moves: list[tuple[int, int, int | None]]
) -> None:
    value, period, most = rate
    bucket = Bucket(value, period, most)
    exact = Exact(Fraction(value, period), most, Fraction(most))
    held: list[tuple[Item, ...]] = []
    for passed, units, returned in moves:
        bucket.wait(passed)
        exact.wait(passed)
        if returned is not None and returned < len(held):
            items = held.pop(returned)
            settle(items, [items[0][1] // 2])
            exact.back(items[0][1] - items[0][1] // 2)
        items_drawn = bucket.draw(units)
        assert (items_drawn is not None) == exact.draw(units)
        assert bucket.cell.free == floor(exact.level)
        held += [] if items_drawn is None else [items_drawn]


@many
@given(rate=rates, moves=moves)
def test_no_window_has_more_draws_than_the_burst_and_the_rate_times_its_length(
    rate: tuple[int, int, int], moves: list[tuple[int, int, int | None]]
) -> None:
    value, period, most = rate
    bucket = Bucket(value, period, most)
    draws: list[tuple[int, int]] = []
    for passed, units, _ in moves:
        bucket.wait(passed)
        if bucket.draw(units) is not None:
            draws.append((bucket.now, units))
    for first, (begin, _units) in enumerate(draws):
        for last in range(first, len(draws)):
            drawn = sum(units for _now, units in draws[first : last + 1])
            assert drawn <= most + Fraction(value * (draws[last][0] - begin), period)


def test_what_a_full_bucket_gets_back_is_no_room_beyond_its_burst() -> None:
    bucket = Bucket(10, SECOND, 10)
    items = bucket.draw(10)
    assert items is not None
    bucket.wait(SECOND)
    settle(items, [0])
    assert bucket.draw(10) is not None
    assert bucket.draw(1) is None

"""Workers whose wall clocks are an hour apart, or are set while they work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.crew import Crew
from tests.chaos.orders import NODE, Orders
from tests.chaos.reading import check, look
from tests.chaos.stores import Store, Watch

HOUR = 3_600.0


def test_wall_clocks_an_hour_apart_lose_no_lease(store: Store, crew: Crew) -> None:
    orders = Orders("w", store.address, 3_000, seed=13, draws=2, lease_seconds=20)
    with Watch(store, NODE) as watch:
        for step_seconds, calls in ((0.0, 0), (HOUR, 0), (-HOUR, 0), (HOUR, 50), (-HOUR, 50)):
            stepped = replace(orders, step_seconds=step_seconds, drawn_before_step=calls)
            crew.hire(stepped, is_ready=False)
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(store, crew, watch, orders)
    check(outcome)
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (3_000, 3_000, 0)
    assert all(refusal.error == "QuotaExceeded" for refusal in crew.refusals())


@pytest.mark.parametrize("steps", [(HOUR, -2 * HOUR), (-HOUR, 2 * HOUR)])
def test_lease_is_the_same_after_the_clock_was_set(
    store: Store, crew: Crew, steps: tuple[float, float]
) -> None:
    life = crew.hire(Orders("w", store.address, 10_000, lease_seconds=600))
    while store.state(NODE).out < 100:
        assert life.draw(20) == "granted"
    before = store.state(NODE)
    for step in steps:
        life.do(f"step {step}")
        assert [life.draw(1) for _ in range(5)] == ["granted"] * 5
    assert store.state(NODE).stranded == 0
    life.leave()
    assert store.settled(NODE).used == sum(call.used for call in crew.calls()) >= before.used


def test_window_of_a_rate_is_not_reset_by_a_set_clock(store: Store, crew: Crew) -> None:
    orders = Orders("w", store.address, 100, "rate", period_seconds=1_000_000.0)
    lives = [crew.hire(replace(orders, step_seconds=step)) for step in (0.0, HOUR, -HOUR)]
    for step in (0.0, HOUR, -2 * HOUR, HOUR):
        lives[0].do(f"step {step}")
        for life in lives:
            while life.draw(1) == "granted":
                pass
    granted = sum(1 for _call in crew.calls())
    assert 90 <= granted <= 101
    crew.leave_all()

"""Workers that are killed at random instants, again and again."""

from __future__ import annotations

from random import Random

from tests.chaos.crew import Crew, until
from tests.chaos.orders import Orders
from tests.chaos.reading import check, most_at_once
from tests.chaos.scenarios import kill_at_random
from tests.chaos.stores import Store, Watch

KILLS, FEWER_KILLS = 8, 5


def test_settlements_of_per_call_resources_outlive_kills_exactly(store: Store, crew: Crew) -> None:
    orders = Orders("w", store.address, 2_000, seed=1, draws=2, per_call=True)
    outcome = kill_at_random(store, crew, orders, kills=KILLS)
    check(outcome, per_call=True)
    assert outcome.acknowledged <= outcome.used <= outcome.acknowledged + outcome.unknown
    assert outcome.used + outcome.stranded == outcome.value


def test_leases_of_the_killed_cover_what_they_have_acknowledged(store: Store, crew: Crew) -> None:
    orders = Orders("w", store.address, 3_000, seed=2, draws=2, max_lease=50)
    outcome = kill_at_random(store, crew, orders, kills=KILLS)
    check(outcome)
    assert outcome.used + outcome.stranded == outcome.value
    assert outcome.unreported <= outcome.stranded


def test_units_given_back_are_overspent_by_what_was_not_reported_at_most(
    store: Store, crew: Crew
) -> None:
    orders = Orders("w", store.address, 2_000, seed=3, draws=2, max_lease=50, stranded="free")
    outcome = kill_at_random(store, crew, orders, kills=FEWER_KILLS)
    assert outcome.excess <= 0
    assert (outcome.used, outcome.stranded, outcome.out) == (outcome.value, 0, 0)
    most_held = orders.draws * orders.most + 50
    assert outcome.overspend <= outcome.kills * most_held
    assert (outcome.twice, outcome.lost_events, outcome.differences) == (0, 0, [])


def test_slots_are_never_used_by_more_calls_than_there_are_and_come_back(
    store: Store, crew: Crew
) -> None:
    orders = Orders("w", store.address, 3, "concurrency", 4, draws=2, most=1)
    crew.hire_all(orders, 4)
    with Watch(store, orders.node) as watch:
        crew.harass(Random(orders.seed), FEWER_KILLS, are_settling=False)
        before = acknowledged(crew)
        until(lambda: acknowledged(crew) >= before + 20, "calls after the last kill")
        crew.leave_all()
        state = store.settled(orders.node)
    assert watch.excess <= 0
    assert 1 <= most_at_once(crew.calls(), crew.lives) <= orders.value
    assert (state.used, state.out) == (0, 0)


def acknowledged(crew: Crew) -> int:
    return sum(life.said.words["="] for life in crew.lives)

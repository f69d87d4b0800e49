"""Workers that are stopped for longer than their lease, and wake up with what is not theirs."""

from __future__ import annotations

import pytest

from budgetware.ledgers.terms import Claim
from tests.chaos.crew import Crew, until
from tests.chaos.orders import NODE, Orders
from tests.chaos.reading import check
from tests.chaos.scenarios import pause_at_random
from tests.chaos.stores import Store


@pytest.mark.parametrize("per_call", [False, True])
def test_pauses_and_kills_neither_overspend_nor_lose(
    store: Store, crew: Crew, per_call: bool
) -> None:
    orders = Orders("w", store.address, 3_000, seed=5, draws=2, per_call=per_call, max_lease=50)
    outcome = pause_at_random(store, crew, orders, pauses=3, kills=4)
    check(outcome, per_call=per_call)
    assert outcome.used + outcome.stranded == outcome.value


def test_late_report_turns_what_was_stranded_into_what_was_used(store: Store, crew: Crew) -> None:
    life = crew.hire(Orders("w", store.address, 1_000))
    for _ in range(7):
        assert life.draw(3) == "granted"
    life.do("open 5")
    life.stop()
    asleep = store.settled(NODE)
    assert asleep.used + asleep.stranded >= 26
    assert asleep.stranded >= 5
    life.go_on()
    until(lambda: store.state(NODE).stranded == 0, "the late report")
    life.do("settle 4")
    life.leave()
    state = store.settled(NODE)
    assert (state.used, state.out, state.stranded) == (25, 0, 0)
    assert store.read(lambda ledger: ledger.verify()) == []


def test_nothing_is_granted_from_a_lease_that_others_have_by_now(store: Store, crew: Crew) -> None:
    life = crew.hire(Orders("w", store.address, 100, stranded="free", lease_seconds=0.5))
    while store.state(NODE).out == 0:
        assert life.draw(1) == "granted"
    life.stop()
    store.settled(NODE)
    rest = 100 - store.state(NODE).used
    with store.ledger() as ledger:
        [grant] = ledger.sync([Claim(NODE, "heir", 1, need=rest, head=rest, ttl_ms=600_000)])
        assert grant.granted == rest
        life.go_on()
        assert [life.draw(1) for _ in range(20)] == ["QuotaExceeded"] * 20
        ledger.sync([Claim(NODE, "heir", 2, is_last=True)])
    until(lambda: life.draw(1) == "granted", "the units to come back")
    life.leave()
    calls = [call for call in crew.calls() if call.is_acknowledged]
    state = store.settled(NODE)
    assert (state.used, state.stranded) == (len(calls), 0)


def test_slots_that_others_have_by_now_are_not_used(store: Store, crew: Crew) -> None:
    life = crew.hire(Orders("w", store.address, 2, "concurrency"))
    life.do("open 1")
    life.stop()
    store.settled(NODE)
    with store.ledger() as ledger:
        [grant] = ledger.sync([Claim(NODE, "heir", 1, need=2, head=2, ttl_ms=600_000)])
        assert grant.granted == 2
        life.go_on()
        assert [life.draw(1) for _ in range(3)] == ["QuotaExceeded"] * 3
        life.do("settle 0")
        assert [life.draw(1) for _ in range(3)] == ["QuotaExceeded"] * 3
        ledger.sync([Claim(NODE, "heir", 2, is_last=True)])
    until(lambda: life.draw(1) == "granted", "the slots to come back")
    life.leave()
    assert store.settled(NODE).out == 0


def test_units_that_others_have_by_now_are_not_drawn_again(store: Store, crew: Crew) -> None:
    """What a call gives back after the pause is not there any more."""
    life = crew.hire(Orders("w", store.address, 100, stranded="free"))
    life.do("open 40")
    life.stop()
    store.settled(NODE)
    with store.ledger() as ledger:
        [grant] = ledger.sync([Claim(NODE, "heir", 1, need=100, head=100, ttl_ms=600_000)])
        assert grant.granted == 100
        life.go_on()
        assert [life.draw(1) for _ in range(3)] == ["QuotaExceeded"] * 3
        life.do("settle 10")
        assert [life.draw(1) for _ in range(3)] == ["QuotaExceeded"] * 3
        ledger.sync([Claim(NODE, "heir", 2, used=90, is_last=True)])
    life.leave()
    state = store.settled(NODE)
    assert (state.used, state.out, state.stranded) == (100, 0, 0)

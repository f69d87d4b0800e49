# ruff: noqa: PT012 - what raises is a loop, or an owner's block
"""Two services on one ledger, as two processes would have it: what one does, the other sees."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Rate,
    Resource,
    reserve,
    reserve_nowait,
)
from budgetware.errors import ConfigurationError, IdempotencyConflict, UnknownResource
from tests.ledgers.places import Place, inside, soon, soon_async

LEASE_SECONDS = 0.5
Pair = tuple[QuotaService, QuotaService]


@pytest.fixture
def pair(place: Place) -> Iterator[Pair]:
    with place.connect(lease_seconds=LEASE_SECONDS) as one:
        one.define(Resource("org", Capacity(100), "reject"))
        one.define(Resource("slot", Concurrency(1)))
        with place.connect(lease_seconds=LEASE_SECONDS) as two:
            yield one, two


def spend(service: QuotaService, name: str, units: int) -> None:
    with inside(service):
        reserve_nowait(name, units).commit()


def spend_all(service: QuotaService, name: str) -> int:
    """Take one unit after the other until there are none."""
    units = 0
    with service.task_budget("spender", calls=1), pytest.raises(QuotaExceeded):
        while True:
            reserve_nowait(name, 1).commit()
            units += 1
    return units


# Balances.


def test_what_one_has_spent_the_other_has_not(place: Place, pair: Pair) -> None:
    one, two = pair
    spend(one, "org", 70)
    one.close()
    with inside(two):
        with pytest.raises(QuotaExceeded, match="30 of 100"):
            reserve_nowait("org", 31)
        reserve_nowait("org", 30).commit()
    assert two.resource("org").balance.remaining == 0
    place_used(place, pair, 100)


def place_used(place: Place, pair: Pair, units: int) -> None:
    for service in pair:
        service.close()
    place.assert_at_rest(org=units)


def test_small_calls_of_both_add_up_to_the_limit(place: Place, pair: Pair) -> None:
    one, two = pair
    assert spend_all(one, "org") + spend_all(two, "org") == 100
    place_used(place, pair, 100)


def test_what_one_has_in_stock_comes_back_when_it_closes(place: Place, pair: Pair) -> None:
    one, two = pair
    spend(one, "org", 1)
    one.close()
    spend(two, "org", 99)
    place_used(place, pair, 100)


def test_stock_comes_back_while_the_other_waits(pair: Pair) -> None:
    one, two = pair
    one.update("org", enforcement="throttle")
    spend(one, "org", 5)
    with inside(two), reserve("org", 95, max_wait=10):
        pass


async def test_a_slot_that_one_gives_back_the_other_gets(place: Place, pair: Pair) -> None:
    one, two = pair
    with inside(one):
        held = await reserve("slot")
    with inside(two), pytest.raises(QuotaExceeded):
        reserve_nowait("slot")
    held.release()
    with inside(two):
        async with reserve("slot", max_wait=10):
            assert place.books("r/slot") == (0, 1, 0)


# Definitions.


def test_the_same_definition_may_be_given_by_both(pair: Pair) -> None:
    one, two = pair
    assert two.resource("org").limit == Capacity(100)
    with pytest.raises(ConfigurationError, match="with another definition"):
        two.define(Resource("org", Capacity(101), "reject"))
    assert one.resource("org").limit == Capacity(100)


async def test_an_update_reaches_the_other_with_its_next_answer(pair: Pair) -> None:
    one, two = pair
    spend(two, "org", 10)
    one.update("org", limit=Capacity(20))
    await soon_async(lambda: two.resource("org").limit == Capacity(20))
    with inside(two):
        with pytest.raises(QuotaExceeded):
            reserve_nowait("org", 11)
        reserve_nowait("org", 10).commit()


def test_an_update_upwards_is_there_for_the_other_at_once(pair: Pair) -> None:
    one, two = pair
    spend(two, "org", 100)
    one.update("org", limit=Capacity(150))
    soon(lambda: two.resource("org").balance.remaining == 50 or _asks(two))
    spend(two, "org", 50)


def _asks(service: QuotaService) -> bool:
    """Whether the service has heard of it, after asking for one unit."""
    with inside(service):
        try:
            reserve_nowait("org", 1).release()
        except QuotaExceeded:
            return False
    return True


def test_a_change_of_one_thing_leaves_what_the_other_has_changed(pair: Pair) -> None:
    one, two = pair
    one.update("org", limit=Capacity(20))
    changed = two.update("org", max_wait=5)
    assert (changed.limit, changed.definition.max_wait) == (Capacity(20), 5)
    assert changed.revision == 3


def test_an_old_revision_changes_nothing(pair: Pair) -> None:
    one, two = pair
    one.update("org", limit=Capacity(20))
    with pytest.raises(ConfigurationError, match="revision 2, not 1"):
        two.update("org", limit=Capacity(30), expected_revision=1)
    with pytest.raises(ConfigurationError, match="revision 2, not 1"):
        two.delete("org", expected_revision=1)
    assert two.update("org", limit=Capacity(30), expected_revision=2).revision == 3


def test_a_lower_limit_is_in_effect_at_once(pair: Pair) -> None:
    one, _two = pair
    with inside(one):
        held = reserve_nowait("org", 50)
        one.update("org", limit=Capacity(30))
        held.commit(25)
        with pytest.raises(QuotaExceeded, match="5 of 30"):
            reserve_nowait("org", 6)
        reserve_nowait("org", 5).commit()


def test_lowered_slots_are_refused_until_enough_came_back(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("slots", Concurrency(4), "reject"))
        first, second = reserve_nowait("slots", 2), reserve_nowait("slots", 2)
        service.update("slots", limit=Concurrency(2))
        first.release()
        with pytest.raises(QuotaExceeded):
            reserve_nowait("slots")
        second.release()
        reserve_nowait("slots", 2).release()
    place.assert_at_rest()


def test_what_is_deleted_is_unknown_to_both(pair: Pair) -> None:
    one, two = pair
    one.delete("org")
    with pytest.raises(UnknownResource):
        one.resource("org")
    with pytest.raises(UnknownResource, match="deleted by another process"):
        two.update("org", limit=Capacity(5))
    two.delete("org")
    two.define(Resource("org", Rate(5, "day"), "reject"))
    with inside(two):
        reserve_nowait("org", 5).commit()


def test_what_is_in_use_elsewhere_is_not_deleted(pair: Pair) -> None:
    one, two = pair
    with inside(one):
        held = reserve_nowait("org", 5)
    with pytest.raises(ConfigurationError, match="in use"):
        two.delete("org")
    held.release()


def test_what_was_too_little_for_a_call_goes_back(place: Place) -> None:
    with place.connect(lease_seconds=LEASE_SECONDS) as one, place.connect() as two:
        one.define(Resource("slots", Concurrency(4), "reject"))
        two.define(Resource("slots", Concurrency(4), "reject"))
        with inside(one):
            held = reserve_nowait("slots", 3)
            with inside(two), pytest.raises(QuotaExceeded, match="1 of 4"):
                reserve_nowait("slots", 2)
        soon(lambda: place.books("r/slots") == (0, 3, 0))
        held.release()


# Keys.


def test_a_key_counts_once_for_both(place: Place, pair: Pair) -> None:
    one, two = pair
    with inside(one):
        first = reserve_nowait("org", 10, idempotency_key="job-1")
    with inside(two), pytest.raises(IdempotencyConflict, match="held by another process"):
        reserve_nowait("org", 10, idempotency_key="job-1")
    first.commit(4)
    one.flush()
    with inside(two):
        again = reserve_nowait("org", 10, idempotency_key="job-1")
        assert (again.state, again.id) == ("committed", first.id)
        with pytest.raises(IdempotencyConflict, match="other amounts"):
            reserve_nowait("org", 11, idempotency_key="job-1")
    place_used(place, pair, 4)


async def test_a_key_whose_call_was_refused_may_be_tried_by_the_other(pair: Pair) -> None:
    one, two = pair
    with inside(one):
        with pytest.raises(QuotaExceeded):
            await reserve("org", 101, idempotency_key="job-2")
        one.flush()
    with inside(two):
        async with reserve("org", 1, idempotency_key="job-2") as reservation:
            reservation.commit()

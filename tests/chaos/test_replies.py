"""Replies of a Valkey server that are lost, late, doubled or cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.chaos.crew import Crew
from tests.chaos.orders import NODE, Orders
from tests.chaos.reading import check, look
from tests.chaos.scenarios import disturb, spoil_replies
from tests.chaos.stores import Store, Watch
from tests.ledgers.proxy import Proxy


@pytest.fixture
def proxy(valkey: Store) -> Iterator[Proxy]:
    assert valkey.server is not None
    with Proxy(valkey.server.port) as made:
        yield made


@pytest.fixture
def crew(tmp_path: Path, proxy: Proxy) -> Iterator[Crew]:
    """Ends before its proxy does."""
    with Crew(tmp_path) as made:
        yield made


@pytest.mark.parametrize("per_call", [False, True])
def test_nothing_is_lost_or_booked_twice_whatever_happens_to_replies(
    valkey: Store, crew: Crew, per_call: bool
) -> None:
    orders = Orders("w", valkey.address, 3_000, seed=11, draws=2, per_call=per_call)
    outcome = spoil_replies(valkey, crew, orders, times=12)
    check(outcome)
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (3_000, 3_000, 0)


def test_kills_behind_a_bad_line_overspend_nothing(valkey: Store, proxy: Proxy, crew: Crew) -> None:
    assert valkey.server is not None
    address = valkey.server.url(port=proxy.port)
    orders = Orders("w", address, 3_000, seed=12, draws=2, max_lease=50)
    random = Random(orders.seed)
    crew.hire_all(orders, 4)
    with Watch(valkey, NODE) as watch:
        for _ in range(5):
            disturb(proxy, random, 3)
            crew.harass(random, 1)
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(valkey, crew, watch, orders)
    check(outcome)
    assert outcome.used + outcome.stranded == outcome.value

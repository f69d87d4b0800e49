"""A Valkey server that is killed, frozen, emptied or put back under running workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.crew import Crew, pass_time, until
from tests.chaos.orders import LEASE_SECONDS, NODE, Orders
from tests.chaos.reading import check, look
from tests.chaos.scenarios import restart_at_random
from tests.chaos.stores import Store, Watch
from tests.ledgers.valkey import Server

SERVER_TIMEOUT_SECONDS = 1.0
"""How long the ledger waits for a reply; a call waits for one attempt, and has little else to do.
What is asserted allows for a busy machine."""
BUSY_SECONDS = 8.0


@pytest.fixture
def server(valkey: Store) -> Server:
    assert valkey.server is not None
    return valkey.server


@pytest.fixture
def crew(tmp_path: Path, valkey: Store) -> Iterator[Crew]:
    """Ends before its server does."""
    with Crew(tmp_path) as made:
        yield made


@pytest.mark.parametrize("per_call", [False, True])
def test_restarts_neither_lose_nor_double_anything(
    valkey: Store, crew: Crew, per_call: bool
) -> None:
    orders = Orders("w", valkey.address, 2_000, seed=7, draws=2, per_call=per_call)
    outcome = restart_at_random(valkey, crew, orders)
    check(outcome)
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (2_000, 2_000, 0)


def test_workers_live_on_their_leases_while_the_server_is_down(
    valkey: Store, server: Server, crew: Crew
) -> None:
    life = crew.hire(Orders("w", valkey.address, 10_000, lease_seconds=30))
    while life.balance()[3] < 0 or valkey.state(NODE).out < 100:
        assert life.draw(20) == "granted"
    server.kill()
    assert [life.draw(1) for _ in range(20)] == ["granted"] * 20
    server.start()
    life.leave()
    state = valkey.settled(NODE)
    used = sum(call.used for call in crew.calls())
    assert (state.used, state.out, state.stranded) == (used, 0, 0)


def test_frozen_server_refuses_in_time_once_the_lease_is_over(
    valkey: Store, server: Server, crew: Crew
) -> None:
    life = crew.hire(Orders("w", valkey.address, 10_000))
    assert life.draw(5) == "granted"
    server.freeze()
    pass_time(LEASE_SECONDS)
    refused = len(life.said.refusals)
    assert [life.draw(1) for _ in range(5)] == ["LedgerUnavailable"] * 5
    slowest = max(refusal.seconds for refusal in life.said.refusals[refused:])
    assert slowest < BUSY_SECONDS
    server.thaw()
    until(lambda: life.draw(1) == "granted", "the server to be used again")
    life.leave()
    assert valkey.settled(NODE).used == 6


def test_frozen_server_holds_no_running_worker_for_ever(
    valkey: Store, server: Server, crew: Crew
) -> None:
    orders = Orders("w", valkey.address, 3_000, seed=8, draws=2)
    crew.hire_all(orders, 4)
    crew.wait_all("=")
    with Watch(valkey, NODE) as watch:
        server.freeze()
        until(lambda: "LedgerUnavailable" in errors(crew), "a refusal")
        server.thaw()
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(valkey, crew, watch, orders)
    check(outcome)
    assert outcome.acknowledged + outcome.stranded == orders.value
    slowest = max(each.seconds for each in crew.refusals() if each.error == "LedgerUnavailable")
    assert slowest < BUSY_SECONDS


def errors(crew: Crew) -> set[str]:
    return {refusal.error for refusal in crew.refusals()}


def test_server_that_comes_back_empty_grants_nothing_until_defined(
    valkey: Store, server: Server, crew: Crew
) -> None:
    orders = Orders("w", valkey.address, 1_000)
    life = crew.hire(orders)
    assert life.draw(5) == "granted"
    server.restart_empty()
    pass_time(LEASE_SECONDS)
    assert [life.draw(1) for _ in range(20)] == ["LedgerUnavailable"] * 20
    assert valkey.read(lambda ledger: ledger.read()) == []
    crew.hire(orders)  # which defines it
    until(lambda: life.draw(1) == "granted", "the budget to be known again")
    crew.leave_all()
    state = valkey.settled(NODE)
    assert (state.used, state.out) == (6, 0)


@pytest.mark.parametrize("per_call", [False, True])
def test_rollback_to_an_older_copy_overspends_nothing(
    valkey: Store, server: Server, crew: Crew, per_call: bool
) -> None:
    orders = Orders("w", valkey.address, 3_000, seed=9, draws=2, per_call=per_call)
    crew.hire_all(orders, 4)
    crew.wait_all("=")
    copy = server.copy()
    until(lambda: valkey.state(NODE).used > 1_000, "some to be used")
    server.restart(copy)
    with Watch(valkey, NODE) as watch:
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(valkey, crew, watch, orders)
    assert (outcome.overspend, outcome.excess, outcome.twice, outcome.differences) == (0, 0, 0, [])
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (3_000, 3_000, 0)


def test_outbox_has_what_died_while_the_server_was_away(
    valkey: Store, server: Server, crew: Crew, tmp_path: Path
) -> None:
    orders = Orders("w", valkey.address, 5_000, outbox=str(tmp_path / "outbox"), lease_seconds=20)
    life = crew.hire(orders)
    while valkey.state(NODE).out < 50:
        assert life.draw(20) == "granted"
    server.kill()
    for _ in range(10):
        assert life.draw(1) == "granted"
    saved = tmp_path / "outbox"
    until(lambda: life.draw(1) == "granted" and any(saved.glob("*.json")), "the outbox")
    before = acknowledged(crew) - 1
    seen = [each.stat().st_mtime_ns for each in saved.glob("*.json")]
    until(lambda: [each.stat().st_mtime_ns for each in saved.glob("*.json")] != seen, "a letter")
    life.kill()
    server.start()
    crew.hire(orders).leave()
    state = valkey.settled(NODE)
    assert before <= state.used <= acknowledged(crew)
    assert (state.out, state.stranded) == (0, 0)


def acknowledged(crew: Crew) -> int:
    return sum(call.used for call in crew.calls() if call.is_acknowledged)

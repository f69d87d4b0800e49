"""What the Redis ledger does where replies are lost, and servers die, freeze or go back in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from budgetware.errors import ConfigurationError, LedgerUnavailable
from budgetware.ledgers.redis import RedisLedger, offset
from budgetware.ledgers.terms import Claim, Grant, Terms, UsageRow
from tests.ledgers.proxy import Action, Proxy
from tests.ledgers.valkey import KINDS, Server, cluster, running, wait_for

T = TypeVar("T")
TTL_US = 10_000_000


class Clock:
    now_us = 10**15

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, tmp_path) as server:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def ledger(server: Server, clock: Clock) -> Iterator[RedisLedger]:
    made = RedisLedger(server.url(), now_us=clock, timeout_seconds=5)
    made.open()
    made.define("r/x", Terms("capacity", 1_000), "")
    yield made
    made.close()


@pytest.fixture
def far(server: Server, proxy: Proxy) -> Iterator[RedisLedger]:
    """A ledger behind the proxy, with little patience."""
    made = RedisLedger(server.url(port=proxy.port), timeout_seconds=0.5)
    insist(made.open)
    insist(lambda: made.define("r/x", Terms("capacity", 1_000), ""))
    yield made
    proxy.plan.clear()
    made.close()


def insist(call: Callable[[], T]) -> T:
    """Call it until it is known what came of it, as a service does."""
    for _ in range(50):
        try:
            return call()
        except LedgerUnavailable:
            continue
    raise AssertionError("never answered")


def ask(ledger: RedisLedger, claim: Claim) -> Grant:
    [grant] = insist(lambda: ledger.sync([claim]))
    return grant


@pytest.mark.parametrize("action", ["lose", "twice", "hold", "cut", "cut before"])
def test_claims_count_once_whatever_happens_to_replies(
    far: RedisLedger, proxy: Proxy, action: Action
) -> None:
    got = 0
    for epoch in range(1, 9):
        if epoch % 2:
            proxy.plan.append(action)
        got += ask(far, Claim("r/x", "a", epoch, used=got, need=3)).granted
        proxy.release.set()
    proxy.plan.clear()
    [state] = insist(far.read)
    assert (got, state.used, state.out) == (24, 21, 3)
    assert insist(far.verify) == []


def test_reply_to_another_request_is_noticed(far: RedisLedger, proxy: Proxy) -> None:
    ask(far, Claim("r/x", "a", 1))
    proxy.plan.append("twice")
    ask(far, Claim("r/x", "a", 2, need=3))
    with pytest.raises(LedgerUnavailable, match="another request"):
        far.sync([Claim("r/x", "a", 3, held=3, need=3)])
    assert ask(far, Claim("r/x", "a", 3, held=3, need=3)).granted == 3


def test_idle_connection_that_was_cut_is_made_again(far: RedisLedger, proxy: Proxy) -> None:
    proxy.cut()
    assert ask(far, Claim("r/x", "a", 1, need=3)).granted == 3


@pytest.mark.parametrize("action", ["lose", "cut"])
def test_other_steps_count_once(far: RedisLedger, proxy: Proxy, action: Action) -> None:
    until = time.time() + 60
    proxy.plan.append(action)
    assert insist(lambda: far.spend("token", until))
    assert not insist(lambda: far.spend("token", until))
    proxy.plan.append(action)
    assert insist(lambda: far.add("r/x", 5, "once")).terms.value == 1_005
    rows = [UsageRow("a", number, 1.0, "{}") for number in range(3)]
    proxy.plan.append(action)
    insist(lambda: far.record(rows, keep_seconds=1e12))
    assert [row for _, row in insist(lambda: far.usage(0, 2))] == rows


def test_killed_server_goes_on_with_its_file(
    server: Server, ledger: RedisLedger, clock: Clock
) -> None:
    held = ask(ledger, Claim("r/x", "a", 1, need=300)).granted
    server.restart()
    grant = ask(ledger, Claim("r/x", "b", 1, need=900))
    assert (grant.outcome, grant.granted, grant.out) == ("recovering", 0, held)
    clock.now_us += TTL_US
    assert ask(ledger, Claim("r/x", "a", 2, held=held)).out == held
    assert ask(ledger, Claim("r/x", "b", 2, need=700)).granted == 700
    assert ledger.verify() == []


def test_server_that_went_back_grants_nothing_until_what_is_held_was_declared(
    server: Server, ledger: RedisLedger, clock: Clock
) -> None:
    ask(ledger, Claim("r/x", "a", 1, need=100))
    older = server.copy()
    ask(ledger, Claim("r/x", "a", 2, used=100, need=500))
    ask(ledger, Claim("r/x", "c", 1, need=200))
    server.restart(older)
    assert ask(ledger, Claim("r/x", "b", 1, need=900)).granted == 0
    assert ask(ledger, Claim("r/x", "a", 3, used=150, held=450)).outcome == "recovering"
    assert ask(ledger, Claim("r/x", "c", 2, held=200)).outcome == "recovering"
    clock.now_us += TTL_US + 1
    ask(ledger, Claim("r/x", "a", 4, used=150, held=450))
    ask(ledger, Claim("r/x", "c", 3, held=200))
    clock.now_us += TTL_US
    assert ask(ledger, Claim("r/x", "b", 2, need=200)).granted == 200
    [state] = ledger.read()
    assert state.used + state.out == 1_000
    assert ledger.verify() == []


def test_server_that_comes_back_empty_knows_no_node(server: Server, ledger: RedisLedger) -> None:
    ask(ledger, Claim("r/x", "a", 1, need=100))
    server.restart_empty()
    assert ask(ledger, Claim("r/x", "a", 2, held=100)).outcome == "undefined"
    ledger.define("r/x", Terms("capacity", 1_000), "")
    assert ask(ledger, Claim("r/x", "a", 2, held=100)).outcome == "recovering"


def test_frozen_server_is_given_up_in_time(server: Server) -> None:
    made = RedisLedger(server.url(), timeout_seconds=0.3)
    insist(made.open)
    server.freeze()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            made.read()
    assert time.monotonic() - began < 10
    server.thaw()
    assert insist(made.read) == []
    made.close()


def test_clock_that_jumps_starts_a_recovery(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = RedisLedger(server.url(), timeout_seconds=5)
    made.open()
    made.define("r/x", Terms("capacity", 1_000), "")
    assert ask(made, Claim("r/x", "a", 1, need=3)).granted == 3
    real = offset.clock_us
    monkeypatch.setattr(offset, "clock_us", lambda: real() + 8_000_000)
    grant = ask(made, Claim("r/x", "a", 2, held=3, need=3))
    assert (grant.outcome, grant.granted, grant.out) == ("recovering", 0, 3)
    made.close()


def test_server_that_takes_nothing_is_unavailable(server: Server, ledger: RedisLedger) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(LedgerUnavailable, match="memory is full"):
        ledger.sync([Claim("r/x", "a", 1, need=3)])
    server.ask("CONFIG", "SET", "maxmemory", 0)
    server.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(LedgerUnavailable, match="replica"):
        ledger.sync([Claim("r/x", "a", 1, need=3)])
    server.ask("REPLICAOF", "NO", "ONE")
    assert ask(ledger, Claim("r/x", "a", 1, need=3)).granted == 3


def test_server_that_asks_for_another_password_later_is_unavailable(
    server: Server, ledger: RedisLedger
) -> None:
    server.ask("CONFIG", "SET", "requirepass", "other")
    server.password = "other"
    server.ask("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(LedgerUnavailable):
        ledger.sync([Claim("r/x", "a", 1, need=3)])


@pytest.mark.parametrize("kind", KINDS)
def test_cluster_of_three(kind: str, tmp_path: Path) -> None:
    with cluster(kind, tmp_path) as servers:
        for number, server in enumerate(servers):
            made = RedisLedger(server.url("shop"), timeout_seconds=10)
            made.open()
            made.define("r/x", Terms("capacity", 1_000), "", declared="d")
            assert ask(made, Claim("r/x", f"h{number}", 1, need=3)).granted == 3
            made.record([UsageRow("a", number, 1.0, "{}")])
            assert [state.out for state in made.read()] == [3 * number + 3]
            assert made.verify() == []
            made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_slot_that_was_moved_is_found(kind: str, tmp_path: Path) -> None:
    with cluster(kind, tmp_path) as servers:
        made = RedisLedger(servers[0].url("shop") + "&cluster=true", timeout_seconds=10)
        made.open()
        slot = int(servers[0].ask("CLUSTER KEYSLOT", "{shop}:meta"))
        owner = next(s for s in servers if owns(s))
        other = next(s for s in servers if s is not owner)
        owner.ask("FLUSHALL")
        name = other.ask("CLUSTER MYID")
        for server in (other, owner, *servers):
            server.ask("CLUSTER SETSLOT", slot, "NODE", name)
        wait_for(lambda: owns(other), "the slot to move")
        assert insist(lambda: made.define("r/x", Terms("capacity", 10), "")).revision == 1
        assert other.ask("CLUSTER COUNTKEYSINSLOT", slot) >= 3
        made.close()


def owns(server: Server) -> bool:
    try:
        server.ask("EXISTS", "{shop}:meta")
    except Exception as moved:
        return "MOVED" not in type(moved).__name__.upper()
    return True


def test_single_server_is_no_cluster(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="cluster"):
        RedisLedger(server.url().replace("redis:", "redis+cluster:")).open()

"""The Redis ledger on a server that is well: the suite of ledgers, and what only it has."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from budgetware.errors import ConfigurationError, LedgerUnavailable
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.redis import RedisLedger
from budgetware.ledgers.redis.address import parse
from budgetware.ledgers.redis.rows import NODE
from budgetware.ledgers.terms import Claim, Terms, UsageRow
from budgetware.testing.ledger_contract import LedgerContract
from tests.ledgers.valkey import KINDS, Server, running

numbers = count()
SECRET = "k3y:of/the#house"


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("redis"), "--appendfsync", "no") as server:
        yield server


@pytest.fixture
def ledger(server: Server) -> Iterator[RedisLedger]:
    made = RedisLedger(server.url(f"t{next(numbers)}"), durability="none", timeout_seconds=10)
    made.open()
    yield made
    made.close()


class TestRedisLedger(LedgerContract):
    server: Server
    admin: Any
    namespace = ""

    @pytest.fixture(autouse=True)
    def _on(self, server: Server) -> None:
        self.server = server
        self.admin = server.client()

    def make_ledger(self, now: Callable[[], float], wall: Callable[[], float]) -> Ledger:
        self.namespace = f"contract-{next(numbers)}"
        self.admin.flushall()
        return self.another_at(now)

    def teardown_method(self) -> None:
        super().teardown_method()
        self.admin.close()

    def another_at(self, now: Callable[[], float]) -> RedisLedger:
        return RedisLedger(
            self.server.url(self.namespace),
            durability="none",
            timeout_seconds=10,
            now_us=lambda: int(now() * 1_000_000),
        )

    def another(self, ledger: Ledger) -> Ledger:
        return self.another_at(self.now)

    def advance(self, seconds: float) -> None:
        """Also what expires by the server's own time has so much less left."""
        super().advance(seconds)
        for key in self.admin.keys(f"{{{self.namespace}}}:[kt]:*"):
            left_ms = self.admin.pttl(key) - round(seconds * 1_000)
            self.admin.pexpire(key, max(0, left_ms))

    def corrupt(self, ledger: Ledger, node: str) -> None:
        key = f"{{{self.namespace}}}:n:{node}"
        client: Any = self.server.client()
        client.connection_pool.connection_kwargs["decode_responses"] = False
        row = list(NODE.unpack(client.hget(key, "state")))
        row[6] += 1
        client.hset(key, "state", NODE.pack(*row))
        client.close()


def test_steps_take_one_round_trip(server: Server, ledger: RedisLedger) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    ledger.sync([Claim("r/x", "a", 1, need=1)])
    before = server.ask("INFO", "stats")["total_net_input_bytes"]
    calls = count_of(server, "evalsha")
    ledger.sync([Claim("r/x", holder, 1, need=1) for holder in "bcdef"])
    assert count_of(server, "evalsha") == calls + 1
    assert server.ask("INFO", "stats")["total_net_input_bytes"] > before


def count_of(server: Server, command: str) -> int:
    return int(server.ask("INFO", "commandstats")[f"cmdstat_{command}"]["calls"])


def test_scripts_are_sent_again_where_the_server_has_forgotten_them(
    server: Server, ledger: RedisLedger
) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    server.ask("SCRIPT", "FLUSH")
    [grant] = ledger.sync([Claim("r/x", "a", 1, need=4)])
    assert grant.granted == 4


def test_all_keys_have_one_hash_tag(server: Server) -> None:
    made = RedisLedger(server.url("tagged"))
    made.open()
    made.define("r/x", Terms("capacity", 10), "")
    made.sync([Claim("r/x", "a", 1, need=1), Claim("r/x", "b", 1, need=1, is_last=True)])
    made.add("r/x", 1, "once")
    made.spend("token", time.time() + 60)
    made.remember("key", "text", 60)
    made.record([UsageRow("a", 1, 1.0, "{}")])
    made.close()
    client = server.client()
    found = {key.split(":", 1)[0] for key in client.scan_iter("*tagged*")}
    client.close()
    assert found == {"{tagged}"}


def test_journal_is_bounded_and_agrees(server: Server, ledger: RedisLedger) -> None:
    ledger.define("r/x", Terms("capacity", 10_000), "")
    for epoch in range(1, 1_500, 50):
        claims = [Claim("r/x", "a", n, used=n, need=2) for n in range(epoch, epoch + 50)]
        ledger.sync(claims)
    [state] = ledger.read()
    assert state.used == 1_500
    assert ledger.verify() == []
    client = server.client()
    [length] = {
        client.llen(key)
        for key in client.scan_iter("*:j:r/x")
        if client.llen(key) > 500
    }  # fmt: skip
    client.close()
    assert length <= 1_000


def test_more_leases_than_one_step_ends(ledger: RedisLedger) -> None:
    now_us = [10**15]
    namespace = f"t{next(numbers)}"
    port = ledger.address.rsplit(":", 1)[1].split("/")[0]
    made = RedisLedger(
        f"redis://127.0.0.1:{port}?namespace={namespace}",
        durability="none",
        now_us=lambda: now_us[0],
    )
    made.open()
    made.define("r/x", Terms("capacity", 100, stranded="free"), "")
    made.sync([Claim("r/x", f"h{number}", 1, need=1) for number in range(40)])
    now_us[0] += 11_000_000
    live = [made.sync([Claim("r/x", "a", epoch)])[0].out for epoch in (1, 2, 3)]
    made.close()
    assert live == [24, 8, 0]


def test_holder_is_forgotten_after_a_day(server: Server) -> None:
    now_us = [10**15]
    namespace = f"t{next(numbers)}"
    made = RedisLedger(server.url(namespace), durability="none", now_us=lambda: now_us[0])
    made.open()
    made.define("r/x", Terms("capacity", 100), "")
    for number in range(3):
        made.sync([Claim("r/x", f"h{number}", 1, is_last=True)])
        now_us[0] += 86_400_000_000
    made.close()
    assert sorted(server.ask("HKEYS", f"{{{namespace}}}:g:r/x")) == ["h1", "h2"]


def test_balance_that_cannot_be_counted_exactly_is_not_written(ledger: RedisLedger) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    ledger.sync([Claim("r/x", "a", 1, used=2**53 - 1)])
    with pytest.raises(LedgerUnavailable, match=r"resource .x."):
        ledger.sync([Claim("r/x", "b", 1, used=1)])
    assert ledger.read()[0].used == 2**53 - 1


RACER = """
import sys
from budgetware.ledgers.redis import RedisLedger
from budgetware.ledgers.terms import Claim

ledger = RedisLedger(sys.argv[1], durability="none", timeout_seconds=20)
ledger.open()
got = epoch = 0
while True:
    epoch += 1
    [grant] = ledger.sync([Claim("r/x", sys.argv[2], epoch, used=got, need=1)])
    if not grant.granted:
        break
    got += grant.granted
ledger.close()
print(got)
"""


def test_four_processes_draw_exactly_what_there_is(server: Server, ledger: RedisLedger) -> None:
    ledger.define("r/x", Terms("capacity", 1_000), "")
    namespace = f"t{next(numbers) - 1}"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, server.url(namespace), f"h{number}"],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for number in range(4)
    ]
    drawn = [int(racer.communicate()[0]) for racer in racers]
    assert sum(drawn) == 1_000
    assert ledger.read()[0].used == 1_000
    assert ledger.verify() == []


def test_address_shows_no_secret() -> None:
    made = RedisLedger("valkeys://me:s3cret@db.example:7000/2?namespace=shop&ssl_cert_reqs=none")
    assert made.address == "valkeys://db.example:7000/2"
    assert "s3cret" not in repr(parse("redis://:s3cret@h"))


@pytest.mark.parametrize(
    "url",
    [
        "http://s3cret@h",
        "redis://:s3cret@h:port",
        "redis://:s3cret/x@h",
        "redis://:s3cret#x@h",
        "redis://:s3cret@h/name",
        "redis://:s3cret@h?namespace=a{b}",
        "redis://:s3cret@h?retry=s3cret",
        "redis://:s3cret@h?ssl_cert_reqs=none",
        "redis+cluster://:s3cret@h/3",
    ],
)
def test_wrong_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        RedisLedger(url)
    assert "s3cret" not in str(refusal.value)


def test_wrong_durability_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="perhaps"):
        RedisLedger("redis://h", durability="perhaps")


def test_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.connection", None)
    with pytest.raises(ConfigurationError, match=r'pip install "budgetware\[redis\]"'):
        RedisLedger("redis://h")


def test_ledger_that_is_not_open_is_unavailable(server: Server) -> None:
    made = RedisLedger(server.url())
    made.close()
    with pytest.raises(LedgerUnavailable, match="not open"):
        made.read()


@pytest.mark.parametrize("kind", KINDS)
def test_password_and_permissions(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, password="s3cret") as server:
        right = RedisLedger(server.url())
        right.open()
        right.close()
        weak = server.url().replace("s3cret", "wr0ng")
        none = weak.replace(":wr0ng@", "")
        server.ask("ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "+info")
        reader = server.url().replace(":s3cret", "reader:s3cret")
        for url in (weak, none, reader, server.url().replace("/0?", "/99?")):
            with pytest.raises(ConfigurationError) as refusal:
                RedisLedger(url).open()
            assert "s3cret" not in str(refusal.value)
            assert "wr0ng" not in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_forgets_is_refused(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, "--appendonly", "no") as server:
        with pytest.raises(ConfigurationError, match="appendonly"):
            RedisLedger(server.url()).open()
        made = RedisLedger(server.url(), durability="none")
        made.open()
        made.close()


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_evicts_balances_is_refused(kind: str, tmp_path: Path) -> None:
    options = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]
    with (
        running(kind, tmp_path, *options) as server,
        pytest.raises(ConfigurationError, match="maxmemory-policy"),
    ):
        RedisLedger(server.url()).open()


def test_full_durability_waits_for_the_disk(tmp_path: Path) -> None:
    with running("valkey", tmp_path, "--appendfsync", "everysec") as server:
        made = RedisLedger(server.url(), durability="full", timeout_seconds=10)
        made.open()
        made.define("r/x", Terms("capacity", 10), "")
        claim = Claim("r/x", "a", 1, need=3)
        assert made.sync([claim]) == made.sync([claim])
        assert count_of(server, "waitaof") >= 4
        made.close()


def test_full_durability_is_refused_where_it_cannot_be_had(tmp_path: Path) -> None:
    with (
        running("redis", tmp_path, "--appendfsync", "everysec") as server,
        pytest.raises(ConfigurationError, match="appendfsync"),
    ):
        RedisLedger(server.url(), durability="full").open()


def test_store_of_a_newer_version_is_refused(server: Server) -> None:
    server.ask("HSET", "{newer}:meta", "version", 2)
    with pytest.raises(ConfigurationError, match="update budgetware"):
        RedisLedger(server.url("newer")).open()


def test_key_of_another_kind_is_refused(server: Server) -> None:
    server.ask("SET", "{foreign}:meta", "something")
    with pytest.raises(ConfigurationError, match="WRONGTYPE"):
        RedisLedger(server.url("foreign")).open()

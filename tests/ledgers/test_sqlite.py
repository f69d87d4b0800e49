"""The SQLite ledger: the suite of ledgers, and the same answers as the memory ledger's."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from budgetware.errors import ConfigurationError
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.sqlite import SqliteLedger, journal
from budgetware.ledgers.terms import MOST, TOMBSTONE_SECONDS, Claim, Terms, UsageRow
from budgetware.testing.ledger_contract import LedgerContract

NODES = ("r/a", "r/ä")
HOLDERS = ("h1", "h2", "h3")
AMOUNTS = st.one_of(st.integers(0, 30), st.sampled_from([1_000, MOST - 1, MOST]))


@dataclass
class Time:
    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def ledger(tmp_path: Path, time: Time) -> Iterator[SqliteLedger]:
    made = SqliteLedger(tmp_path / "l.db", now=time, wall=time)
    made.open()
    yield made
    made.close()


def count(ledger: SqliteLedger, table: str) -> int:
    with closing(sqlite3.connect(ledger.address.removeprefix("sqlite:///"))) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class TestSqliteLedger(LedgerContract):
    directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        self.directory = self.directory or tempfile.TemporaryDirectory(prefix="budgetware-")
        return Path(self.directory.name) / "l.db"

    def make_ledger(self, now: Callable[[], float], wall: Callable[[], float]) -> Ledger:
        return SqliteLedger(self.path, now=now, wall=wall)

    def another(self, ledger: Ledger) -> Ledger:
        return SqliteLedger(self.path, now=self.now, wall=self.now)

    def corrupt(self, ledger: Ledger, node: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE nodes SET used = used + 1 WHERE node = ?", (node,))

    def teardown_method(self) -> None:
        super().teardown_method()
        if self.directory is not None:
            self.directory.cleanup()
            self.directory = None


def said(call: Callable[[], Any]) -> object:
    """What a call came to: its result, or what is wrong with it."""
    try:
        return call()
    except ConfigurationError as error:
        return str(error)


class Twins(RuleBasedStateMachine):
    """A SQLite ledger and a memory ledger, to which the same happens at the same times."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.directory = tempfile.TemporaryDirectory(prefix="budgetware-")
        self.memory = MemoryLedger(now=self.time, wall=self.time)
        self.sqlite = self.opened()
        self.claims: dict[tuple[str, str], Claim] = {}
        self.refused: set[tuple[str, str]] = set()

    def opened(self) -> SqliteLedger:
        path = Path(self.directory.name) / "l.db"
        ledger = SqliteLedger(path, now=self.time, wall=self.time)
        ledger.open()
        return ledger

    def teardown(self) -> None:
        self.sqlite.close()
        self.directory.cleanup()

    def both(self, call: Callable[[Ledger], Any]) -> None:
        assert said(lambda: call(self.sqlite)) == said(lambda: call(self.memory))

    @rule(seconds=st.sampled_from([0.001, 0.3, 5.0, 11.0, TOMBSTONE_SECONDS, 90_000.0]))
    def pass_time(self, seconds: float) -> None:
        self.time.seconds += seconds

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.sqlite = self.opened()

    @rule(
        node=st.sampled_from(NODES),
        kind=st.sampled_from(["capacity", "capacity", "rate", "concurrency"]),
        value=AMOUNTS.filter(bool),
        stranded=st.sampled_from(["keep", "free"]),
        definition=st.sampled_from(["{}", '{"unit": "Müsli"}']),
        options=st.fixed_dictionaries(
            {},
            optional={
                "declared": st.sampled_from(["v1", "v2"]),
                "expected_revision": st.integers(0, 3),
                "idle_seconds": st.sampled_from([0.0, 10.0]),
            },
        ),
    )
    def define(
        self, node: str, kind: Any, value: int, stranded: Any, definition: str, options: Any
    ) -> None:
        terms = Terms(kind, value, stranded=stranded)
        if kind == "rate":
            terms = Terms(kind, value, 1_000_000, value)
        self.both(lambda ledger: ledger.define(node, terms, definition, **options))

    @rule(node=st.sampled_from(NODES), request=st.sampled_from(["q1", "q2"]), units=AMOUNTS)
    def add(self, node: str, request: str, units: int) -> None:
        if (node, request) in self.refused:  # the memory ledger takes it for done
            return
        found = said(lambda: self.sqlite.add(node, units, request))
        assert found == said(lambda: self.memory.add(node, units, request))
        if "cannot be raised" in str(found):
            self.refused.add((node, request))

    @rule(node=st.sampled_from(NODES), revision=st.none() | st.integers(0, 3))
    def delete(self, node: str, revision: int | None) -> None:
        self.both(lambda ledger: ledger.delete(node, expected_revision=revision))

    @rule(
        data=st.data(),
        keys=st.lists(
            st.tuples(st.sampled_from(NODES), st.sampled_from(HOLDERS)), min_size=1, max_size=4
        ),
        step=st.sampled_from([1, 1, 1, 1, 0, -1, 4]),
    )
    def sync(self, data: st.DataObject, keys: list[tuple[str, str]], step: int) -> None:
        claims = [data.draw(self.claim(*key, step)) for key in keys]
        self.both(lambda ledger: ledger.sync(claims))

    def claim(self, node: str, holder: str, step: int) -> st.SearchStrategy[Claim]:
        """Often the one after the last, else that one again, an older one, or one much later."""
        last = self.claims.get((node, holder))
        epoch = max(1, step + (0 if last is None else last.epoch))
        made = st.builds(
            Claim,
            st.just(node),
            st.just(holder),
            st.just(epoch),
            used=AMOUNTS,
            held=AMOUNTS,
            want=AMOUNTS,
            need=AMOUNTS,
            head=AMOUNTS,
            waits=st.booleans(),
            demand=AMOUNTS,
            share=st.just(0) | AMOUNTS,
            cap=st.just(0) | AMOUNTS,
            ttl_ms=st.sampled_from([500, 10_000]),
            revision=st.integers(0, 3),
            is_last=st.sampled_from([False, False, False, True]),
        )

        def keep(claim: Claim) -> Claim:
            if step > 0:
                self.claims[node, holder] = claim
            return claim

        return made.map(keep)

    @rule(holder=st.sampled_from(HOLDERS), node=st.sampled_from(NODES))
    def ask_again(self, holder: str, node: str) -> None:
        claim = self.claims.get((node, holder), Claim(node, holder, 1, need=1))
        self.both(lambda ledger: ledger.sync([claim, replace(claim, epoch=claim.epoch + 1)]))
        self.claims[node, holder] = replace(claim, epoch=claim.epoch + 1)

    @rule(node=st.sampled_from(NODES), reason=st.sampled_from(["spent", "ended"]))
    def latch(self, node: str, reason: str) -> None:
        self.both(lambda ledger: ledger.latch(node, reason))

    @rule(token=st.sampled_from(["t1", "t2"]), seconds=st.sampled_from([-1.0, 0.0, 8.0]))
    def spend(self, token: str, seconds: float) -> None:
        expires = self.time() + seconds
        self.both(lambda ledger: ledger.spend(token, expires))

    @rule(key=st.sampled_from("kl"), text=st.sampled_from("xyz"), seconds=st.sampled_from([0, 8]))
    def remember(self, key: str, text: str, seconds: int) -> None:
        self.both(lambda ledger: ledger.remember(key, text, seconds))

    @rule(key=st.sampled_from("kl"), text=st.sampled_from("uvw"))
    def replace(self, key: str, text: str) -> None:
        self.both(lambda ledger: ledger.replace(key, text))

    @rule(numbers=st.lists(st.integers(1, 20), max_size=5), since=st.integers(0, 20))
    def record(self, numbers: list[int], since: int) -> None:
        rows = [UsageRow("h1", number, 100.0 + number, "{}") for number in numbers]
        self.both(lambda ledger: ledger.record(rows, keep_seconds=1e12))
        self.both(lambda ledger: ledger.usage(100.0 + since, 115.0))
        self.both(lambda ledger: ledger.usage(0.0, 200.0, after=since))

    @invariant()
    def agree(self) -> None:
        self.both(lambda ledger: ledger.read())
        self.both(lambda ledger: ledger.read("r/a"))
        self.both(lambda ledger: ledger.verify())


Twins.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestTwins = Twins.TestCase


def test_amounts_beyond_64_bits_are_exact(ledger: SqliteLedger, time: Time) -> None:
    memory = MemoryLedger(now=time, wall=time)
    for each in (ledger, memory):
        each.define("r/c", Terms("capacity", 2**70), "")
        each.define("r/t", Terms("rate", MOST, 1_000_000, MOST), "")
    claims = [
        Claim("r/c", "h", 1, used=2**66 + 1, held=2**65 + 1, want=2**64),
        Claim("r/t", "h", 1, demand=MOST, head=MOST, share=2**63, cap=5),
        Claim("r/c", "h", 2, used=2**67 + 1, head=2**63),
    ]
    assert ledger.sync(claims) == memory.sync(claims)
    assert ledger.read() == memory.read()
    assert ledger.verify() == []


def test_addition_that_was_refused_is_not_taken_for_done(ledger: SqliteLedger) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="cannot be raised"):
            ledger.add("r/x", MOST, "q")
    assert ledger.add("r/x", 5, "q").terms.value == 15
    assert ledger.add("r/x", 5, "q").terms.value == 15


@pytest.mark.parametrize("amount", [1.5, 2.0**70, Decimal(1), None, "many"])
def test_amount_that_is_no_int_changes_nothing(ledger: SqliteLedger, amount: Any) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    before = ledger.read()
    with pytest.raises((ConfigurationError, TypeError)):
        ledger.sync([Claim("r/x", "h", 1, used=1, need=1), Claim("r/x", "h", 2, used=amount)])
    assert ledger.read() == before
    assert ledger.verify() == []


def test_text_that_is_no_unicode_is_refused(ledger: SqliteLedger) -> None:
    with pytest.raises(ConfigurationError, match="surrogates not allowed"):
        ledger.define("r/\ud800", Terms("capacity", 10), "")
    assert ledger.read() == []


def test_answer_is_repeated_after_a_restart(ledger: SqliteLedger, time: Time) -> None:
    ledger.define("r/x", Terms("rate", 10, 1_000_000, 20), '{"a": "ü"}', declared="d")
    claim = Claim("r/x", "h", 1, demand=5, head=3, waits=True)
    first = ledger.sync([claim])
    ledger.close()
    ledger.open()
    time.seconds += 1
    assert ledger.sync([claim]) == first
    assert first[0].terms is not None


def test_journal_is_bounded_and_still_adds_up(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_LINES", 20)
    monkeypatch.setattr(journal, "FOLDED_LINES", 8)
    ledger.define("r/x", Terms("capacity", 2**60), "")
    for epoch in range(1, 100):
        ledger.sync([Claim("r/x", "h", epoch, used=2**50 * epoch, need=epoch)])
    assert count(ledger, "journal") <= 20
    assert ledger.verify() == []
    assert ledger.read()[0].used == 2**50 * 99


def test_dead_holders_are_forgotten_a_day_later_a_few_at_a_time(
    ledger: SqliteLedger, time: Time
) -> None:
    ledger.define("r/x", Terms("capacity", 1_000), "")
    for number in range(40):
        ledger.sync([Claim("r/x", f"h{number}", 1, used=1, is_last=True)])
    time.seconds += TOMBSTONE_SECONDS - 60
    ledger.sync([Claim("r/x", "other", 1)])
    assert count(ledger, "leases") == 41
    time.seconds += 120
    left: list[int] = []
    for epoch in range(2, 6):
        ledger.sync([Claim("r/x", "other", epoch)])
        left.append(count(ledger, "leases"))
    assert left == [25, 9, 1, 1]
    assert ledger.verify() == []


def test_answer_is_repeated_to_a_holder_whose_lease_somebody_ended(
    ledger: SqliteLedger, time: Time
) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    claim = Claim("r/x", "late", 1, need=3)
    first = ledger.sync([claim])
    time.seconds += 11
    assert ledger.sync([Claim("r/x", "other", 1, need=1)])[0].stranded == 3
    assert ledger.sync([claim]) == first


def test_holder_that_was_forgotten_ends_those_who_have_expired(
    ledger: SqliteLedger, time: Time
) -> None:
    memory = MemoryLedger(now=time, wall=time)
    first = [Claim("r/x", "gone", 1, used=1, is_last=True), Claim("r/x", "dead", 1, need=3)]
    for each in (ledger, memory):
        each.define("r/x", Terms("capacity", 10), "")
        each.sync(first)
    time.seconds += TOMBSTONE_SECONDS + 60
    again = [Claim("r/x", "gone", 2, used=2, need=1)]
    assert ledger.sync(again) == memory.sync(again)
    assert ledger.read() == memory.read()
    assert ledger.verify() == []


def test_expired_tokens_and_texts_are_forgotten(ledger: SqliteLedger, time: Time) -> None:
    for number in range(10):
        ledger.spend(f"t{number}", time() + 5)
        ledger.remember(f"k{number}", "text", 5)
    time.seconds += 6
    ledger.spend("new", time() + 5)
    ledger.remember("new", "text", 5)
    assert (count(ledger, "tokens"), count(ledger, "texts")) == (1, 1)


def test_usage_of_an_hour_comes_in_pages(ledger: SqliteLedger) -> None:
    ledger.record(
        [UsageRow("h", number, float(number), "{}") for number in range(1, 3_001)],
        keep_seconds=1e12,
    )
    first = ledger.usage(500.0, 2_200.0)
    second = ledger.usage(500.0, 2_200.0, after=first[-1][0])
    rest = ledger.usage(500.0, 2_200.0, after=second[-1][0])
    numbers = [row.number for _, row in first + second]
    assert numbers == list(range(500, 2_200))
    assert (len(first), rest) == (1_000, [])


def test_verify_finds_what_was_changed_by_hand(ledger: SqliteLedger) -> None:
    ledger.define("r/x", Terms("capacity", 10), "")
    ledger.sync([Claim("r/x", "h", 1, used=2, need=3)])
    path = ledger.address.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE nodes SET used = 1")
        connection.execute("UPDATE leases SET units = 2")
    found = [(one.what, one.balance, one.journal) for one in ledger.verify()]
    assert found == [("used", 1, 2), ("leases", 3, 2)]


def test_address_is_that_of_the_file() -> None:
    assert SqliteLedger("some/l.db").address == "sqlite:///some/l.db"


def test_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger("l.db")
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    ledger.open()
    ledger.close()
    assert (tmp_path / "l.db").exists()


def test_unknown_durability_is_refused(tmp_path: Path) -> None:
    unknown: Any = "none"
    with pytest.raises(ConfigurationError, match="'normal' or 'full'"):
        SqliteLedger(tmp_path / "l.db", durability=unknown)


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
def test_durability_is_what_sqlite_is_told(tmp_path: Path, durability: Any, level: int) -> None:
    ledger = SqliteLedger(tmp_path / "l.db", durability=durability)
    ledger.open()
    database = ledger._database  # pyright: ignore[reportPrivateUsage]
    found = database.read(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "busy_timeout")
        ]
    )
    ledger.close()
    assert found == [level, "wal", 0]


def test_closed_ledger_says_so(ledger: SqliteLedger) -> None:
    ledger.close()
    ledger.close()
    with pytest.raises(ConfigurationError, match=r"not open: open\(\) it first"):
        ledger.read()

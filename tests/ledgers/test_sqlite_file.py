"""The file of a SQLite ledger: what is unfit, what passes, versions, reboots and permissions."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from budgetware.errors import ConfigurationError, LedgerUnavailable
from budgetware.ledgers.sqlite import SqliteLedger, backoff, boot, schema
from budgetware.ledgers.terms import Claim, Grant, Terms, UsageRow

TEN = Terms("capacity", 10)
FREE = Terms("capacity", 10, stranded="free")
NOBODY = 65_534


@dataclass
class Time:
    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l.db"


@pytest.fixture
def ledger(path: Path, time: Time) -> Iterator[SqliteLedger]:
    made = SqliteLedger(path, timeout_seconds=0.01, now=time, wall=time)
    made.open()
    made.define("r/x", FREE, "{}")
    yield made
    made.close()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def ask(path: Path, statement: str) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchone()[0]


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def open_and_close(path: Path) -> None:
    ledger = SqliteLedger(path)
    ledger.open()
    ledger.close()


def need(ledger: SqliteLedger, holder: str, epoch: int = 1, units: int = 1) -> Grant:
    [grant] = ledger.sync([Claim("r/x", holder, epoch, need=units)])
    return grant


def refuses(path: Path, words: str) -> None:
    """Opening says so, and leaves all there is as it was."""
    before = {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    with pytest.raises(ConfigurationError, match=words):
        open_and_close(path)
    after = {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    assert after == before


# Unfit files.


@pytest.mark.parametrize(
    "content", [b"xy", b"[service]\nname = 1\n", bytes(9_000), b"\xff" * 5_000]
)
def test_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refuses(path, "damaged, or no ledger at all")


def test_file_of_one_byte_is_refused(path: Path) -> None:
    path.write_bytes(b"x")
    refuses(path, "name another file")


def test_database_of_another_program_is_refused(path: Path) -> None:
    execute(path, "CREATE TABLE theirs (x)")
    refuses(path, "the database of another program")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_database_marked_by_another_program_is_refused(path: Path, mode: str) -> None:
    execute(path, f"PRAGMA journal_mode = {mode}", "PRAGMA application_id = 7")
    refuses(path, "the database of another program")


def test_directory_is_refused(path: Path) -> None:
    path.mkdir()
    refuses(path, "is not a file: name a file")


def test_missing_directory_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no directory: make it, or name a file"):
        open_and_close(path / "l.db")


def test_file_where_a_directory_should_be_is_named(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="is no directory: make it, or name a file"):
        open_and_close(path / "l.db")


def test_empty_file_becomes_a_ledger(path: Path) -> None:
    path.touch()
    open_and_close(path)
    assert ask(path, "PRAGMA user_version") == schema.version()


def test_damaged_page_is_a_configuration_error(path: Path, time: Time) -> None:
    ledger = SqliteLedger(path, now=time)
    ledger.open()
    for number in range(200):
        ledger.define(f"r/{number}", TEN, "{}" * 100)
    ledger.close()
    with path.open("r+b") as file:
        file.seek(22 * 4_096)  # behind the schema, and the first pages of the tables
        file.write(b"\x5a" * 4_096 * 20)
    ledger.open()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="damaged, or no ledger at all"):
            ledger.sync([Claim(f"r/{number}", "h", 1, need=1) for number in range(200)])
    ledger.close()


def test_table_that_is_missing_is_a_configuration_error(ledger: SqliteLedger, path: Path) -> None:
    execute(path, "DROP TABLE journal")
    with pytest.raises(ConfigurationError, match="no such table: journal"):
        need(ledger, "h")
    assert ledger.read()[0].out == 0


def test_answer_that_is_damaged_is_a_configuration_error(ledger: SqliteLedger, path: Path) -> None:
    need(ledger, "h")
    execute(path, "UPDATE leases SET answer = '[1,2]'")
    with pytest.raises(ConfigurationError, match="last answer about resource 'x'"):
        need(ledger, "h")


def test_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(ConfigurationError, match="too old for a ledger"):
        open_and_close(path)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A directory of this user, who is not root meanwhile: root may write everything."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="budgetware-") as name:
        directory = Path(name)
        if is_root:
            os.chown(directory, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield directory
        finally:
            directory.chmod(0o700)
            if is_root:
                os.seteuid(0)


def test_read_only_file_is_refused(as_nobody: Path) -> None:
    path = as_nobody / "l.db"
    open_and_close(path)
    path.chmod(0o400)
    refuses(path, "l.db may not be written: make it writable")


def test_unreadable_file_is_refused(as_nobody: Path) -> None:
    path = as_nobody / "l.db"
    open_and_close(path)
    path.chmod(0o000)
    with pytest.raises(ConfigurationError, match="may not be written: make it writable"):
        open_and_close(path)


def test_read_only_directory_is_refused(as_nobody: Path) -> None:
    path = as_nobody / "l.db"
    open_and_close(path)
    as_nobody.chmod(0o500)
    refuses(path, "may not be written: make it writable")
    refuses(as_nobody / "new.db", "cannot be made .Permission denied.")


def test_connection_that_may_not_write_is_a_configuration_error(ledger: SqliteLedger) -> None:
    database = ledger._database  # pyright: ignore[reportPrivateUsage]
    database.read(lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(ConfigurationError, match="may not be written"):
        need(ledger, "h")
    assert need(ledger, "h").granted == 1  # on a connection made anew


# Permissions.


def test_only_the_owner_may_read_it(path: Path) -> None:
    mask = os.umask(0)
    ledger = SqliteLedger(path)
    try:
        ledger.open()
        ledger.define("r/x", TEN, "{}")
    finally:
        os.umask(mask)
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    ledger.close()
    assert found == {"l.db": 0o600, "l.db-wal": 0o600, "l.db-shm": 0o600}


def test_mode_of_a_file_that_is_there_is_kept(path: Path) -> None:
    path.touch()
    path.chmod(0o660)
    open_and_close(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_path_may_have_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=ro#%41ü.db"
    open_and_close(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


# Versions.


@pytest.fixture
def newer(path: Path) -> Path:
    open_and_close(path)
    execute(path, "PRAGMA user_version = 99")
    return path


def test_newer_version_is_refused_and_not_touched(newer: Path) -> None:
    refuses(newer, "of version 99, and this program knows 2: upgrade budgetware")


def test_newer_version_that_is_only_in_the_log_is_refused(path: Path) -> None:
    open_and_close(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
        assert Path(f"{path}-wal").stat().st_size
        with pytest.raises(ConfigurationError, match="of version 99"):
            open_and_close(path)
    assert ask(path, "PRAGMA user_version") == 99


NOTES = (
    "ALTER TABLE nodes ADD COLUMN note TEXT NOT NULL DEFAULT ''",
    "UPDATE nodes SET note = 'was ' || used",
)


@pytest.fixture
def older(ledger: SqliteLedger, path: Path) -> Path:
    ledger.sync([Claim("r/x", "h", 1, used=2, need=3)])
    ledger.close()
    return path


def test_older_version_is_migrated_with_all_that_is_in_it(
    older: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NOTES))
    ledger.open()
    state = ledger.read()[0]
    assert (state.used, state.out, ledger.verify()) == (2, 3, [])
    assert ask(older, "PRAGMA user_version") == schema.version()
    assert ask(older, "SELECT note FROM nodes") == "was 2"


def test_migration_that_fails_changes_nothing(
    older: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(older)
    with monkeypatch.context() as patched:
        broken = (*NOTES, "UPDATE nodes SET nowhere = 1")
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        with pytest.raises(ConfigurationError, match="nowhere"):
            ledger.open()
    assert ask(older, "PRAGMA user_version") == schema.version()
    assert dump(older) == before
    ledger.open()
    assert ledger.read()[0].used == 2


def test_migrated_file_is_refused_by_the_program_of_before(
    older: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NOTES))
        ledger.open()
        ledger.close()
    refuses(older, "of version 3, and this program knows 2")


# What passes.


def test_lock_of_others_is_waited_for_and_then_given_up(ledger: SqliteLedger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match=r"locked by others for 0\.01 seconds"):
            need(ledger, "h")
        other.execute("ROLLBACK")
    assert need(ledger, "h").granted == 1
    assert ledger.read()[0].out == 1


def test_reading_needs_no_lock(ledger: SqliteLedger, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert [state.node for state in ledger.read()] == ["r/x"]
        assert ledger.verify() == []


def test_opening_a_file_that_is_locked_can_be_tried_again(path: Path) -> None:
    ledger = SqliteLedger(path, timeout_seconds=0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnavailable, match="locked by others"):
            ledger.open()
        other.execute("ROLLBACK")
    ledger.open()
    ledger.close()


def test_pauses_grow_at_random_and_end_in_time() -> None:
    time = Time()
    found: list[float] = []
    for pause in backoff.pauses(0.5, clock=time):
        found.append(pause)
        time.seconds += pause
    assert max(found[:3]) < 0.001
    assert max(found) <= backoff.MOST_SECONDS
    assert sum(found) == pytest.approx(0.5)
    assert list(backoff.pauses(0, clock=time)) == []


def test_full_disk_grants_nothing_that_is_not_booked(ledger: SqliteLedger) -> None:
    database = ledger._database  # pyright: ignore[reportPrivateUsage]

    def limit(pages: int) -> None:
        database.read(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))

    limit(1)  # no more than there are
    rows = [UsageRow("h", number, 1.0, "x" * 4_000) for number in range(20)]
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="no room for more"):
            ledger.record(rows, keep_seconds=1e12)
    assert ledger.usage(0.0, 2.0) == []
    big = [Claim("r/x", "h" * 9_000, 1, need=3)]
    with pytest.raises(LedgerUnavailable, match="free some space, then try again"):
        ledger.sync(big)
    assert (ledger.read()[0].out, ledger.verify()) == (0, [])
    limit(100_000)
    assert ledger.sync(big)[0].granted == 3
    ledger.record(rows, keep_seconds=1e12)
    assert len(ledger.usage(0.0, 2.0)) == 20


def test_file_that_was_moved_away_is_not_used_and_not_made_anew(
    ledger: SqliteLedger, path: Path
) -> None:
    assert need(ledger, "h").granted == 1
    away = path.with_name("away.db")
    path.rename(away)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match="moved or deleted while it was in use"):
            need(ledger, "h", 2)
    assert not path.exists()
    away.rename(path)
    [grant] = ledger.sync([Claim("r/x", "h", 2, held=1, need=1)])
    assert (grant.granted, grant.out) == (1, 2)


def test_file_put_back_from_a_copy_grants_nothing_until_leases_are_declared(
    ledger: SqliteLedger, path: Path, time: Time
) -> None:
    need(ledger, "h", 1)
    ledger.close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    ledger.open()
    need(ledger, "h", 2, 4)
    need(ledger, "h", 3, 4)
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink()
    copy.replace(path)
    claim = Claim("r/x", "h", 4, used=1, held=4, need=1)
    [grant] = ledger.sync([claim])
    assert (grant.outcome, grant.granted, grant.used, grant.out) == ("recovering", 0, 1, 4)


# Time.


def test_step_of_the_wall_clock_changes_no_lease(path: Path) -> None:
    time, wall = Time(), Time()
    ledger = SqliteLedger(path, now=time, wall=wall)
    ledger.open()
    ledger.define("r/x", FREE, "{}")
    need(ledger, "h", 1, 10)
    wall.seconds += 3_600
    assert need(ledger, "other").granted == 0
    wall.seconds -= 7_200
    assert need(ledger, "other", 2).granted == 0
    time.seconds += 10.1
    assert need(ledger, "other", 3).granted == 1
    ledger.close()


def reboot_by_id(path: Path, _monkeypatch: pytest.MonkeyPatch) -> None:
    execute(path, "UPDATE facts SET text = 'of another boot' WHERE name = 'boot'")


def reboot_without_id(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(path, "UPDATE facts SET text = '' WHERE name = 'boot'")
    monkeypatch.setattr(boot, "_BOOT_ID", path.parent / "missing")


@pytest.mark.parametrize("reboot", [reboot_by_id, reboot_without_id])
def test_reboot_ends_leases_and_goes_on_with_the_rest(
    ledger: SqliteLedger,
    path: Path,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    reboot: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    ledger.define("r/rate", Terms("rate", 10, 1_000_000, 10), "{}")
    ledger.define("r/slots", Terms("concurrency", 1), "{}")
    ledger.sync([Claim("r/rate", "h", 1, demand=10, head=10), Claim("r/slots", "h", 1, need=1)])
    [grant] = ledger.sync([Claim("r/x", "h", 1, used=3, need=7)])
    assert grant.granted == 7
    ledger.close()
    reboot(path, monkeypatch)
    time.seconds = 5.0
    ledger.open()
    slots, rate, rest = ledger.sync(
        [
            Claim("r/slots", "new", 1, need=1),
            Claim("r/rate", "other", 1),
            Claim("r/x", "new", 1, need=10),
        ]
    )
    assert (slots.granted, rate.granted, rest.granted, rest.used) == (1, 0, 7, 3)
    time.seconds += 0.5
    [rate] = ledger.sync([Claim("r/rate", "new", 1, demand=10, head=10)])
    assert rate.granted == 5  # of half a second
    assert ledger.verify() == []


def test_use_is_counted_once_after_a_reboot(ledger: SqliteLedger, path: Path, time: Time) -> None:
    ledger.sync([Claim("r/x", "h", 1, used=3, held=1, is_last=True)])
    ledger.close()
    execute(path, "UPDATE facts SET text = 'of another boot' WHERE name = 'boot'")
    time.seconds = 5.0
    ledger.open()
    [grant] = ledger.sync([Claim("r/x", "h", 2, used=4, is_last=True)])
    assert (grant.used, grant.out) == (4, 0)


def test_clock_that_goes_on_is_no_reboot(
    ledger: SqliteLedger, path: Path, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(ledger, "h", 1, 10)
    ledger.close()
    reboot_without_id(path, monkeypatch)
    time.seconds += 1
    ledger.open()
    assert need(ledger, "other").granted == 0

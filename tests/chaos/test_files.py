"""A SQLite file that fills up, is damaged, moved, deleted or replaced under running workers."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.crew import Crew, Life, pass_time, until
from tests.chaos.orders import LEASE_SECONDS, NODE, Orders
from tests.chaos.reading import check, look
from tests.chaos.stores import Store, Watch, store_of

LARGEST_PAGE = 65_536


@pytest.fixture
def crew(tmp_path: Path, file: Store) -> Iterator[Crew]:
    with Crew(tmp_path) as made:
        yield made


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def drop_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink(missing_ok=True)


def copy_of(path: Path) -> Path:
    """A copy as a backup makes it."""
    target = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target


def unavailable(life: Life) -> int:
    return sum(refusal.error == "LedgerUnavailable" for refusal in list(life.said.refusals))


def all_refused(crew: Crew) -> None:
    """Wait until every worker has found out."""
    before = {life: unavailable(life) for life in crew.alive()}
    until(lambda: all(unavailable(life) > count + 3 for life, count in before.items()), "refusals")


def nothing_runs(crew: Crew) -> None:
    """See that no call is granted once the leases are over."""
    pass_time(LEASE_SECONDS)
    ran = sum(1 for _call in crew.calls())
    pass_time(LEASE_SECONDS)
    assert sum(1 for _call in crew.calls()) == ran


def test_full_disk_grants_nothing_that_is_not_booked(file: Store, crew: Crew) -> None:
    orders = Orders("w", file.address, 3_000, seed=21, draws=2)
    lives = crew.hire_all(orders, 3)
    crew.wait_all("=")
    with Watch(file, NODE) as watch:
        room = max(beside(file.path, "-wal").stat().st_size, LARGEST_PAGE)
        for life in lives:
            life.do(f"files {room}")
        all_refused(crew)
        for life in lives:
            life.do("files -1")
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(file, crew, watch, orders)
    check(outcome)
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (3_000, 3_000, 0)


def test_file_that_may_not_be_written_any_more_is_a_configuration_error(
    file: Store, crew: Crew
) -> None:
    orders = Orders("w", file.address, 1_000, is_ordinary=True)
    old = crew.hire(orders)
    assert old.draw(5) == "granted"
    for each in (file.path, beside(file.path, "-wal"), beside(file.path, "-shm")):
        each.chmod(0o400)
    new = crew.hire(orders, is_ready=False)
    new.process.wait(30)
    until(lambda: new.said.words["over"] == 1, "its last words")
    assert new.said.last["failed"][0] == "ConfigurationError"
    assert old.draw(5) == "granted"  # it has it open
    for each in (file.path, beside(file.path, "-wal"), beside(file.path, "-shm")):
        each.chmod(0o600)
    old.leave()
    state = file.settled(NODE)
    assert (state.used, state.out, state.stranded) == (10, 0, 0)


def test_moved_file_refuses_and_goes_on_when_it_is_back(file: Store, crew: Crew) -> None:
    orders = Orders("w", file.address, 4_000, seed=22, draws=2)
    crew.hire_all(orders, 4)
    crew.wait_all("=")
    with Watch(file, NODE) as watch:
        away = file.path.with_name("away.db")
        file.path.rename(away)
        all_refused(crew)
        assert not file.path.exists()
        away.rename(file.path)
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(file, crew, watch, orders)
    check(outcome)
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (4_000, 4_000, 0)


def test_deleted_file_is_not_made_anew(file: Store, crew: Crew) -> None:
    crew.hire_all(Orders("w", file.address, 10**6, seed=23, draws=2), 3)
    crew.wait_all("=")
    file.path.unlink()
    all_refused(crew)
    nothing_runs(crew)
    assert not file.path.exists()
    crew.leave_all()


def put_other(file: Store, tmp_path: Path) -> None:
    """Put another ledger, in which nothing is defined, in the place of this one."""
    with store_of("sqlite", tmp_path / "other") as other, other.ledger():
        pass
    shutil.copy(other.path, tmp_path / "new.db")
    (tmp_path / "new.db").replace(file.path)


def test_another_file_in_its_place_grants_nothing(file: Store, crew: Crew, tmp_path: Path) -> None:
    crew.hire_all(Orders("w", file.address, 10**6, seed=24, draws=2), 3)
    crew.wait_all("=")
    drop_log(file.path)
    put_other(file, tmp_path)
    all_refused(crew)
    nothing_runs(crew)
    assert file.read(lambda ledger: ledger.read()) == []
    crew.leave_all()


def test_another_file_beside_the_old_log_overspends_nothing(
    file: Store, crew: Crew, tmp_path: Path
) -> None:
    """The log has the old ledger: SQLite goes on with that, or finds it torn."""
    orders = Orders("w", file.address, 3_000, seed=24, draws=2)
    lives = crew.hire_all(orders, 3)
    crew.wait_all("=")
    put_other(file, tmp_path)
    until(
        lambda: all(life.said.words["done"] or unavailable(life) > 20 for life in lives),
        "an end of it",
    )
    nothing_runs(crew)
    crew.leave_all()
    assert sum(call.used for call in crew.calls()) <= orders.value


@pytest.mark.parametrize("per_call", [False, True])
def test_older_copy_in_its_place_overspends_nothing(
    file: Store, crew: Crew, per_call: bool
) -> None:
    orders = Orders("w", file.address, 3_000, seed=25, draws=2, per_call=per_call)
    crew.hire_all(orders, 4)
    crew.wait_all("=")
    copy = copy_of(file.path)
    until(lambda: file.state(NODE).used > 1_000, "some to be used")
    drop_log(file.path)
    copy.replace(file.path)
    with Watch(file, NODE) as watch:
        crew.wait_all("done")
        crew.leave_all()
        outcome = look(file, crew, watch, orders)
    assert (outcome.overspend, outcome.excess, outcome.twice, outcome.differences) == (0, 0, 0, [])
    assert (outcome.used, outcome.acknowledged, outcome.stranded) == (3_000, 3_000, 0)


def test_damaged_pages_end_in_typed_errors(file: Store, crew: Crew) -> None:
    orders = Orders("w", file.address, 10**6, seed=26, draws=2)
    crew.hire_all(orders, 3)
    crew.wait_all("=")
    pages = os.open(file.path, os.O_RDWR)
    try:

        def is_noticed() -> bool:
            with closing(sqlite3.connect(file.path, timeout=5)) as other:
                try:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                except sqlite3.DatabaseError:
                    pass
            size = file.path.stat().st_size
            os.pwrite(pages, b"\xa5" * (size - 4_096), 4_096)
            return all(unavailable(life) > 3 for life in crew.alive())

        until(is_noticed, "all to notice")
    finally:
        os.close(pages)
    nothing_runs(crew)
    crew.leave_all()

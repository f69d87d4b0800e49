"""The files of an outbox: old, broken, foreign, too many, or on a full disk."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from budgetware import (
    Capacity,
    Resource,
    connect,
)
from budgetware.errors import ConfigurationError
from budgetware.ledgers import letter_files
from budgetware.ledgers.file_lock import FileLock
from budgetware.ledgers.letter_files import LetterFile
from budgetware.ledgers.letters import Letter, Parting
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.outbox import Outbox
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Claim, Terms, UsageRow
from tests.ledgers.away_ledgers import AwayLedger, wait_until
from tests.ledgers.outboxes import (
    NODE,
    away,
    check_booked,
    kept,
    letters,
    open_with,
    opened,
    spend,
    state,
    with_org,
)

HOLDERS = [f"{number:024x}" for number in range(1, 5)]
LETTER = '{"version":1,"address":"memory://","written":0,"partings":[%s],"errands":[%s]}'
PARTING = (
    '{"node":"r/org","holder":"h","epoch":%s,"used":1,"counted":0,"answered":0,"is_asked":false}'
)


@pytest.fixture
def store() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def leave(box: Path, partings: list[Parting], written: float, address: str = "memory://") -> None:
    box.mkdir(mode=0o700, exist_ok=True)
    LetterFile(box, HOLDERS[0]).write(Letter(address, written, tuple(partings)))


def adopt(store: Ledger, box: Path, now: float) -> None:
    outbox = Outbox(box)
    outbox.open(store.address, HOLDERS[1])
    while outbox.has_orphans:
        outbox.adopt(store, 10_000, now)
    outbox.close()


@pytest.mark.parametrize("hours", [1, 13, 23, 30])
@pytest.mark.parametrize("is_asked", [False, True])
def test_what_a_ledger_has_forgotten_is_not_counted_again(
    box: Path, hours: int, is_asked: bool
) -> None:
    now = 0.0
    store = MemoryLedger(now=lambda: now)
    store.define(NODE, Terms("capacity", 1_000), "")
    for epoch in (1, 2, 3):
        store.sync([Claim(NODE, HOLDERS[0], epoch, used=10 * epoch, need=5)])
    now = hours * 3_600.0
    store.sync([Claim(NODE, "other", 1)])
    left = Parting(NODE, HOLDERS[0], 5 if is_asked else 4, 37, 30, 0.0, is_asked)
    leave(box, [left], 0.0)
    adopt(store, box, now)
    leave(box, [left], 0.0)
    adopt(store, box, now)
    stranded = 5 if hours == 30 else 0  # what is forgotten cannot be given back
    assert (state(store).used, state(store).out, state(store).stranded) == (37, 0, stranded)
    assert store.verify() == []


@pytest.mark.parametrize("hours", [1, 25])
def test_a_node_that_is_gone_is_waited_for_for_a_day(
    store: MemoryLedger, box: Path, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.define("r/a", Terms("capacity", 1_000), "")
    partings = [Parting(node, HOLDERS[0], 1, 5, 0, 0.0, is_asked=False) for node in ("r/a", NODE)]
    leave(box, partings, 0.0)
    adopt(store, box, 3_600.0 * hours)
    assert bool(letters(box)) == (hours == 1)
    assert ("knows nothing" in caplog.text) == (hours == 1)
    store.define(NODE, Terms("capacity", 1_000), "")
    adopt(store, box, 3_600.0 * hours)
    assert state(store).used == (5 if hours == 1 else 0)
    assert state(store, "r/a").used == 5
    assert letters(box) == []


# Files.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version":2,"address":"memory://","written":0,"partings":[],"errands":[]}',
        '{"version":1,"address":5,"written":0,"partings":[],"errands":[]}',
        '{"version":1,"address":"memory://","written":0,"partings":5,"errands":[]}',
        '{"version":1,"address":"memory://","written":0,"partings":[{}],"errands":[]}',
        LETTER % ("", '{"what":"x","key":"k","text":"t"}'),
        LETTER % (PARTING % "true", ""),
        LETTER % (PARTING % "1.5", ""),
        LETTER % (PARTING % '"1"', ""),
    ],
)
def test_a_letter_that_cannot_be_read_is_kept_and_told_of(
    store: MemoryLedger, box: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    box.mkdir(mode=0o700)
    (box / f"{HOLDERS[0]}.json").write_text(text)
    leave_another = Parting("r/a", HOLDERS[2], 1, 5, 0, 0.0, is_asked=False)
    LetterFile(box, HOLDERS[2]).write(Letter("memory://", 0.0, (leave_another,)))
    store.define("r/a", Terms("capacity", 1_000), "")
    adopt(store, box, 0.0)
    adopt(store, box, 0.0)
    assert (box / f"{HOLDERS[0]}.json.broken").read_text() == text
    assert caplog.text.count("cannot be booked") == 1
    assert "delete it" in caplog.text
    assert state(store, "r/a").used == 5


def test_a_letter_for_another_ledger_is_left_alone(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    leave(box, [Parting(NODE, HOLDERS[0], 1, 5, 0, 0.0, False)], 0.0, "redis://elsewhere:6379/0")
    opened(store, box).close()
    assert kept(box) == 5
    assert state(store).used == 0


def test_only_their_owner_may_read_them(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    away(ledger, service, 1)
    service.close()
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in box.iterdir()}
    assert modes == {".json": 0o600, ".rows": 0o600, ".lock": 0o600}
    assert box.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_to_is_refused(store: MemoryLedger, box: Path) -> None:
    box.mkdir()
    box.chmod(0o770)
    with pytest.raises(ConfigurationError, match="chmod 700"):
        open_with(store, box).open()


def test_a_path_that_is_no_directory_is_refused(store: MemoryLedger, box: Path) -> None:
    box.write_text("")
    for path in (box, box.parent / "none" / "none"):
        with pytest.raises(ConfigurationError, match="is no directory"):
            open_with(store, path).open()


@pytest.mark.parametrize("path", [5, "", "a\nb", b"outbox"])
def test_what_is_no_path_is_refused(store: MemoryLedger, path: Any) -> None:
    with pytest.raises(ConfigurationError, match="outbox"):
        open_with(store, path)


def test_a_full_disk_is_told_of_once_and_calls_go_on(
    store: MemoryLedger,
    box: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box, lease_seconds=0.3)
    spend(service, 100)
    tries: list[Path] = []

    def is_full(path: Path, *_more: object) -> None:
        tries.append(path)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(letter_files, "_write", is_full)
        ledger.is_away = True
        spend(service, 3)
        wait_until(lambda: len(tries) > 2)
    assert caplog.text.count("No space left on device") == 1
    wait_until(lambda: kept(box) == 103)
    ledger.is_away = False
    service.close()
    check_booked(store, box, 103)


def test_usage_events_that_do_not_fit_do_not_spoil_those_before(box: Path) -> None:
    box.mkdir()
    file = LetterFile(box, HOLDERS[0])
    rows = [UsageRow("h", number, 1.0, "x") for number in range(1, 2_501)]
    file.append(rows[:2_000])
    with file.path(".rows").open("ab") as torn:
        torn.write(b'{"hol\n' * 50_000)
    file.append(rows[2_000:])
    batches = list(file.rows())
    assert [row for batch in batches for row in batch] == rows
    assert max(map(len, batches)) <= 1_000


def test_letters_have_bounds(
    store: MemoryLedger,
    box: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_org(store)
    monkeypatch.setattr("budgetware.ledgers.outbox.MAX_LETTERS", 1)
    leave(box, [], 0.0, "redis://elsewhere")
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    away(ledger, service, 1)
    service.close()
    assert "holds 1 letters" in caplog.text
    monkeypatch.setattr(letter_files, "MAX_ROWS_BYTES", 10)
    with pytest.raises(OSError, match="10 bytes"):
        LetterFile(box, HOLDERS[3]).append([_row(1)])


def _row(number: int) -> Any:
    return UsageRow("h", number, 1.0, "x")


def test_the_locks_of_the_dead_are_cleared_away(store: MemoryLedger, box: Path) -> None:
    box.mkdir(mode=0o700)
    for name in (f"{HOLDERS[0]}.lock", f"{HOLDERS[0]}.tmp", f"{HOLDERS[1]}.lock", "notes.lock"):
        (box / name).touch()
    alive = FileLock(box / f"{HOLDERS[1]}.lock")
    assert alive.take()
    opened(store, box).close()
    assert sorted(path.name for path in box.iterdir()) == [f"{HOLDERS[1]}.lock", "notes.lock"]
    alive.remove()


def test_a_lock_whose_file_was_removed_meanwhile_is_none(
    box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.mkdir()
    path = box / "a.lock"
    first, second = FileLock(path), FileLock(path)
    assert first.take()
    assert first.take()
    assert not second.take()
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.remove()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    assert second.take()
    assert not first.take()
    second.remove()
    assert not path.exists()


def test_an_outbox_without_a_ledger_is_not_used(box: Path) -> None:
    with connect(outbox=box) as service:
        service.define(Resource("org", Capacity(9)))
        spend(service, 1)
    assert not box.exists()

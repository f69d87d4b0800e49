"""What was used while the ledger was away is booked once, whoever dies meanwhile."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from budgetware import (
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import BudgetTerminated
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.outbox import Outbox
from budgetware.ledgers.sqlite import SqliteLedger
from tests.ledgers.away_ledgers import AwayLedger, wait_until
from tests.ledgers.outboxes import (
    away,
    check_booked,
    kept,
    letters,
    numbers,
    opened,
    spend,
    state,
    with_org,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


# A service that closes, or lives.


def test_closing_while_away_loses_nothing(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    spend(service, 100)
    ledger.is_away = True
    spend(service, 20, 3)
    service.close()
    assert kept(box) == 123
    assert state(store).used == 0
    opened(store, box).close()
    check_booked(store, box, 123)
    assert len(numbers(store)) == 3


def test_open_reservations_are_charged(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    with service.task_budget(calls=9):
        held = reserve_nowait("org", 50)
        ledger.is_away = True
        service.close()
        held.release()
    opened(store, box).close()
    check_booked(store, box, 50)


def test_what_is_told_in_time_needs_no_outbox(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    service = opened(store, box)
    spend(service, 5)
    assert list(box.iterdir()) == []
    service.close()
    check_booked(store, box, 5)


@pytest.mark.parametrize("loses_answers", [False, True])
def test_a_ledger_that_comes_back_is_told_and_the_letter_is_gone(
    store: MemoryLedger, box: Path, loses_answers: bool
) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box, lease_seconds=0.5)
    spend(service, 100)
    ledger.is_away, ledger.loses_answers = not loses_answers, loses_answers
    spend(service, 11)
    wait_until(lambda: kept(box) == 111)
    ledger.is_away = ledger.loses_answers = False
    wait_until(lambda: not letters(box))
    assert state(store).used == 111
    spend(service, 4)
    service.close()
    check_booked(store, box, 115)


def test_a_letter_of_the_living_is_left_alone(store: MemoryLedger, box: Path) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box, lease_seconds=0.5)
    away(ledger, service, 1)
    wait_until(lambda: kept(box) == 2)
    opened(store, box).close()
    assert kept(box) == 2
    assert state(store).used == 0
    ledger.is_away = False
    service.close()
    check_booked(store, box, 2)


def test_a_letter_is_written_for_usage_and_errands_alone(store: MemoryLedger, box: Path) -> None:
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    with pytest.raises(BudgetTerminated):  # noqa: PT012, SIM117
        with task_budget("job", shared=True, tokens=9, service=service) as task:
            ledger.is_away = True
            task.terminate("enough")
    service.close()
    assert [e["what"] for letter in letters(box) for e in letter["errands"]] == ["latch"]
    opened(store, box).close()
    assert "enough" in state(store, "t/job/tokens").latch
    assert list(box.iterdir()) == []


@pytest.mark.parametrize("limit", [Rate(10, "hour", 10), Concurrency(5)])
def test_rates_are_counted_and_slots_come_back(
    store: MemoryLedger, box: Path, limit: Rate | Concurrency
) -> None:
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    service.define(Resource("some", limit, "reject"))
    with service.task_budget(calls=9):
        held = reserve_nowait("some", 1)
        ledger.is_away = True
        service.close()
        held.commit()
    opened(store, box).close()
    check_booked(store, box, 1 if isinstance(limit, Rate) else 0, "r/some")


# Deaths.


def die(service: QuotaService, ledger: AwayLedger, box: Path, heirs: Path) -> None:
    """Leave what a process leaves that is killed now; its ledger stays away for it."""
    heirs.mkdir(mode=0o700, exist_ok=True)
    for path in box.iterdir():
        if path.suffix in (".json", ".rows"):
            shutil.copy(path, heirs)
    assert ledger.is_away
    service.close()
    shutil.rmtree(box)


@pytest.mark.parametrize("seed", range(8))
def test_random_lives_and_deaths_are_booked_once(
    store: MemoryLedger, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with_org(store, 10**6)
    heirs = tmp_path / "heirs"
    used = calls = 0
    for life in range(4):
        box = tmp_path / str(life)
        if heirs.exists():
            heirs.rename(box)
        ledger = AwayLedger(store)
        service = opened(ledger, box, lease_seconds=0.3)
        assert state(store).used == used
        for _ in range(chance.randrange(1, 6)):
            amounts = [chance.randrange(1, 9) for _ in range(chance.randrange(1, 5))]
            spend(service, *amounts)
            used += sum(amounts)
            calls += len(amounts)
            ledger.loses_answers = True
            wait_until(lambda: state(store).used == used or letters(box))  # noqa: B023
            if chance.random() < 0.5:
                ledger.loses_answers = False
                service.flush()
            else:
                wait_until(lambda: letters(box))  # noqa: B023
                ledger.loses_answers = False
        ledger.is_away = True
        wait_until(lambda: kept(box) or state(store).used == used)  # noqa: B023
        service.close()
        spare = tmp_path / f"{life}-spare"
        box.rename(spare)
        spare.rename(heirs)
    opened(store, heirs).close()
    check_booked(store, heirs, used)
    assert len(numbers(store)) == calls


def test_a_death_leaves_what_the_last_letter_says(store: MemoryLedger, tmp_path: Path) -> None:
    with_org(store)
    box, heirs = tmp_path / "box", tmp_path / "heirs"
    ledger = AwayLedger(store)
    service = opened(ledger, box, lease_seconds=0.5)
    spend(service, 100)
    ledger.loses_answers = True
    spend(service, 20)
    wait_until(lambda: kept(box) == 120)
    ledger.is_away = True
    die(service, ledger, box, heirs)
    opened(store, heirs).close()
    check_booked(store, heirs, 120)


def test_usage_events_that_were_cut_off_by_a_death_are_done_without(
    store: MemoryLedger, tmp_path: Path
) -> None:
    with_org(store)
    box, heirs = tmp_path / "box", tmp_path / "heirs"
    ledger = AwayLedger(store)
    service = opened(ledger, box, lease_seconds=0.5)
    away(ledger, service, 1, 1)
    wait_until(lambda: kept(box) == 3)
    die(service, ledger, box, heirs)
    [rows] = heirs.glob("*.rows")
    before = rows.read_bytes()
    rows.write_bytes(before[:-5])
    opened(store, heirs).close()
    check_booked(store, heirs, 3)
    assert len(store.usage(0, 2**40)) == before.count(b"\n") - 1


@pytest.mark.parametrize("method", ["sync", "record"])
def test_an_adopter_that_fails_in_the_middle_goes_on_or_leaves_it_to_another(
    store: MemoryLedger, box: Path, method: str
) -> None:
    with_org(store)
    ledger = AwayLedger(store)
    service = opened(ledger, box)
    away(ledger, service, 1, 1)
    service.close()
    adopter = AwayLedger(store)
    adopter.fails_at = method
    opened(adopter, box).close()
    assert kept(box) == 3
    again = AwayLedger(store)
    again.fails_at = method
    patient = opened(again, box)
    assert kept(box) == 3
    again.fails_at = ""
    wait_until(lambda: not letters(box))
    patient.close()
    check_booked(store, box, 3)
    assert len(numbers(store)) == 3


def test_two_adopters_at_once_book_it_once(store: MemoryLedger, box: Path) -> None:
    with_org(store, 10**6)
    for _ in range(10):
        ledger = AwayLedger(store)
        service = opened(ledger, box.parent / "other")
        away(ledger, service, 1)
        service.close()
    (box.parent / "other").rename(box)
    barrier = Barrier(4)

    def adopt(_number: int) -> None:
        outbox = Outbox(box)
        outbox.open(store.address, "f" * 24)
        barrier.wait()
        while outbox.has_orphans:
            outbox.adopt(store, 10_000, 0.0)
        outbox.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(adopt, range(4)))
    check_booked(store, box, 20)
    assert len(numbers(store)) == 20


BEGIN = """
import os, signal, sys, json, time
from pathlib import Path
from budgetware import *
from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.sqlite import SqliteLedger
from tests.ledgers.away_ledgers import AwayLedger, wait_until
store = SqliteLedger(sys.argv[1])
box = Path(sys.argv[2])
def letters():
    return [json.loads(path.read_text()) for path in box.glob("*.json")]
def kept():
    return sum(p["used"] for letter in letters() for p in letter["partings"])
def rows():
    return "".join(path.read_text() for path in box.glob("*.rows"))
class Mine(AwayLedger):
    def close(self):
        store.close()
ledger = Mine(store)
"""
SPEND = """
options = {"lease_seconds": 0.5, "on_ledger_error": "open"}
with connect(ledger=ledger, outbox=box, **options) as service, task_budget(calls=10**6):
    for _ in range(40):
        reserve_nowait("org", 2).commit()
    ledger.is_away = True
    for _ in range(7):
        reserve_nowait("org", 1).commit()
    wait_until(lambda: kept() == 87 and '"number":47,' in rows())
    print("ready", flush=True)
    while True:
        reserve_nowait("org", 1).commit()
        time.sleep(0.001)
"""
ADOPT = """
store.record = lambda rows: os.kill(os.getpid(), signal.SIGKILL)
connect(ledger=ledger, outbox=box).__enter__()
"""


def start(program: str, file: Path, box: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", BEGIN + program, str(file), str(box)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_processes_are_booked_once_though_an_adopter_is_killed_too(
    tmp_path: Path, box: Path
) -> None:
    file = tmp_path / "l.db"
    with_org(SqliteLedger(file), 10**6)
    with start(SPEND, file, box) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    used = kept(box)
    assert used >= 87
    with start(ADOPT, file, box) as adopter:
        adopter.wait()
    assert adopter.returncode == -signal.SIGKILL
    assert kept(box) == used
    opened(SqliteLedger(file), box).close()
    store = SqliteLedger(file)
    store.open()
    check_booked(store, box, used)
    assert len(numbers(store)) >= 47
    store.close()

"""Several processes on one file: races, deaths and forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from budgetware.ledgers.sqlite import SqliteLedger
from budgetware.ledgers.terms import Claim

ROOT = Path(__file__).parent.parent.parent
BEGIN = """
import os, sys
from budgetware.errors import *
from budgetware.ledgers.sqlite import SqliteLedger
from budgetware.ledgers.terms import *
ledger = SqliteLedger(sys.argv[1], timeout_seconds=30)
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", BEGIN + program, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(program: str, path: Path) -> str:
    with start(program, path) as process:
        printed, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    return printed


RACE = """
print("ready", flush=True)
sys.stdin.readline()
ledger.open()
ledger.define("r/x", Terms("capacity", 800), "{}")
used, epoch, holder = 0, 1, str(os.getpid())
while True:
    [grant] = ledger.sync([Claim("r/x", holder, epoch, used=used, need=1)])
    used += grant.granted
    epoch += 1
    if grant.used + grant.out >= 800 and not grant.granted:
        break
ledger.close()
print(used, flush=True)
"""


def test_four_processes_get_exactly_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    processes = [start(RACE, path) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    granted = 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        with process:
            granted += int(process.communicate(timeout=50)[0])
        assert process.returncode == 0
    ledger = SqliteLedger(path)
    ledger.open()
    state = ledger.read()[0]
    assert (granted, state.used, state.out, ledger.verify()) == (800, 800, 0, [])
    ledger.close()


SPEND = """
ledger.open()
ledger.define("r/x", Terms("capacity", 10**9), "{}")
epoch = 0
while True:
    epoch += 1
    row = UsageRow("h", epoch, 1.0, "{}")
    ledger.sync([Claim("r/x", "h", epoch, used=epoch, need=1)])
    ledger.record([row], keep_seconds=1e12)
    print(epoch, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 100, 1_000])
def test_what_was_answered_outlives_a_kill(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "l.db"
    with start(SPEND, path) as process:
        assert process.stdout is not None
        for _ in range(acknowledged):
            process.stdout.readline()
        process.kill()
        last = max([acknowledged, *map(int, process.stdout.read().split("\n")[:-1])])
    ledger = SqliteLedger(path)
    ledger.open()
    used, rows = ledger.read()[0].used, 0
    while page := ledger.usage(0.0, 2.0, after=rows):
        rows = page[-1][0]
    assert used in (last, last + 1)
    assert rows in (last, last + 1)
    assert ledger.verify() == []
    assert ledger.sync([Claim("r/x", "h", used + 1, used=used)])[0].outcome == "ok"
    ledger.close()


def test_limit_of_the_size_of_files_grants_nothing_that_is_not_booked(tmp_path: Path) -> None:
    program = """
import resource
ledger.open()
ledger.define("r/x", Terms("capacity", 10**9), "{}")
size = os.stat(sys.argv[1] + "-wal").st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, hard))
held = epoch = 0
while True:
    claim = Claim("r/x", "h", epoch + 1, held=held, need=1)
    try:
        [grant] = ledger.sync([claim])
    except LedgerUnavailable as error:
        assert "then try again" in str(error), error
        break
    epoch, held = epoch + 1, held + grant.granted
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert ledger.read()[0].out == held > 0
assert ledger.sync([claim])[0].granted == 1
assert ledger.read()[0].out == held + 1
assert ledger.verify() == []
print("done")
"""
    assert run(program, tmp_path / "l.db") == "done\n"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


@needs_fork
def test_child_of_a_fork_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """The parent closes first: with its connection in the child, SQLite would drop the log."""
    program = """
ledger.open()
ledger.define("r/x", Terms("capacity", 100), "{}")
ledger.sync([Claim("r/x", "parent", 1, used=1)])
told, tell = os.pipe()
answered, answer = os.pipe()
child = os.fork()
if child == 0:
    ledger.sync([Claim("r/x", "child", 1, used=10)])
    os.write(answer, b"x")
    os.read(told, 1)
    ledger.sync([Claim("r/x", "child", 2, used=20)])
    ledger.close()
    os._exit(0)
os.read(answered, 1)
ledger.sync([Claim("r/x", "parent", 2, used=2)])
ledger.close()
os.write(tell, b"x")
assert os.waitpid(child, 0)[1] == 0
ledger.open()
print(ledger.read()[0].used, ledger.verify())
ledger.close()
"""
    assert run(program, tmp_path / "l.db") == "22 []\n"


@needs_fork
def test_fork_in_the_middle_of_a_change_leaves_it_to_the_parent(tmp_path: Path) -> None:
    program = """
import gc
ledger.open()
ledger.define("r/x", Terms("capacity", 100), "{}")
children = []
def now():
    if not children:
        children.append(os.fork())
    return 1.0
ledger._now = now
try:
    ledger.sync([Claim("r/x", "h", 1, used=1)])
except ConfigurationError as error:
    assert children == [0] and "forked off" in str(error), error
if children == [0]:
    for call in (ledger.read, ledger.verify):
        try:
            call()
        except ConfigurationError:
            continue
        os._exit(1)
    ledger.close()
    del ledger
    gc.collect()
    os._exit(0)
assert os.waitpid(children[0], 0)[1] == 0
ledger.sync([Claim("r/x", "h", 2, used=2)])
print(ledger.read()[0].used, ledger.verify())
ledger.close()
"""
    assert run(program, tmp_path / "l.db") == "2 []\n"


@needs_fork
def test_fork_while_nothing_is_open_is_of_no_matter(tmp_path: Path) -> None:
    program = """
child = os.fork()
ledger.open()
ledger.define("r/x", Terms("capacity", 100), "{}")
ledger.sync([Claim("r/x", str(child), 1, used=1)])
ledger.close()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
ledger.open()
print(ledger.read()[0].used, ledger.verify())
ledger.close()
"""
    assert run(program, tmp_path / "l.db") == "2 []\n"

"""`budgetware run` as a shell sees it: real programs, their output, exit codes and receipts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from budgetware import Capacity, charge, connect, principal
from tests.cli.command_line import document_of, environment, program, run_program
from tests.cli.command_line import run as run_here

CHILD = """
import os
from budgetware import charge, principal, task_budget
with principal(os.environ.get("BUDGETWARE_PRINCIPAL", "nobody")):
    with task_budget(os.environ["BUDGETWARE_TASK"], shared=True):
        charge(tokens=120)
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object, **given: Any) -> subprocess.CompletedProcess[str]:
    return run_program("run", *arguments, **given)


def python(code: str) -> tuple[str, ...]:
    return ("--", sys.executable, "-c", code)


def test_what_it_writes_is_passed_on_with_a_receipt() -> None:
    found = run(*python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (found.returncode, found.stdout) == (0, "out\n")
    err, receipt = found.stderr.splitlines()
    assert err == "err"
    assert receipt.startswith("budgetware: python")
    assert "exit 0" in receipt
    assert "CPU" in receipt


@pytest.mark.parametrize(
    ("code", "expected"),
    [("import sys; sys.exit(7)", 7), ("import os, signal; os.kill(os.getpid(), 15)", 143)],
)
def test_exit_code_is_that_of_the_program(code: str, expected: int) -> None:
    assert run(*python(code)).returncode == expected


def test_options_after_the_program_are_its_own() -> None:
    found = run("sh", "-c", "echo $0 $1", "--json", "--cpu")
    assert found.stdout == "--json --cpu\n"


def test_receipt_as_json_is_the_last_line() -> None:
    found = run("--json", "-b", "cpu=20s", *python("print(1)"))
    receipt = json.loads(found.stderr.splitlines()[-1])
    assert (receipt["exit_code"], receipt["stopped_by"]) == (0, None)
    assert receipt["cpu_micros"] > 0
    row = receipt["task"]["dims"]["cpu_micros"]
    assert (row["limit"], row["spent"]) == (20_000_000, receipt["cpu_micros"])


@pytest.mark.parametrize(
    ("options", "code", "limit"),
    [
        (("--cpu", "200ms"), "while True: pass", "cpu"),
        (("--seconds", "0.3"), "import time; time.sleep(60)", "wall"),
        (("--output", "10kB"), "print('x' * 100_000)", "output"),
        (("--memory", "200MiB"), "x = bytearray(500_000_000)", "memory"),
    ],
)
def test_a_limit_that_stops_it_exits_1(options: tuple[str, ...], code: str, limit: str) -> None:
    found = run(*options, "--json", *python(code))
    assert found.returncode == 1
    assert json.loads(found.stderr.splitlines()[-1])["stopped_by"] == limit


def test_limit_of_the_task_stops_it_too() -> None:
    found = run("-b", "cpu=200ms", "--json", *python("while True: pass"))
    assert found.returncode == 1
    assert json.loads(found.stderr.splitlines()[-1])["stopped_by"] == "cpu"


def test_standard_input_is_passed_on_where_asked() -> None:
    code = "import sys; print(len(sys.stdin.read()))"
    assert run("--stdin", *python(code), input="x" * 1_000).stdout == "1000\n"
    assert run(*python(code), input="x" * 1_000).stdout == "0\n"


def test_what_is_written_may_be_any_bytes() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    found = subprocess.run(
        program("run", *python(code)),
        env=environment(),
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert found.stdout == bytes(range(256))


def test_principal_pays_and_is_refused_in_the_end() -> None:
    address = "sqlite:///ledger.db"
    with connect(ledger=address) as service:
        service.define_principal("alice", quotas={"cpu_micros": Capacity(60_000_000)})
    arguments = ("--ledger", address, "--principal", "alice", *python("print('ran')"))
    first = run(*arguments)
    assert (first.returncode, first.stdout) == (0, "ran\n")
    with connect(ledger=address), principal("alice"):
        charge(cpu_micros=60_000_000)
    second = run(*arguments)
    assert (second.returncode, second.stdout) == (1, "")
    (line,) = second.stderr.splitlines()
    assert "principal 'alice' has 0 of 60000000 cpu_micros left" in line
    report = document_of(run_here("usage", "--ledger", address, "--json"))
    assert (report["usage"]["calls"], report["usage"]["refused"]) == (2, 1)


def test_a_program_pays_from_the_same_task() -> None:
    found = run(
        "-b", "tokens=5k", "--ledger", "sqlite:///ledger.db", "--principal", "alice", *python(CHILD)
    )
    assert (found.returncode, found.stdout) == (0, "")
    assert "tokens 120 of 5.0k" in found.stderr.splitlines()[-1]
    report = document_of(
        run_here("usage", "--ledger", "sqlite:///ledger.db", "--principal", "alice", "--json")
    )
    assert report["usage"]["charged"]["tokens"] == 120


def test_calls_are_those_of_the_program_alone() -> None:
    code = CHILD.replace("charge(tokens=120)", "[charge(calls=1) for _ in range(3)]")
    found = run("-b", "calls=3", "--ledger", "sqlite:///ledger.db", *python(code))
    assert (found.returncode, found.stdout) == (0, "")
    assert "calls 3 of 3" in found.stderr.splitlines()[-1]


LEDGERS = [(), ("--ledger", "sqlite:///ledger.db")]


@pytest.mark.parametrize("ledger", LEDGERS, ids=["in memory", "on a ledger"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-b", "calls=0"), "--budget calls=0: a limit is at least 1"),
        (("-b", "usd=0"), "--budget usd=0: a limit is at least 0.000001 dollars"),
        (("-b", "token=5"), "--budget token=5: unknown dimension 'token'; did you mean 'tokens'"),
        (("-b", "seconds=0"), "--budget seconds=0: '0' is no duration"),
        (("--task", "unknowntask"), "--task unknowntask: no limit is given, and no template"),
    ],
)
def test_what_is_wrong_with_an_option_names_it(
    ledger: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    found = run_here("run", *ledger, *arguments, "--", "true")
    assert (found.exit_code, found.stdout) == (2, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"budgetware: {said}")
    assert list(Path.cwd().iterdir()) == []


def test_a_task_that_a_manifest_does_not_have_names_the_manifest() -> None:
    Path("budgetware.toml").write_text("[budgets.research]\ntokens = 5_000\n")
    found = run_here("run", "--task", "reserch", "--", "true")
    assert found.exit_code == 2
    assert "as budgetware.toml has none" in found.stderr


def test_a_program_is_told_of_the_manifest_and_its_template() -> None:
    Path("budgetware.toml").write_text(
        'ledger = "sqlite:///ledger.db"\n[budgets.research]\ntokens = 5_000\n'
    )
    found = run("--task", "research", *python(CHILD))
    assert "tokens 120 of 5.0k" in found.stderr.splitlines()[-1]
    shown = run(*python("import os; print(os.environ['BUDGETWARE_MANIFEST'])"))
    assert shown.stdout.strip() == str(Path("budgetware.toml").absolute())


def test_a_manifest_that_has_no_such_template_is_copied_for_it() -> None:
    Path("budgetware.toml").write_text('ledger = "sqlite:///ledger.db"\n[budgets.other]\ncalls = 5')
    found = run("-b", "tokens=5k", "-b", "usd=0.25", *python(CHILD))
    assert "tokens 120 of 5.0k, usd $0.00 of $0.25" in found.stderr.splitlines()[-1]
    assert sorted(path.name for path in Path.cwd().iterdir() if ".toml" in path.name) == [
        "budgetware.toml"
    ]


def test_in_memory_there_is_nothing_to_share() -> None:
    code = "import os; print([name for name in os.environ if name.startswith('BUDGETWARE')])"
    assert run("-b", "cpu=20s", *python(code)).stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-b", "tokens", "--", "true"), "give DIM=VALUE"),
        (("-b", "tokens=", "--", "true"), "give DIM=VALUE"),
        (("-b", "tokens=0", "--", "true"), "at least 1"),
        (("-b", "tokens=5", "-b", "tokens=6", "--", "true"), "two limits"),
        (("-b", "tokenz=5", "--", "true"), "did you mean 'tokens'"),
        (("--cpu", "soon", "--", "true"), "is no duration"),
        (("--memory", "0", "--", "true"), "no program runs without memory"),
        (("--memory", "64M", "--", "true"), "is no size"),
        (("--output", "lots", "--", "true"), "is no size"),
        (("--task", "a b", "--", "true"), "is not valid"),
        (("--", "no-such-program"), "cannot start no-such-program"),
        (("--manifest", "none.toml", "--", "true"), "cannot be read"),
        (("--ledger", "http://x", "--", "true"), "no address of a ledger"),
    ],
)
def test_misuse_exits_2_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    found = run(*arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_two_ledgers_are_misuse() -> None:
    Path("m.toml").write_text('ledger = "sqlite:///a.db"')
    found = run("--manifest", "m.toml", "--ledger", "sqlite:///b.db", "--", "true")
    assert found.returncode == 2
    assert "names a ledger already" in found.stderr


def test_a_ledger_that_is_away_starts_nothing() -> None:
    found = run("--ledger", "redis://:sesame@127.0.0.1:9/0", *python("open('ran', 'w')"))
    assert (found.returncode, found.stdout) == (1, "")
    assert len(found.stderr.splitlines()) == 1
    assert "sesame" not in found.stderr
    assert not Path("ran").exists()

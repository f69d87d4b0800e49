"""What a shell sees: pipes that close, colours, encodings, where help and errors go."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from budgetware import Capacity, Resource, connect
from tests.cli.command_line import environment, program, run, run_program
from tests.cli.terminal import terminal

COMMANDS = [
    ("resource", "list"),
    ("resource", "show", "browsers"),
    ("quota", "show", "alice"),
    ("usage",),
    ("usage", "--csv"),
    ("usage", "--json"),
    ("top", "--once"),
]


FULL = Path("/dev/full")


@pytest.fixture
def long_ledger(tmp_path: Path) -> str:
    """More than a pipe holds."""
    address = f"sqlite:///{tmp_path}/long.db"
    with connect(ledger=address) as service:
        for number in range(700):
            service.define(Resource(f"{'n' * 90}{number}", Capacity(5)))
    return address


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_pipe_that_closes_is_no_failure_to_shout_about(
    long_ledger: str, options: tuple[str, ...]
) -> None:
    command = program("resource", "list", "--ledger", long_ledger, *options)
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.readline()
        process.stdout.close()
        shouted = process.stderr.read()
    assert process.wait(30) in (0, 1)
    assert shouted == b""


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device here")
@pytest.mark.parametrize("command", [*COMMANDS, ("verify",), ("--help",), ("run",)], ids=" ".join)
def test_output_that_cannot_be_written_is_told_in_one_line(
    ledger: str, command: tuple[str, ...]
) -> None:
    last = {"verify": (ledger,), "--help": (), "run": ("--", "echo", "hello")}
    arguments = last.get(command[0], ("--ledger", ledger))
    with FULL.open("w") as full:
        found = subprocess.run(
            program(*command, *arguments),
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
            check=False,
        )
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("budgetware: the output cannot be written: ")


@pytest.mark.skipif(not FULL.exists(), reason="there is no full device here")
def test_errors_that_cannot_be_written_keep_their_exit_code() -> None:
    with FULL.open("w") as full:
        found = subprocess.run(
            program("quta"), env=environment(), stderr=full, timeout=50, check=False
        )
    assert found.returncode == 2


def test_output_that_is_closed_is_no_failure(ledger: str) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *program("usage", "--ledger", ledger)]
    found = subprocess.run(
        command, env=environment(), stderr=subprocess.PIPE, timeout=50, check=False
    )
    assert (found.returncode, found.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("quta",), "no such command 'quta'"),
        (("quota", "show"), "missing argument 'PRINCIPAL' (see budgetware quota show --help)"),
        (("resource", "define", "x"), "missing option '--limit'"),
        (("usage", "--nope"), "no such option: --nope"),
        (("usage", "--since"), "'--since' requires an argument"),
        (("top", "--interval", "x"), "invalid value for '--interval'"),
        (("check", "a", "b"), "got unexpected extra argument"),
        (("demo", "--price", "x"), "'x' is no amount of dollars"),
        (("serve", "--port", "\x1b[31m"), "invalid value for '--port'"),
    ],
)
def test_arguments_that_cannot_be_read_are_one_line(command: tuple[str, ...], said: str) -> None:
    result = run(*command, COLUMNS="40")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("budgetware: ")
    assert said in line
    assert "--help)" in line
    assert line.isprintable()


@pytest.mark.parametrize("command", [(), ("quota",), ("resource",)])
def test_a_group_alone_shows_its_help(command: tuple[str, ...]) -> None:
    result = run(*command)
    assert "Commands" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    "command",
    [("quota", "set"), ("resource", "define"), ("resource", "update"), ("resource", "delete")],
    ids=" ".join,
)
def test_help_says_when_others_hear_of_a_change(command: tuple[str, ...]) -> None:
    said = " ".join(run(*command, "--help").stdout.split())
    assert "same ledger" in said
    assert "within about a second" in said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_files_get_no_colours(ledger: str, command: tuple[str, ...]) -> None:
    found = run_program(*command, "--ledger", ledger)
    assert (found.returncode, found.stderr) == (0, "")
    assert "\x1b" not in found.stdout


@pytest.mark.parametrize(("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminals_get_colours_unless_they_do_not_want_them(
    ledger: str, variables: dict[str, str], is_coloured: bool
) -> None:
    command = program("usage", "--ledger", ledger)
    with terminal(command, environment(**variables), columns=100) as shown:
        assert shown.end() == 0
        assert ("total" in shown.text, b"\x1b[34m" in shown.sent) == (True, is_coloured)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_output_without_unicode_is_plain(ledger: str, command: tuple[str, ...]) -> None:
    found = subprocess.run(
        program(*command, "--ledger", ledger),
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.isascii()


def test_errors_without_unicode_are_told_all_the_same(tmp_path: Path) -> None:
    found = subprocess.run(
        program("check", tmp_path / "ключ.toml"),
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert found.returncode == 2
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize("columns", [40, 60, 100])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_narrow_terminals_lose_nothing_but_room(
    ledger: str, command: tuple[str, ...], columns: int
) -> None:
    result = run(*command, "--ledger", ledger, COLUMNS=str(columns))
    assert result.exit_code == 0


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("command", [("quota", "show", "alice"), ("usage",)], ids=" ".join)
def test_tables_fit_the_terminal(ledger: str, command: tuple[str, ...], columns: int) -> None:
    lines = run(*command, "--ledger", ledger, COLUMNS=str(columns)).stdout.splitlines()
    table = [line for line in lines if "░" in line or "─" in line]
    assert table != []
    assert [line for line in table if len(line) > columns] == []


@pytest.mark.parametrize("answer", ["y", "n", "\x03"])
def test_a_terminal_is_asked_before_a_resource_is_deleted(ledger: str, answer: str) -> None:
    command = program("resource", "delete", "browsers", "--ledger", ledger)
    with terminal(command, environment()) as shown:
        shown.see("Delete resource browsers for all who use it?")
        shown.press(answer, "" if answer == "\x03" else "\r")
        code = shown.end()
    with connect(ledger=ledger) as service:
        is_there = "browsers" in {view.name for view in service.resources()}
    assert (code, is_there) == ((0, False) if answer == "y" else (1, True))
    assert b"Traceback" not in shown.sent


@pytest.mark.parametrize(
    "command",
    [
        (), ("quota",), ("quota", "show"), ("quota", "set"), ("resource",), ("resource", "list"),
        ("resource", "define"), ("resource", "update"), ("resource", "delete"), ("usage",),
        ("top",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_help_shows_no_key(command: tuple[str, ...]) -> None:
    result = run(*command, "--help", BUDGETWARE_KEY="sesame")
    assert result.exit_code == 0
    assert "sesame" not in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    found = run_program("--version")
    assert (found.returncode, found.stdout) == (0, f"budgetware {version('budgetware')}\n")

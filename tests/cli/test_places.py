"""Where commands look, and what is said where there is nothing to look at."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from budgetware.cli.failures import Failure
from budgetware.cli.places import Place, find_place
from tests.cli.command_line import run, run_program

READS = [
    ("quota", "show", "alice"),
    ("resource", "list"),
    ("resource", "show", "browsers"),
    ("usage",),
    ("top", "--once"),
]
CHANGES = [
    ("quota", "set", "alice", "tokens=5"),
    ("resource", "define", "x", "--limit", "5"),
    ("resource", "update", "browsers", "--limit", "5 slots"),
    ("resource", "delete", "browsers", "--yes"),
]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("BUDGETWARE_URL", "BUDGETWARE_KEY", "BUDGETWARE_MANIFEST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("command", [*READS, *CHANGES], ids=" ".join)
def test_nowhere_to_look_is_misuse(command: tuple[str, ...]) -> None:
    result = run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "budgetware: there is no ./budgetware.toml: give --ledger, --manifest or --url\n"
    )


@pytest.mark.parametrize("command", [*READS, *CHANGES], ids=" ".join)
def test_memory_is_nothing_to_look_into(command: tuple[str, ...]) -> None:
    Path("budgetware.toml").write_text("")
    for place in ((), ("--ledger", "memory://")):
        result = run(*command, *place)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "memory of each process" in result.stderr
        assert "--url" in result.stderr


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_reading_makes_no_file(command: tuple[str, ...]) -> None:
    result = run(*command, "--ledger", "sqlite:///nothing.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no file 'nothing.db'" in result.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("command", [*READS, *CHANGES], ids=" ".join)
def test_a_ledger_that_is_away_is_told(command: tuple[str, ...]) -> None:
    result = run(*command, "--ledger", "redis://:sesame@127.0.0.1:9/0")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("budgetware: ")
    assert line.endswith("see whether it runs there, and whether the address is right")
    assert "sesame" not in line


@pytest.mark.parametrize(
    ("address", "code"),
    [("http://localhost", 2), ("sqlite://x", 2), ("postgres://:sesame@x", 2), ("sqlite:///.", 1)],
)
def test_what_is_no_ledger_is_told(address: str, code: int) -> None:
    result = run("resource", "list", "--ledger", address)
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    assert "sesame" not in result.stderr


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("foo://x", "ledger=foo://…"),
        ("postgres://me:sesame@x", "ledger=postgres://…"),
        ("me:sesame@x", "ledger=me:…"),
        (":sesame@x", "ledger=…"),
        ("budgetware.db", "ledger='budgetware.db'"),
    ],
)
@pytest.mark.parametrize("command", [("resource", "list", "--ledger"), ("verify",)], ids=" ".join)
def test_no_ledger_is_told_by_its_scheme_and_no_password(
    command: tuple[str, ...], address: str, shown: str
) -> None:
    result = run(*command, address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"budgetware: {shown}: this is no address of a ledger" in result.stderr
    assert "sesame" not in result.stderr


def test_a_file_of_another_kind_is_told() -> None:
    Path("notes.txt").write_text("not a database, but long enough to be read as one" * 50)
    result = run("resource", "list", "--ledger", "sqlite:///notes.txt")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [("ledger = 5\nx = 1\n", 1, "and 1 more: see budgetware check"), (None, 2, "cannot be read")],
)
def test_a_manifest_that_is_wrong_is_told_in_one_line(
    text: str | None, code: int, said: str
) -> None:
    if text is not None:
        Path("m.toml").write_text(text)
    result = run("usage", "--manifest", "m.toml")
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr


def test_manifest_here_is_the_default(ledger: str) -> None:
    Path("budgetware.toml").write_text(f'ledger = "{ledger}"')
    assert "browsers" in run("resource", "list").stdout


def test_manifest_of_the_environment_comes_before_it(ledger: str) -> None:
    Path("budgetware.toml").write_text("")
    Path("other.toml").write_text(f'ledger = "{ledger}"')
    assert "browsers" in run("resource", "list", BUDGETWARE_MANIFEST="other.toml").stdout


def test_ledger_overrides_that_of_the_manifest(ledger: str) -> None:
    Path("m.toml").write_text('ledger = "redis://127.0.0.1:9/0"')
    assert "browsers" in run("resource", "list", "--manifest", "m.toml", "--ledger", ledger).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://x", "--ledger", "sqlite:///x.db"),
        ("--url", "http://x", "--manifest", "m.toml"),
        ("--url", "http://x", "--key", "a", "--key-file", "k"),
        ("--ledger", "sqlite:///x.db", "--key", "a"),
        ("--ledger", "sqlite:///x.db", "--key-file", "k"),
        ("--url", "http://x", "--key-file", "nothing"),
        ("--url", "http://x", "--key", "two\nlines"),
        ("--url", "http://x", "--key", "ключ"),
        ("--url", "ftp://x"),
        ("--url", "nothing"),
        ("--url", "http://user:sesame@x"),
        ("--url", "http://x:99999"),
        ("--url", "http://"),
    ],
)
def test_options_that_contradict_each_other_are_misuse(arguments: tuple[str, ...]) -> None:
    result = run("resource", "list", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "sesame" not in result.stderr


def test_server_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUDGETWARE_URL", "http://x")
    monkeypatch.setenv("BUDGETWARE_KEY", "sesame")
    assert find_place() == Place(url="http://x", key="sesame")
    assert find_place(ledger="sqlite:///x.db") == Place(ledger="sqlite:///x.db")
    assert "sesame" not in repr(find_place())


def test_key_comes_from_a_file() -> None:
    Path("key").write_text("sesame\n")
    assert find_place(url="http://x", key_file=Path("key")).key == "sesame"


def test_key_file_with_more_than_a_key_is_refused() -> None:
    Path("key").write_text("sesame\nopen\n")
    with pytest.raises(Failure, match="not one line"):
        find_place(url="http://x", key_file=Path("key"))
    Path("key").write_bytes(os.urandom(5_000))
    with pytest.raises(Failure, match="key"):
        find_place(url="http://x", key_file=Path("key"))


def test_nobody_listening_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = run("resource", "list", "--url", url, "--key", "sesame")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert f"cannot reach {url}" in line
    assert "budgetware serve" in line
    assert "sesame" not in line


def test_a_process_says_the_same(tmp_path: Path) -> None:
    found = run_program("resource", "list", "--ledger", "sqlite:///nothing.db", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("budgetware: there is no file")

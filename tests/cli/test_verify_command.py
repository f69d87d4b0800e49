"""`budgetware verify` as a user runs it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from budgetware import Capacity, Resource, connect, principal, reserve_nowait
from budgetware.cli.app import make_app


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), ["verify", *arguments], env={"COLUMNS": "120"})


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A ledger in which 3 of 10 are used, and somebody has a principal."""
    made = f"sqlite:///{tmp_path}/budgetware.db"
    with connect(ledger=made) as service:
        service.define(Resource("pages", Capacity(10), "reject"))
        service.define_principal("alice", quotas={"tokens": Capacity(5)})
        with principal("alice"):
            reserve_nowait("pages", 3).commit()
    return made


def test_agreement_is_shown_with_the_balances(address: str) -> None:
    found = verify(address)
    assert found.exit_code == 0
    assert "r/pages" in found.stdout
    assert "balances and journal agree" in " ".join(found.stdout.split())


def test_a_balance_that_was_changed_is_named(address: str) -> None:
    with closing(sqlite3.connect(address.removeprefix("sqlite:///"))) as file:
        file.execute("UPDATE nodes SET used = 2 WHERE node = 'r/pages'")
        file.commit()
    found = verify(address)
    assert found.exit_code == 1
    assert "r/pages: used is 2, the journal says 3" in " ".join(found.stdout.split())


def test_programs_get_one_document(address: str) -> None:
    found = verify(address, "--json")
    document = json.loads(found.stdout)
    assert (found.exit_code, document["ok"], document["differences"]) == (0, True, [])
    assert document["ledger"].startswith("sqlite:///")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("sqlite:///nowhere.db", "there is no file 'nowhere.db'"),
        ("memory://", "the memory of another process"),
        ("http://localhost", "no address of a ledger"),
    ],
)
def test_what_is_no_ledger_is_said_and_not_made(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = verify(given)
    assert found.exit_code == 2
    assert said in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as one" * 50)
    found = verify(f"sqlite:///{tmp_path}/notes.txt")
    assert found.exit_code == 1
    assert found.stderr.startswith("budgetware: ")


def test_a_server_that_is_away_is_told() -> None:
    found = verify("redis://:secret@127.0.0.1:9/0", "--json")
    document = json.loads(found.stdout)
    assert (found.exit_code, document["ok"]) == (1, False)
    assert "secret" not in found.stdout

"""The same commands on a ledger that a server keeps, which has a password."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from budgetware import connect
from tests.cli.command_line import PRICES, define, document_of, run, use, words
from tests.ledgers.valkey import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    folder = tmp_path_factory.mktemp("valkey")
    with running("valkey", folder, "--appendonly", "no") as server:  # it keeps nothing
        yield server


@pytest.fixture
def address(server: Server, request: pytest.FixtureRequest) -> str:
    made = server.url(request.node.name[:40])
    with connect(ledger=made, prices=PRICES, durability="none") as service:
        define(service)
        use("alice", 1_500, refused=2)
    return made


def test_it_is_shown_whatever_the_server_keeps(address: str) -> None:
    assert "tokens 1.0M in all 1.5k" in words(run("quota", "show", "alice", "--ledger", address))
    assert "browsers 4 at once" in words(run("resource", "list", "--ledger", address))
    assert "alice 2 2 $0.0015 1.5k" in words(run("usage", "--by", "principal", "--ledger", address))
    assert "refused: alice 2" in words(run("top", "--once", "--ledger", address))


def test_it_is_changed(address: str) -> None:
    change = ("resource", "update", "browsers", "--limit", "6 slots", "--ledger", address)
    assert run(*change, "--expected-revision", 1).exit_code == 0
    assert run(*change, "--expected-revision", 1).exit_code == 1
    assert run("quota", "set", "alice", "calls=5/day", "--ledger", address).exit_code == 0
    document = document_of(run("quota", "show", "alice", "--json", "--ledger", address))
    assert sorted(document["quotas"]) == ["calls", "memory", "tokens"]
    assert run("resource", "delete", "browsers", "--yes", "--ledger", address).exit_code == 0


def test_password_is_never_shown(tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    with running("valkey", folder, "--appendonly", "no", password="sesame") as server:
        address = server.url()
        for command in (
            ("resource", "list"),
            ("quota", "show", "nobody"),
            ("usage",),
            ("usage", "--json"),
            ("top", "--once"),
            ("top", "--once", "--json"),
        ):
            result = run(*command, "--ledger", address)
            assert "sesame" not in result.output
            assert result.exit_code == (1 if "nobody" in command else 0), result.output
        wrong = run("resource", "list", "--ledger", address.replace("sesame", "pepper"))
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert "pepper" not in wrong.stderr

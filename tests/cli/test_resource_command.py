"""`budgetware resource` as a user runs it, on a real ledger."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budgetware import Capacity, Concurrency, Rate, Resource, connect
from tests.cli.command_line import document_of, run, words


def resource(address: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = document_of(
        run("resource", "show", name, "--ledger", address, "--json")
    )
    return found


def test_list_shows_what_is_left_and_who_waits(ledger: str) -> None:
    result = run("resource", "list", "--ledger", ledger)
    assert result.exit_code == 0
    assert "browsers 4 at once 0 0 4" in words(result)
    assert "model 90.0k / minute" in words(result)
    assert "org-tokens 50.0M in all" in words(result)


def test_list_as_json_is_what_the_service_shows(ledger: str) -> None:
    document = document_of(run("resource", "list", "--ledger", ledger, "--json"))
    assert [row["name"] for row in document] == ["browsers", "model", "org-tokens"]
    assert document[0]["balance"]["limit"] == 4


def test_an_empty_list_says_how_to_define_one(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/empty.db"
    with connect(ledger=address):
        pass
    result = run("resource", "list", "--ledger", address)
    assert result.exit_code == 0
    assert "budgetware resource define NAME" in result.stdout


def test_show_has_the_definition_and_the_balance(ledger: str) -> None:
    result = run("resource", "show", "model", "--ledger", ledger)
    assert result.exit_code == 0
    for line in ("limit 90.0k / minute", "counts tokens", "parent org-tokens", "longest wait 30s"):
        assert line in words(result)


def test_unknown_name_is_refused_and_the_like_is_named(ledger: str) -> None:
    result = run("resource", "show", "browser", "--ledger", ledger)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did you mean 'browsers'?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (("--limit", "90k/minute"), Resource("new", Rate(90_000, "minute"))),
        (("--limit", "90k/30s"), Resource("new", Rate(90_000, 30.0))),
        (
            ("--limit", "90k/minute", "--max", "100k"),
            Resource("new", Rate(90_000, "minute", 100_000)),
        ),
        (("--limit", "90k/minute max 100k"), Resource("new", Rate(90_000, "minute", 100_000))),
        (("--limit", "50M"), Resource("new", Capacity(50_000_000))),
        (("--limit", "4 slots"), Resource("new", Concurrency(4))),
        (
            ("--limit", "$2.50/day", "--dim", "usd"),
            Resource("new", Rate(Decimal("2.50"), "day"), dim="usd"),
        ),
        (("--limit", "10GB", "--dim", "bytes"), Resource("new", Capacity(10**10), dim="bytes")),
        (
            ("--limit", "200%", "--dim", "cpu"),
            Resource("new", Rate(2_000_000, "second"), dim="cpu_micros"),
        ),
        (
            ("--limit", "10s/minute", "--dim", "cpu"),
            Resource("new", Rate(10_000_000, "minute"), dim="cpu_micros"),
        ),
        (
            ("--limit", "5", "--enforcement", "reject", "--max-wait", "30s", "--unit", "page",
             "--units", "pages", "--parent", "browsers"),
            Resource("new", Capacity(5), "reject", max_wait="30s", unit="page", units="pages",
                     parent="browsers"),
        ),
    ],
)  # fmt: skip
def test_define_takes_each_kind(ledger: str, arguments: tuple[str, ...], made: Resource) -> None:
    result = run("resource", "define", "new", *arguments, "--ledger", ledger)
    assert result.exit_code == 0, result.stderr
    with connect(ledger=ledger) as service:
        defined = service.resource("new").definition
        assert defined.limit == made.limit
        assert (defined.policy, defined.dim, defined.parent, defined.max_wait, defined.units) == (
            made.policy, made.dim, made.parent, made.max_wait, made.units
        )  # fmt: skip


def test_define_makes_a_ledger_that_is_not_there(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/new.db"
    assert run("resource", "define", "pages", "--limit", "5", "--ledger", address).exit_code == 0
    assert resource(address, "pages")["revision"] == 1


def test_define_of_another_definition_is_refused(ledger: str) -> None:
    result = run("resource", "define", "browsers", "--limit", "5 slots", "--ledger", ledger)
    assert result.exit_code == 1
    assert "already" in result.stderr
    assert resource(ledger, "browsers")["limit"]["value"] == 4


def test_update_changes_what_is_named(ledger: str) -> None:
    result = run(
        "resource", "update", "model", "--limit", "120k/minute", "--max", "200k",
        "--enforcement", "reject", "--max-wait", "0", "--ledger", ledger,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = resource(ledger, "model")
    assert found["limit"] == {"type": "rate", "value": 120_000, "period": "minute", "max": 200_000}
    assert (found["enforcement"], found["parent"], found["revision"]) == ("reject", "org-tokens", 2)


def test_burst_alone_can_be_changed(ledger: str) -> None:
    assert run("resource", "update", "model", "--max", "200k", "--ledger", ledger).exit_code == 0
    assert resource(ledger, "model")["limit"]["max"] == 200_000
    assert resource(ledger, "model")["limit"]["value"] == 90_000


def test_longest_wait_can_be_lifted(ledger: str) -> None:
    assert run("resource", "update", "model", "--no-max-wait", "--ledger", ledger).exit_code == 0
    assert resource(ledger, "model")["max_wait"] is None


def test_update_of_a_revision_that_was_read(ledger: str) -> None:
    change = ("resource", "update", "browsers", "--limit", "6 slots", "--ledger", ledger)
    assert run(*change, "--expected-revision", 1).exit_code == 0
    result = run(*change, "--expected-revision", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "at revision 2, not 1" in result.stderr


def test_kind_cannot_change(ledger: str) -> None:
    result = run("resource", "update", "browsers", "--limit", "6", "--ledger", ledger)
    assert result.exit_code == 1
    assert "cannot become a Capacity" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("define", "x", "--limit", "0"), "a limit is positive"),
        (("define", "x", "--limit", "0 slots"), "a limit is positive"),
        (("define", "x", "--limit", "many"), "is no count"),
        (("define", "x", "--limit", "5", "--max", "6"), "burst of a rate"),
        (("define", "x", "--limit", "5 max 6"), "burst of a rate"),
        (("define", "x", "--limit", "5/day max 6", "--max", "7"), "leave out --max"),
        (("define", "x", "--limit", "5", "--dim", "tokenz"), "did you mean 'tokens'"),
        (("define", "x", "--limit", "5", "--max-wait", "soon"), "max_wait"),
        (("define", "a b", "--limit", "5"), "is not valid"),
        (("define", "x", "--limit", "5", "--unit", "\x1b[31m"), "printable"),
        (("update", "browsers"), "nothing to change"),
        (("update", "browsers", "--max", "5"), "burst of a rate"),
        (("update", "browsers", "--limit", "a few"), "is no count"),
        (("update", "browsers", "--max-wait", "1s", "--no-max-wait"), "contradicts"),
        (("delete", "browsers"), "--yes"),
    ],
)
def test_misuse_exits_2_in_one_line(ledger: str, arguments: tuple[str, ...], said: str) -> None:
    result = run("resource", *arguments, "--ledger", ledger)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.rstrip("\n").isprintable()


def test_delete_takes_it_out(ledger: str) -> None:
    result = run("resource", "delete", "browsers", "--yes", "--ledger", ledger)
    assert result.exit_code == 0
    assert run("resource", "show", "browsers", "--ledger", ledger).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("browsers", "--expected-revision", "7"), "at revision 1, not 7"),
        (("org-tokens",), "is the parent of 'model'"),
        (("nothing",), "unknown resource"),
    ],
)
def test_delete_is_refused(ledger: str, arguments: tuple[str, ...], said: str) -> None:
    result = run("resource", "delete", *arguments, "--yes", "--ledger", ledger)
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(json.loads(run("resource", "list", "--json", "--ledger", ledger).stdout)) == 3

"""Tables in narrow terminals: names stay, and no number is cut."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from budgetware import Capacity, Resource, connect
from budgetware.cli.columns import Column, Rows, drawn, fitting, long, number, word
from tests.cli.command_line import run, words

COLUMNS = (long("name"), number("used", 2), number("left"), drawn(), word("state", 1))
ROWS = [("reader", "123,456", "999.9k", "########", "throttle"), ("b", "7", "$0.25", "#", "reject")]


def printed(rows: Rows, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    rows.print(out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def made(*extra: tuple[str, ...]) -> Rows:
    rows = Rows(COLUMNS)
    for row in (*ROWS, *extra):
        rows.add(*row)
    return rows


@pytest.mark.parametrize("width", range(12, 60))
def test_names_and_numbers_are_whole_at_any_width(width: int) -> None:
    found = " ".join(printed(made(), width)).split()
    assert {"reader", "b", "999.9k", "$0.25"} <= set(found)
    numbers = {word for word in found if word[0].isdigit()}
    assert numbers <= {"123,456", "999.9k", "7"}


def test_bars_go_first_then_columns_by_their_rank() -> None:
    heads = {width: printed(made(), width)[0].split() for width in (42, 33, 32)}
    assert heads[42] == ["name", "used", "left", "state"]
    assert printed(made(), 43)[2].count("#") == 8
    assert heads[33] == ["name", "used", "left", "state"]
    assert heads[32] == ["name", "left", "state"]


def test_what_has_no_room_is_named() -> None:
    assert printed(made(), 30)[-1].startswith("no room here for: used;")
    assert not any("no room" in line for line in printed(made(), 43))


def test_long_names_are_folded_and_not_cut() -> None:
    name = "".join(chr(ord("a") + place % 26) for place in range(90))
    lines = printed(made((name, "1", "2", "", "x")), 40)
    first = "".join(line.split()[0] for line in lines[4:] if line[:1].isalpha())
    assert first.startswith(name)


def test_where_nothing_fits_each_row_is_a_block() -> None:
    lines = printed(made(), 12)
    assert lines[:4] == ["name   reader", "used   123,456", "left   999.9k", "state  throttle"]
    assert lines[4] == ""


def test_what_has_no_name_goes_on_in_a_block() -> None:
    rows = Rows((long("quota"), number("limit"), word("")))
    rows.add("tokens", "1.0M", "in all")
    assert "limit  1.0M in all" in printed(rows, 10)


def test_columns_that_have_to_stay_and_do_not_fit_are_none() -> None:
    assert fitting([Column("a"), Column("b")], [5, 5], 11) is None
    assert fitting([Column("a"), Column("b")], [5, 5], 12) == {0: 5, 1: 5}


@pytest.mark.parametrize("columns", ["30", "40", "60"])
def test_resources_keep_their_names_and_what_is_left(ledger: str, columns: str) -> None:
    shown = words(run("resource", "list", "--ledger", ledger, COLUMNS=columns)).split()
    assert {"browsers", "model", "org-tokens", "50.0M", "90.0k"} <= set(shown)


@pytest.mark.parametrize("columns", ["30", "40", "60"])
def test_quotas_keep_their_names_and_numbers(ledger: str, columns: str) -> None:
    shown = words(run("quota", "show", "alice", "--ledger", ledger, COLUMNS=columns)).split()
    assert {"memory", "tokens", "256.0", "1.0M", "1.5k", "998.5k"} <= set(shown)


@pytest.mark.parametrize("by", [("model",), ("model", "provider"), ("provider", "model", "hour")])
@pytest.mark.parametrize("columns", ["30", "40", "60"])
def test_usage_keeps_what_it_is_grouped_by(ledger: str, columns: str, by: tuple[str, ...]) -> None:
    options = [part for name in by for part in ("--by", name)]
    shown = words(run("usage", *options, "--ledger", ledger, COLUMNS=columns)).split()
    assert {"gpt", "(none)", "total", "$0.0015", "2.0k", *by} <= set(shown)


@pytest.mark.parametrize("columns", ["30", "40", "60"])
def test_balances_of_a_ledger_keep_their_nodes(ledger: str, columns: str) -> None:
    shown = words(run("verify", ledger, COLUMNS=columns)).split()
    assert {"r/browsers", "r/model", "50,000,000", "90,000"} <= set(shown)


def test_a_manifest_keeps_its_names(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('[budgets.research-of-papers]\ntokens = 5_000_000\nusd = "0.25"\n')
    shown = words(run("check", path, COLUMNS="24"))
    assert "research-of-papers" in shown
    assert "tokens 5,000,000, usd $0.25" in shown


@pytest.mark.parametrize("columns", ["30", "40", "80"])
def test_a_name_that_is_longer_than_the_terminal_is_there(tmp_path: Path, columns: str) -> None:
    address = f"sqlite:///{tmp_path}/long.db"
    with connect(ledger=address) as service:
        service.define(Resource("n" * 100 + "END", Capacity(5)))
    shown = run("resource", "list", "--ledger", address, COLUMNS=columns).stdout
    assert shown.count("n") >= 100
    assert "END" in shown

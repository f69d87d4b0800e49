"""`budgetware usage` as a user runs it, on a ledger with events of several days."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from budgetware import charge, connect, principal, reserve, task_budget
from budgetware.cli.usage_rows import UsageRows, safe_cell
from budgetware.cli.usage_tables import print_usage
from budgetware.reports import UsageBucket, UsageGroup, UsageReport, UsageTally, UsageTotals
from tests.cli.command_line import document_of, run, service_at, words

HEADER = (
    "calls,refused,corrected,duration_ms,wait_ms,charged_tokens,charged_bytes,charged_calls,"
    "charged_memory,charged_custom0,charged_custom1,charged_custom2,charged_usd,"
    "charged_input_tokens,charged_output_tokens,charged_cpu_micros"
)


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def csv_of(*arguments: str) -> str:
    """CSV as it is, line ends included."""
    return run("usage", "--csv", *arguments).stdout_bytes.decode()


def day(ago: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}"


def test_days_are_shown_without_a_gap_and_with_a_total(ledger: str) -> None:
    result = run("usage", "--ledger", ledger, "--since", day(3))
    assert result.exit_code == 0
    shown = words(result)
    assert "usage of everybody" in shown
    for ago in range(4):
        assert day(ago) in shown
    assert f"{day(2)} 2 0 $0.0015 1.5k" in shown
    assert f"{day(1)} 0 0 $0.00 0" in shown
    assert "total 5 2 $0.0015 2.0k" in shown
    assert "tasks: 2 started, 2 completed, 0 failed" in shown


def test_json_is_the_report_of_the_contract(ledger: str) -> None:
    document = document_of(run("usage", "--ledger", ledger, "--json"))
    assert document["api_key_name"] is None
    assert document["sessions"] == {"started": 2, "completed": 2, "failed": 0}
    assert (document["usage"]["calls"], document["usage"]["refused"]) == (5, 2)
    assert document["usage"]["charged"]["usd"] == "0.001500"
    assert len(document["daily"]) == 8
    assert UsageReport.from_dict(document).to_dict() == document


def test_principal_counts_those_below_it_alone(ledger: str) -> None:
    document = document_of(run("usage", "--ledger", ledger, "--principal", "team", "--json"))
    assert document["usage"]["charged"]["tokens"] == 1_500
    assert "usage of team" in run("usage", "--ledger", ledger, "--principal", "team").stdout


def test_groups_are_sorted_by_cost_and_what_has_no_name_is_said(ledger: str) -> None:
    lines = run("usage", "--ledger", ledger, "--by", "principal").stdout.splitlines()
    order = [line.split()[0] for line in lines if line.startswith(("alice", "ops", "(nobody)"))]
    assert order == ["alice", "ops", "(nobody)"]


def test_groups_of_several_things(ledger: str) -> None:
    shown = words(run("usage", "--ledger", ledger, "--by", "model", "--by", "name"))
    assert "model name calls" in shown
    assert "gpt think 2 0 $0.0015 2.0k" in shown


def test_limit_says_what_is_left_out_and_the_total_is_of_all(ledger: str) -> None:
    shown = words(run("usage", "--ledger", ledger, "--by", "principal", "--limit", "1"))
    assert "alice" in shown
    assert "ops" not in shown
    assert "and 2 rows more" in shown
    assert "total 5 2" in shown


def test_days_of_groups_come_in_their_order(ledger: str) -> None:
    result = run("usage", "--ledger", ledger, "--by", "principal", "--by", "day", "--csv")
    rows = rows_of(result.stdout)
    assert next((row["principal"], row["day"]) for row in rows) == ("alice", day(2))
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)


def test_hours_are_shown_without_a_gap(ledger: str) -> None:
    result = run("usage", "--ledger", ledger, "--by", "hour", "--since", "5h", "--csv")
    starts = [row["start"] for row in rows_of(result.stdout)]
    assert len(starts) in (5, 6)
    assert starts == sorted(starts)


def test_csv_is_rfc_4180_with_columns_that_stay(ledger: str) -> None:
    text = csv_of("--ledger", ledger, "--by", "principal")
    lines = text.split("\r\n")
    assert lines[0] == f"principal,{HEADER}"
    assert lines[-1] == ""
    assert "\n" not in text.replace("\r\n", "")
    alice = next(row for row in rows_of(text) if row["principal"] == "alice")
    assert (alice["charged_tokens"], alice["charged_usd"]) == ("1500", "0.001500")
    assert {row["principal"] for row in rows_of(text)} == {"alice", "ops", ""}


def test_csv_of_days_has_their_tasks(ledger: str) -> None:
    text = run("usage", "--ledger", ledger, "--csv").stdout
    assert text.startswith("start,end,sessions_started,sessions_completed,sessions_failed,calls")
    assert [row["sessions_started"] for row in rows_of(text)][-3:] == ["1", "0", "1"]


def test_own_dimensions_follow_in_csv(ledger: str) -> None:
    with service_at(ledger), task_budget("t", gpu_seconds=10, apples=10):
        charge(gpu_seconds=3, apples=2)
    text = csv_of("--ledger", ledger)
    header = text.split("\r\n")[0]
    assert header.endswith("charged_cpu_micros,charged_apples,charged_gpu_seconds")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_csv_holds_no_formula(ledger: str, name: str) -> None:
    with service_at(ledger), task_budget("t", calls=5), reserve(calls=1, kind="tool", model=name):
        pass
    rows = rows_of(run("usage", "--ledger", ledger, "--by", "model", "--csv").stdout)
    assert f"'{name}" in {row["model"] for row in rows}


@pytest.mark.parametrize("cell", ["\t=1", "\r=1", "\n=1"])
def test_blanks_hide_no_formula(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"


def test_numbers_are_no_formulas() -> None:
    assert safe_cell(-5) == -5


def test_markup_in_names_is_text(ledger: str) -> None:
    with service_at(ledger), task_budget("t", calls=5), reserve(calls=1, kind="tool", model="[b]x"):
        pass
    assert "[b]x" in run("usage", "--ledger", ledger, "--by", "model").stdout


def test_control_characters_never_reach_the_terminal() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    usage = UsageTotals(calls=1)
    report = UsageReport(
        "\x1b[1m",
        at,
        at + timedelta(days=1),
        buckets=(UsageBucket(at, at + timedelta(days=1), UsageTally(usage=usage)),),
        groups=(UsageGroup({"model": "\x1b[31mx\u202e"}, usage),),
    )
    out = Console(file=io.StringIO(), width=100)
    print_usage(out, report, UsageRows.of(report, ("model",)), None)
    assert isinstance(out.file, io.StringIO)
    assert "\\x1b[31mx\\u202e" in out.file.getvalue()
    assert all(line.isprintable() for line in out.file.getvalue().splitlines())


def test_nothing_used_says_what_to_do(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/empty.db"
    with connect(ledger=address):
        pass
    result = run("usage", "--ledger", address)
    assert result.exit_code == 0
    assert "nothing was used" in result.stdout
    assert "--since" in result.stdout


@pytest.mark.parametrize("options", [(), ("--json",), ("--csv",)])
def test_unknown_principal_is_refused(ledger: str, options: tuple[str, ...]) -> None:
    result = run("usage", "--ledger", ledger, "--principal", "nobody", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "unknown principal 'nobody'" in line


def test_principal_without_a_definition_is_known_by_its_events(ledger: str) -> None:
    with service_at(ledger), principal("guest"), task_budget("t", calls=5):
        charge(tokens=3)
    document = document_of(run("usage", "--ledger", ledger, "--principal", "guest", "--json"))
    assert document["usage"]["charged"]["tokens"] == 3


def test_principal_that_has_used_nothing_is_no_failure(ledger: str) -> None:
    with service_at(ledger) as service:
        service.define_principal("idle")
    result = run("usage", "--ledger", ledger, "--principal", "idle")
    assert result.exit_code == 0
    assert "nothing was used" in result.stdout


def test_counters_are_a_line_each(ledger: str) -> None:
    with service_at(ledger) as service:
        service.count("bundle_builds", requested=2)
    assert "bundle_builds: 2 requested" in run("usage", "--ledger", ledger).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "2026-02-02", "--until", "2026-02-01"), "is not after"),
        (("--since", "now"), "is not after"),
        (("--since", "yesterday"), "7d or 12h"),
        (("--since", "7"), "7d or 12h"),
        (("--since", "2026-13-01"), "7d or 12h"),
        (("--since", "2026-02-01T25:00:00Z"), "7d or 12h"),
        (("--since", "1960-01-01"), "that is too long ago"),
        (("--since", "100000d"), "that is too long ago"),
        (("--since", "25000d"), "that is too long ago"),
        (("--since", "0d"), "7d or 12h"),
        (("--until", "9999-12-31T23:59:59.999999Z"), "that is too far ahead"),
        (("--since", "9" * 5_000), "7d or 12h"),
        (("--since", "20y"), "7d or 12h"),
        (("--since", "1990-01-01", "--by", "hour"), "10,000"),
        (("--json", "--csv"), "contradicts"),
        (("--json", "--limit", "3"), "--limit"),
        (("--principal", "a b"), "is not valid"),
    ],
)
def test_misuse_exits_2_in_one_line(ledger: str, arguments: tuple[str, ...], said: str) -> None:
    result = run("usage", "--ledger", ledger, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("--by", "colour"), ("--limit", "0"), ("--limit", "x")])
def test_what_typer_checks_is_misuse_too(ledger: str, arguments: tuple[str, ...]) -> None:
    result = run("usage", "--ledger", ledger, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"budgetware: invalid value for '{arguments[0]}': ")
    assert line.endswith("(see budgetware usage --help)")


def test_window_may_be_given_as_rfc_3339(ledger: str) -> None:
    def asked(**given: Any) -> Any:
        options = [part for name, text in given.items() for part in (f"--{name}", text)]
        return document_of(run("usage", "--ledger", ledger, "--json", *options))

    document = asked(since="2026-01-02T00:00:00+01:00", until="2026-01-03T12:00:00Z")
    assert (document["since"], document["until"]) == (
        "2026-01-01T23:00:00Z",
        "2026-01-03T12:00:00Z",
    )
    assert asked(since="2026-01-02", until="2026-01-03 06:00")["until"] == "2026-01-03T06:00:00Z"
    assert asked(since="today")["since"] == f"{day(0)}T00:00:00Z"

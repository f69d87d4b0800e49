"""`budgetware check` as a user runs it: what it prints where, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from budgetware.cli.app import make_app
from budgetware.kernel import dims

VALID = """
ledger = "redis://:secret@cache:6379/0"
dimensions = ["gpu_seconds"]
[resources.calls]
limit = { type = "rate", value = 90_000, period = "minute", max = 100_000 }
max_wait = "30s"
parent = "all"
[resources.all]
limit = { type = "capacity", value = "0.25" }
dim = "usd"
enforcement = { type = "terminate", settle_seconds = 2.5 }
[resources.browsers]
limit = { type = "concurrency", value = 4 }
units = "[red]windows"
[resources.odd]
limit = { type = "rate", value = 5, period = 90 }
enforcement = "reject"
[budgets.research]
tokens = { limit = 50_000, warn = 40_000 }
calls = { limit = 5 }
usd = "0.25"
seconds = 120
policy = "reject"
warn_at = 0.8
carve = true
keep = { tokens = 2_000 }
[principals.team]
[principals.alice]
parent = "team"
exempt = false
quotas.tokens = { type = "rate", value = 1_000_000, period = "day" }
[principals.ops]
exempt = true
"""


@pytest.fixture(autouse=True)
def own_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dims, "_declared", {name: name for name in dims.BUILT_IN})


def check(*arguments: object) -> Result:
    command = ["check", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(make_app(), command, env={"COLUMNS": "160"})


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(VALID)
    return path


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


@pytest.mark.parametrize(
    "line",
    [
        "m.toml: all is right",
        "ledger: redis://***@cache:6379/0",
        "own dimensions: gpu_seconds",
        "all usd $0.25 in all terminate, settle_seconds 2.5 s",
        "calls units 90,000 / minute, 100,000 at once throttle, max_wait 30 s all",
        "browsers [red]windows 4 at once throttle",
        "odd units 5 / 90 s reject",
        (
            "research tokens 50,000 (warn 40,000), calls 5, usd $0.25, seconds 120 policy reject, "
            "warn_at 0.8, carve yes, keep 2,000 tokens"
        ),
        "alice tokens 1,000,000 / day, reject no team",
        "ops yes",
    ],
)
def test_manifest_is_shown_in_short(valid: Path, line: str) -> None:
    result = check(valid)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert line in words(result)


def test_manifest_with_nothing_in_it_has_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("")
    assert words(check(path)).endswith("m.toml: all is right ledger: memory://")


def test_manifest_in_the_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("budgetware.toml").write_text("strict = true")
    assert check().exit_code == 0


def test_problems_go_to_stderr_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("strict = 1\n[budgets.b]\ntokens = 0\n")
    result = check(path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:1: strict: 1 is not a boolean; give true or false, without quotes",
        (
            f"{path}:3: budgets.b.tokens: 0 is not above 0; "
            "give an int of 1 to 9007199254740991, such as 50_000"
        ),
        f"2 problems in {path}",
    ]


@pytest.mark.parametrize(("problems", "said"), [(1, "1 problem in"), (500, "more than 100 prob")])
def test_number_of_problems_is_said(tmp_path: Path, problems: int, said: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text("".join(f"x{number} = 1\n" for number in range(problems)))
    assert check(path).stderr.splitlines()[-1].startswith(said)


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('"\\u001b[31m" = 1\n[budgets.b]\ntokens = "\\u001b]0;x\\u0007"\n')
    result = check(path)
    assert all(line.isprintable() for line in result.stderr.splitlines())


def test_missing_file_is_misuse(tmp_path: Path) -> None:
    result = check(tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stderr == (
        f"budgetware: {tmp_path}/none.toml: cannot be read: No such file or directory; "
        "give the path of a manifest\n"
    )


def document_of(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_json_lists_problems(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("\nx = 1\n")
    result = check(path, "--json")
    assert result.exit_code == 1
    assert result.stderr == ""
    document = document_of(result)
    assert (document["ok"], document["file"]) == (False, str(path))
    assert [(found["line"], found["key"]) for found in document["problems"]] == [(2, "x")]


def test_json_of_a_missing_file_is_a_document_too(tmp_path: Path) -> None:
    result = check(tmp_path / "none.toml", "--json")
    assert result.exit_code == 2
    assert document_of(result)["problems"][0]["line"] is None


def test_json_shows_what_is_in_the_manifest(valid: Path) -> None:
    result = check(valid, "--json")
    document = document_of(result)
    assert result.exit_code == 0
    assert (document["ok"], document["problems"]) == (True, [])
    assert document["ledger"] == "redis://***@cache:6379/0"
    assert [found["name"] for found in document["resources"]] == ["all", "calls", "browsers", "odd"]
    assert document["resources"][0]["limit"] == {"type": "capacity", "value": "0.25"}
    assert document["resources"][0]["enforcement"] == {"type": "terminate", "settle_seconds": 2.5}
    assert document["budgets"]["research"]["limits"]["tokens"] == {"limit": 50_000, "warn": 40_000}
    assert document["budgets"]["research"]["options"]["keep"] == {"tokens": 2_000}
    assert document["principals"][1]["quotas"]["tokens"]["limit"]["type"] == "rate"

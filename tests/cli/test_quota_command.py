"""`budgetware quota` as a user runs it, on a real ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from budgetware import (
    BudgetExceeded,
    Capacity,
    Rate,
    Throttle,
    connect,
    principal,
    reserve_nowait,
)
from tests.cli.command_line import document_of, run, words


def quotas_of(address: str, who: str) -> dict[str, Any]:
    document = document_of(run("quota", "show", who, "--ledger", address, "--json"))
    found: dict[str, Any] = document["quotas"]
    return found


def test_show_has_every_quota_and_what_is_left(ledger: str) -> None:
    result = run("quota", "show", "alice", "--ledger", ledger)
    assert result.exit_code == 0
    assert "tokens 1.0M in all 1.5k 0 998.5k" in words(result)
    assert "memory 256.0 MiB in all 0 B 0 B 256.0 MiB" in words(result)
    assert "exempt: no" in result.stdout
    assert "at most 256.0 MiB" in result.stdout


def test_show_as_json_is_the_usage_of_the_contract(ledger: str) -> None:
    document = document_of(run("quota", "show", "alice", "--ledger", ledger, "--json"))
    assert document["principal"] == "alice"
    assert document["exempt"] is False
    assert document["memory_bytes_limit_per_instance"] == 256 * 2**20
    tokens = document["quotas"]["tokens"]
    assert (tokens["limit"], tokens["used"], tokens["remaining"]) == (1_000_000, 1_500, 998_500)


def test_exempt_is_said(ledger: str) -> None:
    assert "exempt: yes" in run("quota", "show", "ops", "--ledger", ledger).stdout
    assert "no quotas" in run("quota", "show", "ops", "--ledger", ledger).stdout


def test_unknown_principal_is_refused_with_what_to_do(ledger: str) -> None:
    result = run("quota", "show", "nobody", "--ledger", ledger)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "unknown principal 'nobody'" in line
    assert "budgetware quota set nobody" in line


def test_set_is_in_force_for_the_next_call(ledger: str) -> None:
    assert run("quota", "set", "alice", "calls", "1", "--ledger", ledger).exit_code == 0
    with connect(ledger=ledger), principal("alice"):
        reserve_nowait(calls=1).commit()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(calls=1)


def test_set_keeps_what_is_not_named(ledger: str) -> None:
    run("quota", "set", "alice", "usd=5/day", "calls=10", "--ledger", ledger)
    assert sorted(quotas_of(ledger, "alice")) == ["calls", "memory", "tokens", "usd"]
    with connect(ledger=ledger) as service:
        view = service.principal("alice")
        assert view is not None
        assert view.parent == "team"
        assert view.quotas["usd"] == Rate(5, "day")


def test_set_prints_what_is_so_now(ledger: str) -> None:
    result = run("quota", "set", "alice", "tokens=2M", "--ledger", ledger)
    assert "tokens 2.0M in all 1.5k" in words(result)
    document = document_of(run("quota", "set", "alice", "calls=3", "--json", "--ledger", ledger))
    assert document["quotas"]["calls"]["limit"] == 3


def test_set_makes_a_new_principal(ledger: str) -> None:
    result = run("quota", "set", "bob", "tokens=1M", "--parent", "team", "--ledger", ledger)
    assert result.exit_code == 0
    with connect(ledger=ledger) as service:
        view = service.principal("bob")
        assert view is not None
        assert (view.parent, view.quotas) == ("team", {"tokens": Capacity(1_000_000)})


def test_remove_lifts_a_quota(ledger: str) -> None:
    result = run("quota", "set", "alice", "--remove", "memory", "--ledger", ledger)
    assert result.exit_code == 0
    assert sorted(quotas_of(ledger, "alice")) == ["tokens"]


def test_remove_of_what_is_not_there_changes_nothing(ledger: str) -> None:
    result = run("quota", "set", "alice", "calls=3", "--remove", "usd", "--ledger", ledger)
    assert result.exit_code == 1
    assert "no quota of usd to remove" in result.stderr
    assert "calls" not in quotas_of(ledger, "alice")


@pytest.mark.parametrize(
    ("flag", "exempt"), [("--exempt", True), ("--no-exempt", False), ("--inherit-exempt", None)]
)
def test_exemption_is_set_and_inherited(ledger: str, flag: str, exempt: bool | None) -> None:
    run("quota", "set", "alice", "--exempt", "--ledger", ledger)
    assert run("quota", "set", "alice", flag, "--ledger", ledger).exit_code == 0
    with connect(ledger=ledger) as service:
        view = service.principal("alice")
        assert view is not None
        assert view.definition.exempt is exempt
        assert "tokens" in view.quotas


def test_enforcement_is_set_and_stays(ledger: str) -> None:
    run("quota", "set", "alice", "calls=5/hour", "--enforcement", "throttle", "--ledger", ledger)
    run("quota", "set", "alice", "calls=9/hour", "--ledger", ledger)
    with connect(ledger=ledger) as service:
        view = service.principal("alice")
        assert view is not None
        calls = view.definition.quotas["calls"]
        assert (calls.policy, calls.limit) == (Throttle(), Rate(9, "hour"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to set"),
        (("tokens",), "'tokens' has no limit"),
        (("tokens=0",), "a limit is positive"),
        (("memory=0",), "a limit is positive"),
        (("tokens=0/day",), "a limit is positive"),
        (("memory=1/day",), "memory is a level"),
        (("tokens=many",), "is no count"),
        (("tokens=1M/fortnight",), "second, minute, hour"),
        (("tokens=1M/",), "VALUE/PERIOD"),
        (("memory=64M",), "64MiB or 10GB"),
        (("usd=nan",), "is no amount of dollars"),
        (("usd=4 slots",), "dollars are no slots"),
        (("token=5",), "did you mean 'tokens'"),
        (("seconds=5",), "wall clock"),
        (("tokens=5", "tokens=6"), "tokens has two limits"),
        (("tokens=5", "--remove", "tokens"), "both set and removed"),
        (("--exempt", "--inherit-exempt"), "contradicts"),
        (("tokens=5", "--parent", "no spaces"), "is not valid"),
        (("--exempt", "--enforcement", "reject"), "of the limits given with it"),
        (("tokens=" + "9" * 5_000,), "limit"),
    ],
)
def test_misuse_exits_2_and_changes_nothing(
    ledger: str, arguments: tuple[str, ...], said: str
) -> None:
    before = quotas_of(ledger, "alice")
    result = run("quota", "set", "alice", *arguments, "--ledger", ledger)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert quotas_of(ledger, "alice") == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tokens=5/day",), "cannot change"),
        (("--parent", "ops"), "its parent cannot change"),
    ],
)
def test_what_cannot_change_is_refused(ledger: str, arguments: tuple[str, ...], said: str) -> None:
    result = run("quota", "set", "alice", *arguments, "--ledger", ledger)
    assert result.exit_code == 1
    assert said in result.stderr


def test_bad_name_is_misuse(ledger: str) -> None:
    result = run("quota", "show", "a/b\x1b[31m", "--ledger", ledger)
    assert result.exit_code == 2
    assert result.stderr.rstrip("\n").isprintable()


def test_a_new_dimension_is_noted_once(ledger: str) -> None:
    first = run("quota", "set", "alice", "foo=3", "--ledger", ledger)
    assert first.exit_code == 0
    (line,) = first.stderr.splitlines()
    assert line.startswith("budgetware: note: foo is a new dimension")
    assert run("quota", "set", "ops", "foo=4", "--ledger", ledger).stderr == ""


@pytest.mark.parametrize("arguments", [("foo=3", "--json"), ("calls=3",), ("cpu=10s",)])
def test_programs_and_built_in_dimensions_get_no_note(
    ledger: str, arguments: tuple[str, ...]
) -> None:
    result = run("quota", "set", "alice", *arguments, "--ledger", ledger)
    assert (result.exit_code, result.stderr) == (0, "")


MANIFEST = """
ledger = "sqlite:///{folder}/budgetware.db"
[principals.alice.quotas]
tokens = {{ type = "capacity", value = 5_000 }}
[principals.carol.quotas]
tokens = {{ type = "capacity", value = 7_000 }}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(MANIFEST.format(folder=tmp_path))
    return path


def test_manifest_changes_nothing_that_is_in_force(ledger: str, manifest: Path) -> None:
    shown = document_of(run("quota", "show", "alice", "--manifest", manifest, "--json"))
    assert shown["quotas"]["tokens"]["limit"] == 1_000_000
    assert quotas_of(ledger, "alice")["tokens"]["limit"] == 1_000_000


def test_what_only_the_manifest_has_is_shown_and_not_put_into_the_ledger(
    ledger: str, manifest: Path
) -> None:
    shown = document_of(run("quota", "show", "carol", "--manifest", manifest, "--json"))
    assert shown["quotas"]["tokens"]["limit"] == 7_000
    assert run("quota", "show", "carol", "--ledger", ledger).exit_code == 1


def test_a_ledger_that_is_not_there_yet_is_shown_as_it_will_be(
    tmp_path: Path, manifest: Path
) -> None:
    result = run("quota", "show", "alice", "--manifest", manifest)
    assert result.exit_code == 0
    assert "tokens 5.0k in all 0 0 5.0k" in words(result)
    assert "note: there is no sqlite:///" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.toml"]


def test_what_is_set_stays_when_a_program_starts_with_the_manifest(
    tmp_path: Path, manifest: Path
) -> None:
    assert run("quota", "set", "alice", "tokens=9k", "--manifest", manifest).exit_code == 0
    with connect(manifest) as service:
        view = service.principal("alice")
        assert view is not None
        assert view.quotas == {"tokens": Capacity(9_000)}

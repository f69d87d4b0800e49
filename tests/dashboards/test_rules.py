"""Alerts: promtool's own tests pass, and what the agents did sets off each of them."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from tests.dashboards.boards import SHIPPED, selectors
from tests.dashboards.conftest import Observed
from tests.dashboards.prometheus_server import binary

ALERTS = {
    "BudgetwareBudgetNearlyUsed": "debtor has used 130% of its tokens",
    "BudgetwareOverdraft": "debtor was charged 60 tokens beyond its limit",
    "BudgetwareRefusals": "stubborn refused 24 calls for want of calls",
    "BudgetwareThrottling": r"calls wait up to [\d.]+s for model",
    "BudgetwareTerminated": "runaway ended a task 2 times",
}


def rules(observed: Observed) -> list[dict[str, Any]]:
    return [rule for group in observed.prometheus.groups() for rule in group["rules"]]


@pytest.mark.parametrize(
    "command",
    ["check config prometheus.yml", "check rules rules.yml", "test rules rules_test.yml"],
)
def test_promtool_is_content(command: str) -> None:
    tool = [binary("promtool"), *command.split()]
    result = subprocess.run(tool, cwd=SHIPPED, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested_by_promtool() -> None:
    tests = (SHIPPED / "rules_test.yml").read_text(encoding="utf-8")
    for name in ALERTS:
        assert tests.count(f"alertname: {name}\n        exp_alerts: []") >= 1
        assert tests.count(f"alertname: {name}\n        exp_alerts:\n") >= 1


def test_rules_evaluate_without_errors(observed: Observed) -> None:
    found = rules(observed)
    assert {rule["name"] for rule in found if rule["type"] == "alerting"} == ALERTS.keys()
    assert [rule for rule in found if rule["health"] != "ok"] == []


def test_series_that_rules_read_are_there(observed: Observed) -> None:
    read = {one for rule in rules(observed) for one in selectors(rule["query"])}
    missing = [one for one in sorted(read) if not observed.prometheus.query(one, observed.at)]
    assert len(read) >= 10
    assert missing == []


def test_recordings_have_something_to_say(observed: Observed) -> None:
    recorded = [rule["name"] for rule in rules(observed) if rule["type"] == "recording"]
    silent = [name for name in recorded if not observed.prometheus.query(name, observed.at)]
    assert (len(recorded), silent) == (4, [])


@pytest.mark.parametrize(("name", "summary"), ALERTS.items(), ids=ALERTS)
def test_what_agents_did_sets_off_the_alert(observed: Observed, name: str, summary: str) -> None:
    (rule,) = [rule for rule in rules(observed) if rule["name"] == name]
    said = [alert["annotations"] for alert in rule["alerts"]]
    assert any(re.fullmatch(summary, one["summary"]) for one in said)
    assert all(one["description"].startswith("In job agents") for one in said)
    assert "error expanding" not in str(said)
    assert "<no value>" not in str(said)

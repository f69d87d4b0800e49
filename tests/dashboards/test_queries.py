"""Every query of every dashboard finds something in a real Prometheus, and what the ledger says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import (
    ALL,
    FILES,
    LABEL_VALUES,
    Query,
    queries,
    substituted,
    variables,
)
from tests.dashboards.conftest import Observed

QUERIES = queries()
BY_NAME = {str(query): query for query in QUERIES}
BUDGETS = {"fleet", "research", "stubborn", "runaway", "debtor"}
RESOURCES = {"org", "month", "model", "browsers", "principals"}
OFFERED = {
    ("agents", "job"): {"agents"},
    ("agents", "budget"): BUDGETS | {"model", "browsers"},
    ("agents", "dim"): {"tokens", "calls", "bytes", "usd_micros", "units"},
    ("agents", "operation"): {"chat", "execute_tool", "reserve"},
    ("quotas", "job"): {"agents"},
    ("quotas", "budget"): {"fleet", "debtor"} | RESOURCES,
    ("quotas", "dim"): {"tokens", "calls", "bytes", "usd_micros", "units"},
    ("costs", "job"): {"agents"},
    ("costs", "budget"): {"research", "debtor"},
    ("costs", "operation"): {"chat", "reserve"},
}
VARIABLES = [(path, one) for path in FILES for one in variables(path)]


def ask(observed: Observed, name: str) -> float:
    """The one number of a query of a panel."""
    return observed.prometheus.value(BY_NAME[name].expression(), observed.at)


def of_budget(observed: Observed, name: str, **labels: str) -> float:
    """The number of the series that has these labels."""
    found = observed.prometheus.query(BY_NAME[name].expression(), observed.at)
    (value,) = [one.value for one in found if labels.items() <= one.labels.items()]
    return value


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_query_shows_something(observed: Observed, query: Query) -> None:
    found = observed.prometheus.query(query.expression(), observed.at)
    assert [one for one in found if one.tells]


@pytest.mark.parametrize("query", [q for q in QUERIES if q.legend_labels], ids=str)
def test_legend_tells_series_apart_by_labels_that_they_have(
    observed: Observed, query: Query
) -> None:
    found = observed.prometheus.query(query.expression(), observed.at)
    legends = [query.legend(one.labels) for one in found]
    assert len(set(legends)) == len(legends)
    assert query.legend_labels <= {label for one in found for label in one.labels}


@pytest.mark.parametrize("query", [q for q in QUERIES if "$budget" in q.target["expr"]], ids=str)
def test_a_chosen_budget_hides_the_others(observed: Observed, query: Query) -> None:
    chosen = query.expression(budget="(research|month)")
    found = observed.prometheus.query(chosen, observed.at)
    names = {one.labels.get("budgetware_budget_name", "research") for one in found}
    assert names <= {"research", "month"}


@pytest.mark.parametrize(
    ("path", "variable"), VARIABLES, ids=[f"{path.stem}-{one['name']}" for path, one in VARIABLES]
)
def test_variable_offers_what_there_is(
    observed: Observed, path: Path, variable: dict[str, Any]
) -> None:
    match = LABEL_VALUES.fullmatch(variable["query"]["query"])
    assert match is not None
    found = observed.prometheus.label_values(substituted(match[1], ALL), match[2])
    there = OFFERED[path.stem, variable["name"]]
    assert there <= set(found) <= there | BUDGETS  # a task that has ended may have been seen


# Numbers: what the ledger says.


def test_cost_is_what_the_outermost_task_has_spent(observed: Observed) -> None:
    spent = float(observed.ledger["fleet"]["usd"]["spent"])
    assert spent == pytest.approx(0.0588)
    assert ask(observed, "costs-Cost-A") == pytest.approx(spent)
    assert ask(observed, "costs-Given back-A") == pytest.approx(2 * 0.003)


def test_accumulated_cost_adds_up_over_the_budgets(observed: Observed) -> None:
    expression = f"sum({BY_NAME['costs-Accumulated cost, by budget-A'].expression()})"
    spent = float(observed.ledger["fleet"]["usd"]["spent"])
    assert observed.prometheus.value(expression, observed.at) == pytest.approx(spent)


@pytest.mark.parametrize(("ref", "dim"), [("A", "tokens"), ("B", "calls"), ("C", "usd")])
def test_totals_are_net_of_corrections(observed: Observed, ref: str, dim: str) -> None:
    total = f"sum({BY_NAME[f'agents-Totals, by budget-{ref}'].expression()})"
    spent = float(observed.ledger["fleet"][dim]["spent"])
    assert observed.prometheus.value(total, observed.at) == pytest.approx(spent)


def test_tokens_per_dollar(observed: Observed) -> None:
    fleet = observed.ledger["fleet"]
    per_dollar = fleet["tokens"]["spent"] / float(fleet["usd"]["spent"])
    assert ask(observed, "costs-Tokens per dollar-A") == pytest.approx(per_dollar)


@pytest.mark.parametrize("payer", ["org", "fleet"])
def test_limits_are_those_of_the_snapshot(observed: Observed, payer: str) -> None:
    balance = observed.ledger[payer]["tokens"]
    where = {"budgetware_budget_name": payer, "budgetware_dim": "tokens"}
    shown = [of_budget(observed, f"quotas-Limits-{ref}", **where) for ref in "ABCD"]
    spent, reserved, limit = balance["spent"], balance["reserved"], balance["limit"]
    assert reserved == 300
    assert shown == [spent, reserved, limit, pytest.approx((spent + reserved) / limit)]


def test_limits_of_money_are_in_dollars(observed: Observed) -> None:
    balance = {key: float(n or 0) for key, n in observed.ledger["month"]["usd"].items()}
    where = {"budgetware_budget_name": "month", "budgetware_dim": "usd_micros"}
    shown = [of_budget(observed, f"quotas-Limits of money-{ref}", **where) for ref in "ABC"]
    assert balance["reserved"] == 0.01
    assert shown == pytest.approx([balance["spent"], balance["reserved"], balance["limit"]])


def test_the_quotas_of_principals_are_one_sum(observed: Observed) -> None:
    where = {"budgetware_budget_name": "principals", "budgetware_dim": "tokens"}
    spent = observed.ledger["alice"]["tokens"]["spent"]
    assert of_budget(observed, "quotas-Limits-A", **where) == spent


def test_active_tasks_are_those_that_are_open(observed: Observed) -> None:
    assert ask(observed, "agents-Active tasks-A") == 3  # the fleet, and a debtor of each round


def test_refusals_and_ends_are_counted_from_the_first(observed: Observed) -> None:
    assert ask(observed, "quotas-Refusals-A") == 2 * (12 + 1)
    assert ask(observed, "quotas-Terminated-A") == 2


def test_debts_are_counted(observed: Observed) -> None:
    assert ask(observed, "quotas-In debt-A") == 2
    assert ask(observed, "quotas-Fullest-A") == 2
    owed = of_budget(observed, "quotas-Overdraft-A", budgetware_budget_name="debtor")
    assert owed == 2 * 30
    assert of_budget(observed, "quotas-Overdraft-B") == pytest.approx(2 * 0.001)


def test_a_wait_of_two_seconds_is_seen(observed: Observed) -> None:
    name = "agents-Wait for admission, p95 by whom-A"
    assert of_budget(observed, name, budgetware_budget_name="model") > 1
    assert of_budget(observed, name, budgetware_budget_name="browsers") > 0


def test_decisions_have_the_rates_of_a_round(observed: Observed) -> None:
    name = "agents-Calls per second, by decision-A"
    found = observed.prometheus.query(observed.of_last_round(BY_NAME[name]), observed.at)
    by_decision = {one.labels["budgetware_decision"]: one.value for one in found}
    ended = by_decision["terminated"]
    assert {how: round(n / ended) for how, n in by_decision.items()} == {
        "admitted": 12,
        "throttled": 4,
        "rejected": 12,
        "terminated": 1,
    }

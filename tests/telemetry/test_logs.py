"""Log records: each kind at most once per budget and second."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from budgetware import BudgetExceeded, BudgetTerminated, QuotaService, budgeted, connect
from budgetware.telemetry.logs import Logs
from tests.telemetry.virtual import VirtualClock


@budgeted(calls=2)
def search() -> None:
    return None


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def service(clock: VirtualClock) -> Iterator[QuotaService]:
    with connect(clock=clock) as opened:
        yield opened


def refuse() -> None:
    with pytest.raises(BudgetExceeded):
        search()


def test_a_refusal_is_logged_with_its_attributes(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    with service.task_budget("research", calls=1, principal="alice") as budget:
        refuse()
    (record,) = caplog.records
    assert record.name == "budgetware"
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("budgetware.rejected: ")
    shown = {k: v for k, v in vars(record).items() if "." in k}
    assert shown == {
        "budgetware.budget.id": budget.id,
        "budgetware.budget.path": "research",
        "budgetware.principal": "alice",
        "budgetware.decision": "rejected",
        "budgetware.policy": "reject",
        "budgetware.denied.budget": "research",
        "budgetware.denied.dim": "calls",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
    }


def test_refusals_are_logged_once_per_budget_and_second(
    service: QuotaService, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with service.task_budget("research", calls=1):
        refuse()
        refuse()
        clock.advance(0.9)
        refuse()
        clock.advance(0.1)
        refuse()
    assert len(caplog.records) == 2


def test_each_budget_has_its_own_limit(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with service.task_budget("research", calls=1):
            refuse()
            refuse()
    assert len(caplog.records) == 2


def test_a_termination_is_an_error_logged_once(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    task = service.task_budget("research", calls=1, policy="terminate")
    with pytest.raises(BudgetTerminated), task:
        search()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("budgetware.terminated: ")


def test_an_end_without_a_refusal_is_logged_too(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BudgetTerminated), service.task_budget("research", calls=1) as budget:
        budget.terminate("enough")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "enough" in record.getMessage()


def test_nothing_is_printed_unless_logging_is_configured() -> None:
    handlers = logging.getLogger("budgetware").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


def test_what_is_remembered_of_budgets_is_bounded(
    service: QuotaService, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1_100):
        with service.task_budget("research", calls=1):
            refuse()
        clock.advance(0.01)
    (logs,) = [v for v in vars(service.runtime.telemetry).values() if isinstance(v, Logs)]
    (remembered,) = vars(logs).values()
    assert len(caplog.records) == 1_100
    assert len(remembered) < 1_024

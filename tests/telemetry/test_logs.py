"""Log records: each kind at most once per budget and second."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaService,
    Rate,
    Resource,
    budgeted,
    connect,
    reserve,
    reserve_nowait,
)
from budgetware.telemetry import logs
from budgetware.telemetry.logs import Logs
from budgetware.testing import LoopClock, run_virtual
from tests.telemetry.queueing import Ask, behind, slot
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


# Waits.


def wait_for(*wanted: Ask, backend: str = "asyncio") -> str:
    """Have calls wait for a browser, each two seconds; returns the id of their task."""

    async def main() -> str:
        with connect(clock=LoopClock()) as made:
            made.define(Resource("browsers", Concurrency(1)))
            async with made.task_budget("research", calls=50, principal="alice") as budget:
                for one in wanted:
                    await behind("browsers", 2.0, one)
            return budget.id

    return run_virtual(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_wait_is_logged_with_its_attributes(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "budgetware"):
        budget_id = wait_for(slot(), backend=backend)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == ("budgetware.throttled: waited 2.000 s for resource 'browsers'")
    assert {k: v for k, v in vars(record).items() if "." in k} == {
        "budgetware.budget.id": budget_id,
        "budgetware.budget.path": "research",
        "budgetware.principal": "alice",
        "budgetware.decision": "throttled",
        "budgetware.policy": "throttle",
        "budgetware.wait.duration": 2.0,
        "budgetware.denied.budget": "browsers",
        "budgetware.denied.dim": "browsers",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "use",
    }


def test_waits_are_logged_once_per_resource_and_second(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with connect(clock=LoopClock()) as made:
            for name in ("browsers", "gpus"):
                made.define(Resource(name, Concurrency(1)))
            async with made.task_budget("research", calls=50):
                for _ in range(5):
                    await behind("browsers", 0.25, slot())
                    await behind("gpus", 0.25, lambda: reserve("gpus"))

    with caplog.at_level(logging.INFO, "budgetware"):
        run_virtual(main)
    names = [vars(record)["budgetware.denied.budget"] for record in caplog.records]
    assert sorted(names) == ["browsers"] * 3 + ["gpus"] * 3


def test_waits_are_not_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    wait_for(slot())
    assert caplog.records == []


def test_a_wait_in_vain_is_logged_as_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "budgetware"):
        wait_for(slot(max_wait=1))
    (record,) = caplog.records
    assert record.getMessage().startswith("budgetware.rejected: ")
    shown = vars(record)
    assert shown["budgetware.denied.budget"] == "browsers"
    assert shown["budgetware.wait.duration"] == 1.0
    assert shown["budgetware.policy"] == "throttle"


def test_a_refusal_by_a_rate_says_when_to_come_again(
    service: QuotaService, caplog: pytest.LogCaptureFixture
) -> None:
    service.define(Resource("api", Rate(60, "minute"), "reject", dim="calls"))
    reserve_nowait("api", 60).commit()
    with pytest.raises(BudgetExceeded):
        reserve_nowait("api", 15)
    (record,) = caplog.records
    assert vars(record)["budgetware.denied.budget"] == "api"
    assert vars(record)["budgetware.retry_after"] == 15.0


class Broken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("broken filter")


def test_a_filter_that_raises_changes_nothing(
    service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_failures", set[str]())
    broken = Broken()
    logs.logger.addFilter(broken)
    try:
        with service.task_budget("research", calls=1):
            refuse()
    finally:
        logs.logger.removeFilter(broken)

"""`task_budget("name")` from `[budgets.name]`, and keywords over it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    connect,
    current_budget,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount, UnknownPrice
from budgetware.testing import VirtualClock

MANIFEST = """
dimensions = ["gpu_seconds"]
[budgets.research]
tokens = { limit = 50_000, warn = 40_000 }
usd = "0.25"
seconds = 120
policy = "terminate"
[budgets.careful]
tokens = 100
keep = { tokens = 20 }
unpriced = "allow"
usd = 1
warn_at = 0.5
[budgets.part]
tokens = 60
gpu_seconds = 7
carve = true
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "budgetware.toml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def service(manifest: Path, clock: VirtualClock) -> Iterator[QuotaService]:
    with connect(manifest, clock=clock) as connected:
        yield connected


def limits_of(name: str, **options: Any) -> dict[str, Any]:
    with task_budget(name, **options) as budget:
        shown = {dim: balance.limit for dim, balance in budget.snapshot().dims.items()}
        return {dim: limit for dim, limit in shown.items() if limit is not None}


def late(clock: VirtualClock) -> None:
    clock.advance(121)
    reserve_nowait(tokens=1)


def test_a_name_stands_for_its_template(service: QuotaService) -> None:
    with task_budget("research") as budget:
        assert budget.name == "research"
        assert budget.snapshot()["tokens"].warn == 40_000
    assert limits_of("research") == {"tokens": 50_000, "usd": Decimal("0.25"), "millis": 120_000}


def test_keywords_override_key_by_key(service: QuotaService) -> None:
    limits = limits_of("research", tokens=10, calls=3, seconds="5m")
    assert limits == {
        "tokens": 10,
        "usd": Decimal("0.25"),
        "millis": 300_000,
        "calls": 3,
    }
    with task_budget("research", tokens=10) as budget:
        assert budget.snapshot()["tokens"].warn is None
    assert limits_of("research", millis=7)["millis"] == 7


def test_its_policy_is_in_force_and_may_be_overridden(service: QuotaService) -> None:
    with pytest.raises(BudgetTerminated), task_budget("research"):
        reserve_nowait(tokens=50_001)
    with task_budget("research", policy="reject"), pytest.raises(BudgetExceeded):
        reserve_nowait(tokens=50_001)


def test_its_deadline_is_in_force(service: QuotaService, clock: VirtualClock) -> None:
    with pytest.raises(BudgetTerminated, match="deadline"), task_budget("research"):
        late(clock)


def test_its_keep_may_be_overridden_alone(service: QuotaService) -> None:
    with task_budget("careful") as budget:
        assert budget.remaining("tokens") == 80
    with task_budget("careful", keep={"tokens": 50}) as budget:
        assert budget.remaining("tokens") == 50
    with task_budget("careful", calls=5, keep={"tokens": 50}) as budget:
        assert (budget.remaining("tokens"), budget.remaining("calls")) == (50, 5)


def test_its_shares_and_allowed_models(service: QuotaService) -> None:
    with task_budget("careful") as budget:
        assert budget.snapshot()["tokens"].warn == 50
        reserve_nowait(tokens=1, model="no-such-model").commit()
    with task_budget("careful", warn_at=0.9) as budget:
        assert budget.snapshot()["tokens"].warn == 90
    with task_budget("research"), pytest.raises(UnknownPrice):
        reserve_nowait(tokens=1, model="no-such-model")


def test_a_template_may_be_carved(service: QuotaService) -> None:
    with task_budget(tokens=100, gpu_seconds=9) as outer:
        with task_budget("part"):
            assert outer.remaining("tokens") == 40
            reserve_nowait(tokens=1).commit()
            with pytest.raises(BudgetExceeded), task_budget("part"):
                pytest.fail("must not run")
        assert outer.remaining("tokens") == 99


def test_the_service_makes_them_too(service: QuotaService) -> None:
    with connect() as second:
        with pytest.raises(ConfigurationError, match="careful"), second.task_budget("careful"):
            pytest.fail("must not run")
        with service.task_budget("careful") as budget:
            assert budget.remaining("tokens") == 80
        with task_budget("careful", service=service) as budget:
            assert budget.remaining("tokens") == 80


def test_a_name_without_a_template_and_without_limits_is_refused(service: QuotaService) -> None:
    task = task_budget("reserach")
    with pytest.raises(ConfigurationError, match=r"no limit.*\[budgets\.reserach\]"), task:
        pytest.fail("must not run")
    assert current_budget() is None
    assert limits_of("other", calls=5) == {"calls": 5}


def test_keep_without_a_limit_is_refused_where_no_template_has_one(service: QuotaService) -> None:
    with pytest.raises(ConfigurationError, match="keeps 'tokens' without a limit"):
        limits_of("other", calls=5, keep={"tokens": 5})
    with pytest.raises(InvalidAmount, match="'calls' has no limit"):
        limits_of("careful", keep={"calls": 5})
    with pytest.raises(InvalidAmount, match="must be below"):
        limits_of("careful", keep={"tokens": 100})


async def test_a_decorator_made_before_connect(manifest: Path) -> None:
    @task_budget("careful")
    async def work() -> Any:
        budget = current_budget()
        assert budget is not None
        return budget.name, budget.remaining("tokens")

    with pytest.raises(ConfigurationError, match="connect a manifest"):
        await work()
    async with connect(manifest):
        assert await work() == ("careful", 80)
    with pytest.raises(ConfigurationError, match="connect a manifest"):
        await work()


def test_a_decorator_follows_the_service_of_its_call(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[budgets.careful]\ntokens = 7\n")

    @task_budget("careful")
    def work() -> Any:
        budget = current_budget()
        assert budget is not None
        return budget.remaining("tokens")

    with connect(manifest), connect(other) as second:
        assert work() == 7
        second.close()
        assert work() == 80


def test_a_task_object_is_filled_when_it_is_entered(manifest: Path) -> None:
    task = task_budget("careful")
    with connect(manifest), task as budget:
        assert budget.remaining("tokens") == 80


def test_a_decorated_stream_is_a_task_of_its_template(service: QuotaService) -> None:
    @task_budget("careful")
    def stream() -> Iterator[Any]:
        for _ in range(3):
            budget = current_budget()
            assert budget is not None
            yield budget.remaining("tokens")
            reserve_nowait(tokens=10).commit()

    assert list(stream()) == [80, 70, 60]

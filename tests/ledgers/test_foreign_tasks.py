"""Shared tasks are seen, topped up and ended from processes in which they do not run."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from budgetware import BudgetExceeded, QuotaService, TaskBudget, reserve_nowait
from budgetware.errors import BudgetTerminated, InvalidAmount, NoBudget
from budgetware.foreign_tasks import ForeignTask
from tests.ledgers.places import Place, soon


@pytest.fixture
def other(place: Place) -> Generator[QuotaService]:
    with place.connect() as service:
        yield service


def foreign(service: QuotaService) -> ForeignTask:
    soon(lambda: service.task("shared:job") is not None)
    found = service.task("shared:job")
    assert isinstance(found, ForeignTask)
    return found


def end(other: QuotaService, task: TaskBudget) -> None:
    """Terminate it, as another process would, and wait until it hears of that."""
    foreign(other).terminate("enough\x00 of it")
    soon(lambda: task.verdict.is_exhausted)


def end_and_top_up(other: QuotaService, task: TaskBudget) -> None:
    found = foreign(other)
    end(other, task)
    with pytest.raises(NoBudget):
        found.top_up(tokens=5)


def seen(service: QuotaService) -> dict[str, int]:
    """What is left of the tokens of each task that the service shows."""
    return {view.id: int(view.snapshot["tokens"].remaining or 0) for view in service.tasks()}


def test_it_is_shown_as_long_as_somebody_is_in_it(place: Place, other: QuotaService) -> None:
    with place.connect() as service:
        with service.task_budget("job", tokens=50, shared=True):
            reserve_nowait(tokens=20).commit()
            service.flush()
            soon(lambda: list(seen(other)) == ["shared:job"])
            assert len(service.tasks()) == 1
            [view] = other.tasks()
            assert view.to_dict()["is_shared"] is True
            assert view.snapshot["tokens"].spent == 20
        soon(lambda: seen(other) == {})
        assert other.task("shared:job") is None


def test_it_is_topped_up_from_elsewhere(place: Place, other: QuotaService) -> None:
    with place.connect() as service, service.task_budget("job", tokens=50, shared=True):
        reserve_nowait(tokens=50).commit()
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=1)
        foreign(other).top_up(tokens=30)

        def is_enough() -> bool:
            try:
                reserve_nowait(tokens=30).commit()
            except BudgetExceeded:
                return False
            return True

        soon(is_enough)


def test_it_is_ended_from_elsewhere(place: Place, other: QuotaService) -> None:
    with place.connect() as service:
        task = service.task_budget("job", tokens=50, shared=True)
        with pytest.raises(BudgetTerminated, match="enough of it"), task:
            end(other, task)


@pytest.mark.parametrize("wrong", [{"calls": 1}, {"tokens": 0}, {"tokens": -1}, {"seconds": 5}])
def test_a_wrong_top_up_changes_nothing(
    place: Place, other: QuotaService, wrong: dict[str, int]
) -> None:
    with place.connect() as service, service.task_budget("job", tokens=50, shared=True):
        with pytest.raises(InvalidAmount):
            foreign(other).top_up(**{"tokens": 5, **wrong})
        assert place.state("t/job/tokens").terms.value == 50


def test_one_that_was_terminated_is_not_topped_up(place: Place, other: QuotaService) -> None:
    with place.connect() as service:
        task = service.task_budget("job", tokens=50, shared=True)
        with pytest.raises(BudgetTerminated), task:
            end_and_top_up(other, task)
    assert place.state("t/job/tokens").terms.value == 50

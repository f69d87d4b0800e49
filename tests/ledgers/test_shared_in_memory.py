"""Shared tasks of a service without a ledger: in this process they are the same."""

from __future__ import annotations

import threading

import anyio
import pytest

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Resource,
    connect,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware.quotas import Capacity


def spend(name: str) -> int:
    """Spend all that is left."""
    calls = 0
    with task_budget(name, shared=True, calls=10):
        try:
            while True:
                reserve_nowait(calls=1).commit()
                calls += 1
        except BudgetExceeded:
            return calls


def test_blocks_of_one_name_pay_from_the_same_limits() -> None:
    with connect():
        assert [spend("job"), spend("job"), spend("other")] == [10, 0, 10]


def test_nothing_of_them_is_left_when_the_service_closes() -> None:
    with connect():
        spend("job")
    assert "budgetware-ledger" not in {thread.name for thread in threading.enumerate()}


async def test_one_that_is_terminated_ends_the_others() -> None:
    async def sleep() -> None:
        with pytest.raises(BudgetTerminated):
            async with task_budget("job", shared=True, calls=10):
                await anyio.sleep_forever()

    async with connect(), anyio.create_task_group() as group:
        group.start_soon(sleep)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BudgetTerminated):
            async with task_budget("job", shared=True, calls=10) as job:
                job.terminate("because")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes no more"):
        connect(ledger="memory://elsewhere")
    with pytest.raises(ConfigurationError, match="record_usage"):
        connect(record_usage="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidAmount, match="max_lease=0"):
        Resource("pages", Capacity(1), max_lease=0)

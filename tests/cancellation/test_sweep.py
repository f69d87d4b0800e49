# ruff: noqa: PT012 - what raises is an owner's block, and its body is the test
"""I14: cancelled at any await point, nothing stays reserved, and what was started is paid."""

import asyncio

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import BudgetTerminated, TaskBudget, task_budget
from tests.cancellation.scenarios import SCENARIOS, bare_reservation, reserve_block
from tests.cancellation.sweep import (
    Cancel,
    Cost,
    Scenario,
    by_scope,
    by_scope_twice,
    natively,
    natively_twice,
    sweep,
)

scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)


@scenarios
@pytest.mark.parametrize("cancel", [by_scope, by_scope_twice], ids=lambda c: c.__name__)
async def test_cancelled_by_a_scope_at_every_await_point(
    scenario: Scenario, cancel: Cancel
) -> None:
    found = await sweep(scenario, cancel)
    assert [point for point in found if not point.is_right] == []
    assert len(found) >= 3  # several points were reached before it finished


@scenarios
@pytest.mark.parametrize("cancel", [natively, natively_twice], ids=lambda c: c.__name__)
def test_cancelled_natively_at_every_await_point(scenario: Scenario, cancel: Cancel) -> None:
    found = asyncio.run(sweep(scenario, cancel))
    assert [point for point in found if not point.is_right] == []
    assert len(found) >= 3


async def test_the_sweep_sees_what_is_left_reserved_or_unpaid() -> None:
    """The sweep itself can fail: a scenario that lies about its cost is found out."""

    async def lies(cost: Cost) -> None:
        await reserve_block(Cost())

    found = await sweep(lies, by_scope)
    assert (found[0].is_right, found[-1].is_right) == (True, False)


async def terminated_after(turns: int, scenario: Scenario, cost: Cost) -> None:
    """Run it in a task that is terminated, not cancelled, after so many turns of the loop."""

    async def terminate(budget: TaskBudget) -> None:
        for _ in range(turns):
            await checkpoint()
        budget.terminate("enough")

    caught: pytest.ExceptionInfo[BudgetTerminated] | None = None
    async with anyio.create_task_group() as outside:
        with pytest.raises(BudgetTerminated) as caught:
            async with task_budget("agent", tokens=1_000_000) as budget:
                outside.start_soon(terminate, budget)
                await scenario(cost)
                await anyio.sleep_forever()
    assert caught is not None
    assert caught.value.snapshot is not None
    balance = caught.value.snapshot["tokens"]
    assert (balance.reserved, balance.granted, balance.spent) == (0, 0, sum(cost.parts))


@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS if s is not bare_reservation], ids=lambda s: s.__name__
)
async def test_terminated_at_an_await_point_the_snapshot_shows_what_was_started(
    scenario: Scenario,
) -> None:
    for turns in range(16):
        await terminated_after(turns, scenario, Cost())

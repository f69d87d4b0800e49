"""Cancelling a scenario at each of its await points, and what must hold afterwards (I14)."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
from anyio.lowlevel import checkpoint

from budgetware import current_budget, task_budget

MOST_POINTS = 200


@dataclass
class Cost:
    """What a scenario has started so far, and what of it is known to cost what."""

    parts: list[int] = field(default_factory=list[int])

    def start(self, units: int) -> int:
        """Something that may cost so much was started; returns its place."""
        self.parts.append(units)
        return len(self.parts) - 1

    def known(self, place: int, units: int) -> None:
        """From here on it costs so much, however it ends."""
        self.parts[place] = units


Scenario = Callable[[Cost], Awaitable[None]]
Cancel = Callable[[Scenario, Cost, int], Awaitable[bool]]


@dataclass(frozen=True)
class Found:
    """How a budget stood after a cancellation at one await point."""

    point: int
    reserved: object
    spent: object
    cost: int
    current: object

    @property
    def is_right(self) -> bool:
        return (self.reserved, self.spent, self.current) == (0, self.cost, None)


async def sweep(scenario: Scenario, cancel: Cancel) -> list[Found]:
    """Run it again and again, cancelled one await point later each time, until it finishes."""
    found: list[Found] = []
    for point in range(MOST_POINTS):
        cost = Cost()
        async with task_budget("outer", tokens=1_000_000) as budget:
            finished = await cancel(scenario, cost, point)
        gc.collect(1)  # a bare reservation is in the traceback's frames; the young suffice
        balance = budget.snapshot()["tokens"]
        found.append(
            Found(point, balance.reserved, balance.spent, sum(cost.parts), current_budget())
        )
        if finished:
            return found
    raise AssertionError(f"not finished after {MOST_POINTS} points")


async def by_scope(scenario: Scenario, cost: Cost, point: int) -> bool:
    return await _by_scope(scenario, cost, point, twice=False)


async def by_scope_twice(scenario: Scenario, cost: Cost, point: int) -> bool:
    return await _by_scope(scenario, cost, point, twice=True)


async def _by_scope(scenario: Scenario, cost: Cost, point: int, *, twice: bool) -> bool:
    inner, outer = anyio.CancelScope(), anyio.CancelScope()
    finished: list[bool] = []

    async def victim() -> None:
        with outer, inner:
            await scenario(cost)
            finished.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(victim)
        for _ in range(point):
            await checkpoint()
        inner.cancel()
        if twice:
            await checkpoint()
            outer.cancel()
    return bool(finished)


async def natively(scenario: Scenario, cost: Cost, point: int) -> bool:
    return await _natively(scenario, cost, point, twice=False)


async def natively_twice(scenario: Scenario, cost: Cost, point: int) -> bool:
    return await _natively(scenario, cost, point, twice=True)


async def _natively(scenario: Scenario, cost: Cost, point: int, *, twice: bool) -> bool:
    async def victim() -> None:
        await scenario(cost)

    task = asyncio.create_task(victim())
    for _ in range(point):
        await asyncio.sleep(0)
    task.cancel()
    if twice:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return not task.cancelled()

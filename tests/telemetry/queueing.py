"""Calls that wait for each other, in virtual time: who holds what, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio

from budgetware import BudgetwareError, Reservation, reserve

Ask = Callable[[], Reservation]


async def hold(target: str, units: int, seconds: float) -> None:
    """Hold units of a resource for so long."""
    async with reserve(target, units):
        await anyio.sleep(seconds)


async def ask(wanted: Ask) -> None:
    """Reserve, and be content with whatever comes of it."""
    with suppress(BudgetwareError):
        async with wanted():
            pass


async def behind(target: str, seconds: float, *wanted: Ask) -> None:
    """Ask for these, one after the other, while one unit is held for so long."""
    async with anyio.create_task_group() as group:
        group.start_soon(hold, target, 1, seconds)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        for one in wanted:
            await ask(one)


def slot(name: str = "use", **options: object) -> Ask:
    """A call of a tool that needs one of the browsers."""
    return lambda: reserve("browsers", kind="tool", name=name, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

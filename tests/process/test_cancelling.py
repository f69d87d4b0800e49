"""A run that is cancelled at any await leaves no process, no file and no hold, and is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from budgetware import process, task_budget
from tests.process.programs import TELL, children, is_alive, open_fds, pid_in, python, until

COMMAND = python("import time; time.sleep(0.02)")
MOST_POINTS = 400
Cancel = Callable[[Callable[[], Awaitable[Any]], int], Awaitable[bool]]


async def once() -> None:
    await process.run(COMMAND, cpu_seconds=1, memory="64MiB", input=b"x" * 100_000)


async def by_scope(scenario: Callable[[], Awaitable[Any]], point: int) -> bool:
    finished: list[bool] = []

    async def victim() -> None:
        await scenario()
        finished.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(victim)
        for _ in range(point):
            await checkpoint()
        group.cancel_scope.cancel()
    return bool(finished)


async def natively(scenario: Callable[[], Awaitable[Any]], point: int) -> bool:
    return await _natively(scenario, point, twice=False)


async def natively_twice(scenario: Callable[[], Awaitable[Any]], point: int) -> bool:
    return await _natively(scenario, point, twice=True)


async def _natively(scenario: Callable[[], Awaitable[Any]], point: int, *, twice: bool) -> bool:
    async def victim() -> None:
        await scenario()

    task = asyncio.create_task(victim())
    for _ in range(point):
        await asyncio.sleep(0)
    task.cancel()
    if twice:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return not task.cancelled()


async def natively_for_ever(scenario: Callable[[], Awaitable[Any]], point: int) -> bool:
    """Whatever it still waits for is cancelled, too, and no shield helps."""

    async def victim() -> None:
        await scenario()

    task = asyncio.create_task(victim())
    for _ in range(point):
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    return not task.cancelled()


async def sweep(cancel: Cancel) -> None:
    await process.run(["true"])
    fds, processes = open_fds(), children()
    for point in [*range(30), *range(30, MOST_POINTS, 37)]:
        async with task_budget(cpu_micros=10**8, memory=10**9) as budget:
            await cancel(once, point)
            snapshot = budget.snapshot()
        cpu = snapshot["cpu_micros"]
        assert (cpu.reserved, snapshot["memory"].reserved, cpu.assumed) == (0, 0, 0), point
        assert isinstance(cpu.spent, int)
        assert cpu.spent < 1_000_000, point
        await until(lambda: open_fds() <= fds)
        assert children() == processes, point


async def test_by_its_scope_at_every_point() -> None:
    await sweep(by_scope)


@pytest.mark.parametrize("cancel", [natively, natively_twice, natively_for_ever])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_natively_at_every_point(cancel: Cancel) -> None:
    await sweep(cancel)


async def test_a_child_that_was_cancelled_before_it_started_costs_nothing() -> None:
    async with task_budget(cpu_micros=10**8) as budget:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await process.run(python("while True: pass"), cpu_seconds=50)
        spent: Any = budget.spent("cpu_micros")
    assert spent < 1_000_000


async def test_a_thread_that_blocks_ends_its_child_when_its_host_is_cancelled(
    tmp_path: Path,
) -> None:
    path, pid = tmp_path / "pid", 0
    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, lambda: process.run_sync(python(TELL, str(path))))
        pid = await pid_in(path)
        group.cancel_scope.cancel()
    assert not is_alive(pid)


def test_an_event_loop_that_is_closed_over_a_run_ends_its_child() -> None:
    async def main() -> None:
        asyncio.get_running_loop().create_task(once())
        await asyncio.sleep(0.01)

    before = children()
    process.run_sync(["true"])
    asyncio.run(main())
    assert len(children() - before) <= 1  # the warden

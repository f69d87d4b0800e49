"""Agents whose loops swallow what their tools raise, and what is counted of them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import checkpoint
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from budgetware import TaskBudget, budgeted

MAX_TURNS = 50


@dataclass
class Probe:
    """Counts the bodies that ran and the turns of the loop around them.

    A loop that may outlive its owner's block clears `over`, and sets it when it ends.
    """

    ran: int = 0
    turns: int = 0
    ended_with: list[BaseException] = field(default_factory=list[BaseException])
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.over.set()

    @budgeted(calls=1)
    async def tool(self) -> str:
        self.ran += 1
        await checkpoint()
        return "ok"

    @budgeted(calls=1)
    def sync_tool(self) -> str:
        self.ran += 1
        return "ok"

    async def wait_until_over(self) -> None:
        with anyio.CancelScope(shield=True):
            while not self.over.is_set():
                await checkpoint()

    def each_turn(self) -> Iterator[int]:
        for turn in range(MAX_TURNS):
            self.turns += 1
            yield turn

    @contextmanager
    def ending(self) -> Generator[None, None, None]:
        """Keep what ends code that nobody awaits, and say when it is over."""
        self.over.clear()
        try:
            yield
        except BaseException as error:
            self.ended_with.append(error)
        finally:
            self.over.set()


Run = Callable[[Probe, TaskBudget], Awaitable[object]]


async def keeps_going(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        try:
            await probe.tool()
        except Exception:
            continue


async def error_as_string(probe: Probe, _budget: TaskBudget) -> list[str]:
    said: list[str] = []
    for _ in probe.each_turn():
        try:
            said.append(await probe.tool())
        except Exception as error:
            said.append(f"Error: {error}")
    return said


async def retries_with_backoff(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        delay = 1e-6
        for _attempt in range(5):
            try:
                await probe.tool()
                break
            except Exception:
                await anyio.sleep(delay)
                delay *= 2


async def retries_by_tenacity(probe: Probe, _budget: TaskBudget) -> None:
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(Exception), stop=stop_after_attempt(5), sleep=anyio.sleep
    )
    for _ in probe.each_turn():
        try:
            await retrying.copy()(probe.tool)
        except Exception:
            continue


async def swallows_everything(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        try:
            await probe.tool()
        except BaseException:
            continue


async def returns_in_finally(probe: Probe, _budget: TaskBudget) -> str:
    async def step() -> str:
        try:
            return await probe.tool()
        finally:
            return "done"  # noqa: B012, SIM107 - the shape under test

    for _ in probe.each_turn():
        await step()
    return "done"


async def stops_at_any_error(probe: Probe, _budget: TaskBudget) -> None:
    """Ends its loop at whatever is raised, and returns as if all were well."""
    for _ in probe.each_turn():
        try:
            await probe.tool()
        except BaseException:
            return


async def task_group_per_turn(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(probe.tool)
        except Exception:
            continue


async def loop_in_task_group(probe: Probe, budget: TaskBudget) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(keeps_going, probe, budget)


async def asyncio_task_group_per_turn(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(probe.tool())
        except Exception:
            continue


async def asyncio_task_group_of_loops(probe: Probe, budget: TaskBudget) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(keeps_going(probe, budget))


async def gather_of_many(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        await asyncio.gather(*(probe.tool() for _ in range(10)), return_exceptions=True)


async def gather_per_turn(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        await asyncio.gather(probe.tool(), return_exceptions=True)


async def orphan_task(probe: Probe, budget: TaskBudget) -> None:
    async def orphan() -> None:
        with probe.ending():
            await keeps_going(probe, budget)

    task = asyncio.create_task(orphan())
    while not task.done():
        try:
            await checkpoint()
        except BaseException:
            continue


async def asyncio_shield(probe: Probe, budget: TaskBudget) -> None:
    async def shielded() -> None:
        with probe.ending():
            await keeps_going(probe, budget)

    probe.over.clear()
    await asyncio.shield(shielded())


async def anyio_shield(probe: Probe, budget: TaskBudget) -> None:
    with anyio.CancelScope(shield=True):
        await keeps_going(probe, budget)


async def shielded_child(probe: Probe, budget: TaskBudget) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio_shield, probe, budget)


def sync_loop(probe: Probe) -> None:
    for _ in probe.each_turn():
        try:
            probe.sync_tool()
        except Exception:
            continue


def sync_loop_alone(probe: Probe, loop: Callable[[Probe], object] = sync_loop) -> None:
    with probe.ending():
        loop(probe)


async def anyio_worker(probe: Probe, _budget: TaskBudget) -> None:
    await anyio.to_thread.run_sync(sync_loop, probe)


async def anyio_worker_abandoned(probe: Probe, _budget: TaskBudget) -> None:
    probe.over.clear()
    await anyio.to_thread.run_sync(sync_loop_alone, probe, abandon_on_cancel=True)


async def asyncio_to_thread(probe: Probe, _budget: TaskBudget) -> None:
    probe.over.clear()
    await asyncio.to_thread(sync_loop_alone, probe)


async def wrapped_thread(probe: Probe, budget: TaskBudget) -> None:
    thread = threading.Thread(target=sync_loop_alone, args=(probe, budget.wrap(sync_loop)))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)


async def wrapped_executor(probe: Probe, budget: TaskBudget) -> None:
    with ThreadPoolExecutor(1) as pool:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(pool, sync_loop_alone, probe, budget.wrap(sync_loop))


async def sync_on_the_loop(probe: Probe, _budget: TaskBudget) -> None:
    for _ in probe.each_turn():
        try:
            probe.sync_tool()
        except Exception:
            continue


async def worker_that_uses_the_loop(probe: Probe, _budget: TaskBudget) -> None:
    """Sync code in a worker thread whose tools are async, called by `from_thread`."""

    def work() -> None:
        for _ in probe.each_turn():
            try:
                anyio.from_thread.run(probe.tool)
            except Exception:
                continue

    await anyio.to_thread.run_sync(work)


@dataclass(frozen=True)
class Shape:
    """A loop, and how many turns of it may run: 3 granted, and those that were refused."""

    run: Any
    turns: int = 4
    stops_early: bool = False

    def __repr__(self) -> str:
        return str(self.run.__name__)


SHAPES = [
    Shape(keeps_going),
    Shape(error_as_string),
    Shape(retries_with_backoff),
    Shape(retries_by_tenacity),
    Shape(stops_at_any_error, stops_early=True),
    Shape(task_group_per_turn),
    Shape(loop_in_task_group),
    Shape(anyio_shield),
    Shape(shielded_child, 5),
    Shape(anyio_worker),
    Shape(anyio_worker_abandoned),
    Shape(wrapped_thread, 5),
    Shape(worker_that_uses_the_loop),
    Shape(sync_on_the_loop),
    # These cannot be stopped, only refused, and never end normally.
    Shape(swallows_everything, MAX_TURNS),
    Shape(returns_in_finally, MAX_TURNS),
]
ASYNCIO_SHAPES = [
    Shape(asyncio_task_group_per_turn),
    Shape(asyncio_task_group_of_loops),
    Shape(gather_per_turn),
    Shape(gather_of_many, 1),
    Shape(orphan_task, 5),
    Shape(asyncio_shield, 5),
    Shape(asyncio_to_thread, 5),
    Shape(wrapped_executor, 5),
]

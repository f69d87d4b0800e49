"""What a budget of ten calls does to a hundred: in tasks of asyncio and trio, and in threads.

Not here: what it costs. `figures.py` prints these counts beside what they should be.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import anyio

from budgetware import BudgetExceeded, BudgetTerminated, budgeted, task_budget

LIMIT = 10
CALLS = 100
TURNS = 1_000
TIMEOUT_SECONDS = 0.001
PAUSE_SECONDS = 0.001


class Behaviour(NamedTuple):
    """A count, on one backend, and what it should be."""

    what: str
    backend: str
    counted: int
    ideal: int


class Sent(list[int]):
    """What reached the provider."""

    @budgeted(calls=1)
    async def send(self, number: int) -> None:
        self.append(number)
        await anyio.sleep(PAUSE_SECONDS)

    @budgeted(calls=1)
    async def send_for_ever(self, number: int) -> None:
        self.append(number)
        await anyio.sleep_forever()

    @budgeted(calls=1)
    def send_sync(self, number: int) -> None:
        self.append(number)
        time.sleep(PAUSE_SECONDS)

    @budgeted(calls=1)
    def send_and_time_out(self, number: int) -> None:
        self.append(number)
        raise TimeoutError


# In tasks.


async def calls_that_ran() -> int:
    sent = Sent()

    async def call(number: int) -> None:
        try:
            await sent.send(number)
        except BudgetExceeded:
            pass

    async with task_budget("calls", calls=LIMIT), anyio.create_task_group() as group:
        for number in range(CALLS):
            group.start_soon(call, number)
    return len(sent)


async def agent(sent: Sent, turns: list[int]) -> None:
    for turn in range(TURNS):
        turns.append(turn)
        try:
            await sent.send(turn)
        except Exception:
            continue


async def turns_until_it_stopped() -> int:
    turns = list[int]()
    try:
        async with task_budget("turns", calls=LIMIT, policy="terminate"):
            await agent(Sent(), turns)
    except BudgetTerminated:
        return len(turns)
    return TURNS


async def turns_in_a_foreign_task() -> int:
    turns, done = list[int](), anyio.Event()

    async def run(carried: Callable[[Sent, list[int]], Awaitable[None]]) -> None:
        try:
            await carried(Sent(), turns)
        except BudgetTerminated:
            pass
        finally:
            done.set()

    async with anyio.create_task_group() as outside:
        try:
            async with task_budget("turns", calls=LIMIT, policy="terminate") as budget:
                outside.start_soon(run, budget.wrap(agent))
                await anyio.sleep_forever()
        except BudgetTerminated:
            await done.wait()
    return len(turns)


async def cancelled_calls() -> tuple[int, int]:
    sent = Sent()
    async with task_budget("cancelled", calls=LIMIT) as budget:
        for number in range(CALLS):
            with anyio.move_on_after(TIMEOUT_SECONDS):
                try:
                    await sent.send_for_ever(number)
                except BudgetExceeded:
                    pass
    return len(sent), int(budget.spent("calls"))


async def nested_calls() -> int:
    sent = Sent()

    async def child() -> None:
        try:
            async with task_budget("child", calls=LIMIT):
                for number in range(LIMIT):
                    await sent.send(number)
        except BudgetExceeded:
            pass

    async with task_budget("parent", calls=LIMIT), anyio.create_task_group() as group:
        for _ in range(LIMIT):
            group.start_soon(child)
    return len(sent)


async def in_tasks() -> list[int]:
    sent, charged = await cancelled_calls()
    return [
        await calls_that_ran(),
        await turns_until_it_stopped(),
        await turns_in_a_foreign_task(),
        sent,
        charged,
        await nested_calls(),
    ]


# In threads.


def in_pool(call: Callable[[int], object], times: int) -> None:
    with ThreadPoolExecutor(times) as pool:
        list(pool.map(call, range(times)))


def calls_that_ran_sync() -> int:
    sent = Sent()

    def call(number: int) -> None:
        try:
            sent.send_sync(number)
        except BudgetExceeded:
            pass

    with task_budget("calls", calls=LIMIT) as budget:
        in_pool(budget.wrap(call), CALLS)
    return len(sent)


def agent_sync(sent: Sent, turns: list[int]) -> None:
    for turn in range(TURNS):
        turns.append(turn)
        try:
            sent.send_sync(turn)
        except Exception:
            continue


def turns_until_it_stopped_sync() -> int:
    turns = list[int]()
    try:
        with task_budget("turns", calls=LIMIT, policy="terminate"):
            agent_sync(Sent(), turns)
    except BudgetTerminated:
        return len(turns)
    return TURNS


def turns_in_a_foreign_thread() -> int:
    turns = list[int]()
    try:
        with task_budget("turns", calls=LIMIT, policy="terminate") as budget:
            in_pool(lambda _: budget.wrap(agent_sync)(Sent(), turns), 1)
    except BudgetTerminated:
        return len(turns)
    return TURNS


def timed_out_calls() -> tuple[int, int]:
    sent = Sent()

    def call(number: int) -> None:
        try:
            sent.send_and_time_out(number)
        except (BudgetExceeded, TimeoutError):
            pass

    with task_budget("timed-out", calls=LIMIT) as budget:
        in_pool(budget.wrap(call), CALLS)
    return len(sent), int(budget.spent("calls"))


def nested_calls_sync() -> int:
    sent = Sent()

    def child(_: int) -> None:
        try:
            with task_budget("child", calls=LIMIT):
                for number in range(LIMIT):
                    sent.send_sync(number)
        except BudgetExceeded:
            pass

    with task_budget("parent", calls=LIMIT) as budget:
        in_pool(budget.wrap(child), LIMIT)
    return len(sent)


def in_threads() -> list[int]:
    sent, charged = timed_out_calls()
    return [
        calls_that_ran_sync(),
        turns_until_it_stopped_sync(),
        turns_in_a_foreign_thread(),
        sent,
        charged,
        nested_calls_sync(),
    ]


IDEALS = {
    "calls that ran, 100 at once": 10,
    "turns until it stopped, of 1,000": 11,
    "  its loop in a foreign task or thread": 12,
    "calls sent and cut by a timeout, of 100": 10,
    "  of them charged": 10,
    "calls by ten children at once": 10,
}


def behaviours() -> list[Behaviour]:
    """Run all of them on every backend."""
    ways: dict[str, Callable[[], list[int]]] = {
        "asyncio": partial(anyio.run, in_tasks, backend="asyncio"),
        "trio": partial(anyio.run, in_tasks, backend="trio"),
        "threads": in_threads,
    }
    return [
        Behaviour(what, backend, count, ideal)
        for backend, run in ways.items()
        for (what, ideal), count in zip(IDEALS.items(), run(), strict=True)
    ]

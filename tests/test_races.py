"""Many threads and tasks on one tree: exactly the limit is granted, and no snapshot lies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from threading import Barrier, Event, Thread
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    Reject,
    TaskBudget,
    budgeted,
    charge,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import AlreadySettled

THREADS = 16
TURNS = 2_000
LIMIT = 20_000


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Let threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run_threads(*works: Callable[[], object]) -> list[BaseException]:
    """Run all at once to their end; returns what they raised."""
    barrier = Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class Reader:
    """Takes snapshots of tasks until told to stop, and keeps those that do not add up."""

    def __init__(self, *tasks: TaskBudget) -> None:
        self.tasks = tasks
        self.taken = 0
        self.wrong: list[str] = []
        self.stop = Event()

    def run(self) -> None:
        while not self.stop.is_set():
            for task in self.tasks:
                self.look(task)

    def look(self, task: TaskBudget) -> None:
        shown: Any = task.snapshot()["tokens"]
        self.taken += 1
        parts = shown.spent + shown.reserved + shown.granted + shown.remaining
        if parts - shown.overrun != shown.limit or shown.overrun or shown.assumed > shown.spent:
            self.wrong.append(f"{task.name}: {shown}")


class Watched:
    """A reader beside some work."""

    def __init__(self, *tasks: TaskBudget) -> None:
        self.reader = Reader(*tasks)
        self.thread = Thread(target=self.reader.run)

    def __enter__(self) -> Reader:
        self.thread.start()
        return self.reader

    def __exit__(self, *_error: object) -> None:
        self.reader.stop.set()
        self.thread.join()


class Tries:
    """A call made many times by one thread, and how often it went through."""

    def __init__(self, call: Callable[[], object], turns: int = TURNS) -> None:
        self.call = call
        self.turns = turns
        self.granted = 0

    def __call__(self) -> None:
        for _ in range(self.turns):
            try:
                self.call()
            except BudgetExceeded:
                continue
            self.granted += 1


def hold_and_commit() -> None:
    reserve_nowait(tokens=1, calls=1).commit()


def hold_more_and_return_it() -> None:
    with reserve(tokens=3, calls=1) as reservation:
        reservation.commit(tokens=1)


@budgeted(tokens=1, calls=1)
def call() -> None:
    """Cost one token."""


@budgeted(tokens=2, calls=1, settle=lambda used: {"tokens": used})
def settled_call() -> int:
    return 1


@pytest.mark.parametrize("work", [hold_and_commit, call], ids=["reserve", "budgeted"])
def test_threads_are_granted_exactly_the_limit(work: Callable[[], object]) -> None:
    with task_budget("outer", tokens=LIMIT, policy=Reject(patience=None)) as outer:
        inner = task_budget("inner", tokens=2 * LIMIT)
        with inner, Watched(outer, inner) as reader:
            tries = [Tries(inner.wrap(work)) for _ in range(THREADS)]
            assert run_threads(*tries) == []
        assert sum(one.granted for one in tries) == LIMIT
        assert reader.wrong == []
        assert reader.taken > 0
        assert outer.remaining("tokens") == 0
        assert [task.spent("calls") for task in (outer, inner)] == [LIMIT, LIMIT]


@pytest.mark.parametrize(
    "work", [hold_more_and_return_it, settled_call], ids=["reserve", "budgeted"]
)
def test_what_threads_return_is_granted_again(work: Callable[[], object]) -> None:
    most = THREADS * TURNS
    with task_budget("outer", tokens=most + 64) as outer, Watched(outer) as reader:
        tries = [Tries(outer.wrap(work)) for _ in range(THREADS)]
        assert run_threads(*tries) == []
    assert reader.wrong == []
    assert [one.granted for one in tries] == [TURNS] * THREADS
    assert outer.spent("tokens") == most


def test_threads_in_carves_of_one_parent_keep_its_books_straight() -> None:
    turns = TURNS // 4

    def work() -> None:
        with task_budget("inner", carve=True, tokens=20) as inner:
            hold_more_and_return_it()
            reserve_nowait(tokens=18).release()
            inner.top_up(tokens=5)
            charge(tokens=2)

    with task_budget("outer", tokens=2_000_000) as outer, Watched(outer) as reader:
        tries = [Tries(outer.wrap(work), turns) for _ in range(THREADS)]
        assert run_threads(*tries) == []
    assert reader.wrong == []
    shown = outer.snapshot()["tokens"]
    assert (shown.spent, shown.reserved, shown.granted) == (3 * turns * THREADS, 0, 0)


def test_one_reservation_is_settled_once_by_many_threads() -> None:
    with task_budget(tokens=1_000) as budget:
        for used in range(50):
            reservation = reserve_nowait(tokens=10)
            works = [partial(reservation.commit, n) for n in (used % 10, 10)]
            errors = run_threads(*works)
            assert [type(error) for error in errors] == [AlreadySettled]
        shown: Any = budget.snapshot()["tokens"]
        assert shown.reserved == 0
        assert shown.spent + shown.remaining == 1_000


def test_one_assumed_reservation_is_corrected_once_by_many_threads() -> None:
    with task_budget(tokens=10_000) as budget:
        for _ in range(50):
            with reserve(tokens=100) as reservation:
                pass
            works = [partial(reservation.commit, 7)] * 8
            assert run_threads(*works) == []
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.assumed) == (350, 0)


async def test_tasks_are_granted_exactly_the_limit() -> None:
    granted = 0

    @budgeted(tokens=1, calls=1)
    async def work() -> None:
        await checkpoint()

    async def agent() -> None:
        nonlocal granted
        for _ in range(100):
            try:
                await work()
            except BudgetExceeded:
                continue
            granted += 1

    async with task_budget("outer", tokens=1_000, policy=Reject(patience=None)) as outer:
        async with task_budget("inner", tokens=5_000) as inner:
            with Watched(outer, inner) as reader:
                async with anyio.create_task_group() as group:
                    for _ in range(THREADS):
                        group.start_soon(agent)
        assert reader.wrong == []
        assert (granted, outer.spent("tokens"), inner.spent("calls")) == (1_000, 1_000, 1_000)


async def test_tasks_and_worker_threads_are_granted_exactly_the_limit() -> None:
    tries = [Tries(hold_and_commit, 250) for _ in range(8)]

    async def agent() -> int:
        granted = 0
        for _ in range(250):
            try:
                async with reserve(tokens=1) as reservation:
                    await checkpoint()
                    reservation.commit()
            except BudgetExceeded:
                continue
            granted += 1
        return granted

    counts: list[int] = []

    async def note() -> None:
        counts.append(await agent())

    async with task_budget("outer", tokens=1_500, policy=Reject(patience=None)) as outer:
        with Watched(outer) as reader:
            async with anyio.create_task_group() as group:
                for one in tries:
                    group.start_soon(anyio.to_thread.run_sync, one)
                for _ in range(4):
                    group.start_soon(note)
        assert reader.wrong == []
        assert sum(one.granted for one in tries) + sum(counts) == 1_500
        assert outer.remaining("tokens") == 0


async def test_ten_of_a_hundred_concurrent_calls_run() -> None:
    ran = 0
    refused: list[int] = []

    @budgeted(calls=1)
    async def work() -> None:
        nonlocal ran
        ran += 1
        await checkpoint()

    async def agent() -> None:
        try:
            while True:
                await work()
        except BudgetExceeded:
            refused.append(1)

    async with task_budget(calls=10), anyio.create_task_group() as group:
        for _ in range(90):
            group.start_soon(agent)
    assert (ran, len(refused)) == (10, 90)


async def test_twenty_calls_of_ten_share_a_hundred() -> None:
    ran: list[int] = []

    @budgeted(tokens=10)
    async def work(n: int) -> None:
        await checkpoint()
        ran.append(n)

    async def agent(n: int) -> None:
        try:
            await work(n)
        except BudgetExceeded:
            return

    async with task_budget(tokens=100) as budget, anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(agent, n)
    assert (len(ran), budget.spent("tokens")) == (10, 100)

"""What waiting costs and whom it serves: orders, shares, rates; and calls that do not wait.

Run by hand: `python -m tests.benchmarks.waiting`, and with `--trio`. The anchor is one deque of
events and nothing else: the least that a queue in Python can be.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from time import monotonic, thread_time_ns
from typing import NamedTuple

import anyio
from anyio import to_thread

from budgetware import (
    Capacity,
    Concurrency,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    connect,
    principal,
    reserve,
    task_budget,
)
from tests.benchmarks import overhead

ROUNDS = 5
BIG = 1_000_000_000
WEIGHTS = (1, 1, 2, 4)
Slot = Callable[[], AbstractAsyncContextManager[object]]


class Line(NamedTuple):
    """Waiters for one slot: microseconds of thread CPU each, and how many were out of order."""

    waiters: int
    micros: float
    anchor_micros: float
    inversions: int


class Shares(NamedTuple):
    """What tokens of different weights were served, and how fair that was (Jain: 1 is best)."""

    served: list[int]
    worst_error: float
    jain: float


class Rated(NamedTuple):
    """What a rate admitted in some seconds, and the most that it may admit in that time."""

    admitted: int
    bound: float


class Gate:
    """The anchor: a slot, a deque of events, first come, first served."""

    def __init__(self) -> None:
        self.is_free = True
        self.events: deque[anyio.Event] = deque()

    async def __aenter__(self) -> None:
        if self.is_free:
            self.is_free = False
            return
        event = anyio.Event()
        self.events.append(event)
        await event.wait()

    async def __aexit__(self, *_error: object) -> None:
        if self.events:
            self.events.popleft().set()
        else:
            self.is_free = True


async def cost_of_tasks(count: int) -> int:
    async def pause() -> None:
        await anyio.lowlevel.checkpoint()

    begun = thread_time_ns()
    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(pause)
    return thread_time_ns() - begun


async def cost_of_line(count: int, slot: Slot, waiting: Callable[[], int]) -> tuple[float, int]:
    """Nanoseconds per waiter from asking to having left, its task apart; and inversions."""
    asked: list[int] = []
    served: list[int] = []

    async def visit(number: int) -> None:
        asked.append(number)
        async with slot():
            served.append(number)

    gc.collect()
    tasks_ns = await cost_of_tasks(count)
    gc.collect()
    begun = 0
    async with anyio.create_task_group() as group, slot():
        begun = thread_time_ns()
        for number in range(count):
            group.start_soon(visit, number)
        while waiting() < count:
            await anyio.lowlevel.checkpoint()
    took_ns = thread_time_ns() - begun - tasks_ns
    return took_ns / count, sum(a != b for a, b in zip(asked, served, strict=True))


async def line(service: QuotaService, count: int) -> Line:
    slot = service.define(Resource(f"slot-{count}", Concurrency(1)))
    ours: list[float] = []
    anchors: list[float] = []
    inversions = 0
    for _ in range(ROUNDS):
        gate = Gate()
        anchor_ns, _none = await cost_of_line(count, lambda: gate, lambda: len(gate.events))  # noqa: B023
        anchors.append(anchor_ns)
        ns, wrong = await cost_of_line(count, lambda: reserve(slot.name), lambda: slot.waiting)
        ours.append(ns)
        inversions += wrong
    return Line(count, min(ours) / 1e3, min(anchors) / 1e3, inversions)


async def big_behind_small(service: QuotaService) -> float:
    """Seconds until 50 units are served at 200 per second, with single ones asked for all along."""
    service.define(Resource("busy", Rate(200, "second", max=50)))
    served_at: list[float] = []

    async def small() -> None:
        while not served_at:
            async with reserve("busy", 1):
                pass

    async def big() -> None:
        begun = monotonic()
        async with reserve("busy", 50):
            served_at.append(monotonic() - begun)

    async with anyio.create_task_group() as group:
        for _ in range(32):
            group.start_soon(small)
        await anyio.sleep(0.5)
        group.start_soon(big)
    return served_at[0]


async def shares(service: QuotaService, seconds: float) -> Shares:
    """What four tokens of one resource are served while all of them always want more."""
    service.define(Resource("shared", Rate(400, "second", max=4)))
    served = [0] * len(WEIGHTS)

    async def draw(number: int, token: QuotaToken) -> None:
        while True:
            async with token.reserve(1):
                served[number] += 1

    with ExitStack() as stack:
        async with anyio.create_task_group() as group:
            for number, weight in enumerate(WEIGHTS):
                token = QuotaToken("shared", weight * 100)
                stack.callback(token.close)
                for _ in range(8):
                    group.start_soon(draw, number, token)
            await anyio.sleep(seconds)
            group.cancel_scope.cancel()
    ideal = [sum(served) * weight / sum(WEIGHTS) for weight in WEIGHTS]
    errors = [abs(n / best - 1) for n, best in zip(served, ideal, strict=True)]
    per_weight = [n / weight for n, weight in zip(served, WEIGHTS, strict=True)]
    jain = sum(per_weight) ** 2 / (len(WEIGHTS) * sum(x * x for x in per_weight))
    return Shares(served, max(errors), jain)


async def rate(service: QuotaService, seconds: float) -> Rated:
    """What 64 tasks and 4 threads get of 200 per second with a burst of 200."""
    service.define(Resource("api", Rate(200, "second", max=200)))
    lock = threading.Lock()
    admitted = 0
    is_over = threading.Event()

    def count() -> None:
        nonlocal admitted
        with lock:
            admitted += not is_over.is_set()

    async def task() -> None:
        while True:
            async with reserve("api", 1):
                count()

    def thread() -> None:
        while not is_over.is_set():
            with reserve("api", 1):
                count()

    took = 0.0
    async with anyio.create_task_group() as group:
        begun = monotonic()
        for _ in range(64):
            group.start_soon(task)
        for _ in range(4):
            group.start_soon(to_thread.run_sync, thread)
        await anyio.sleep(seconds)
        is_over.set()
        took = monotonic() - begun
        group.cancel_scope.cancel()
    return Rated(admitted, 200 + 200 * took)


@budgeted(tokens=100, calls=1)
async def call() -> None:
    return None


@budgeted(tokens=100, calls=1, settle=lambda reply: {"tokens": reply})
async def settled() -> int:
    return 60


async def by_token_of(token: QuotaToken) -> None:
    async with token.reserve(100) as reservation:
        reservation.commit(60)


async def not_waiting(service: QuotaService) -> None:
    """Rows of calls that find room."""
    for dim in ("tokens", "calls"):
        service.define(Resource(f"org-{dim}", Capacity(10**15), "reject", dim=dim))
        service.define(
            Resource(f"team-{dim}", Capacity(10**15), "reject", dim=dim, parent=f"org-{dim}")
        )
    service.define(Resource("fast", Rate(10**9, "second"), dim="tokens"))
    service.define_principal("org")
    service.define_principal("alice", parent="org", quotas={"tokens": Capacity(10**15)})
    with ExitStack() as tokens:
        bound = [QuotaToken(f"team-{dim}", 1_000, allowance=10**14) for dim in ("tokens", "calls")]
        fast = QuotaToken("fast", 1_000)
        for token in (*bound, fast):
            tokens.callback(token.close)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(principal("alice"))
            for token in bound:
                await stack.enter_async_context(token)
            for name in "abc":
                await stack.enter_async_context(task_budget(name, tokens=10**14, calls=10**14))
            title = "8 payers × 2: 3 tasks, 2 principals, 3 of a token"
            await overhead.row(title, call)
            await overhead.row("  with settle", settled, "60")
            await overhead.row("  async with reserve + commit", overhead.by_hand, "60")
        async with task_budget("one", tokens=10**14):
            await overhead.row("token.reserve on a rate, in a task", lambda: by_token_of(fast))
        await overhead.row("  outside any task", lambda: by_token_of(fast))


async def main() -> dict[str, object]:
    async with connect(record_usage=False) as service:
        await not_waiting(service)
        print(f"\n{'waiters for one slot':44} {'µs each':>8} {'anchor':>9} {'inversions':>11}")
        found = [await line(service, count) for count in (1_000, 10_000)]
        for row in found:
            shown = f"{row.micros:8.1f} {row.anchor_micros:9.1f} {row.inversions:11}"
            print(f"{f'{row.waiters:,}':44} {shown}")
        print(f"{'10,000 : 1,000':44} {found[1].micros / found[0].micros:8.2f} {'≤ 1.3':>9}")
        big = await big_behind_small(service)
        print(f"\n{'50 units behind single ones at 200/s':44} {big:8.2f} s  (0.25 + what waits)")
        share = await shares(service, 10)
        print(f"{'weights 1:1:2:4 over 10 s':44} {share.served}")
        print(f"{'  worst share off by, Jain index':44} {share.worst_error:8.2%} {share.jain:9.5f}")
        rated = await rate(service, 5)
        print(f"{'200/s, burst 200, 5 s, 64 tasks, 4 threads':44} {rated.admitted:8}", end="")
        print(f" of {rated.bound:.1f}: {1 - rated.admitted / rated.bound:.2%} below")
    return {
        "lines": [row._asdict() for row in found],
        "big_seconds": big,
        "shares": share._asdict(),
        "rate": rated._asdict(),
    }


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")

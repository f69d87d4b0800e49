"""What budgetware adds to a call, as ratios to awaiting a function that does nothing.

Run by hand: `python -m tests.benchmarks.overhead`. Thread CPU time, the best of several rounds;
only the ratios of one run mean anything.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from statistics import median
from time import thread_time_ns

import anyio

from budgetware import Reject, budgeted, connect, reserve, task_budget
from budgetware.errors import BudgetExceeded
from tests.benchmarks.rows import Row, target_of

ROUNDS = 9
MEASURED: list[Row] = []
"""Every row of this run, for `figures.py`."""


async def noop() -> None:
    return None


@budgeted(calls=1)
async def flat() -> None:
    return None


@budgeted(calls=1)
def flat_sync() -> None:
    return None


@budgeted(tokens=100, settle=lambda reply: reply)
async def settled() -> int:
    return 60


def as_asked(n: int) -> int:
    return n


@budgeted(tokens=as_asked)
async def computed(n: int) -> None:
    return None


@budgeted(tokens=100, calls=1, settle=lambda reply: {"tokens": reply})
async def deep() -> int:
    return 60


@budgeted(tokens=100, calls=1)
async def deep_fixed() -> int:
    return 60


async def by_hand() -> None:
    async with reserve(tokens=100, calls=1) as reservation:
        reservation.commit(tokens=60)


async def by_hand_flat() -> None:
    async with reserve(tokens=100) as reservation:
        reservation.commit(60)


async def task() -> None:
    async with task_budget("task", calls=5):
        pass


async def refused() -> None:
    try:
        await flat()
    except BudgetExceeded:
        pass


async def checkpointed() -> None:
    await anyio.lowlevel.checkpoint()


async def _round_ns(call: Callable[[], Awaitable[object]], calls: int) -> float:
    start = thread_time_ns()
    for _ in range(calls):
        await call()
    return (thread_time_ns() - start) / calls


async def row(
    name: str,
    call: Callable[[], Awaitable[object]],
    target: str = "",
    *,
    calls: int = 10_000,
    less: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Measure a call and the no-op in turns, so that a change of clock speed hits both."""
    ratios: list[float] = []
    best_ns = float("inf")
    for _ in range(ROUNDS):
        unit_ns = await _round_ns(noop, 20_000)
        ns = await _round_ns(call, calls)
        if less is not None:
            ns -= await _round_ns(less, calls)
        ratios.append(ns / unit_ns)
        best_ns = min(best_ns, ns)
    MEASURED.append(Row(name, best_ns / 1000, median(ratios), target_of(target)))
    print(f"{name:44} {best_ns / 1000:8.2f} {median(ratios):9.1f} {target:>8}")


async def main() -> None:
    print(f"{'call':44} {'µs':>8} {'× no-op':>9} {'target':>8}")
    big = 1_000_000_000
    async with task_budget("flat", calls=big, tokens=big):
        await row("@budgeted(calls=1)", flat, "15")
        await row("  with settle", settled, "25")
        await row("  with a callable amount", lambda: computed(5), "25")
        await row("async with reserve(tokens=100) + commit", by_hand_flat)
    async with task_budget("timed", calls=big, seconds=3_600):
        await row("  with a deadline", flat)
    with connect(record_usage=False) as service, service.subscribe(10_000_000):
        async with service.task_budget("heard", calls=big):
            await row("  with a subscriber", flat, "25")
    async with (
        task_budget("a", calls=big, tokens=big),
        task_budget("b", calls=big, tokens=big),
        task_budget("c", calls=big, tokens=big),
        task_budget("d", calls=big, tokens=big),
    ):
        await row("four deep, two dimensions", deep_fixed)
        await row("  with settle", deep, "40")
        await row("  async with reserve + commit", by_hand, "50")
    async with task_budget("outer", calls=big):
        await row("task_budget entered and left", task, "120", calls=3_000)
    async with task_budget("short", calls=1, policy=Reject(patience=None)) as short:
        short.charge(calls=1)
        await row("a refusal, its checkpoint apart", refused, "60", calls=3_000, less=checkpointed)


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")

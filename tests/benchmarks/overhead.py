"""What budgetware adds to a call, as ratios to awaiting a function that does nothing.

Run by hand: `python tests/benchmarks/overhead.py`. Thread CPU time, the best of several rounds;
only the ratios of one run mean anything.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from time import thread_time_ns

import anyio

from budgetware import budgeted, connect, reserve, task_budget
from budgetware.errors import BudgetExceeded

ROUNDS = 7
CALLS = 20_000


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


@budgeted(tokens=lambda n: n)
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


async def best_ns(call: Callable[[], Awaitable[object]], calls: int = CALLS) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = thread_time_ns()
        for _ in range(calls):
            await call()
        best = min(best, (thread_time_ns() - start) / calls)
    return best


class Table:
    def __init__(self, unit_ns: float) -> None:
        self._unit_ns = unit_ns
        print(f"no-op await: {unit_ns:.0f} ns\n")
        print(f"{'call':44} {'µs':>8} {'× no-op':>9} {'target':>8}")

    def row(self, name: str, ns: float, target: str = "") -> None:
        print(f"{name:44} {ns / 1000:8.2f} {ns / self._unit_ns:9.1f} {target:>8}")


async def main() -> None:
    table = Table(await best_ns(noop, 200_000))
    big = 10**15
    async with task_budget("flat", calls=big, tokens=big):
        table.row("@budgeted(calls=1)", await best_ns(flat), "15")
        table.row("  with settle", await best_ns(settled), "25")
        table.row("  with a callable amount", await best_ns(lambda: computed(5)), "25")
        table.row("async with reserve(tokens=100) + commit", await best_ns(by_hand_flat))
    async with task_budget("timed", calls=big, seconds=3_600):
        table.row("  with a deadline", await best_ns(flat))
    with connect() as service, service.subscribe(1):
        async with service.task_budget("heard", calls=big):
            table.row("  with a subscriber", await best_ns(flat), "25")
    async with task_budget("a", calls=big, tokens=big), task_budget("b", calls=big, tokens=big):
        async with task_budget("c", calls=big, tokens=big), task_budget("d", calls=big, tokens=big):
            table.row("four deep, two dimensions", await best_ns(deep_fixed))
            table.row("  with settle", await best_ns(deep), "40")
            table.row("  async with reserve + commit", await best_ns(by_hand), "50")
    async with task_budget("outer", calls=big):
        table.row("task_budget entered and left", await best_ns(task, 5_000), "120")
    async with task_budget("short", calls=1, policy="reject") as short:
        short.charge(calls=1)
        short.node.policy = type(short.node.policy)(patience=None)
        yielding = await best_ns(checkpointed, 5_000)
        table.row("a refusal, its checkpoint apart", await best_ns(refused, 5_000) - yielding, "60")


if __name__ == "__main__":
    anyio.run(main, backend="trio" if "--trio" in sys.argv else "asyncio")

"""Sub-agents pay from their parent's room; a carve keeps a part of it from a greedy sibling.

`careful` starts first, with a limit of 30, but works last; in between `greedy` takes all it can
get. With `carve=True` the 30 leave the parent's room at once, and what is not used returns.

It prints:

    shared: calls in warn
    greedy ran 100, careful 0. Task 'shared' has 0 of 100 calls left.
    carved: calls in warn
    greedy ran 70, careful 20. Task 'carved' has 10 of 100 calls left.
"""

import anyio
from anyio.abc import TaskStatus

from budgetware import BudgetExceeded, TaskBudget, Verdict, budgeted, task_budget


@budgeted(calls=1)
async def tool(name: str, got: list[str]) -> None:
    got.append(name)


async def work(name: str, calls: int, got: list[str]) -> None:
    try:
        for _ in range(calls):
            await tool(name, got)
    except BudgetExceeded:
        return


def tell(team: TaskBudget, verdict: Verdict) -> None:
    print(f"{team.name}: {verdict.dim} in {verdict.name}")


async def team_of_two(team: TaskBudget, *, carve: bool) -> None:
    turn, got = anyio.Event(), list[str]()

    async def careful(*, task_status: TaskStatus[None]) -> None:
        async with task_budget("careful", calls=30, carve=carve):
            task_status.started()
            await turn.wait()
            await work("careful", 20, got)

    async with anyio.create_task_group() as group:
        await group.start(careful)
        await work("greedy", 1_000, got)
        turn.set()
    print(f"greedy ran {got.count('greedy')}, careful {got.count('careful')}.", team.describe())


async def main() -> None:
    for name, carve in (("shared", False), ("carved", True)):
        async with task_budget(name, calls=100, warn_at=0.8, on_warn=tell) as team:
            await team_of_two(team, carve=carve)


if __name__ == "__main__":
    anyio.run(main)

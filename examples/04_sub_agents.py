"""Sub-agents pay from their parent's room; a carve keeps a part of it from a greedy sibling.

A nested task's spending counts in every task around it. Here `careful` starts first with a limit
of 30, but works last; `greedy` takes all it can get in between. With `carve=True` the 30 are taken
out of the parent when `careful` starts, and what it leaves goes back when it ends.

It prints:

    shared: calls in warn
    shared: greedy got 100 calls, careful 0; Task 'shared' has 0 of 100 calls left.
    carved: calls in warn
    carved: greedy got 70 calls, careful 20; Task 'carved' has 10 of 100 calls left.
"""

import anyio
from anyio.abc import TaskStatus

from budgetware import BudgetExceeded, TaskBudget, Verdict, budgeted, task_budget


@budgeted(calls=1)
async def tool() -> None:
    await anyio.sleep(0)


async def work(calls: int) -> int:
    """Call the tool until it is refused; say how many calls ran."""
    for done in range(calls):
        try:
            await tool()
        except BudgetExceeded:
            return done
    return calls


async def careful(
    carve: bool,  # noqa: FBT001 - start_soon passes positions
    turn: anyio.Event,
    got: list[int],
    *,
    task_status: TaskStatus[None],
) -> None:
    async with task_budget("careful", calls=30, carve=carve):
        task_status.started()
        await turn.wait()
        got.append(await work(20))


def warned(team: TaskBudget, verdict: Verdict) -> None:
    print(f"{team.name}: {verdict.dim} in {verdict.name}")


async def team_of_two(name: str, *, carve: bool) -> None:
    turn, got = anyio.Event(), list[int]()
    async with task_budget(name, calls=100, warn_at=0.8, on_warn=warned) as team:
        async with anyio.create_task_group() as group:
            await group.start(careful, carve, turn, got)
            async with task_budget("greedy", calls=1_000):
                greedy = await work(1_000)
            turn.set()
        print(f"{name}: greedy got {greedy} calls, careful {got[0]}; {team.describe()}")


async def main() -> None:
    await team_of_two("shared", carve=False)
    await team_of_two("carved", carve=True)


if __name__ == "__main__":
    anyio.run(main)

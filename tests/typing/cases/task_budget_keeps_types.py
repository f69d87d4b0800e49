"""`task_budget` gives a `TaskBudget`, and as a decorator keeps the exact type of the function."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from budgetware import Limit, TaskBudget, current_budget, task_budget


async def blocks() -> None:
    async with task_budget("research", tokens=50_000, usd="0.25", seconds="2m") as budget:
        assert_type(budget, TaskBudget)
        assert_type(budget.name, str)
        async with budget.finish():
            pass
    with task_budget(tokens=Limit(100, warn=80), policy="terminate", warn_at=0.8) as budget:
        assert_type(budget, TaskBudget)
        with budget.finish():
            pass


@task_budget("agent", calls=10)
async def agent(goal: str, *, depth: int = 1) -> list[str]:
    return [goal] * depth


@task_budget("stream", tokens=100)
async def stream(count: int) -> AsyncIterator[str]:
    for index in range(count):
        yield str(index)


@task_budget("batch", bytes=1_000)
def batch(path: str) -> bytes:
    return path.encode()


@task_budget("rows", calls=5)
def rows(text: str) -> Iterator[str]:
    yield from text.splitlines()


class Team:
    @task_budget("member", calls=3)
    async def work(self, goal: str) -> str:
        return goal

    @staticmethod
    @task_budget("tool", calls=3)
    def tool(goal: str) -> int:
        return len(goal)

    @classmethod
    @task_budget("hire", calls=3)
    async def hire(cls, name: str) -> "Team":
        return cls()


async def results(team: Team) -> None:
    assert_type(await agent("goal", depth=2), list[str])
    assert_type(stream(3), AsyncIterator[str])
    assert_type(batch("p"), bytes)
    assert_type(rows("t"), Iterator[str])
    assert_type(await team.work("goal"), str)
    assert_type(Team.tool("goal"), int)
    assert_type(await Team.hire("ada"), Team)


def current() -> None:
    assert_type(current_budget(), TaskBudget | None)


def wrapped(budget: TaskBudget) -> None:
    assert_type(budget.wrap(batch)("p"), bytes)


async def misuse(team: Team) -> None:
    await agent(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await agent("goal", width=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    batch(b"p")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await team.work(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

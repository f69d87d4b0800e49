"""A hundred calls at once on a budget of ten: exactly ten run, in tasks and in threads.

The amount is held before a call starts, so calls that start together cannot all see the same
room. A refusal is a `BudgetExceeded`, which a model may read.

It prints:

    tasks: 10 of 100 ran, 90 refused
    budget 'crawl' has 0 of 10 calls left, 1 requested: finish without this call, or top_up the budget
    threads: 10 of 100 ran, 90 refused
    Task 'files' has 0 of 10 calls left.
"""

from concurrent.futures import ThreadPoolExecutor

import anyio

from budgetware import BudgetExceeded, budgeted, task_budget


@budgeted(calls=1)
async def fetch(page: int) -> str:
    await anyio.sleep(0.01)
    return f"page {page}"


@budgeted(calls=1)
def read(page: int) -> str:
    return f"file {page}"


async def in_tasks() -> None:
    pages: list[str] = []
    refused: list[BudgetExceeded] = []

    async def worker(page: int) -> None:
        try:
            pages.append(await fetch(page))
        except BudgetExceeded as error:
            refused.append(error)

    async with task_budget("crawl", calls=10), anyio.create_task_group() as group:
        for page in range(100):
            group.start_soon(worker, page)
    print(f"tasks: {len(pages)} of 100 ran, {len(refused)} refused")
    print(refused[0])


def in_threads() -> None:
    def worker(page: int) -> bool:
        try:
            return bool(read(page))
        except BudgetExceeded:
            return False

    with task_budget("files", calls=10) as budget, ThreadPoolExecutor(100) as pool:
        ran = list(pool.map(budget.wrap(worker), range(100)))  # wrap carries the task along
        print(f"threads: {ran.count(True)} of 100 ran, {ran.count(False)} refused")
        print(budget.describe())


async def main() -> None:
    await in_tasks()
    await anyio.to_thread.run_sync(in_threads)


if __name__ == "__main__":
    anyio.run(main)

"""A hundred calls at once on a budget of ten: exactly ten run, in tasks and in threads.

The amount is held before a call starts, so calls that start together cannot all see the same
room. A refusal is a `BudgetExceeded`, which a model may read.

It prints:

    tasks: 10 of 100 ran
    threads: 10 of 100 ran
    one reply: budget 'files' has 0 of 10 calls left, 1 requested
"""

from concurrent.futures import ThreadPoolExecutor

import anyio

from budgetware import BudgetExceeded, budgeted, task_budget


@budgeted(calls=1)
async def fetch(page: int) -> str:
    await anyio.sleep(0.01)
    return f"page {page}"


@budgeted(calls=1)
def read(number: int) -> str:
    return f"file {number}"


async def fetch_or_be_told(page: int, replies: list[str]) -> None:
    try:
        replies.append(await fetch(page))
    except BudgetExceeded as error:
        replies.append(str(error))


def read_or_be_told(number: int) -> str:
    try:
        return read(number)
    except BudgetExceeded as error:
        return str(error)


async def main() -> None:
    replies = list[str]()
    async with task_budget("crawl", calls=10), anyio.create_task_group() as group:
        for page in range(100):
            group.start_soon(fetch_or_be_told, page, replies)
    print(f"tasks: {sum(reply.startswith('page') for reply in replies)} of 100 ran")

    with task_budget("files", calls=10) as budget, ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(budget.wrap(read_or_be_told), range(100)))  # carries the task along
    print(f"threads: {sum(reply.startswith('file') for reply in replies)} of 100 ran")
    print("one reply:", min(replies).partition(":")[0])


if __name__ == "__main__":
    anyio.run(main)

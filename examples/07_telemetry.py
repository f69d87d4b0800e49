"""Spans for programs that configure no OpenTelemetry: one per call, one per task, on the console.

`setup()` writes spans and metrics to standard error as JSON; `setup("otlp")` sends them to a
collector. A program that has an SDK already needs neither: budgetware reports to it.

It prints:

    two files were read
    one was refused: budget 'reader' has 0 of 2 calls left, 1 requested: finish without this \
call, or top_up the budget

and on standard error, among others, the spans `execute_tool read` (three times, the last one an
error of type `budgetware.rejected`) and, around them, `budgetware.task`.
"""

import anyio

from budgetware import BudgetExceeded, budgeted, task_budget
from budgetware.telemetry import setup


@budgeted(calls=1)
async def read(name: str) -> str:
    await anyio.sleep(0)
    return f"text of {name}"


async def main() -> None:
    with setup():
        async with task_budget("reader", calls=2):
            await read("a.txt")
            await read("b.txt")
            print("two files were read")
            try:
                await read("c.txt")
            except BudgetExceeded as error:
                print("one was refused:", error)


if __name__ == "__main__":
    anyio.run(main)

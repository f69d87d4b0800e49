"""An agent that swallows every error is ended by its budget, and still writes a last answer.

Under `policy="reject"` this loop would read refusal after refusal (the hundredth in a row ends
it). Under `policy="terminate"` the first call beyond the limit ends the task: `except Exception`
does not catch what ends it, and the block raises `BudgetTerminated`. What `keep` held back is left
for one last `finish()`.

It prints:

    10 searches ran in 11 turns
    task 'stubborn' was terminated: 0 of 11 calls left, 1 requested
    answer: ten pages were read
    tokens: 95 of 500 spent
    calls: 11 of 11 spent
"""

import anyio

from budgetware import BudgetTerminated, Usage, budgeted, task_budget


@budgeted(calls=1)
async def search(turn: int) -> str:
    await anyio.sleep(0)
    return f"page {turn}"


@budgeted(tokens=200, calls=1, settle=lambda _: Usage(output_tokens=95), kind="llm")
async def write_answer() -> str:
    return "ten pages were read"


async def agent(turns: list[int], pages: list[str]) -> None:
    for turn in range(1_000):
        turns.append(turn)
        try:
            pages.append(await search(turn))
        except Exception:  # noqa: S112 - what many agent loops do
            continue


async def main() -> None:
    turns, pages = list[int](), list[str]()
    keep = {"tokens": 200, "calls": 1}
    budget = task_budget("stubborn", tokens=500, calls=11, keep=keep, policy="terminate")
    try:
        async with budget:
            await agent(turns, pages)
    except BudgetTerminated as error:
        print(f"{len(pages)} searches ran in {len(turns)} turns")
        print(error)
        async with budget.finish():
            print("answer:", await write_answer())
    for dim in ("tokens", "calls"):
        balance = budget.snapshot()[dim]
        print(f"{dim}: {balance.spent} of {balance.limit} spent")


if __name__ == "__main__":
    anyio.run(main)

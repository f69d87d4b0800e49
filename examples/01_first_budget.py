"""A task with limits, a tool and a model that pay from it, and what was spent at the end.

`budgeted` holds what a call may cost before it runs and settles to what it really cost; `reserve`
does the same by hand. The replies stand in for a provider's.

It prints:

    search: ['anyio.readthedocs.io', 'trio.readthedocs.io']
    think: Cancel scopes nest.
    chat: Use a task group.
    tokens: 1,072 spent, 48,928 left
    calls: 2 spent, 38 left
    usd: 0.000317 spent, 0.249683 left
"""

from typing import NamedTuple

import anyio

from budgetware import Usage, budgeted, connect, reserve, task_budget

PRICES = {"gpt-4o-mini": {"input": "0.15", "output": "0.60"}}  # dollars per million tokens


class Reply(NamedTuple):
    """What a provider answers: a text, and what it cost."""

    text: str
    usage: Usage


@budgeted(calls=1)
async def search(query: str) -> list[str]:
    return [f"{library}.readthedocs.io" for library in ("anyio", "trio") if query]


@budgeted(tokens=2_000, calls=1, settle=lambda r: r.usage, kind="llm", model="gpt-4o-mini")
async def think(prompt: str) -> Reply:
    return Reply("Cancel scopes nest.", Usage(input_tokens=len(prompt), output_tokens=490))


async def main() -> None:
    async with (
        connect(prices=PRICES),
        task_budget("research", tokens=50_000, calls=40, usd="0.25", seconds=120) as budget,
    ):
        print("search:", await search("anyio cancellation"))
        print("think:", (await think("What does anyio add to cancellation? " * 4 + "Why?")).text)
        async with reserve(tokens=800) as reservation:  # the same by hand
            reply = Reply("Use a task group.", Usage(input_tokens=310, output_tokens=120))
            reservation.commit(reply.usage)
        print("chat:", reply.text)
        for dim in ("tokens", "calls", "usd"):
            balance = budget.snapshot()[dim]
            print(f"{dim}: {balance.spent:,} spent, {balance.remaining:,} left")


if __name__ == "__main__":
    anyio.run(main)

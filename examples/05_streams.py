"""A stream is charged for what came: in full at its end, and up to the cut where it is cut.

`settle` sees every item of a generator, and its numbers are cumulative. The hold lasts from the
first step to the last. A listener sees one event per reservation.

It prints:

    read to its end: one two three four
    cut after two: one two
    tokens: 40 + 20 = 60
    tell: completed, held 100, charged 40
    tell: cancelled, held 100, charged 20
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio

from budgetware import budgeted, connect, task_budget


@budgeted(tokens=100, settle=lambda item: item[1], kind="llm")
async def tell() -> AsyncGenerator[tuple[str, int]]:
    for number, word in enumerate(["one", "two", "three", "four"], start=1):
        await anyio.sleep(0)
        yield word, 10 * number  # a word, and the tokens used so far


async def read(limit: int) -> str:
    words = list[str]()
    async with aclosing(tell()) as stream:
        async for word, _tokens in stream:
            words.append(word)
            if len(words) == limit:
                break
    return " ".join(words)


async def main() -> None:
    async with connect() as service:
        events = service.subscribe()
        async with task_budget("story", tokens=1_000) as budget:
            print("read to its end:", await read(100))
            print("cut after two:", await read(2))
            print("tokens: 40 + 20 =", budget.spent("tokens"))
    async for event in events:
        held, charged = event.reserved["tokens"], event.charged["tokens"]
        print(f"{event.name}: {event.outcome}, held {held}, charged {charged}")


if __name__ == "__main__":
    anyio.run(main)

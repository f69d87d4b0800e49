"""A stream that is cut is charged for what came; each attempt of a retry is its own reservation.

`settle` sees every item of a generator, and its numbers are cumulative. The provider below refuses
the first attempt with a 429, which it does not bill: `on_error` says so, and the hold is released.
A listener sees one event per reservation.

It prints:

    read to its end: one two three four
    cut after two: one two
    answer: hello
    tokens: 40 + 20 + 7 = 67
    tell: completed, held 100, charged 40
    tell: cancelled, held 100, charged 20
    ask: failed, held 50, charged 0
    ask: completed, held 50, charged 7
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from budgetware import budgeted, connect, task_budget

WORDS = "one two three four".split()
attempts: list[str] = []


class TooManyRequests(Exception):
    """The provider's 429."""


@budgeted(tokens=100, settle=lambda chunk: chunk[1], kind="llm")
async def tell() -> AsyncGenerator[tuple[str, int]]:
    for number, word in enumerate(WORDS, start=1):
        await anyio.sleep(0)
        yield word, 10 * number  # a word, and the tokens used so far


@budgeted(
    tokens=50,
    settle=lambda _: 7,
    kind="llm",
    on_error=lambda error: "release" if isinstance(error, TooManyRequests) else "charge",
    retry=AsyncRetrying(retry=retry_if_exception_type(TooManyRequests), stop=stop_after_attempt(3)),
)
async def ask(question: str) -> str:
    attempts.append(question)
    if len(attempts) == 1:
        raise TooManyRequests
    return "hello"


async def words(limit: int) -> str:
    async with aclosing(tell()) as stream:
        found: list[str] = []
        async for word, _tokens in stream:
            found.append(word)
            if len(found) == limit:
                break
    return " ".join(found)


async def main() -> None:
    attempts.clear()
    async with connect() as service:
        events = service.subscribe(100)
        async with task_budget("story", tokens=1_000) as budget:
            print("read to its end:", await words(100))
            print("cut after two:", await words(2))
            print("answer:", await ask("How do you say hello?"))
            print("tokens: 40 + 20 + 7 =", budget.spent("tokens"))
    async for event in events:
        held, charged = event.reserved["tokens"], event.charged["tokens"]
        print(f"{event.name}: {event.outcome}, held {held}, charged {charged}")


if __name__ == "__main__":
    anyio.run(main)

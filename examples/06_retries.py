"""Every attempt of a retry is a reservation of its own, and a refusal is not tried again.

The provider answers the first attempt with a 429, which it does not bill: `on_error` says so, and
what was held returns. `retry` takes tenacity's own objects; `retry_unless_denied()` retries any
error but a budget's.

It prints:

    first: hello, 60 tokens left
    second: budget 'chat' has 60 of 100 tokens left, 80 requested
    attempts: 429 hello
    ask: failed, asked for 80, charged 0
    ask: completed, asked for 80, charged 40
    ask: rejected, asked for 80, charged 0
"""

import anyio
from tenacity import AsyncRetrying, stop_after_attempt

from budgetware import BudgetExceeded, budgeted, connect, task_budget
from budgetware.retry import retry_unless_denied


class TooManyRequests(Exception):
    """The provider's 429."""


@budgeted(
    tokens=80,
    settle=lambda _: 40,
    on_error=lambda error: "release" if isinstance(error, TooManyRequests) else "charge",
    retry=AsyncRetrying(retry=retry_unless_denied(), stop=stop_after_attempt(3)),
)
async def ask(attempts: list[str]) -> str:
    attempts.append("hello" if attempts else "429")
    if attempts[-1] == "429":
        raise TooManyRequests
    return attempts[-1]


async def main() -> None:
    attempts = list[str]()
    async with connect() as service:
        events = service.subscribe()
        async with task_budget("chat", tokens=100) as budget:
            print(f"first: {await ask(attempts)}, {budget.remaining('tokens')} tokens left")
            try:
                await ask(attempts)
            except BudgetExceeded as error:
                print("second:", str(error).partition(":")[0])
    print("attempts:", *attempts)
    async for event in events:
        asked, charged = event.reserved["tokens"], event.charged.get("tokens", 0)
        print(f"{event.name}: {event.outcome}, asked for {asked}, charged {charged}")


if __name__ == "__main__":
    anyio.run(main)

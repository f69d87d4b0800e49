"""Who used what: a report over the last days, and what a principal has left now.

Every call is one usage event, and what they add up to by the hour is kept: in the ledger, or as
here in the memory of the process. A team's report counts those below it; a counter of your own is a
section of it. `budgetware usage --by principal` shows the same.

It prints:

    team: 4 calls, 1 refused, $0.000360
    alice: 3 calls, 1 refused, $0.000210
    bob: 1 calls, 0 refused, $0.000150
    2 sessions, shortages: {'seen': 1}
    alice has 0 of 3 calls left
"""

import anyio
from anyio.to_thread import run_sync

from budgetware import BudgetExceeded, Capacity, Usage, budgeted, connect, task_budget

PRICES = {"small": {"input": "0.30", "output": "0.60"}}


@budgeted(calls=1)
async def search() -> str:
    return "pages"


@budgeted(tokens=500, calls=1, settle=lambda usage: usage, kind="llm", model="small")
async def think(answer_tokens: int) -> Usage:
    return Usage(input_tokens=300, output_tokens=answer_tokens)


async def main() -> None:
    async with connect(prices=PRICES) as service:
        service.define_principal("team")
        service.define_principal("alice", parent="team", quotas={"calls": Capacity(3)})
        service.define_principal("bob", parent="team")
        async with task_budget("research", usd=1, principal="alice"):
            await think(200)
            for _page in range(3):
                try:
                    await search()
                except BudgetExceeded:
                    service.count("shortages", seen=1)
        async with task_budget("review", usd=1, principal="bob"):
            await think(100)

        for name in ("team", "alice", "bob"):
            usage = (await run_sync(service.report, name)).usage
            print(f"{name}: {usage.calls} calls, {usage.refused} refused, ${usage.charged['usd']}")
        report = await run_sync(service.report)
        print(f"{report.sessions.completed} sessions, shortages: {report.counters['shortages']}")
        alice = await run_sync(service.resource_usage, "alice")
        print(f"alice has {alice.quotas['calls'].remaining if alice else '?'} of 3 calls left")


if __name__ == "__main__":
    anyio.run(main)

"""Four processes share one budget, exactly: on a file, or on a Redis or Valkey server.

That is where balances live with `python 11_four_workers.py valkey://localhost:6379`.

It prints:

    4 workers made 800 calls
    pages: 800 of 800 used, 0 leased
    the job: 800 of 1,000 calls
"""

import sys
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory

import anyio

from budgetware import BudgetExceeded, Capacity, Resource, budgeted, connect, task_budget

PAGES = Resource("pages", Capacity(800), "reject", dim="calls")
job = partial(task_budget, "crawl-17", shared=True, calls=1_000)  # each run has its own name


@budgeted(target="pages")
async def fetch() -> None: ...


async def work(ledger: str) -> None:
    fetched = 0
    async with connect(ledger=ledger) as service, job():
        service.define(PAGES)  # every worker may: it is the same one
        with suppress(BudgetExceeded):
            while True:
                await fetch()
                fetched += 1
    print(fetched)


async def run_worker(ledger: str, fetched: list[int]) -> None:
    done = await anyio.run_process([sys.executable, __file__, ledger, "worker"])
    fetched.append(int(done.stdout))


async def main(ledger: str = "") -> None:
    with TemporaryDirectory() as folder:
        ledger = ledger or f"sqlite:///{folder}/budgetware.db"
        fetched: list[int] = []
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(run_worker, ledger, fetched)
        print(f"{len(fetched)} workers made {sum(fetched)} calls")
        async with connect(ledger=ledger) as service, job() as task:
            pages = service.resource("pages").balance
            print(f"pages: {pages.spent} of {pages.limit} used, {pages.granted} leased")
            print(f"the job: {task.spent('calls')} of 1,000 calls")


if __name__ == "__main__":
    anyio.run(work if sys.argv[2:] else main, "".join(sys.argv[1:2]))

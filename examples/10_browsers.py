"""Three browsers for tools in threads and async tools at once; who would wait too long is told.

A slot of a `Concurrency` returns when the call that holds it ends. Its parent counts how often a
browser is started, eight times in ten minutes; a draw is charged to both or to none. An async tool
waits without blocking the event loop, a sync tool blocks the thread it is in.

It prints, the seconds apart:

    8 pages were seen, at most 3 at once
    browsers: 3 of 3 left
    starts: 0 of 8 left
    after a wait of 0.2 s resource 'starts' has 0 of 8 starts left, 1 requested
    come back in 74.7 s
"""

import time
from itertools import accumulate

import anyio
from anyio.to_thread import run_sync

from budgetware import Concurrency, QuotaExceeded, Rate, Resource, budgeted, connect, reserve


@budgeted(target="browsers")
def screenshot(opened: list[int]) -> None:
    opened.append(1)
    time.sleep(0.05)
    opened.append(-1)


@budgeted(target="browsers")
async def read(opened: list[int]) -> None:
    opened.append(1)
    await anyio.sleep(0.05)
    opened.append(-1)


async def main() -> None:
    opened = list[int]()
    async with connect() as service:
        service.define(Resource("starts", Rate(8, "10m"), unit="start", units="starts"))
        service.define(Resource("browsers", Concurrency(3), parent="starts"))
        async with anyio.create_task_group() as group:
            for _page in range(4):
                group.start_soon(run_sync, screenshot, opened)
                group.start_soon(read, opened)
        print(f"{opened.count(1)} pages were seen, at most {max(accumulate(opened))} at once")
        for view in service.resources():
            print(f"{view.name}: {view.balance.remaining} of {view.balance.limit} left")
        try:
            async with reserve("browsers", max_wait="0.2s") as browser:
                browser.commit()
        except QuotaExceeded as error:
            print(str(error).rpartition(":")[0])
            print(f"come back in {error.retry_after:.1f} s")


if __name__ == "__main__":
    anyio.run(main)

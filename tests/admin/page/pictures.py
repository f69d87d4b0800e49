"""Take the pictures of the page: `python -m tests.admin.page.pictures`, which takes five minutes.

Agents work all the while: some within their budgets, one beyond them, some waiting for a browser.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from playwright.sync_api import Browser

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    Limit,
    QuotaToken,
    Rate,
    Resource,
    Usage,
    budgeted,
    reserve,
    task_budget,
)
from tests.admin.page.stage import Stage, browsing, stage, visiting

FOLDER = Path(__file__).parents[3] / "examples" / "pictures"
SECONDS = 300.0
PRICES = {
    "gpt-4o-mini": {"input": "0.15", "output": "0.60"},
    "claude-haiku-4-5": {"input": "1.00", "output": "5.00"},
}
chance = random.Random(7)


def reply() -> dict[str, object]:
    usage = {
        "prompt_tokens": chance.randint(200, 900),
        "completion_tokens": chance.randint(40, 400),
    }
    return {"usage": usage}


@budgeted(
    tokens=1_500, calls=1, kind="llm", model="gpt-4o-mini", provider="openai", settle=Usage.of
)
async def think() -> dict[str, object]:
    await anyio.sleep(chance.uniform(0.2, 1.2))
    return reply()


@budgeted(tokens=1_500, calls=1, kind="llm", model="claude-haiku-4-5", settle=Usage.of)
async def write_code() -> dict[str, object]:
    await anyio.sleep(chance.uniform(0.4, 1.8))
    return reply()


@budgeted(calls=1)
async def search() -> None:
    await anyio.sleep(chance.uniform(0.05, 0.3))


@budgeted(calls=1)
async def run_tests() -> None:
    await anyio.sleep(chance.uniform(0.3, 0.9))
    if chance.random() < 0.06:
        raise TimeoutError


async def browse() -> None:
    async with reserve("browsers", 1, name="open_page", kind="tool"):
        await anyio.sleep(chance.uniform(0.8, 2.0))


Step = Callable[[], Awaitable[object]]


async def work(steps: Sequence[Step], pause_seconds: float) -> None:
    """Do one of these again and again, more often at times."""
    token = QuotaToken("openai-tokens", 1_000)
    async with token:
        while True:
            try:
                await chance.choice(steps)()
            except BudgetExceeded:
                await anyio.sleep(pause_seconds * 3)
            except TimeoutError:
                pass
            tide = 1.3 + math.sin(time.monotonic() / 23)
            await anyio.sleep(pause_seconds * tide * chance.uniform(0.5, 1.5))


async def research() -> None:
    tokens = Limit(250_000, warn=150_000)
    async with (
        task_budget("research", principal="alice", tokens=tokens, usd="0.25", calls=2_000),
        anyio.create_task_group() as below,
    ):
        below.start_soon(sub_agent, "planner", [think], 1.6, {"tokens": 200_000, "usd": "0.08"})
        below.start_soon(sub_agent, "web", [search, search, browse], 0.5, {"calls": 900})
        await work([think, search], 0.9)


async def sub_agent(
    name: str, steps: Sequence[Step], pause: float, limits: Mapping[str, Any]
) -> None:
    async with task_budget(name, **limits):
        await work(steps, pause)


async def coder() -> None:
    limits: dict[str, Any] = {"tokens": Limit(160_000, warn=80_000), "usd": "0.40", "calls": 900}
    async with (
        task_budget("coder", principal="alice", policy="throttle", **limits),
        anyio.create_task_group() as below,
    ):
        below.start_soon(sub_agent, "tests", [run_tests], 0.8, {"calls": 400, "seconds": 900})
        await work([write_code], 1.4)


async def reviewer() -> None:
    limits: dict[str, Any] = {"tokens": 24_000, "usd": "0.05", "calls": 60}
    async with task_budget("reviewer", principal="bob", **limits):
        await work([think, search], 0.8)


async def crawler() -> None:
    async with (
        task_budget("crawler", principal="ops", calls=5_000, seconds=3_600),
        anyio.create_task_group() as below,
    ):
        for _ in range(5):
            below.start_soon(work, [browse, browse, search], 0.4)


def define(here: Stage) -> None:
    """Resources and principals, as a manifest would have them."""
    service = here.service
    service.define(Resource("org-tokens", Capacity(50_000_000), "reject", dim="tokens"))
    service.define(
        Resource(
            "openai-tokens", Rate(90_000, "minute"), "throttle", dim="tokens", parent="org-tokens"
        )
    )
    service.define(Resource("browsers", Concurrency(4), "throttle", unit="slot", units="slots"))
    service.define_principal("team-search")
    quotas = {"tokens": Rate(1_000_000, "day")}
    service.define_principal("alice", parent="team-search", quotas=quotas)
    service.define_principal("bob", parent="team-search", quotas={"calls": Rate(600, "hour")})
    service.define_principal("ops", exempt=True)


async def work_for(seconds: float) -> None:
    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for agent in (research, coder, reviewer, crawler):
                tasks.start_soon(agent)


def take(browser: Browser, here: Stage, name: str, scheme: str, width: int, height: int) -> None:
    size = {"width": width, "height": height}
    with visiting(browser, viewport=size, color_scheme=scheme) as visit:
        page = visit.open(here)
        page.locator("#today-calls:not(:text-is('-'))").wait_for()
        page.wait_for_timeout(1_000)
        page.screenshot(path=FOLDER / name)


def main() -> None:
    """Let the agents work, and take both pictures."""
    with browsing() as browser, stage(prices=PRICES) as here:
        define(here)
        working = here.begin(work_for, SECONDS + 20)
        time.sleep(SECONDS)
        take(browser, here, "live-page.png", "light", 1280, 800)
        take(browser, here, "live-page-phone.png", "dark", 390, 844)
        working.result()


if __name__ == "__main__":
    main()

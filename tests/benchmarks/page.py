"""How fast the live page is with a thousand budgets: `python -m tests.benchmarks.page`.

First paint; from a charge in the process until the page shows it; what the page costs meanwhile.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median, quantiles
from typing import Any

import anyio
from playwright.sync_api import Page

from budgetware import charge
from tests.admin.page.agents import Agent, agent, crowd
from tests.admin.page.stage import Visit, browsing, stage, visiting

BUDGETS = (10, 1_000)
CHARGES = 100
BUSY_SECONDS = 10.0
CALLS_A_SECOND = 20
WATCH = """() => {
    window.seen = {};
    const meter = document.querySelector(".task .meter");
    new MutationObserver(() => requestAnimationFrame(() => {
        const spent = /spent ([0-9,]+)/.exec(meter.title)[1].replaceAll(",", "");
        window.seen[spent] ??= performance.timeOrigin + performance.now();
    })).observe(meter, { attributes: true });
}"""

SEEN = """(number) => new Promise((done) => {
    const look = () => window.seen[number] ? done(window.seen[number]) : setTimeout(look, 5);
    look();
})"""


async def charge_one() -> float:
    """Charge one token; when that was, in seconds."""
    charge(tokens=1)
    return time.time()


async def stay_busy() -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while time.monotonic() < deadline:
        charge(tokens=1)
        await anyio.sleep(1 / CALLS_A_SECOND)


class Metrics:
    """What the browser says of a page: seconds of work, bytes, nodes."""

    def __init__(self, page: Page) -> None:
        self._session: Any = page.context.new_cdp_session(page)
        self._session.send("Performance.enable")

    def now(self) -> dict[str, float]:
        rows = self._session.send("Performance.getMetrics")["metrics"]
        return {row["name"]: row["value"] for row in rows}


def load(visit: Visit, url: str) -> None:
    page = visit.page
    page.goto(url)
    page.locator(".task").first.wait_for()
    rows_ms = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"  first paint {paint:.0f} ms, budgets by {rows_ms:.0f} ms")


def latencies_ms(page: Page, watched: Agent) -> list[float]:
    """From a charge until the page shows it, at any moment of its rhythm."""
    page.evaluate(WATCH)
    found: list[float] = []
    for number in range(1, CHARGES + 1):
        charged_at = watched.does(charge_one)
        shown_at_ms = page.evaluate(SEEN, number)
        found.append(shown_at_ms - charged_at * 1_000)
        page.wait_for_timeout(137 * (number % 7))
    return found


def load_of(page: Page, watched: Agent) -> str:
    """What the page costs while it has much to do."""
    metrics = Metrics(page)
    before = metrics.now()
    watched.begins(stay_busy)
    page.wait_for_timeout(BUSY_SECONDS * 1_000)
    after = metrics.now()
    task, script = (after[name] - before[name] for name in ("TaskDuration", "ScriptDuration"))
    return (
        f"{task / BUSY_SECONDS:.0%} of a core, script {script / BUSY_SECONDS:.1%}; "
        f"heap {after['JSHeapUsedSize'] / 1e6:.1f} MB, {after['Nodes']:.0f} nodes"
    )


def measure(budgets: int) -> None:
    """Print the figures with so many budgets."""
    with ExitStack() as stack:
        visit = stack.enter_context(visiting(stack.enter_context(browsing())))
        here = stack.enter_context(stage())
        watched = stack.enter_context(agent(here, "watched", tokens=1_000_000))
        stack.enter_context(crowd(here, budgets - 1))
        print(f"{budgets} budgets")
        load(visit, here.url)
        visit.page.locator("#status[data-phase=live]").wait_for()
        found = latencies_ms(visit.page, watched)
        p95 = quantiles(found, n=20)[-1]
        print(f"  from charge to page: median {median(found):.0f} ms, p95 {p95:.0f} ms")
        print(f"  at {CALLS_A_SECOND} calls a second: {load_of(visit.page, watched)}")


if __name__ == "__main__":
    for count in BUDGETS:
        measure(count)

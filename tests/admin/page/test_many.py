"""A thousand budgets and many calls: what did not change is left alone, and lists stay short."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.admin.page.agents import agent, crowd, search
from tests.admin.page.stage import Stage, Visit

BUDGETS = 1_000
CALLS = 1_200
WATCH = """(selector) => {
    window.touched = [];
    window.paints = new Set();
    const observer = new MutationObserver((records) => {
        window.paints.add(performance.now());
        for (const { target } of records) window.touched.push(target.parentElement?.className);
    });
    const all = { subtree: true, childList: true, characterData: true, attributes: true };
    for (const node of document.querySelectorAll(selector)) observer.observe(node, all);
}"""


async def call_often() -> None:
    for _ in range(CALLS):
        await search()


def test_thousand_budgets_are_shown_in_parts(visit: Visit, here: Stage) -> None:
    with crowd(here, BUDGETS):
        page = visit.open(here)
        expect(page.locator("#task-count")).to_have_text("1.0k")
        expect(page.locator(".task")).to_have_count(60)
        page.get_by_role("button", name="Show 200 more of 1000").click()
        expect(page.locator(".task")).to_have_count(260)
        page.get_by_label("Filter budgets").fill("worker-998")
        expect(page.locator(".task .name")).to_have_text(["worker-998"])


def test_only_what_changed_is_touched(visit: Visit, here: Stage) -> None:
    with agent(here, "idle", calls=9), agent(here, "active", calls=9) as active:
        page = visit.open(here)
        expect(page.locator(".task")).to_have_count(2)
        names = page.locator(".task .name").all_inner_texts()
        rows = page.locator(".task")
        rows.nth(names.index("idle")).evaluate("row => row.classList.add('watched')")
        page.evaluate(WATCH, ".watched .bar, .watched .badge, .watched .actions, #resources")
        active.does(search)
        expect(rows.nth(names.index("active"))).to_contain_text("1 / 9")
        assert page.evaluate("touched") == []


def test_calls_are_painted_seldom_and_few_are_kept(visit: Visit, here: Stage) -> None:
    with agent(here, calls=CALLS) as running:
        page = visit.open(here)
        page.evaluate(WATCH, "#calls")
        begun = page.evaluate("performance.now()")
        running.does(call_often)
        expect(page.locator(".task")).to_contain_text("1.2k / 1.2k")
        expect(page.locator("#today-calls")).to_have_text("1.2k")
        seconds = (page.evaluate("performance.now()") - begun) / 1_000
        assert page.evaluate("paints.size") <= 4 * seconds + 1
        expect(page.locator(".call")).to_have_count(25)
        for shown in (125, 225, 325, 425, 500):
            page.locator("#more-calls").click()
            expect(page.locator(".call")).to_have_count(shown)
        expect(page.locator("#more-calls")).to_be_hidden()

"""What the page shows while agents run: budgets, calls, refusals, waiters, totals."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    Limit,
    Rate,
    Resource,
    charge,
    reserve,
)
from tests.admin.page.agents import agent, search, think
from tests.admin.page.stage import Stage, Visit, stage

PRICES: dict[str, Any] = {"gpt-4o-mini": {"input": "10", "output": "30"}}


def task(visit: Visit, name: str = "research") -> Locator:
    row = visit.page.locator(".task").filter(has=visit.page.locator(f".name:text-is('{name}')"))
    return row.first


def meter(row: Locator, dim: str) -> Locator:
    return row.locator(".meter").filter(has_text=re.compile(f"^{dim}"))


async def charge_tokens() -> None:
    charge(tokens=1_200)


def test_spending_shows_while_the_agent_runs(visit: Visit) -> None:
    with stage(prices=PRICES) as here, agent(here, tokens=5_000, usd="0.05", calls=9) as running:
        visit.open(here)
        expect(meter(task(visit), "tokens")).to_contain_text("0 / 5.0k")
        running.does(think)
        expect(meter(task(visit), "tokens")).to_contain_text("400 / 5.0k")
        expect(meter(task(visit), "usd")).to_contain_text("$0.006 / $0.05")
        expect(meter(task(visit), "calls")).to_contain_text("1 / 9")
        call = visit.page.locator(".call").first
        expect(call).to_contain_text("think")
        expect(call).to_contain_text("400 tokens, $0.006")
        expect(visit.page.locator("#today-tokens")).to_have_text("400")
        expect(visit.page.locator(".chart.tokens .now")).not_to_have_text("0")


def test_what_is_held_is_drawn_apart_from_what_is_spent(visit: Visit, here: Stage) -> None:
    with agent(here, tokens=Limit(1_000, warn=900)) as running:
        visit.open(here)
        held = running.does(lambda: hold(250))
        shown = meter(task(visit), "tokens")
        expect(shown.locator(".reserved")).to_have_attribute("style", "width: 25%;")
        expect(shown.locator(".tick")).to_have_attribute("style", "left: 90%;")
        here.portal.call(held.commit, 950)
        expect(shown.locator(".spent")).to_have_attribute("style", "width: 95%;")
        expect(shown).to_have_attribute("data-level", "warn")
        expect(shown).to_have_attribute("title", re.compile("spent 950, reserved 0, remaining 50"))


async def hold(tokens: int) -> Any:
    return await reserve(tokens=tokens)


def test_what_is_released_is_returned(visit: Visit, here: Stage) -> None:
    with agent(here, tokens=1_000) as running:
        visit.open(here)
        here.portal.call(running.does(lambda: hold(250)).release)
        expect(visit.page.locator(".call")).to_contain_text("returned 250 tokens")


def test_overrun_is_named(visit: Visit, here: Stage) -> None:
    with agent(here, tokens=1_000) as running:
        visit.open(here)
        running.does(charge_tokens)
        expect(meter(task(visit), "tokens")).to_contain_text("+200 over")
        expect(task(visit).locator(".badge")).to_have_text("exhausted")


def test_refused_call_is_listed_counted_and_told(visit: Visit, here: Stage) -> None:
    with agent(here, calls=1) as running:
        visit.open(here)
        running.does(search)
        with pytest.raises(BudgetExceeded):
            running.does(search)
        refused = visit.page.locator(".call.refused")
        expect(refused).to_contain_text("rejected")
        expect(refused).to_contain_text("BudgetExceeded")
        expect(visit.page.locator("#refusals")).to_have_text(
            "Refused: search in research, rejected."
        )
        expect(visit.page.locator("#refusals")).to_have_attribute("aria-live", "polite")
        expect(visit.page.locator("#today-refused")).to_have_text("1")
        visit.page.get_by_label("Refused only").check()
        expect(visit.page.locator(".call")).to_have_count(1)


def test_resources_show_who_waits_and_their_parent(visit: Visit, here: Stage) -> None:
    here.service.define(Resource("org", Capacity(50_000), "reject"))
    here.service.define(Resource("browsers", Concurrency(1), "throttle"))
    here.service.define(Resource("pages", Rate(60, "minute"), "throttle", parent="org"))
    with agent(here, "a", calls=9) as first, agent(here, "b", calls=9) as second:
        visit.open(here)
        held = first.does(lambda: hold_one("browsers"))
        waiting = second.begins(lambda: hold_one("browsers"))
        browsers = visit.page.locator("#resources .entry").filter(has_text="browsers")
        expect(browsers).to_contain_text("1 waiting")
        expect(browsers).to_contain_text("1 / 1")
        here.portal.call(held.release)
        here.portal.call(waiting.result(20).release)
        expect(browsers).to_contain_text("0 / 1")
        pages = visit.page.locator("#resources .entry").filter(has_text="pages")
        expect(pages).to_contain_text("60 / minute · throttle · below org")


async def hold_one(resource: str) -> Any:
    return await reserve(resource, 1)


def test_principals_show_their_quotas(visit: Visit, here: Stage) -> None:
    here.service.define_principal("team")
    here.service.define_principal("alice", parent="team", quotas={"tokens": Rate(4_000, "day")})
    here.service.define_principal("ops", exempt=True)
    visit.open(here)
    with agent(here, principal="alice", tokens=2_000) as running:
        running.does(think)
        alice = visit.page.locator("#principals .entry").filter(has_text="alice")
        expect(alice).to_contain_text("below team · tokens 4.0k / day")
        expect(alice).to_contain_text("400 / 4.0k")
        expect(task(visit)).to_contain_text("for alice")
    expect(visit.page.locator("#principals .badge").filter(has_text="exempt")).to_be_visible()


def test_task_that_ends_goes(visit: Visit, here: Stage) -> None:
    visit.open(here)
    with agent(here, calls=2):
        expect(visit.page.locator(".task")).to_have_count(1)
    expect(visit.page.locator(".task")).to_have_count(0)
    expect(visit.page.locator("#no-tasks")).to_have_text("No budget is open.")


def test_pause_keeps_what_is_shown(visit: Visit, here: Stage) -> None:
    with agent(here, calls=9) as running:
        visit.open(here)
        running.does(search)
        expect(meter(task(visit), "calls")).to_contain_text("1 / 9")
        visit.page.get_by_role("button", name="Pause").click()
        with visit.page.expect_response("**/api/sys/overview"):
            running.does(search)
        expect(visit.page.locator("#status")).to_have_text("Paused")
        expect(meter(task(visit), "calls")).to_contain_text("1 / 9")
        visit.page.get_by_role("button", name="Pause").click()
        expect(meter(task(visit), "calls")).to_contain_text("2 / 9")


def test_calls_of_before_are_listed_and_drawn(visit: Visit, here: Stage) -> None:
    with agent(here, calls=1_500) as running:
        running.does(search_often)
        page = visit.open(here)
        expect(page.locator(".call")).to_have_count(25)
        chart = page.get_by_role("slider", name="Calls / s")
        expect(chart).to_have_attribute("aria-valuetext", re.compile(r"peak [2-4]\d\d"))


async def search_often() -> None:
    for _ in range(1_200):
        await search()

"""Everybody can use the page: by keyboard alone, with a screen reader, on a phone, at night."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from budgetware import Concurrency, Limit, Rate, Resource, task_budget
from tests.admin.page.agents import Agent, agent, search, think
from tests.admin.page.stage import Stage, Visit, visiting

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
FOCUSED = "document.activeElement.ariaLabel ?? document.activeElement.innerText"


@contextmanager
def busy(here: Stage) -> Generator[Agent]:
    """A tree of two, resources, a principal, and calls of every colour."""
    here.service.define(Resource("openai-tokens", Rate(90_000, "minute"), "throttle", dim="tokens"))
    here.service.define(Resource("browsers", Concurrency(4), "throttle"))
    here.service.define_principal("alice", quotas={"tokens": Rate(10_000, "day")})
    limits: dict[str, Any] = {
        "tokens": Limit(2_000, warn=300),
        "calls": 4,
        "usd": "0.25",
        "bytes": 10_000_000,
    }
    with agent(here, principal="alice", unpriced="allow", **limits) as running:
        for _ in range(3):
            running.does(think)
        yield running


async def enter_child(stack: AsyncExitStack) -> None:
    await stack.enter_async_context(task_budget("child", calls=3))


def tab_to(page: Page, label: str) -> None:
    """Press tab until the focus is there."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == label:
            return
    raise AssertionError(f"the tab key does not reach {label}")


def test_top_up_by_keyboard_alone(visit: Visit, here: Stage) -> None:
    with agent(here, "first", calls=5), agent(here, "second", calls=5) as second:
        page = visit.open(here)
        expect(page.locator(".task")).to_have_count(2)
        tab_to(page, "Top up first")
        page.keyboard.press("ArrowDown")
        expect(page.locator(".task").nth(1)).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#top-up")).to_be_visible()
        page.keyboard.type("7")
        page.keyboard.press("Enter")
        expect(page.locator("#result")).to_have_text("Topped up second: calls +7.")
        expect(page.get_by_role("button", name="Top up second")).to_be_focused()
        assert second.budget.snapshot()["calls"].limit == 12


def test_tree_folds_and_opens_by_arrow_keys(visit: Visit, here: Stage) -> None:
    with agent(here, calls=5) as parent:
        stack = AsyncExitStack()
        parent.does(lambda: enter_child(stack))
        page = visit.open(here)
        tree = page.get_by_role("treegrid", name="Budgets")
        expect(tree.get_by_role("row")).to_have_count(2)
        first = tree.get_by_role("row").first
        first.focus()
        page.keyboard.press("ArrowRight")
        expect(tree.get_by_role("row").nth(1)).to_be_focused()
        expect(tree.get_by_role("row").nth(1)).to_have_attribute("aria-level", "2")
        page.keyboard.press("ArrowLeft")
        expect(first).to_be_focused()
        page.keyboard.press("ArrowLeft")
        expect(first).to_have_attribute("aria-expanded", "false")
        expect(tree.get_by_role("row")).to_have_count(1)
        page.get_by_label("Filter budgets").fill("CHILD")
        expect(tree.get_by_role("row")).to_have_count(2)
        parent.does(stack.aclose)


def test_focus_is_visible(visit: Visit, here: Stage) -> None:
    page = visit.open(here)
    page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"[{style}.outlineStyle, {style}.outlineWidth]") == ["solid", "2px"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_stands_in_the_way(browser: Browser, here: Stage, scheme: str, width: int) -> None:
    """Contrast, names, roles: as axe-core judges them; and nothing is wider than the screen."""
    size = {"width": width, "height": 800}
    with busy(here), visiting(browser, viewport=size, color_scheme=scheme) as visit:
        page = visit.open(here)
        expect(page.locator(".call")).to_have_count(3)
        page.evaluate(AXE)
        assert faults(page) == []
        page.get_by_role("button", name="Top up research").click()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width


def faults(page: Page) -> list[str]:
    found = page.evaluate("axe.run()")["violations"]
    return [f"{fault['id']}: {node['html']}" for fault in found for node in fault["nodes"]]


def test_charts_are_read_by_pointer_and_keyboard(visit: Visit, here: Stage) -> None:
    with agent(here, calls=9) as running:
        page = visit.open(here)
        running.does(search)
        chart = page.get_by_role("slider", name="Calls / s")
        expect(chart).to_have_attribute("aria-valuetext", re.compile("peak 0.3$"))
        chart.focus()
        page.keyboard.press("Home")
        expect(chart).to_have_attribute("aria-valuenow", "0")
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
        expect(chart).to_have_attribute("aria-valuenow", "50")
        expect(page.locator(".chart.calls")).to_contain_text("at ")

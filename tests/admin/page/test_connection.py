"""What the page does when its server is gone: says so, shows how old it is, and comes back."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.admin.page.agents import agent, search
from tests.admin.page.stage import Stage, Visit


def test_page_says_that_the_server_is_gone_and_comes_back(visit: Visit, here: Stage) -> None:
    with agent(here, calls=9) as running:
        page = visit.open(here)
        running.does(search)
        expect(page.locator(".task")).to_contain_text("1 / 9")
        expect(page.locator(".call")).to_have_count(1)
        here.stop()
        expect(page.locator("#status")).to_have_text("Connection lost")
        expect(page.locator("#lost")).to_have_text(re.compile(r"What is shown is of \d\d:\d\d:"))
        expect(page.locator("body")).to_have_attribute("data-stale", "")
        expect(page.locator(".task")).to_contain_text("1 / 9")
        running.does(search)
        here.start()
        expect(page.locator("#status")).to_have_text("Live")
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("body")).not_to_have_attribute("data-stale", "")
        expect(page.locator(".task")).to_contain_text("2 / 9")
        expect(page.locator(".call")).to_have_count(2)
        running.does(search)
        expect(page.locator(".call")).to_have_count(3)


def test_page_tries_again_when_it_is_told_to(visit: Visit, here: Stage) -> None:
    page = visit.open(here)
    here.stop()
    expect(page.locator("#lost")).to_be_visible()
    page.evaluate("Math.random = () => 1e9")  # the next time it would wait for long
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#lost")).to_be_visible()
    here.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#status")).to_have_text("Live")

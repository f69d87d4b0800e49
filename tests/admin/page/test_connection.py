"""What the page does when its server is gone: says so, shows how old it is, and comes back."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import Event

import pytest
from playwright.sync_api import expect

from tests.admin.page.agents import agent, search
from tests.admin.page.stage import PATIENCE_SECONDS, OwnStage, Visit, stage

SOON_SECONDS = 8


@pytest.fixture
def here() -> Iterator[OwnStage]:
    """With a server of its own, which may go."""
    with stage() as made:
        yield made


@contextmanager
def frozen(here: OwnStage) -> Generator[None]:
    """The server takes connections, and answers nothing."""
    thaw = Event()
    here.portal.start_task_soon(thaw.wait, PATIENCE_SECONDS)
    try:
        yield
    finally:
        thaw.set()


def test_page_says_that_the_server_is_gone_and_comes_back(visit: Visit, here: OwnStage) -> None:
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


def test_page_tries_again_when_it_is_told_to(visit: Visit, here: OwnStage) -> None:
    page = visit.open(here)
    here.stop()
    expect(page.locator("#lost")).to_be_visible()
    page.evaluate("Math.random = () => 1e9")  # the next time it would wait for long
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#lost")).to_be_visible()
    here.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#status")).to_have_text("Live")


def test_page_says_soon_that_a_server_has_frozen(visit: Visit, here: OwnStage) -> None:
    with agent(here, calls=9):
        page = visit.open(here)
        expect(page.locator(".task")).to_contain_text("0 / 9")
        with frozen(here):
            stale = expect(page.locator("body"))
            stale.to_have_attribute("data-stale", "", timeout=SOON_SECONDS * 1_000)
            expect(page.locator("#status")).to_have_text("No answer")
            expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#status")).to_have_text("Live")
        expect(page.locator("body")).not_to_have_attribute("data-stale", "")


def test_nothing_is_said_of_what_has_not_come(visit: Visit, here: OwnStage) -> None:
    page = visit.page
    page.route("**/api/sys/overview", lambda route: route.abort())
    page.goto(here.url)
    expect(page.locator("#status")).to_have_text("Connection lost")
    expect(page.locator(".empty").locator("visible=true")).to_have_count(0)
    page.unroute("**/api/sys/overview")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator(".empty").locator("visible=true")).to_have_text(
        [
            "No budget is open.",
            "No resource is defined.",
            "No principal is known.",
            "No call yet.",
        ]
    )

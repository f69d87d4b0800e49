"""Calls on a phone: a card of two lines each, and still a table to a screen reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page, expect

from budgetware import BudgetExceeded, reserve
from tests.admin.page.agents import agent
from tests.admin.page.stage import Stage, Visit, visiting

LONG = "n" * 128
HEADINGS = ["Time", "Call", "Task", "Outcome", "Charged", "Took", "Waited"]
MOST_PIXELS = 64
CARDS = """rows => rows.map(row => {
    const box = (name) => row.querySelector(name).getBoundingClientRect();
    const [name, outcome, charged] = [".call-name", ".outcome", ".charged"].map(box);
    return [row.getBoundingClientRect().height, name.top < charged.top, outcome.top < charged.top];
})"""
IS_CUT = "node => node.scrollWidth > node.clientWidth"


async def call(name: str, tokens: int) -> None:
    async with reserve(name=name, kind="llm", model=LONG, tokens=tokens, usd="0.0001"):
        """Nothing more."""


@contextmanager
def calls(here: Stage) -> Generator[None]:
    """One that was charged in two dimensions, and one that was refused, both with long names."""
    limits = {"tokens": 1_000, "usd": "0.25"}
    with agent(here, LONG, principal=LONG, **limits) as running:
        running.does(lambda: call(LONG, 20))
        with pytest.raises(BudgetExceeded):
            running.does(lambda: call(LONG, 5_000))
        yield


@contextmanager
def phone(browser: Browser, here: Stage, width: int) -> Generator[Page]:
    size = {"width": width, "height": 800}
    with calls(here), visiting(browser, viewport=size) as visit:
        page = visit.open(here)
        expect(page.locator(".call")).to_have_count(2)
        yield page


@pytest.mark.parametrize("width", [360, 480])
def test_call_is_a_card_of_two_lines(browser: Browser, here: Stage, width: int) -> None:
    with phone(browser, here, width) as page:
        for height, is_name_above, is_outcome_above in page.locator(".call").evaluate_all(CARDS):
            assert height <= MOST_PIXELS
            assert is_name_above
            assert is_outcome_above
        assert page.evaluate("document.documentElement.scrollWidth") == width
        charged = page.locator(".call .charged").last
        expect(charged).to_have_text("20 tokens, $0.0001")
        assert not charged.evaluate(IS_CUT)


def test_long_name_is_cut_and_read_from_its_title(browser: Browser, here: Stage) -> None:
    with phone(browser, here, 360) as page:
        for cell in ("call-name", "on"):
            cut = page.locator(f".call .{cell}").last
            assert cut.evaluate(IS_CUT)
            assert cut.evaluate("node => getComputedStyle(node).textOverflow") == "ellipsis"
            expect(cut.locator("bdi").first).to_have_attribute("title", LONG)


def test_cards_are_rows_of_a_table_to_a_screen_reader(browser: Browser, here: Stage) -> None:
    """As the browser itself tells it, whatever the style makes of it."""
    with phone(browser, here, 360) as page:
        session = page.context.new_cdp_session(page)
        answer = cast("Any", session.send("Accessibility.getFullAXTree"))  # pyright: ignore[reportUnknownMemberType]
        told: list[dict[str, Any]] = answer["nodes"]
        seen = [node for node in told if not node["ignored"]]
        roles = Counter(node["role"]["value"] for node in seen)
        assert roles["table"] == 1
        assert roles["cell"] == len(HEADINGS) * 2
        headings = [n["name"]["value"] for n in seen if n["role"]["value"] == "columnheader"]
        assert headings == HEADINGS


def test_long_names_do_not_blow_up_the_table_of_a_wide_screen(visit: Visit, here: Stage) -> None:
    with calls(here):
        page = visit.open(here)
        expect(page.locator(".call")).to_have_count(2)
        for name in page.locator(".call bdi").all():
            assert name.evaluate(IS_CUT)
        assert page.evaluate("document.documentElement.scrollWidth") == 1280

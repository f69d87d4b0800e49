"""Names and texts of others are shown as they are, and do nothing; numbers as elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

import pytest
from playwright.sync_api import Browser, Page, expect

from budgetware import formats, reserve
from budgetware.admin import page
from tests.admin.page.agents import agent
from tests.admin.page.stage import Stage, Visit, visiting

MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP}\x1b[31m\u202e"
SHOWN = f"{MARKUP}\\x1b[31m\\u202e"
COUNTS = [0, 7, 999, 1_000, 1_500, 90_000, 999_949, 999_999, 1_000_000, 2**53 - 1, -1_500]
SECONDS = [0, 0.0004, 0.25, 0.9996, 1.5, 12.34, 59.94, 59.96, 125, 3_600, 9_000, 90_000, 2e6]
DOLLARS = ["0", "0.0123", "0.25", "5", "1234.5", "0.000012", "-0.5"]
TEXTS = ["plain", "é✓", "a\nb\t", "\x7f\x9b", "\u202e\u200b\ufeff", "\u00a0\u2028", "😀\U000e0001"]


def test_markup_and_control_characters_are_shown_as_they_are(visit: Visit, here: Stage) -> None:
    async def call() -> None:
        async with reserve(calls=1, kind="llm", model=MARKUP, provider="</script><b>"):
            raise type(HOSTILE, (UnicodeWarning,), {})

    with agent(here, calls=9) as running:
        shown = visit.open(here)
        with pytest.raises(UnicodeWarning):
            running.does(call)
        row = shown.locator(".call")
        expect(row).to_contain_text(f"llm · {MARKUP} · </script><b>")
        expect(row.locator(".outcome")).to_contain_text(SHOWN)
        assert shown.locator("img, b").count() == 0
        assert visit.complaints == []


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """Where functions alone are called, which leave nothing behind."""
    with visiting(browser) as visit:
        yield visit.page


def evaluated(blank: Page, expression: str) -> object:
    source = (files(page) / "text.js").read_text()
    return blank.evaluate(f"() => {{ {source}; return {expression}; }}")


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        ("countText", COUNTS, [formats.count_text(n) for n in COUNTS]),
        ("bytesText", COUNTS, [formats.bytes_text(n) for n in COUNTS]),
        ("durationText", SECONDS, [formats.duration_text(n) for n in SECONDS]),
        ("moneyText", DOLLARS, [formats.usd_text(n) for n in DOLLARS]),
        ("visible", TEXTS, [formats.visible(text) for text in TEXTS]),
    ],
    ids=["counts", "sizes", "durations", "dollars", "texts"],
)
def test_texts_are_those_of_the_command_line(
    blank: Page, function: str, values: list[object], expected: list[str]
) -> None:
    shown = evaluated(blank, f"{json.dumps(values)}.map(value => {function}(value))")
    assert shown == expected

"""The page that Prometheus serves itself shows what the ledger says."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tests.dashboards.boards import console_queries
from tests.dashboards.conftest import Observed

QUERIES = list(console_queries())
_ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
_CELL = re.compile(r"<t[dh][^>]*>(.*?)</t[dh]>", re.DOTALL)
_TILE = re.compile(r"<dt>(.*?)</dt><dd>(.*?)</dd>")


@pytest.fixture(scope="module")
def page(observed: Observed) -> str:
    return observed.prometheus.page("/consoles/budgetware.html")


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).strip()


def rows(page: str) -> list[list[str]]:
    return [[text_of(cell) for cell in _CELL.findall(row)] for row in _ROW.findall(page)]


@pytest.mark.parametrize("query", [q for q in QUERIES if "ALERTS" not in q and "%q" not in q])
def test_console_query_finds_something(observed: Observed, query: str) -> None:
    assert observed.prometheus.query(query, observed.at)


def test_none_of_its_queries_is_forgotten() -> None:
    assert len(QUERIES) == 23


def test_the_page_has_the_totals(observed: Observed, page: str) -> None:
    tiles = dict(_TILE.findall(page))
    fleet = observed.ledger["fleet"]["usd"]["spent"]
    assert (tiles["active tasks"], tiles["cost so far"]) == ("3", f"${fleet}")
    assert tiles["tokens per dollar"] == "59.86k"
    assert float(tiles["cost per hour"].removeprefix("$")) > 0


def test_the_page_has_a_row_for_each_quota(observed: Observed, page: str) -> None:
    found = rows(page)
    month = observed.ledger["month"]["usd"]
    assert ["browsers", "units", "0", "1", "2", "50%"] in found
    assert ["debtor", "tokens", "260", "0", "200", "130%"] in found
    money = ["month", "usd", *(f"${month[key]}" for key in ("spent", "reserved", "limit"))]
    assert [*money, "13.76%"] in found


def test_the_page_says_who_spends_who_refuses_and_who_is_in_debt(page: str) -> None:
    found = rows(page)
    assert ["research", "usd", "$0.054800"] in found
    assert ["rejected", "stubborn", "calls", "24"] in found
    assert ["terminated", "runaway", "calls", "2"] in found
    assert ["debtor", "usd", "$0.002000"] in found
    assert ["firing", "BudgetwareTerminated", "runaway", "calls"] in found


def test_the_page_says_how_long_calls_wait_and_take(page: str) -> None:
    found = {tuple(row[:1]): row for row in rows(page) if len(row) == 4}
    waits = [float(text.removesuffix("s")) for text in found["model",][1:]]
    assert 1 < waits[0] < waits[1] < waits[2]
    calls = [row for row in rows(page) if row[:2] == ["chat", "LookupError"]]
    assert len(calls) == 1


def test_the_page_is_whole(page: str) -> None:
    assert page.rstrip().endswith("</html>")
    assert "error calling" not in page

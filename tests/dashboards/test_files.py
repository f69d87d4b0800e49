"""Dashboards can be imported anywhere: nothing of one installation is in them, nothing overlaps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import DATASOURCE, FILES, board, panels, queries

UIDS = {"agents": "budgetware-agents", "costs": "budgetware-costs", "quotas": "budgetware-quotas"}
WIDTH = 24
MONEY = re.compile(r'(?<!!)="usd_micros"')
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def datasources(path: Path) -> list[Any]:
    """What is said to be one, wherever it is."""
    found: list[Any] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.extend(value for key, value in pairs if key == "datasource")
        return dict(pairs)

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=note)
    return found


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    place = panel["gridPos"]
    columns = range(place["x"], place["x"] + place["w"])
    return {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}


def test_there_are_three_with_addresses_that_stay() -> None:
    assert {path.stem: board(path)["uid"] for path in FILES} == UIDS
    assert len({board(path)["title"] for path in FILES}) == 3


@each
def test_each_links_to_the_others(path: Path) -> None:
    links = {link["url"] for link in board(path)["links"]}
    assert links == {f"/d/{uid}" for name, uid in UIDS.items() if name != path.stem}


@each
def test_ids_of_panels_differ(path: Path) -> None:
    ids = [panel["id"] for panel in board(path)["panels"]]
    assert len(set(ids)) == len(ids)


@each
def test_the_datasource_is_chosen_where_it_is_shown(path: Path) -> None:
    found = list(datasources(path))
    assert len(found) > len(panels(path))
    assert [one for one in found if one != DATASOURCE] == []
    (variable,) = [v for v in board(path)["templating"]["list"] if v["name"] == "datasource"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")


@each
def test_panels_do_not_overlap(path: Path) -> None:
    taken = [cell for panel in board(path)["panels"] for cell in cells(panel)]
    assert len(set(taken)) == len(taken)
    assert {x for x, _y in taken} == set(range(WIDTH))


@each
def test_panels_say_what_they_show_and_in_which_unit(path: Path) -> None:
    titles = [panel["title"] for panel in panels(path)]
    assert len(set(titles)) == len(titles)
    said = [
        (panel["description"], panel["fieldConfig"]["defaults"]["unit"]) for panel in panels(path)
    ]
    assert all(description.endswith(".") and unit for description, unit in said)


@each
def test_queries_of_a_panel_have_names_of_their_own(path: Path) -> None:
    for panel in panels(path):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_money_is_shown_in_dollars() -> None:
    """What reads millionths divides them, or is a share or a time."""
    money = [query for query in queries() if MONEY.search(query.target["expr"])]
    assert len(money) > 20
    assert {str(query) for query in money if "1e6" not in query.target["expr"]} == {
        "quotas-Limits of money-D",
        "costs-Budgets of money, used of the limit-A",
        "costs-Money lasts for-A",
        "costs-Costs, by budget-B",
    }


@each
def test_it_is_laid_out_to_be_read_and_compared(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(board(path), indent=2, ensure_ascii=False) + "\n"

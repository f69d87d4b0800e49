"""Parts of the live screen that need no terminal: keys, state, trees, widths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from budgetware.cli.columns import Column
from budgetware.cli.failures import Failure
from budgetware.cli.top.drawing import draw, fit
from budgetware.cli.top.keys import decode
from budgetware.cli.top.screen import fetch
from budgetware.cli.top.sections import section_of
from budgetware.cli.top.state import SECTIONS, SORTS, State

NAMES = st.sampled_from([*"qsrpthowa1234gGjk? ", "up", "down", "page_up", "page_down", "tab", "x"])


@pytest.mark.parametrize(
    ("pressed", "keys"),
    [
        (b"q", ["q"]),
        (b"qs", ["q", "s"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[5~x", ["page_up", "x"]),
        (b"\x1b[1;5C", []),
        (b"\x1b", ["escape"]),
        (b"\x1bq", ["escape", "q"]),
        (b"\t\x1b[Z", ["tab", "back_tab"]),
        ("é".encode(), ["é"]),
        (b"\xff", ["\ufffd"]),
        (b"\x01", []),
    ],
)
def test_keys_are_read(pressed: bytes, keys: list[str]) -> None:
    assert decode(pressed) == (keys, b"")


@given(st.binary(max_size=40))
def test_any_bytes_are_keys_or_wait_for_more(pressed: bytes) -> None:
    keys, rest = decode(pressed, is_all=False)
    assert pressed.endswith(rest)
    assert all(key.isprintable() for key in [*keys, *decode(rest)[0]])


@given(st.lists(st.tuples(st.sampled_from([b"\x1b[A", b"q", b"\x1b[6~", b"\t"]))))
def test_keys_that_come_in_pieces_are_the_same(parts: list[tuple[bytes]]) -> None:
    pressed = b"".join(part for (part,) in parts)
    found: list[str] = []
    rest = b""
    for place in range(len(pressed)):
        keys, rest = decode(rest + pressed[place : place + 1], is_all=False)
        found += keys
    assert rest == b""
    assert found == decode(pressed)[0]


@given(st.lists(NAMES), st.integers(1, 50), st.integers(0, 100))
def test_no_key_leaves_the_list(keys: list[str], page: int, rows: int) -> None:
    state = State()
    for key in keys:
        state = state.press(key, page=page, rows=rows)
        assert state.section in SECTIONS
        assert state.sort in SORTS[state.section]
        assert 0 <= state.offset <= max(0, rows - page)
    assert state.is_over == ("q" in keys)


def overview(**lists: list[dict[str, Any]]) -> dict[str, Any]:
    empty: dict[str, Any] = {"tasks": [], "resources": [], "principals": [], "activity": {}}
    return {"at": "2026-11-22T11:26:28Z", "ledger": "memory://", **empty, **lists}


def task(name: str, parent: str | None = None, spent: int = 0) -> dict[str, Any]:
    dims = {"tokens": {"limit": 100, "spent": spent, "reserved": 0, "granted": 0}}
    return {"id": name, "parent": parent, "name": name, "verdict": "continue", "dims": dims}


def names(of: dict[str, Any], sort: str, **options: bool) -> list[str]:
    return [row.cells[0].plain for row in section_of("tasks", of, sort, **options).rows]


def test_tasks_are_a_tree_in_which_siblings_are_sorted() -> None:
    tasks = [task("a"), task("b", None, 50), task("c", "a", 10), task("d", "a", 90), task("e", "d")]
    assert names(overview(tasks=tasks), "used") == ["b", "a", "  d", "    e", "  c"]
    assert names(overview(tasks=tasks), "used", is_reversed=True) == [
        "a", "  c", "  d", "    e", "b"
    ]  # fmt: skip


def test_a_circle_of_parents_hangs_nothing() -> None:
    tasks = [task("a", "b"), task("b", "a"), task("c", "c"), task("d", "gone")]
    assert names(overview(tasks=tasks), "task") == ["d"]


def test_what_cannot_be_shown_is_told_from_the_start() -> None:
    with pytest.raises(Failure, match="cannot be read"):
        fetch(lambda: overview(tasks=[{"dims": {"tokens": {"spent": "many", "limit": 5}}}]))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(1, 120))
def test_columns_fit_the_width(widths: list[int], width: int) -> None:
    columns = [Column(str(n), n % 4, is_text=n % 2 == 0) for n in range(len(widths))]
    fits = fit(columns, widths, width)
    assert 0 in fits
    assert sum(fits.values()) + 2 * (len(fits) - 1) <= width
    assert all(fits[place] <= widths[place] for place in fits)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(("width", "height"), [(20, 8), (80, 24)])
def test_names_never_reach_the_terminal_as_they_are(section: str, width: int, height: int) -> None:
    bad = "[red]\x1b[31mx\u202e"
    shown = overview(
        tasks=[task(bad)],
        resources=[{"name": bad, "enforcement": bad, "limit": {"type": bad, "value": bad}}],
        principals=[{"name": bad, "dims": {bad: {"spent": 1}}}],
    )
    row = {"principal": bad, "task": bad, "name": bad, "model": bad, "calls": 1, "refused": 1}
    shown["activity"] = {"by": [{**row, "charged": {bad: 1}}]}
    out = Console(width=width, height=height, force_terminal=False)
    with out.capture() as captured:
        out.print(draw(shown, State(section=section), out, error=bad))
    assert all(line.isprintable() for line in captured.get().splitlines())
    assert len(captured.get().splitlines()) <= height

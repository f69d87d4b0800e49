"""How the screen looks: a head, one table that fits the terminal, the keys. Not here: its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from budgetware.formats import rate_text, visible

from ..columns import GAP, LEAST_TEXT, Column
from ..tables import is_ascii, text
from .sections import Section, activity_of, by_principal, section_of, tables_of
from .state import HELP, SECTIONS, SORTS, State

_WHOLE = 1_000
_HEAD_LINES = 4
_FOOT_LINES = 1
_TABLE_LINES = 2
_MOST_REFUSED = 5
_KEYS = "q quit  tab section  s sort  r reverse  p pause  ? help"


def page_rows(height: int) -> int:
    """How many rows of a table fit on a screen."""
    return max(1, height - _HEAD_LINES - _TABLE_LINES - _FOOT_LINES)


def shown_section(overview: Mapping[str, Any], state: State, out: Console) -> Section:
    """The section that is shown."""
    return section_of(
        state.section,
        overview,
        state.sort,
        is_reversed=state.is_reversed,
        ascii_only=is_ascii(out),
    )


def draw(overview: Mapping[str, Any], state: State, out: Console, error: str = "") -> Group:
    """The whole screen, as high and no wider than the terminal, and of eight lines at least."""
    width, height = out.size
    section = shown_section(overview, state, out)
    page = page_rows(height)
    body = [_help()] if state.is_help else [_body(section, state, width, page)]
    lines = 2 + len(HELP) if state.is_help else _TABLE_LINES + min(page, len(section.rows))
    filler = max(0, height - _HEAD_LINES - lines - _FOOT_LINES)
    parts = [*_head(overview, state, width, error), *body, *[Text()] * filler, _foot(width)]
    return Group(*parts)


def _head(overview: Mapping[str, Any], state: State, width: int, error: str) -> Sequence[Text]:
    at = str(overview.get("at") or "")[11:19]
    first = text(f"budgetware top  {at} UTC  ", "bold")
    first.append("PAUSED  " if state.is_paused else "", style="bold yellow")
    first.append_text(text(overview.get("ledger")))
    lines = [first, _pulse(overview, error), _tabs(overview, state), Text()]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _pulse(overview: Mapping[str, Any], error: str = "") -> Text:
    """Calls and refusals a second, and who is refused; or what is wrong."""
    if error:
        return Text(visible(error), style="bold red")
    activity = activity_of(overview)
    calls, refused = (
        float(activity.get(k) or 0) for k in ("calls_per_second", "refused_per_second")
    )
    waited = int(activity.get("throttled") or 0)
    line = Text(f"{rate_text(calls)} calls/s  {rate_text(refused)} refused/s  {waited} waited")
    names = sorted(by_principal(overview).items(), key=lambda item: -item[1][1])
    who = [f"{visible(name)} {count}" for name, (_calls, count) in names if count]
    if who:
        line.append(f"  refused: {', '.join(who[:_MOST_REFUSED])}", style="red")
    return line


def _tabs(overview: Mapping[str, Any], state: State) -> Text:
    line = Text()
    for number, name in enumerate(SECTIONS, 1):
        where = activity_of(overview) if name == "activity" else overview
        count = len(tables_of(where, "by" if name == "activity" else name))
        style = "reverse" if name == state.section else ""
        line.append(f" {number} {name} {count} ", style=style)
    direction = " reversed" if state.is_reversed else ""
    return line.append(f"  by {state.sort}{direction}", style="dim")


def _body(section: Section, state: State, width: int, page: int) -> Table | Text:
    if not section.rows:
        line = text(section.empty, "dim")
        line.truncate(width, overflow="ellipsis")
        return Text("\n").append_text(line)
    offset = min(state.offset, max(0, len(section.rows) - page))
    return fitted(section, width, offset, page)


def fitted(section: Section, width: int, offset: int = 0, page: int | None = None) -> Table:
    """A table of some rows, one line each, in as many columns as fit."""
    rows = section.rows[offset:] if page is None else section.rows[offset : offset + page]
    widths = [
        max([len(column.name), *(row.cells[place].cell_len for row in rows)])
        for place, column in enumerate(section.columns)
    ]
    fits = fit(section.columns, widths, width)
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for place, cells in fits.items():
        column = section.columns[place]
        made.add_column(
            Text(column.name),
            justify="right" if column.is_right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=cells,
        )
    for row in rows:
        made.add_row(*(row.cells[place] for place in fits))
    return made


def fit(columns: Sequence[Column], widths: Sequence[int], width: int) -> dict[int, int]:
    """Which columns fit, and how wide they are: long texts are shortened before one goes."""
    fits = {place: min(widths[place], _least(columns[place])) for place in range(len(columns))}

    def spare() -> int:
        return width - sum(fits.values()) - GAP * (len(fits) - 1)

    while len(fits) > 1 and spare() < 0:
        del fits[max(list(fits)[1:], key=lambda place: (columns[place].rank, place))]
    for place, cells in fits.items():
        fits[place] = cells + min(widths[place] - cells, max(0, spare()))
    fits[0] += min(0, spare())
    return fits


def _least(column: Column) -> int:
    return LEAST_TEXT if column.is_text else _WHOLE


def _help() -> Table:
    made = Table.grid(padding=(0, 3))
    made.add_row(Text("keys", style="bold"), Text())
    for key, what in HELP:
        made.add_row(Text(key, style="cyan"), Text(what))
    made.add_row(Text(), Text())
    return made


def _foot(width: int) -> Text:
    line = Text(_KEYS, style="dim", end="")
    line.truncate(width, overflow="ellipsis")
    return line


def print_once(out: Console, overview: Mapping[str, Any]) -> None:
    """Print everything once, as text."""
    at = str(overview.get("at") or "")[:19].replace("T", " ")
    out.print(text(f"budgetware top  {at} UTC  {overview.get('ledger')}"))
    out.print(_pulse(overview))
    for name in SECTIONS:
        section = section_of(name, overview, SORTS[name][0], ascii_only=is_ascii(out))
        out.print()
        out.print(Text(name))
        if section.rows:
            out.print(fitted(section, out.width))
        else:
            out.print(text(section.empty), soft_wrap=True)

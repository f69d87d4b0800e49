"""Tables that fit the terminal: no number is cut, and no name is lost.

Where it is narrow, bars go first. Then texts are folded, and columns go by their rank. Where that
is not enough, each row is a block of lines. Not here: what is in the tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .tables import say, text

GAP = 2
LEAST_TEXT = 12
"""How far a text is folded before another column goes."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        rank: where the terminal is narrow, those of the highest go first; those of 0 stay.
        is_text: it may be shortened or folded.
        is_bar: it shows again what a number beside it says.
    """

    name: str
    rank: int = 0
    is_right: bool = False
    is_text: bool = False
    is_bar: bool = False


def word(name: str, rank: int = 0) -> Column:
    """A column that is never broken."""
    return Column(name, rank)


def long(name: str, rank: int = 0) -> Column:
    """A column of texts, which may be folded."""
    return Column(name, rank, is_text=True)


def number(name: str, rank: int = 0) -> Column:
    """A column of numbers: aligned to the right, and never broken."""
    return Column(name, rank, is_right=True)


def drawn(name: str = "") -> Column:
    """A column of bars, the first to go."""
    return Column(name, is_bar=True)


@dataclass(slots=True)
class Rows:
    """The rows of a table, until it is known how wide it may be."""

    columns: Sequence[Column]
    _rows: list[tuple[tuple[Text, ...], str]] = field(default_factory=list)
    _sections: set[int] = field(default_factory=set)

    def add(self, *cells: object, style: str = "") -> None:
        """Add a row of values and texts, one for each column."""
        shown = tuple(cell if isinstance(cell, Text) else text(cell) for cell in cells)
        self._rows.append((shown, style))

    def add_section(self) -> None:
        """Part the rows before from those that come."""
        self._sections.add(len(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def print(self, out: Console) -> None:
        """Print them, no wider than the terminal."""
        fits = fitting(self.columns, self._widths(), out.width)
        if fits is None:
            self.print_stacked(out)
            out.print()
            return
        out.print(self._table(fits))
        hidden = [
            column.name
            for place, column in enumerate(self.columns)
            if place not in fits and not column.is_bar
        ]
        if hidden:
            say(out, f"no room here for: {', '.join(hidden)}; a wider terminal or --json has them")

    def print_stacked(self, out: Console) -> None:
        """Print each row as a block of lines: what is in a column without a name goes on."""
        label_width = max((len(column.name) for column in self.columns), default=0)
        for place, (cells, style) in enumerate(self._rows):
            if place:
                out.print()
            for label, value in _labelled(self.columns, cells):
                line = Text(label.ljust(label_width + GAP), style=style)
                out.print(line.append_text(value), soft_wrap=True)

    def _widths(self) -> list[int]:
        return [
            max([len(column.name), *(cells[place].cell_len for cells, _ in self._rows)])
            for place, column in enumerate(self.columns)
        ]

    def _table(self, fits: Mapping[int, int]) -> Table:
        made = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
        )
        for place, cells in fits.items():
            column = self.columns[place]
            made.add_column(
                Text(column.name),
                justify="right" if column.is_right else "left",
                no_wrap=not column.is_text,
                overflow="fold",
                width=cells,
            )
        for number_of_row, (row, style) in enumerate(self._rows):
            if number_of_row in self._sections:
                made.add_section()
            made.add_row(*(row[place] for place in fits), style=style)
        return made


def fitting(columns: Sequence[Column], widths: Sequence[int], width: int) -> dict[int, int] | None:
    """Which columns fit, and how wide they are; None: those that have to stay do not."""
    fits = dict(enumerate(widths))
    if _spare(fits, width) < 0:
        fits = {place: cells for place, cells in fits.items() if not columns[place].is_bar}
    if _spare(fits, width) < 0:
        return _folded(columns, fits, width)
    return fits


def _folded(
    columns: Sequence[Column], widths: Mapping[int, int], width: int
) -> dict[int, int] | None:
    fits = {
        place: min(cells, LEAST_TEXT) if columns[place].is_text else cells
        for place, cells in widths.items()
    }
    while _spare(fits, width) < 0:
        last = max(fits, key=lambda place: (columns[place].rank, place))
        if not columns[last].rank:
            return None
        del fits[last]
    for place, cells in fits.items():
        fits[place] = cells + min(widths[place] - cells, _spare(fits, width))
    return fits


def _spare(fits: Mapping[int, int], width: int) -> int:
    return width - sum(fits.values()) - GAP * (len(fits) - 1)


def _labelled(columns: Sequence[Column], cells: Sequence[Text]) -> list[tuple[str, Text]]:
    """What there is to say of a row, by the names of its columns."""
    found: list[tuple[str, Text]] = []
    for column, cell in zip(columns, cells, strict=True):
        if column.is_bar or not cell.plain:
            continue
        if column.name or not found:
            found.append((column.name, cell.copy()))
        else:
            found[-1][1].append(" ").append_text(cell)
    return found

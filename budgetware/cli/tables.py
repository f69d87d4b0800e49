"""Text for people: plain where the output is no terminal, and never acting on what it shows.

Names come from manifests, programs and other machines: they are shown as `Text`, escaped, so that
neither Rich's markup nor a terminal's control sequences in them do anything.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import typer
from rich.console import Console
from rich.text import Text

from budgetware.formats import visible

Table = Mapping[str, Any]
"""An object of JSON, from a ledger or from a server."""
BAR_CELLS = 8


def console() -> Console:
    """Standard output: coloured only on a terminal, and not with NO_COLOR."""
    return Console(highlight=False, markup=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    """Show a value; None as a dash."""
    return Text("-" if value is None else visible(str(value)), style=style)


def bar(
    share: float, *, cells: int = BAR_CELLS, ascii_only: bool = False, style: str | None = None
) -> Text:
    """Show a share of 0 to 1 as a bar; without a style green, yellow from 80 %, red from 100 %."""
    share = min(1.0, max(0.0, share))
    full = round(share * cells) or (1 if share > 0 else 0)
    if style is None:
        style = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
    mark, rest = ("#", ".") if ascii_only else ("█", "░")
    return Text(mark * full, style=style).append(rest * (cells - full), style="dim")


def is_ascii(out: Console) -> bool:
    """Whether the output takes nothing but ASCII."""
    return not out.encoding.lower().startswith("utf")


def say(out: Console, *lines: str) -> None:
    """Print lines as they are, escaped."""
    for line in lines:
        out.print(text(line), soft_wrap=True)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2))


def plural(count: int, word: str) -> str:
    """Show how many of something: `1 call`, `2 calls`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def share_of(used: object, limit: object) -> float | None:
    """Which part of a limit is used; None: there is no limit."""
    numbers: Sequence[float] = [float(str(n)) for n in (used, limit) if n is not None]
    return numbers[0] / numbers[1] if len(numbers) == 2 and numbers[1] > 0 else None


def part_of(row: Table, name: str) -> Table:
    """An object inside of another; empty where there is none."""
    found: Any = row.get(name)
    return cast("Table", found) if isinstance(found, dict) else {}


def share_used(balance: Table) -> float | None:
    """Which part of a limit is spent, reserved or set aside; None: there is no limit."""
    parts = (float(str(balance.get(key) or 0)) for key in ("spent", "reserved", "granted"))
    return share_of(sum(parts), balance.get("limit"))

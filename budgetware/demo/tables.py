"""The tables of the demo: the budget's balances, the running calls, the receipt. 80 columns."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .activity import RunningCall
from .job import Result
from .journal import Row

_STYLES = {"admitted": "green", "rejected": "yellow"}


def balances_table(snapshot: Mapping[str, Any], keep: Mapping[str, object]) -> Table:
    """Show limit, reserved, spent and remaining of each dimension, and what is kept of it.

    What is kept for the last answer is no part of what remains.
    """
    table = _table("dimension")
    for name in ("limit", "kept", "reserved", "spent", "remaining"):
        table.add_column(name, justify="right")
    for dim, balance in snapshot["dims"].items():
        amounts = {**balance, "kept": keep.get(dim, 0)}
        table.add_row(dim, *(_amount(amounts[column.header]) for column in table.columns[1:]))
    return table


def running_table(calls: Iterable[RunningCall]) -> Table:
    """Show the calls that are running now."""
    table = _table("running")
    table.add_column("file", no_wrap=True, min_width=30)
    table.add_column("chunks", justify="right")
    table.add_column("seconds", justify="right")
    for call in calls:
        table.add_row(call.name, tail(call.document, 36), str(call.chunks), f"{call.seconds:.1f}")
    return table


def calls_table(rows: Iterable[Row]) -> Table:
    """Show one line for each call."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("#", justify="right")
    for name in ("call", "file", "decision"):
        table.add_column(name, no_wrap=True)
    for name in ("reserved", "charged", "ms"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row.number),
            row.name,
            tail(row.document, 26),
            Text(row.decision, style=_STYLES.get(row.decision, "red")),
            _tokens(row.reserved),
            _tokens(row.charged),
            f"{row.ms:,}",
        )
    return table


def receipt(result: Result) -> RenderableType:
    """Show what was called, what it cost, whether the counts agree, and the answer."""
    comparison, outcome = result.comparison, result.outcome
    rows = result.journal.rows
    parts: list[RenderableType] = [
        _heading(f"Receipt: {len(rows)} calls, in tokens (model {result.model})"),
        calls_table(rows),
    ]
    if result.snapshot:
        parts += [_heading("Totals"), balances_table(result.snapshot, result.keep)]
    parts += [_heading("Check"), *(_paragraph(line) for line in comparison.lines())]
    parts.append(_paragraph(comparison.verdict))
    if result.events_dropped:
        parts.append(_paragraph(f"{result.events_dropped} events were dropped"))
    parts += [_heading("Answer"), _paragraph(outcome.answer or f"none: {outcome.no_answer}")]
    ended = outcome.ended_by if outcome.failure is None else f"the model failed: {outcome.failure}"
    parts += [_heading("Ended by"), _paragraph(f"{ended} ({result.wall_seconds:.1f} s)")]
    return Group(*parts)


def tail(text: str, width: int) -> str:
    """Cut a path at its front: its end tells files apart."""
    return text if len(text) <= width else "…" + text[1 - width :]


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _paragraph(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2))


def _amount(amount: object) -> str:
    if amount is None:
        return "-"
    return f"{amount:,}" if isinstance(amount, int) else str(amount)


def _tokens(amount: int | None) -> str:
    return "" if amount is None else f"{amount:,}"

"""A usage report for people. Not here: its rows (`usage_rows`)."""

from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.text import Text

from budgetware.formats import amount_text, count_text, duration_text
from budgetware.reports import UsageReport, UsageTotals

from .columns import Column, Rows, drawn, long, number, word
from .tables import bar, is_ascii, plural, say, text
from .usage_rows import UsageRow, UsageRows, has_usage

NOBODY = {"principal": "(nobody)", "task": "(no task)"}
_FIRST = ("usd", "tokens")
_LAST = ("input_tokens", "output_tokens")
_TIMES = ("day", "hour")


def print_usage(out: Console, report: UsageReport, found: UsageRows, limit: int | None) -> None:
    """Print a report: what it is of, its rows, at most `limit` of them, and their total."""
    say(out, _title(report))
    total = report.usage
    if not has_usage(report):
        say(
            out,
            "nothing was used: programs record usage where they connect to this ledger; "
            "--since looks further back",
        )
        return
    shown = found.rows if limit is None else found.rows[:limit]
    _table(out, found, shown, total).print(out)
    hidden = len(found.rows) - len(shown)
    if hidden:
        say(out, f"… and {plural(hidden, 'row')} more: --limit shows them; the total is of all")
    say(out, *_notes(report))


def _title(report: UsageReport) -> str:
    whose = "everybody" if report.principal is None else report.principal
    since, until = (f"{at:%Y-%m-%d %H:%M}" for at in (report.since, report.until))
    return f"usage of {whose}, {since} to {until} UTC"


def _dims(total: UsageTotals) -> list[str]:
    """What there are columns for: what was charged, cost first; calls have their own."""
    charged = [dim for dim in total.units if dim != "calls"]
    first = [dim for dim in _FIRST if dim in charged]
    last = [dim for dim in _LAST if dim in charged]
    return [*first, *last, *sorted(set(charged) - set(_FIRST) - set(_LAST))]


def _columns(names: Sequence[str], total: UsageTotals, dims: Sequence[str]) -> list[Column]:
    return [
        *(word(name) if name in _TIMES else long(name) for name in names),
        number("calls"),
        number("refused", 2),
        *(number(dim, _rank(dim)) for dim in dims),
        *([number("waited", 3)] if total.wait_us else []),
        drawn("share"),
    ]


def _rank(dim: str) -> int:
    return 0 if dim in _FIRST else 5 if dim in _LAST else 4


def _table(out: Console, found: UsageRows, shown: Sequence[UsageRow], total: UsageTotals) -> Rows:
    names = [found.bucket] if found.is_of_time else found.names
    dims = _dims(total)
    rows = Rows(_columns(names, total, dims))
    measure = _measure(total)
    whole = float(max((row.weight[measure] for row in found.rows), default=0))
    for row in shown:
        cells = [_time(found, row)] if found.is_of_time else _names(found, row)
        style = "" if row.usage.calls or row.usage.refused or row.charged else "dim"
        share = float(row.weight[measure]) / whole if whole > 0 else 0.0
        drawn = bar(share, style="blue", ascii_only=is_ascii(out))
        rows.add(*cells, *_numbers(row.usage, total, dims), drawn, style=style)
    rows.add_section()
    empty = [""] * (len(names) - 1)
    rows.add("total", *empty, *_numbers(total, total, dims), "", style="bold")
    return rows


def _measure(total: UsageTotals) -> int:
    """By what rows are compared: cost if there is any, else tokens, else calls."""
    return 0 if total.units.get("usd") else 1 if total.units.get("tokens") else 2


def _numbers(usage: UsageTotals, total: UsageTotals, dims: list[str]) -> list[str]:
    charged = usage.charged
    waited = [duration_text(usage.wait_us / 1_000_000)] if total.wait_us else []
    return [
        count_text(usage.calls),
        count_text(usage.refused),
        *(amount_text(dim, charged.get(dim, 0)) for dim in dims),
        *waited,
    ]


def _names(found: UsageRows, row: UsageRow) -> list[Text]:
    return [
        text(NOBODY.get(name, "(none)"), "dim") if not part else text(part)
        for name, part in zip(found.names, row.key, strict=True)
    ]


def _time(found: UsageRows, row: UsageRow) -> Text:
    start = row.key[0] or ""
    return text(start[:10] if found.bucket == "day" else f"{start[:10]} {start[11:16]}")


def _notes(report: UsageReport) -> list[str]:
    sessions, compute = report.sessions, report.compute
    lasted = timedelta(milliseconds=compute.session_duration_ms).total_seconds()
    ended = f"{sessions.completed:,} completed, {sessions.failed:,} failed"
    notes = [f"tasks: {sessions.started:,} started, {ended}; {duration_text(lasted)} together"]
    for name, counts in report.counters.items():
        notes.append(f"{name}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    return notes

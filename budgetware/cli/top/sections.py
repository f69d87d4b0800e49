"""Rows of the screen, from the JSON of an overview. Pure. Not here: how they look."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from rich.text import Text

from budgetware.formats import amount_text, count_text, duration_text, rate_text

from ..columns import Column, long, number, word
from ..grammar import limit_text
from ..tables import Table, bar, part_of, share_used, text

_RED, _YELLOW = "red", "yellow"
_STYLES = {"exhausted": _RED, "warn": _YELLOW, "terminated": _RED}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells, and what it is sorted by."""

    cells: tuple[Text, ...]
    sorts: Mapping[str, Any]
    key: str = ""
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A table."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = field(default=())
    empty: str = ""


def section_of(
    name: str, overview: Table, sort: str, *, is_reversed: bool = False, ascii_only: bool = False
) -> Section:
    """The rows of a section, sorted; trees stay trees."""
    make = _MAKERS[name]
    made = make(overview, ascii_only)
    rows = _sorted(made.rows, sort, is_reversed)
    return Section(made.columns, tuple(_tree(rows)), made.empty)


def _sorted(rows: Sequence[Row], sort: str, is_reversed: bool) -> list[Row]:  # noqa: FBT001
    """Names and times ascend, amounts descend; reversed, the other way round."""
    is_amount = bool(rows) and isinstance(rows[0].sorts[sort], int | float)
    return sorted(rows, key=lambda row: row.sorts[sort], reverse=is_amount != is_reversed)


def _tree(rows: Sequence[Row]) -> Iterable[Row]:
    """Each row below its parent, the order among siblings kept; names are indented."""
    keys = {row.key for row in rows if row.key}
    below: dict[str | None, list[Row]] = {}
    for row in rows:
        below.setdefault(row.parent if row.parent in keys else None, []).append(row)
    waiting = [(0, row) for row in reversed(below.get(None, []))]
    seen: set[str] = set()
    while waiting:
        depth, row = waiting.pop()
        if row.key and row.key in seen:
            continue
        seen.add(row.key)
        indent = Text("  " * min(depth, 8))
        yield Row((indent + row.cells[0], *row.cells[1:]), row.sorts, row.key, row.parent)
        if row.key:
            waiting += [(depth + 1, child) for child in reversed(below.get(row.key, []))]


def tables_of(overview: Table, name: str) -> list[Table]:
    """A list of the overview."""
    found: Any = overview.get(name)
    listed = cast("list[object]", found) if isinstance(found, list) else []
    return [cast("Table", each) for each in listed if isinstance(each, dict)]


def activity_of(overview: Table) -> Table:
    """What has happened in the last seconds."""
    return part_of(overview, "activity")


def first_section(overview: Table) -> str:
    """The first section that has something to show."""
    names = ("tasks", "resources", "principals")
    return next((name for name in names if tables_of(overview, name)), names[0])


def _tasks(overview: Table, ascii_only: bool) -> Section:  # noqa: FBT001
    columns = (
        long("task"),
        word("state", 1),
        number("used"),
        word("", 2),
        long("balances", 1),
        long("principal", 3),
        word("policy", 5),
        word("id", 6),
    )
    rows: list[Row] = []
    for task in tables_of(overview, "tasks"):
        dims = part_of(task, "dims")
        share = worst_share(dims)
        state = "terminated" if task.get("latched") else str(task.get("verdict") or "")
        name = str(task.get("name"))
        shared = " (shared)" if task.get("is_shared") else ""
        rows.append(
            Row(
                (
                    text(name + shared),
                    text(state, _STYLES.get(state, "green")),
                    _percent(share),
                    _bar(share, ascii_only),
                    balances(dims),
                    text(task.get("principal")),
                    text(task.get("policy")),
                    text(str(task.get("id"))[:12]),
                ),
                {"started": str(task.get("started_at") or "~"), "used": share or 0.0, "task": name},
                str(task.get("id")),
                task.get("parent"),
            )
        )
    return Section(
        columns,
        tuple(rows),
        "no tasks: a ledger has those with shared=True, the server of a program has all (--url)",
    )


def _resources(overview: Table, ascii_only: bool) -> Section:  # noqa: FBT001
    columns = (
        long("resource"),
        number("waiting"),
        long("limit", 2),
        number("used"),
        word("", 2),
        number("spent", 1),
        number("held", 3),
        number("left", 1),
        word("if short", 4),
    )
    rows: list[Row] = []
    for resource in tables_of(overview, "resources"):
        dim, balance = resource.get("dim"), part_of(resource, "balance")
        share, waiting = share_used(balance), int(resource.get("waiting") or 0)
        name = str(resource.get("name"))
        rows.append(
            Row(
                (
                    text(name),
                    text(count_text(waiting), _YELLOW if waiting else ""),
                    text(limit_text(part_of(resource, "limit"), dim)),
                    _percent(share),
                    _bar(share, ascii_only),
                    *(text(amount_text(dim, balance.get(k))) for k in ("spent", "reserved")),
                    text(amount_text(dim, balance.get("remaining"))),
                    text(resource.get("enforcement")),
                ),
                {"waiting": waiting, "used": share or 0.0, "resource": name},
                name,
                resource.get("parent"),
            )
        )
    return Section(
        columns,
        tuple(rows),
        "no resources: budgetware resource define NAME --limit 90k/minute adds one",
    )


def _principals(overview: Table, ascii_only: bool) -> Section:  # noqa: FBT001
    columns = (
        long("principal"),
        number("calls"),
        number("refused"),
        number("used"),
        word("", 2),
        long("balances", 1),
        word("exempt", 3),
    )
    counts = by_principal(overview)
    rows: list[Row] = []
    for principal in tables_of(overview, "principals"):
        name = str(principal.get("name"))
        dims = part_of(principal, "dims")
        share = worst_share(dims)
        calls, refused = counts.get(name, (0, 0))
        rows.append(
            Row(
                (
                    text(name),
                    text(count_text(calls)),
                    text(count_text(refused), _RED if refused else ""),
                    _percent(share),
                    _bar(share, ascii_only),
                    balances(dims),
                    text("exempt" if principal.get("exempt") else ""),
                ),
                {"calls": calls, "refused": refused, "used": share or 0.0, "principal": name},
                name,
                principal.get("parent"),
            )
        )
    return Section(
        columns,
        tuple(rows),
        "no principals: budgetware quota set NAME tokens=1M/day adds one",
    )


def _activity(overview: Table, _ascii_only: bool) -> Section:  # noqa: FBT001
    columns = (
        long("call"),
        long("model", 3),
        long("principal", 1),
        long("task", 2),
        number("calls"),
        number("a second", 1),
        number("refused"),
        number("waited", 2),
        long("charged", 1),
    )
    seconds = float(overview.get("window_seconds") or 10.0)
    rows: list[Row] = []
    for row in tables_of(activity_of(overview), "by"):
        calls, refused = int(row.get("calls") or 0), int(row.get("refused") or 0)
        waited = float(row.get("wait_ms") or 0.0) / 1_000
        charged = part_of(row, "charged")
        rows.append(
            Row(
                (
                    text(row.get("name")),
                    text(row.get("model")),
                    text(row.get("principal")),
                    text(row.get("task") or None),
                    text(count_text(calls)),
                    text(rate_text(calls / seconds)),
                    text(count_text(refused), _RED if refused else ""),
                    text(duration_text(waited), _YELLOW if waited > 1 else ""),
                    text(", ".join(f"{d} {amount_text(d, n)}" for d, n in charged.items())),
                ),
                {
                    "calls": calls,
                    "refused": refused,
                    "waited": waited,
                    "principal": str(row.get("principal") or ""),
                },
            )
        )
    return Section(columns, tuple(rows), f"no calls in the last {seconds:g} s")


_MAKERS: dict[str, Callable[[Table, bool], Section]] = {
    "tasks": _tasks,
    "resources": _resources,
    "principals": _principals,
    "activity": _activity,
}


def by_principal(overview: Table) -> dict[str, tuple[int, int]]:
    """Calls and refusals of the last seconds, by principal."""
    found: dict[str, tuple[int, int]] = {}
    for row in tables_of(activity_of(overview), "by"):
        name = row.get("principal")
        if name is not None:
            calls, refused = found.get(name, (0, 0))
            found[name] = calls + int(row["calls"]), refused + int(row["refused"])
    return found


def worst_share(dims: Mapping[str, Table]) -> float | None:
    """The largest such part of any dimension."""
    shares = [share for each in dims.values() if (share := share_used(each)) is not None]
    return max(shares, default=None)


def balances(dims: Mapping[str, Table]) -> Text:
    """All dimensions in short, the shortest first: `tokens 1.2k of 50.0k, calls 3`."""
    parts: list[str] = []
    for dim, balance in sorted(dims.items(), key=lambda item: -(share_used(item[1]) or 0.0)):
        spent = amount_text(dim, balance.get("spent"))
        limit = balance.get("limit")
        parts.append(f"{dim} {spent}" + ("" if limit is None else f" of {amount_text(dim, limit)}"))
    return text(", ".join(parts))


def _percent(share: float | None) -> Text:
    if share is None:
        return text(None)
    style = _RED if share >= 1 else _YELLOW if share >= 0.8 else ""
    return text(f"{min(share, 99.99):.0%}", style)


def _bar(share: float | None, ascii_only: bool) -> Text:  # noqa: FBT001
    return Text() if share is None else bar(share, ascii_only=ascii_only)

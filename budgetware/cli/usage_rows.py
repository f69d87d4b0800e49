"""A usage report as rows: of days or hours, or of what it is grouped by. Not here: showing them."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from budgetware.kernel.dims import BUILT_IN
from budgetware.reports import Sessions, UsageReport, UsageTotals
from budgetware.reports.times import stamp
from budgetware.reports.usage import Bucket

TIMES = ("day", "hour")
COUNTED = tuple(dim for dim in BUILT_IN if dim != "millis")
"""What CSV has a column for in any case, so that columns stay where they are."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One row: what it is of, and what calls came to there."""

    key: tuple[str | None, ...]
    usage: UsageTotals
    sessions: Sessions | None = None

    @property
    def charged(self) -> Mapping[str, int | Decimal]:
        """What was charged, by dimension; `usd` in dollars."""
        return self.usage.charged

    @property
    def weight(self) -> tuple[Decimal, int, int]:
        """What rows are sorted by: cost, then tokens, then calls."""
        charged = self.charged
        dollars = Decimal(charged.get("usd", 0))
        return dollars, int(charged.get("tokens", 0)), self.usage.calls + self.usage.refused


@dataclass(frozen=True, slots=True)
class UsageRows:
    """The rows of a report, in the order they are shown.

    Attributes:
        names: of the parts of the keys.
        bucket: what the window is cut into.
    """

    names: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    bucket: Bucket = "day"

    @staticmethod
    def of(report: UsageReport, by: Sequence[str]) -> "UsageRows":
        """Cut a report as it was asked for: by time alone it has no gaps."""
        if not by or set(by) <= {report.bucket}:
            return UsageRows(("start", "end"), tuple(_buckets(report)), report.bucket)
        rows = [
            UsageRow(tuple(group.key.get(name) for name in by), group.usage)
            for group in report.groups
        ]
        rows.sort(key=lambda row: tuple(-part for part in row.weight))
        times = [place for place, name in enumerate(by) if name in TIMES]
        rows.sort(key=lambda row: [row.key[place] or "" for place in times])
        return UsageRows(tuple(by), tuple(rows))

    @property
    def is_of_time(self) -> bool:
        """Whether the rows are buckets."""
        return self.names == ("start", "end")


def has_usage(report: UsageReport) -> bool:
    """Whether anything happened in its time."""
    total = report.total
    counted = any(any(counts.values()) for counts in total.counters.values())
    used = total.usage
    return bool(used.calls or used.refused or used.units or total.sessions.started or counted)


def _buckets(report: UsageReport) -> list[UsageRow]:
    return [
        UsageRow((stamp(b.start), stamp(b.end)), b.tally.usage, b.tally.sessions)
        for b in report.buckets
    ]


def as_csv(found: UsageRows) -> str:
    """The rows as RFC 4180 has it, with a header.

    The built-in dimensions are always there, in one order; own ones follow by name. A text that a
    spreadsheet would take for a formula begins with a quote.
    """
    own = sorted({dim for row in found.rows for dim in row.charged} - set(COUNTED))
    dims = (*COUNTED, *own)
    sessions = ("started", "completed", "failed") if found.is_of_time else ()
    into = io.StringIO()
    writer = csv.writer(into, lineterminator="\r\n")
    writer.writerow(
        [
            *found.names,
            *(f"sessions_{name}" for name in sessions),
            *("calls", "refused", "corrected", "duration_ms", "wait_ms"),
            *(f"charged_{dim}" for dim in dims),
        ]
    )
    for row in found.rows:
        usage, charged = row.usage, row.charged
        writer.writerow(
            [
                *(safe_cell(part) for part in row.key),
                *(getattr(row.sessions, name) for name in sessions),
                *(usage.calls, usage.refused, usage.corrected),
                *(usage.duration_us / 1_000, usage.wait_us / 1_000),
                *(charged.get(dim, 0) for dim in dims),
            ]
        )
    return into.getvalue()


def safe_cell(value: Any) -> Any:
    """A cell that no spreadsheet runs: `=1+1` becomes `'=1+1`. Numbers stay as they are."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return f"'{value}"
    return value

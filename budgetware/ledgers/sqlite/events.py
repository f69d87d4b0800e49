"""Usage events in their table, and what they add up to by the hour. Not here: transactions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection

from ..sums import Sums, add_rows
from ..terms import KEEP_SUMS_SECONDS, UsageRow, UsageSum

PAGE = 1_000
_LEAST_PURGED = 16

_KNOWN = "SELECT number FROM usage WHERE holder = ? AND number BETWEEN ? AND ?"
_ADD = "INSERT INTO usage (holder, number, timestamp, text) VALUES (?, ?, ?, ?)"
_FIRST = "SELECT min(id) FROM usage WHERE timestamp >= ? AND timestamp < ?"
# The plus keeps SQLite from going by time, and then sorting all there is, for each page.
_PAGE = (
    "SELECT id, holder, number, timestamp, text FROM usage "
    "WHERE id >= ? AND +timestamp >= ? AND +timestamp < ? ORDER BY id LIMIT ?"
)
_PURGE = "DELETE FROM usage WHERE id IN (SELECT id FROM usage WHERE timestamp < ? LIMIT ?)"
_LAST = "SELECT max(id) FROM usage"
_SUM = "SELECT units FROM usage_sums WHERE ends = ? AND grp = ?"
_SET_SUM = "INSERT OR REPLACE INTO usage_sums (ends, grp, units) VALUES (?, ?, ?)"
_SUMS = "SELECT ends, grp, units FROM usage_sums WHERE ends BETWEEN ? AND ? ORDER BY ends, grp"
_PURGE_SUMS = "DELETE FROM usage_sums WHERE ends BETWEEN 1 AND ?"

_encode = json.JSONEncoder(separators=(",", ":")).encode


def record(
    connection: Connection, rows: Sequence[UsageRow], now: float, keep_seconds: float
) -> None:
    """Keep those that are new, add up what they say, and delete a few old ones."""
    if not rows:
        return
    now = min(now, max(row.timestamp for row in rows))  # a service may have a clock of its own
    new = _new(connection, rows)
    values = [(row.holder, row.number, row.timestamp, row.text) for row in new]
    connection.executemany(_ADD, values)
    _add(connection, add_rows(new, {}), now)
    connection.execute(_PURGE, (now - keep_seconds, _LEAST_PURGED + 2 * len(rows)))


def _new(connection: Connection, rows: Sequence[UsageRow]) -> list[UsageRow]:
    """Those that are not in the table; of two that are the same, the first."""
    numbers: dict[str, list[int]] = {}
    for row in rows:
        numbers.setdefault(row.holder, []).append(row.number)
    known = {
        (holder, values[0])
        for holder, own in numbers.items()
        for values in connection.execute(_KNOWN, (holder, min(own), max(own)))
    }
    found: list[UsageRow] = []
    for row in rows:
        if (row.holder, row.number) not in known:
            known.add((row.holder, row.number))
            found.append(row)
    return found


def _add(connection: Connection, sums: Sums, now: float) -> None:
    is_new = False
    for (ends, group), units in sums.items():
        values = connection.execute(_SUM, (ends, group)).fetchone()
        if values is None:
            is_new = True
        else:
            for what, n in json.loads(values[0]).items():
                units[what] = units.get(what, 0) + n
        connection.execute(_SET_SUM, (ends, group, _encode(units)))
    if is_new:
        connection.execute(_PURGE_SUMS, (int(now) - KEEP_SUMS_SECONDS,))


def between(
    connection: Connection, since: float, until: float, after: int
) -> list[tuple[int, UsageRow]]:
    """Read a page of the events of a time."""
    first = after + 1
    if after <= 0:  # what is older need not be read at all
        found = connection.execute(_FIRST, (since, until)).fetchone()[0]
        if found is None:
            return []
        first = int(found)
    page = connection.execute(_PAGE, (first, since, until, PAGE)).fetchall()
    return [(values[0], UsageRow(*values[1:])) for values in page]


def last(connection: Connection) -> int:
    """The number of the newest event; 0: there is none."""
    return connection.execute(_LAST).fetchone()[0] or 0


def sums(connection: Connection, first: int, last: int) -> list[UsageSum]:
    """What was added up of the hours that end in this time."""
    found = connection.execute(_SUMS, (first, last)).fetchall()
    return [UsageSum(ends, group, tuple(json.loads(units).items())) for ends, group, units in found]

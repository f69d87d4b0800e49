"""The journal in the file: what changed which balance, old lines summed up into one.

Not here: balances (`rows`).
"""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection

from ..rows import JournalLine
from .rows import StoredNode, wide

MOST_LINES = 10_000
"""So many lines are kept of each node."""
FOLDED_LINES = 256
"""So many of the oldest become one line when there are more; a few, so that no claim waits long."""

_ADD = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)"
_OLDEST = "SELECT line, used, out, stranded FROM journal WHERE node = ? ORDER BY line LIMIT ?"


def append(connection: Connection, stored: StoredNode, lines: Iterable[JournalLine]) -> None:
    """Write lines of a node, whose row is written afterwards."""
    for line in lines:
        connection.execute(
            _ADD,
            (
                stored.id, stored.next_line, line.holder, line.epoch,
                wide(line.used), wide(line.out), wide(line.stranded),
            ),
        )  # fmt: skip
        stored.next_line += 1
        stored.lines += 1
    if stored.lines > MOST_LINES:
        _fold(connection, stored)


def _fold(connection: Connection, stored: StoredNode) -> None:
    rows = connection.execute(_OLDEST, (stored.id, FOLDED_LINES)).fetchall()
    last = rows[-1][0]
    sums = [wide(sum(int(row[at]) for row in rows)) for at in (1, 2, 3)]
    connection.execute("DELETE FROM journal WHERE node = ? AND line <= ?", (stored.id, last))
    connection.execute(_ADD, (stored.id, last, "", 0, *sums))
    stored.lines -= len(rows) - 1


def sums(connection: Connection, node_id: int) -> tuple[int, int, int]:
    """What the lines of a node add up to: used, out, stranded. Not in SQL: it stops at 64 bits."""
    used = out = stranded = 0
    for row in connection.execute(
        "SELECT used, out, stranded FROM journal WHERE node = ?", (node_id,)
    ):
        used += int(row[0])
        out += int(row[1])
        stranded += int(row[2])
    return used, out, stranded


def forget(connection: Connection, stored: StoredNode) -> None:
    """Delete the lines of a node, whose row is written afterwards."""
    connection.execute("DELETE FROM journal WHERE node = ?", (stored.id,))
    stored.lines = 0

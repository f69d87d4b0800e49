"""Nodes and their leases in the tables, and back. Not here: the journal, and what is decided."""

# ruff: noqa: S608 - the names in these statements are ours; all values are bound

from __future__ import annotations

import json
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any

from ...errors import ConfigurationError
from ..rows import LeaseRow, NodeRow
from ..terms import Grant, Terms, title

_END = 2**63

_TERMS = "kind, value, period_us, burst, stranded_is"
_DEFINITION = f"{_TERMS}, definition, revision, declared"
_BALANCES = "used, out, stranded, level_micro, anchor_us, shares, caps, recover_us, touched_us"
_LEASE = (
    "epoch, counted, units, stranded, head, ticket_us, expires_us, ttl_us, demand, share, cap, "
    "is_over"
)


def _settings(names: str) -> str:
    return ", ".join(f"{name} = ?" for name in names.split(", "))


def _marks(names: str) -> str:
    return ", ".join("?" for _ in names.split(", "))


_NODE = f"node, {_DEFINITION}, {_BALANCES}, latch, is_deleted"
_FIND = f"SELECT id, lines, next_line, {_NODE} FROM nodes WHERE node = ?"
_ALL = f"SELECT id, lines, next_line, {_NODE} FROM nodes WHERE is_deleted = 0 ORDER BY id"
_FROM = (
    f"SELECT id, lines, next_line, {_NODE}, "
    "(SELECT count(*) FROM leases WHERE leases.node = nodes.id AND leases.is_over = 0) "
    "FROM nodes WHERE node >= ? AND is_deleted = 0 ORDER BY node"
)
_HOLDERS = "SELECT count(*) FROM leases WHERE node = ? AND is_over = 0"
_ADD_NODE = f"INSERT INTO nodes ({_NODE}, lines, next_line) VALUES ({_marks(_NODE)}, ?, ?)"
_SET_NODE = (
    f"UPDATE nodes SET {_settings(f'{_DEFINITION}, {_BALANCES}, latch, is_deleted')}, "
    "lines = ?, next_line = ? WHERE id = ?"
)
_SET_BALANCES = f"UPDATE nodes SET {_settings(_BALANCES)}, lines = ?, next_line = ? WHERE id = ?"

# In the order in which they came, as a dict has them.
_LIVE = (
    f"SELECT id, holder, {_LEASE}, CASE WHEN holder = ? THEN answer END FROM leases "
    "WHERE node = ? AND is_over = 0 ORDER BY id"
)
_OWN = f"SELECT id, holder, {_LEASE}, answer FROM leases WHERE node = ? AND holder = ?"
_ADD_LEASE = (
    f"INSERT INTO leases (node, holder, {_LEASE}, answer) VALUES (?, ?, {_marks(_LEASE)}, ?)"
)
_SET_LEASE = f"UPDATE leases SET {_settings(f'{_LEASE}, answer')} WHERE id = ?"
_END_LEASE = f"UPDATE leases SET {_settings(_LEASE)} WHERE id = ?"
# Without a column that an index asks for, so that no index is written.
_RENEW_LEASE = (
    f"UPDATE leases SET {_settings(_LEASE.removesuffix(', is_over'))}, answer = ? WHERE id = ?"
)
_PURGE = (
    "DELETE FROM leases WHERE id IN "
    "(SELECT id FROM leases WHERE is_over = 1 AND expires_us < ? LIMIT ?)"
)

_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.loads


@dataclass(slots=True)
class StoredNode:
    """A node as it was read.

    Attributes:
        lines: how many lines its journal has.
        next_line: the number of the next one.
    """

    id: int
    lines: int
    next_line: int
    row: NodeRow


@dataclass(slots=True)
class StoredLeases:
    """The leases of a node that a claim is about, by their holders.

    Attributes:
        known: the id of those that are in the table, and whether they were over.
    """

    rows: dict[str, LeaseRow] = field(default_factory=dict[str, LeaseRow])
    known: dict[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])


def wide(units: int) -> int | str:
    """An amount as SQLite keeps it exactly."""
    return units if -_END <= units < _END else int.__repr__(units)  # refuses a float


def _node(values: tuple[Any, ...]) -> StoredNode:
    number, lines, next_line, name, kind, value, period_us, burst, stranded_is, *rest = values
    definition, revision, declared, used, out, stranded, level_micro, anchor_us, *last = rest
    shares, caps, recover_us, touched_us, latch, is_deleted = last[:6]
    row = NodeRow(
        name, Terms(kind, int(value), period_us, int(burst), stranded_is), definition, revision,
        declared, int(used), int(out), int(stranded), int(level_micro), anchor_us, int(shares),
        int(caps), recover_us, touched_us, latch, bool(is_deleted),
    )  # fmt: skip
    return StoredNode(number, lines, next_line, row)


def _definition(row: NodeRow) -> tuple[Any, ...]:
    terms = row.terms
    return (
        terms.kind, wide(terms.value), terms.period_us, wide(terms.burst), terms.stranded,
        row.definition, row.revision, row.declared,
    )  # fmt: skip


def _balances(row: NodeRow) -> tuple[Any, ...]:
    return (
        wide(row.used), wide(row.out), wide(row.stranded), wide(row.level_micro), row.anchor_us,
        wide(row.shares), wide(row.caps), row.recover_us, row.touched_us,
    )  # fmt: skip


def find(connection: Connection, name: str) -> StoredNode | None:
    """Read a node, also one that was deleted."""
    values = connection.execute(_FIND, (name,)).fetchone()
    return None if values is None else _node(values)


def every(connection: Connection) -> list[StoredNode]:
    """Read all nodes that are not deleted, in the order in which they were defined first."""
    return [_node(values) for values in connection.execute(_ALL)]


def beginning(connection: Connection, prefix: str) -> list[tuple[NodeRow, int]]:
    """Read the nodes whose names begin so, in order, and how many hold a lease of each."""
    found: list[tuple[NodeRow, int]] = []
    for values in connection.execute(_FROM, (prefix,)).fetchall():
        if not values[3].startswith(prefix):
            break
        found.append((_node(values).row, values[-1]))
    return found


def holders(connection: Connection, node_id: int) -> int:
    """Count those who hold a lease of a node."""
    count: int = connection.execute(_HOLDERS, (node_id,)).fetchone()[0]
    return count


def units(connection: Connection, node_id: int) -> int:
    """Add up what the leases of a node hold."""
    found = connection.execute("SELECT units FROM leases WHERE node = ?", (node_id,))
    return sum(int(values[0]) for values in found)


def add_node(connection: Connection, row: NodeRow) -> int:
    """Write a new node; return its id."""
    values = (row.node, *_definition(row), *_balances(row), row.latch, row.is_deleted, 0, 1)
    return connection.execute(_ADD_NODE, values).lastrowid or 0


def set_node(connection: Connection, stored: StoredNode) -> None:
    """Write all of a node."""
    row = stored.row
    connection.execute(
        _SET_NODE,
        (
            *_definition(row), *_balances(row), row.latch, row.is_deleted,
            stored.lines, stored.next_line, stored.id,
        ),
    )  # fmt: skip


def set_balances(connection: Connection, stored: StoredNode) -> None:
    """Write what a claim changes of a node."""
    connection.execute(
        _SET_BALANCES, (*_balances(stored.row), stored.lines, stored.next_line, stored.id)
    )


def leases(connection: Connection, stored: StoredNode, holder: str, oldest_us: int) -> StoredLeases:
    """Read the leases of a node that are not over, and the holder's own one.

    Args:
        oldest_us: one that was over before that is forgotten.
    """
    found = StoredLeases()
    name = stored.row.node
    for values in connection.execute(_LIVE, (holder, stored.id)):
        _take(found, name, values)
    if holder not in found.rows:
        values = connection.execute(_OWN, (stored.id, holder)).fetchone()
        if values is not None:
            _take(found, name, values)
            if found.rows[holder].expires_us < oldest_us:
                connection.execute("DELETE FROM leases WHERE id = ?", (values[0],))
                del found.rows[holder], found.known[holder]
    return found


def _take(found: StoredLeases, node: str, values: tuple[Any, ...]) -> None:
    number, holder, epoch, counted, units, stranded, head, ticket_us, *rest = values
    expires_us, ttl_us, demand, share, cap, is_over, answer = rest
    found.known[holder] = number, bool(is_over)
    found.rows[holder] = LeaseRow(
        holder, epoch, int(counted), int(units), int(stranded), int(head), ticket_us, expires_us,
        ttl_us, int(demand), int(share), int(cap),
        None if answer is None else _grant(node, answer), bool(is_over),
    )  # fmt: skip


def save(connection: Connection, stored: StoredNode, found: StoredLeases, row: LeaseRow) -> None:
    """Write a lease that has changed; where it has no answer, the one in the table stays."""
    values = (
        row.epoch, wide(row.counted), wide(row.units), wide(row.stranded), wide(row.head),
        row.ticket_us, row.expires_us, row.ttl_us, wide(row.demand), wide(row.share),
        wide(row.cap),
    )  # fmt: skip
    number, was_over = found.known.get(row.holder, (0, False))
    if row.answer is None:  # it was ended by somebody else's claim, and may still ask again
        connection.execute(_END_LEASE, (*values, row.is_over, number))
        return
    answer = _text(row.answer)
    if not number:
        connection.execute(_ADD_LEASE, (stored.id, row.holder, *values, row.is_over, answer))
    elif row.is_over == was_over:
        connection.execute(_RENEW_LEASE, (*values, answer, number))
    else:
        connection.execute(_SET_LEASE, (*values, row.is_over, answer, number))


def forget(connection: Connection, node_id: int) -> None:
    """Delete the leases of a node."""
    connection.execute("DELETE FROM leases WHERE node = ?", (node_id,))


def purge(connection: Connection, oldest_us: int, most: int) -> bool:
    """Delete a few leases that were over long ago; say whether there may be more of them."""
    return connection.execute(_PURGE, (oldest_us, most)).rowcount == most


def _text(grant: Grant) -> str:
    terms = grant.terms
    return _encode(
        (
            grant.epoch, grant.outcome, grant.granted, grant.share, grant.cap, grant.used,
            grant.out, grant.stranded, grant.retry_ms, grant.is_wanted, grant.latch,
            grant.revision,
            None if terms is None
            else (terms.kind, terms.value, terms.period_us, terms.burst, terms.stranded),
            grant.definition,
        )
    )  # fmt: skip


def _grant(node: str, text: str) -> Grant:
    try:
        *values, terms, definition = _decode(text)
        values += None if terms is None else Terms(*terms), definition
        return Grant(node, *values)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the ledger is damaged: the last answer about {title(node)} is {text[:40]!r}; put a "
            "copy of the file back"
        ) from error

"""What a ledger does, as transactions on a SQLite file. Not here: what is decided (`rules`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Literal

from ...errors import ConfigurationError
from ..rows import NodeRow
from ..rules import added, check_revision, define, seen, sync
from ..terms import (
    KEEP_SECONDS,
    MICRO,
    TOMBSTONE_SECONDS,
    Claim,
    Difference,
    Grant,
    NodeState,
    Terms,
    UsageRow,
    UsageSum,
    title,
)
from . import events, journal, rows
from .database import Database

PURGED = 16
"""So many rows that nobody needs any more are deleted along with a change."""
_PURGE_US = 60 * MICRO
_SYNCHRONOUS = {"normal": "NORMAL", "full": "FULL"}

_LATCH = "UPDATE nodes SET latch = ? WHERE node = ? AND latch = ''"


class SqliteLedger:
    """A ledger in a file, for all processes of one machine that open it.

    The file must be on a local disk. Time is one clock for all of them, which no step of the wall
    clock touches.

    Args:
        path: of the file; made on `open()`, readable by its owner alone, if there is none.
        durability: `"normal"`: what was answered outlives every process, and `"full"`: a loss of
            power, too.
        timeout_seconds: how long to wait for others who write.
        now: seconds, on a clock that all who use the ledger share.
        wall: seconds since the epoch.

    Raises:
        ConfigurationError: the durability is none.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["normal", "full"] = "normal",
        timeout_seconds: float = 2.0,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            raise ConfigurationError(
                f"the durability {durability!r} is unknown: use 'normal' or 'full'"
            )
        self._name = os.fspath(path)
        self._now = now
        self._wall = wall
        self._purge_us = 0
        self._database = Database(
            Path(path).resolve(),
            synchronous=_SYNCHRONOUS[durability],
            timeout_seconds=timeout_seconds,
            now_us=self._now_us,
        )

    @property
    def address(self) -> str:
        """See `Ledger.address`."""
        return f"sqlite:///{self._name}"

    def _now_us(self) -> int:
        return int(self._now() * 1_000_000)

    def open(self) -> None:
        """See `Ledger.open`."""
        self._database.open()

    def close(self) -> None:
        """See `Ledger.close`."""
        self._database.close()

    def define(
        self,
        node: str,
        terms: Terms,
        definition: str,
        *,
        declared: str | None = None,
        expected_revision: int | None = None,
        idle_seconds: float | None = None,
    ) -> NodeState:
        """See `Ledger.define`."""
        idle_us = None if idle_seconds is None else int(idle_seconds * MICRO)

        def step(connection: Connection) -> NodeState:
            stored = rows.find(connection, node)
            new = NodeRow(node, terms, definition, 0, declared, touched_us=self._now_us())
            made = define(
                None if stored is None else stored.row,
                new,
                is_declared=declared is not None,
                expected_revision=expected_revision,
                idle_us=idle_us,
            )
            if stored is None:
                rows.add_node(connection, new)
                return new.state(0)
            if made is None:
                return _state(connection, stored)
            if made is new:
                _forget(connection, stored)
            stored.row = made
            rows.set_node(connection, stored)
            return _state(connection, stored)

        return self._database.write(step)

    def add(self, node: str, units: int, request: str) -> NodeState:
        """See `Ledger.add`."""

        def step(connection: Connection) -> NodeState:
            stored = _find(connection, node)
            insert = "INSERT INTO additions VALUES (?, ?) ON CONFLICT DO NOTHING"
            if connection.execute(insert, (node, request)).rowcount:
                stored.row.terms = added(stored.row.terms, units)
                stored.row.revision += 1
                rows.set_node(connection, stored)
            return _state(connection, stored)

        return self._database.write(step)

    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        """See `Ledger.delete`."""

        def step(connection: Connection) -> None:
            stored = _find(connection, node)
            row = stored.row
            if expected_revision is not None:
                check_revision(row, node, expected_revision)
            if row.out:
                raise ConfigurationError(
                    f"{title(node)} has {row.out} units in use: delete it when they have come back"
                )
            row.is_deleted = True
            _forget(connection, stored)
            rows.set_node(connection, stored)

        self._database.write(step)

    def read(self, prefix: str = "") -> list[NodeState]:
        """See `Ledger.read`."""
        found = self._database.read(lambda connection: rows.beginning(connection, prefix))
        now_us = self._now_us()
        return [seen(row, holders, now_us) for row, holders in found]

    def sync(self, claims: Sequence[Claim]) -> list[Grant]:
        """See `Ledger.sync`."""

        def step(connection: Connection) -> list[Grant]:
            grants = [self._sync(connection, claim) for claim in claims]
            self._purge(connection)
            return grants

        return self._database.write(step)

    def _sync(self, connection: Connection, claim: Claim) -> Grant:
        stored = rows.find(connection, claim.node)
        if stored is None or stored.row.is_deleted:
            return Grant(claim.node, claim.epoch, "undefined")
        now_us = self._now_us()
        oldest_us = now_us - TOMBSTONE_SECONDS * MICRO
        found = rows.leases(connection, stored, claim.holder, oldest_us)
        step = sync(stored.row, found.rows, claim, now_us)
        if step.changed:
            for row in step.changed:
                rows.save(connection, stored, found, row)
            journal.append(connection, stored, step.journal)
            rows.set_balances(connection, stored)
        return step.answer

    def _purge(self, connection: Connection) -> None:
        """Delete a few of those who are gone: all there are in time, and no claim waits for it."""
        now_us = self._now_us()
        if now_us >= self._purge_us:
            oldest_us = now_us - TOMBSTONE_SECONDS * MICRO
            has_more = rows.purge(connection, oldest_us, PURGED)
            self._purge_us = now_us + (0 if has_more else _PURGE_US)

    def latch(self, node: str, reason: str) -> None:
        """See `Ledger.latch`."""
        self._database.write(lambda connection: connection.execute(_LATCH, (reason, node)))

    def spend(self, token: str, expires: float) -> bool:
        """See `Ledger.spend`."""

        def step(connection: Connection) -> bool:
            now = self._wall()
            found = connection.execute("SELECT expires FROM tokens WHERE token = ?", (token,))
            kept = found.fetchone()
            if kept is not None and kept[0] >= now:
                return False
            _purge_expired(connection, "tokens", "token", now)
            connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (token, expires))
            return True

        return self._database.write(step)

    def remember(self, key: str, text: str, seconds: float) -> str:
        """See `Ledger.remember`."""

        def step(connection: Connection) -> str:
            now = self._wall()
            found = connection.execute("SELECT text, expires FROM texts WHERE key = ?", (key,))
            kept = found.fetchone()
            if kept is not None and kept[1] > now:
                return str(kept[0])
            _purge_expired(connection, "texts", "key", now)
            values = (key, now + seconds, text)
            connection.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", values)
            return text

        return self._database.write(step)

    def replace(self, key: str, text: str) -> None:
        """See `Ledger.replace`."""
        update = "UPDATE texts SET text = ? WHERE key = ?"
        self._database.write(lambda connection: connection.execute(update, (text, key)))

    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        """See `Ledger.record`."""
        now = self._wall()
        self._database.write(lambda connection: events.record(connection, rows, now, keep_seconds))

    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        """See `Ledger.usage`."""
        return self._database.read(lambda c: events.between(c, since, until, after))

    def last_usage(self) -> int:
        """See `Ledger.last_usage`."""
        return self._database.read(events.last)

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Ledger.sums`."""
        return self._database.read(lambda connection: events.sums(connection, first, last))

    def verify(self) -> list[Difference]:
        """See `Ledger.verify`."""

        def step(connection: Connection) -> list[Difference]:
            stored = rows.every(connection)
            return [difference for node in stored for difference in _compare(connection, node)]

        return self._database.read(step)


def _find(connection: Connection, node: str) -> rows.StoredNode:
    stored = rows.find(connection, node)
    if stored is None or stored.row.is_deleted:
        raise ConfigurationError(f"{title(node)} is not in the ledger: define it first")
    return stored


def _state(connection: Connection, stored: rows.StoredNode) -> NodeState:
    return stored.row.state(rows.holders(connection, stored.id))


def _forget(connection: Connection, stored: rows.StoredNode) -> None:
    rows.forget(connection, stored.id)
    journal.forget(connection, stored)


def _purge_expired(connection: Connection, table: str, key: str, now: float) -> None:
    connection.execute(
        f"DELETE FROM {table} WHERE {key} IN "  # noqa: S608 - the names are ours
        f"(SELECT {key} FROM {table} WHERE expires < ? LIMIT {PURGED})",
        (now,),
    )


def _compare(connection: Connection, stored: rows.StoredNode) -> list[Difference]:
    row = stored.row
    used, out, stranded = journal.sums(connection, stored.id)
    pairs = (
        Difference(row.node, "used", row.used, used),
        Difference(row.node, "out", row.out, out),
        Difference(row.node, "stranded", row.stranded, stranded),
        Difference(row.node, "leases", row.out, rows.units(connection, stored.id)),
    )
    return [pair for pair in pairs if pair.balance != pair.journal]

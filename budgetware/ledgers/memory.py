"""A ledger in this process: for tests, and what the others are compared with.

A service without a ledger does not need it: its balances are its own. Not here: what is decided
(`rules`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from threading import RLock

from ..errors import ConfigurationError
from .rows import JournalLine, LeaseRow, NodeRow
from .rules import added, check_revision, define, seen, sync
from .sums import Sums, add_rows, between
from .terms import (
    KEEP_SECONDS,
    KEEP_SUMS_SECONDS,
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

PAGE = 1_000
MOST_EVENTS = 20_000
"""So many usage events are kept."""


class MemoryLedger:
    """A ledger that several services of one process may share, each by `connect(ledger=…)`.

    Args:
        now: seconds, on a clock that all who use the ledger share.
        wall: seconds since the epoch.
    """

    address = "memory://"

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self._wall = wall
        self._lock = RLock()
        self._nodes: dict[str, NodeRow] = {}
        self._leases: dict[str, dict[str, LeaseRow]] = {}
        self._journal: list[JournalLine] = []
        self._added: set[tuple[str, str]] = set()
        self._spent: dict[str, float] = {}
        self._texts: dict[str, tuple[float, str]] = {}
        self._usage: dict[tuple[str, int], tuple[int, UsageRow]] = {}
        self._events = 0
        self._dropped: dict[str, int] = {}
        self._sums: Sums = {}

    def _now_us(self) -> int:
        return int(self._now() * 1_000_000)

    def open(self) -> None:
        """It is open."""

    def close(self) -> None:
        """It keeps what it has, for whoever shares it."""

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
        with self._lock:
            known = self._nodes.get(node)
            new = NodeRow(node, terms, definition, 0, declared, touched_us=self._now_us())
            made = define(
                deepcopy(known), new, is_declared=declared is not None,
                expected_revision=expected_revision,
                idle_us=None if idle_seconds is None else int(idle_seconds * MICRO),
            )  # fmt: skip
            if made is new:
                self._forget(node)
            if made is not None:
                self._nodes[node] = made
            return self._state(self._nodes[node])

    def _forget(self, node: str) -> None:
        self._leases.pop(node, None)
        self._journal = [line for line in self._journal if line.node != node]

    def _state(self, row: NodeRow) -> NodeState:
        return row.state(self._holders(row))

    def _holders(self, row: NodeRow) -> int:
        return sum(not lease.is_over for lease in self._leases.get(row.node, {}).values())

    def _find(self, node: str) -> NodeRow:
        row = self._nodes.get(node)
        if row is None or row.is_deleted:
            raise ConfigurationError(f"{title(node)} is not in the ledger: define it first")
        return row

    def add(self, node: str, units: int, request: str) -> NodeState:
        """See `Ledger.add`."""
        with self._lock:
            row = self._find(node)
            if (node, request) not in self._added:
                row.terms = added(row.terms, units)
                self._added.add((node, request))
                row.revision += 1
            return self._state(row)

    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        """See `Ledger.delete`."""
        with self._lock:
            row = self._find(node)
            if expected_revision is not None:
                check_revision(row, node, expected_revision)
            if row.out:
                raise ConfigurationError(
                    f"{title(node)} has {row.out} units in use: delete it when they have come back"
                )
            row.is_deleted = True
            self._forget(node)

    def read(self, prefix: str = "") -> list[NodeState]:
        """See `Ledger.read`."""
        with self._lock:
            found = [
                row
                for name, row in sorted(self._nodes.items())
                if name.startswith(prefix) and not row.is_deleted
            ]
            now_us = self._now_us()
            return [seen(row, self._holders(row), now_us) for row in found]

    def sync(self, claims: Sequence[Claim]) -> list[Grant]:
        """See `Ledger.sync`."""
        with self._lock:
            return [self._sync(claim) for claim in claims]

    def _sync(self, claim: Claim) -> Grant:
        row = self._nodes.get(claim.node)
        if row is None or row.is_deleted:
            return Grant(claim.node, claim.epoch, "undefined")
        now_us = self._now_us()
        leases = self._leases.setdefault(claim.node, {})
        oldest_us = now_us - TOMBSTONE_SECONDS * MICRO
        for holder in [h for h, r in leases.items() if r.is_over and r.expires_us < oldest_us]:
            del leases[holder]
        step = sync(row, leases, claim, now_us)
        for changed in step.changed:
            leases[changed.holder] = changed
        self._journal += step.journal
        return step.answer

    def latch(self, node: str, reason: str) -> None:
        """See `Ledger.latch`."""
        with self._lock:
            row = self._nodes.get(node)
            if row is not None and not row.latch:
                row.latch = reason

    def spend(self, token: str, expires: float) -> bool:
        """See `Ledger.spend`."""
        with self._lock:
            now = self._wall()
            self._spent = {t: until for t, until in self._spent.items() if until >= now}
            if token in self._spent:
                return False
            self._spent[token] = expires
            return True

    def remember(self, key: str, text: str, seconds: float) -> str:
        """See `Ledger.remember`."""
        with self._lock:
            now = self._wall()
            self._texts = {k: kept for k, kept in self._texts.items() if kept[0] > now}
            return self._texts.setdefault(key, (now + seconds, text))[1]

    def replace(self, key: str, text: str) -> None:
        """See `Ledger.replace`."""
        with self._lock:
            if key in self._texts:
                self._texts[key] = (self._texts[key][0], text)

    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        """See `Ledger.record`."""
        with self._lock:
            for row in rows:
                key = row.holder, row.number
                if key in self._usage or row.number <= self._dropped.get(row.holder, -1):
                    continue
                self._events += 1
                self._usage[key] = self._events, row
                add_rows((row,), self._sums)
            self._drop(keep_seconds)

    def _drop(self, keep_seconds: float) -> None:
        """Forget what is old; what is recorded again counts once all the same."""
        newest = next((row.timestamp for _n, row in reversed(self._usage.values())), 0.0)
        now = min(self._wall(), newest)
        for (holder, number), (_n, row) in [*self._usage.items()]:
            if len(self._usage) <= MOST_EVENTS and row.timestamp >= now - keep_seconds:
                break
            del self._usage[holder, number]
            self._dropped[holder] = max(number, self._dropped.get(holder, -1))
        for key in [key for key in self._sums if 0 < key[0] < now - KEEP_SUMS_SECONDS]:
            del self._sums[key]

    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        """See `Ledger.usage`."""
        with self._lock:
            rows = list(self._usage.values())
        return [(n, row) for n, row in rows if n > after and since <= row.timestamp < until][:PAGE]

    def last_usage(self) -> int:
        """See `Ledger.last_usage`."""
        return self._events

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Ledger.sums`."""
        with self._lock:
            return between(self._sums, first, last)

    def verify(self) -> list[Difference]:
        """See `Ledger.verify`."""
        with self._lock:
            rows = [row for row in self._nodes.values() if not row.is_deleted]
            return [difference for row in rows for difference in self._compare(row)]

    def _compare(self, row: NodeRow) -> list[Difference]:
        lines = [line for line in self._journal if line.node == row.node]
        found = [
            Difference(
                row.node, what, getattr(row, what), sum(getattr(line, what) for line in lines)
            )
            for what in ("used", "out", "stranded")
        ]
        leases = self._leases.get(row.node, {}).values()
        found.append(Difference(row.node, "leases", row.out, sum(lease.units for lease in leases)))
        return [difference for difference in found if difference.balance != difference.journal]

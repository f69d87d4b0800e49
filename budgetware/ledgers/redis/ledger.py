"""What a service calls: each method one script, sent in one round trip.

Every key of a service begins with the same hash tag, so that a cluster has them in one place:

    {namespace}:meta        the server's run_id, the longest ttl, until when nothing is granted
    {namespace}:nodes       the names of all nodes, in order
    {namespace}:n:<node>    its terms and balances; h: its leases; g, x: those that are over, and
                            when they ended; j: its journal
    {namespace}:a, t, k     requests that added units, tokens that were spent, texts
    {namespace}:usage, u    usage events, and the highest number of each holder
    {namespace}:hours, s    the hours that have sums of usage, and the sums of each

Not here: the line to the server (`connection`), what is decided (`sync.lua`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from secrets import token_hex
from time import time
from typing import Any

from ...errors import ConfigurationError, LedgerUnavailable
from .. import rules
from ..rows import NodeRow
from ..terms import (
    KEEP_SECONDS,
    MICRO,
    MOST,
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
from . import durability as durable
from . import rows as codec
from .address import parse
from .connection import Connection
from .failures import code_of
from .offset import Offset
from .scripts import packed, script
from .usage import Usage

VERSION = 1
PAGE = 1_000
"""Nodes in one answer."""
MAX_CLAIMS = 100
"""Claims in one script: the server does nothing else meanwhile."""
MAX_CACHED = 10_000
MAX_MARKS = 1_000


class RedisLedger:
    """A ledger in Redis or Valkey, for all services that name the same server and namespace.

    Args:
        url: `redis://`, `valkey://`, with TLS `rediss://` and `valkeys://`; `?namespace=` tells
            services apart. A cluster is recognised, or demanded with `redis+cluster://`.
        durability: None or `"normal"`: the server must have an append-only file; `"full"`: every
            step is on its disk before it is answered; `"none"`: it may lose all it has.
        timeout_seconds: how long a connection, and then a reply, may take.
        now_us: for tests: the time, instead of the server's.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: str | None = None,
        timeout_seconds: float = 1.0,
        now_us: Callable[[], int] | None = None,
    ) -> None:
        address = parse(url)
        self._durability = durable.checked(durability)
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._now_us = now_us
        self._prefix = f"{{{address.namespace}}}:".encode()
        self._connection = Connection(address, self._prefix, timeout_seconds)
        self._offset = Offset()
        self._is_open = False
        self._waits = b""
        self._tag = 0
        self._keys: dict[str, bytes] = {}
        self._shared = packed(self._key("meta")) + packed(self._key("nodes"))
        self._marks: dict[str, bytes] = {}
        self._usage = Usage(
            self._call, self._key, time if now_us is None else lambda: now_us() / MICRO
        )  # fmt: skip

    @property
    def address(self) -> str:
        """Where it is, for people: without user, password and parameters."""
        return str(self._address)

    def open(self) -> None:
        """See `Ledger.open`."""
        self._is_open = True
        try:
            self._waits = durable.check(
                self._connection, self._durability, self.address, self._timeout_seconds
            )
            keys = [self._key("meta"), self._key("nodes")]
            (version,) = self._call("open", keys, self._given(), b"%d" % VERSION)
            if int(version) > VERSION:
                raise ConfigurationError(
                    f"the ledger at {self.address} has format {int(version)}, and this version "
                    f"of budgetware knows {VERSION}: update budgetware"
                )
        except BaseException:
            self._is_open = False
            self._connection.drop()
            raise
        self._connection.has_worked = True

    def close(self) -> None:
        """See `Ledger.close`."""
        if self._is_open and self._connection.is_open and self._durability != "none":
            durable.flush(self._connection, self._timeout_seconds)
        self._is_open = False
        self._connection.drop()

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
        _check(node, terms)
        outcome, seen, *row = self._call(
            "define",
            [self._key("meta"), self._key("nodes"), *self._keys_of(node)],
            self._given(),
            node.encode(),
            codec.terms_bytes(terms),
            definition.encode(),
            b"0" if declared is None else b"1",
            (declared or "").encode(),
            b"%d" % (-1 if expected_revision is None else expected_revision),
            b"%d" % (-1 if idle_seconds is None else int(idle_seconds * MICRO)),
        )
        if outcome == b"revision" and expected_revision is not None:
            self._check_revision(node, terms, int(seen), expected_revision)
        state = codec.state_of(node, *row)
        if outcome == b"kind":  # the rules have the words for it
            rules.define(
                codec.row_of(state), NodeRow(node, terms, definition, 0, declared),
                is_declared=declared is not None, expected_revision=None, idle_us=None,
            )  # fmt: skip
        return state

    def _check_revision(self, node: str, terms: Terms, seen: int, expected: int) -> None:
        row = NodeRow(node, terms, "", seen) if seen else None
        rules.check_revision(row, node, expected)

    def add(self, node: str, units: int, request: str) -> NodeState:
        """See `Ledger.add`."""
        keys = [self._key("n", node), self._key("a", str(len(node)), node, request)]
        outcome, *row = self._call("add", keys, b"%d" % units, b"%d" % TOMBSTONE_SECONDS)
        if outcome == b"missing":
            raise _missing(node)
        state = codec.state_of(node, *row)
        if outcome == b"refused":  # the rules have the words for it
            rules.added(state.terms, units)
        return state

    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        """See `Ledger.delete`."""
        expected = -1 if expected_revision is None else expected_revision
        outcome, number = self._call(
            "delete", [self._key("nodes"), *self._keys_of(node)], node.encode(), b"%d" % expected
        )
        if outcome == b"missing":
            raise _missing(node)
        if outcome == b"revision":
            self._check_revision(node, Terms("capacity", 0), int(number), expected)
        if outcome == b"out":
            raise ConfigurationError(
                f"{title(node)} has {int(number)} units in use: delete it when they have come back"
            )

    def read(self, prefix: str = "") -> list[NodeState]:
        """See `Ledger.read`."""
        found: list[NodeState] = []
        now_us = self._now_us() if self._now_us else self._offset.about_us()
        first = b"[" + prefix.encode() if prefix else b"-"
        last = b"[" + prefix.encode() + b"\xff" if prefix else b"+"
        while True:
            row = self._call(
                "read", [self._key("nodes")], self._key("n:"), first, last, b"%d" % PAGE
            )
            found += [
                codec.state_of(row[at].decode(), *row[at + 1 : at + 4], now_us=now_us)
                for at in range(0, len(row), 4)
            ]
            if len(row) < 4 * PAGE:
                return found
            first = b"(" + row[-4]

    def sync(self, claims: Sequence[Claim]) -> list[Grant]:
        """See `Ledger.sync`."""
        grants: list[Grant] = []
        for at in range(0, len(claims), MAX_CLAIMS):
            part = claims[at : at + MAX_CLAIMS]
            data = self._sync(part, has_jumped=False)
            if data is None:
                data = self._sync(part, has_jumped=True)
            grants += self._grants(part, data or b"")
        return grants

    def _sync(self, claims: Sequence[Claim], *, has_jumped: bool) -> bytes | None:
        """Send claims; None: the server's clock has jumped, so nothing was done."""
        now_us = -1 if self._now_us is None else self._now_us()
        expected_us = -1 if has_jumped or self._now_us else self._offset.expected_us()
        ttl_us = max(claim.ttl_ms for claim in claims) * 1_000
        head = codec.HEAD.pack(now_us, expected_us, has_jumped, ttl_us, bool(self._waits))
        self._tag += 1
        count = len(claims)
        rest = [packed(b"%d" % (2 + 5 * count)), self._shared]
        rest += [self._keys.get(claim.node) or self._packed_keys(claim.node) for claim in claims]
        rest += [packed(b"%d" % self._tag), packed(head)]
        for claim in claims:
            rest += [packed(claim.holder.encode()), packed(codec.claim_bytes(claim))]
        sent_us = self._offset.clock_us()
        data = self._run("sync", rest, 5 + 7 * count)
        if not isinstance(data, bytes) or len(data) < codec.REPLY.size:
            raise self._connection.misfit("the reply is not one to claims")
        tag, server_us, jumped = codec.REPLY.unpack_from(data)
        if tag != self._tag:
            raise self._connection.misfit("the reply belongs to another request")
        self._offset.note(sent_us, int(server_us))
        return None if jumped and not has_jumped else data

    def _packed_keys(self, node: str) -> bytes:
        if len(self._keys) >= MAX_CACHED:
            self._keys.clear()
        self._keys[node] = keys = b"".join(map(packed, self._keys_of(node)))
        return keys

    def _grants(self, claims: Sequence[Claim], data: bytes) -> list[Grant]:
        grants: list[Grant] = []
        at = codec.REPLY.size
        for claim in claims:
            try:
                (length,) = codec.LENGTH.unpack_from(data, at)
                grant = codec.grant_of(claim.node, data, at + codec.LENGTH.size)
            except (struct.error, ValueError, IndexError) as broken:
                raise self._connection.misfit("the answer cannot be read") from broken
            at += codec.LENGTH.size + int(length)
            if grant is None:
                raise LedgerUnavailable(f"a balance of {title(claim.node)} would be above {MOST}")
            if grant.epoch != claim.epoch:
                raise self._connection.misfit("the answer is to another claim")
            grants.append(grant)
        return grants

    def latch(self, node: str, reason: str) -> None:
        """See `Ledger.latch`."""
        self._call("latch", [self._key("n", node)], reason.encode())

    def spend(self, token: str, expires: float) -> bool:
        """See `Ledger.spend`."""
        # Whoever asks again since the answer was lost is known by the mark.
        mark = self._marks.setdefault(token, token_hex(8).encode())
        if len(self._marks) > MAX_MARKS:
            self._marks.pop(next(iter(self._marks)))
        until_ms = b"%d" % min(MOST, ceil(expires * 1_000))
        (is_first,) = self._call("spend", [self._key("t", token)], self._given(), mark, until_ms)
        self._marks.pop(token, None)
        return bool(is_first)

    def remember(self, key: str, text: str, seconds: float) -> str:
        """See `Ledger.remember`."""
        left_ms = b"%d" % max(1, ceil(seconds * 1_000))
        (kept,) = self._call("remember", [self._key("k", key)], text.encode(), left_ms)
        return str(kept, "utf-8")

    def replace(self, key: str, text: str) -> None:
        """See `Ledger.replace`."""
        self._call("replace", [self._key("k", key)], text.encode())

    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        """See `Ledger.record`."""
        self._usage.record(rows, keep_seconds)

    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        """See `Ledger.usage`."""
        return self._usage.between(since, until, after)

    def last_usage(self) -> int:
        """See `Ledger.last_usage`."""
        return self._usage.last()

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Ledger.sums`."""
        return self._usage.sums(first, last)

    def verify(self) -> list[Difference]:
        """See `Ledger.verify`."""
        return [found for state in self.read() for found in self._verify(state.node)]

    def _verify(self, node: str) -> list[Difference]:
        keys = [self._key("n", node), self._key("h", node), self._key("j", node)]
        row, lines, leases = self._call("verify", keys)
        if not row or codec.is_deleted(row):
            return []
        state = codec.state_of(node, row, b"", b"")
        sums = codec.sums_of(row)
        for line in lines:
            _epoch, *changes, _holder = line.split(b" ", 4)
            sums = [total + int(change) for total, change in zip(sums, changes, strict=True)]
        found = [
            Difference(node, "used", state.used, sums[0]),
            Difference(node, "out", state.out, sums[1]),
            Difference(node, "stranded", state.stranded, sums[2]),
            Difference(node, "leases", state.out, sum(map(codec.units_of, leases))),
            Difference(node, "holders", state.holders, len(leases)),
        ]
        return [difference for difference in found if difference.balance != difference.journal]

    def _key(self, *parts: str) -> bytes:
        return self._prefix + ":".join(parts).encode()

    def _keys_of(self, node: str) -> list[bytes]:
        return [self._key(kind, node) for kind in "nhgxj"]

    def _given(self) -> bytes:
        return b"%d" % (-1 if self._now_us is None else self._now_us())

    def _call(self, name: str, keys: Iterable[bytes], *arguments: bytes) -> list[Any]:
        """Run a script, and return what it answers, but for the tag."""
        self._tag += 1
        tag = b"%d" % self._tag
        keys = list(keys)
        rest = [packed(b"%d" % len(keys)), *map(packed, (*keys, tag, *arguments))]
        reply = self._run(name, rest, 2 + len(keys) + len(arguments))
        answer: Any = reply
        if not isinstance(reply, list) or answer[:1] != [tag]:
            raise self._connection.misfit("the reply belongs to another request")
        return list(answer[1:])

    def _run(self, name: str, rest: list[bytes], count: int) -> Any:
        """Run a script, all of whose arguments are packed."""
        if not self._is_open:
            raise LedgerUnavailable(f"the ledger at {self.address} is not open")
        step = script(name)
        waits = self._waits
        replies = 2 if waits else 1
        packet = step.packed(rest, count, by_text=False) + waits
        answer = self._connection.exchange(packet, replies)
        if isinstance(answer[0], Exception) and code_of(answer[0]) == "NOSCRIPT":
            packet = step.packed(rest, count, by_text=True) + waits
            answer = self._connection.exchange(packet, replies)
        if isinstance(answer[0], Exception):
            self._connection.drop()  # it may be the answer to another request: errors have no tag
            raise self._connection.failure(answer[0]) from answer[0]
        if waits:
            durable.confirm(self._connection, answer[1])
        return answer[0]


def _missing(node: str) -> ConfigurationError:
    return ConfigurationError(f"{title(node)} is not in the ledger: define it first")


def _check(node: str, terms: Terms) -> None:
    if terms.kind == "rate" and min(terms.value, terms.period_us) < 1:
        raise ConfigurationError(f"{title(node)} is a rate, which has a value and a period above 0")
    if max(terms.value, terms.period_us, terms.burst) > MOST:
        raise ConfigurationError(f"{title(node)} has an amount above {MOST}")

"""Usage events in a stream of bounded length, and what they add up to in a hash for each hour.

Not here: the line to the server (`connection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ..terms import KEEP_SUMS_SECONDS, TOMBSTONE_SECONDS, UsageRow, UsageSum

PAGE = 1_000
"""Usage events in one answer."""
MOST_EVENTS = 100_000
"""So many usage events are kept."""
MAX_ROWS = 500
MAX_HOURS = 24
"""Hours whose sums are in one answer."""
_SEPARATOR = "\n"


class Call(Protocol):
    """Runs a script, and returns what it answers."""

    def __call__(self, name: str, keys: Iterable[bytes], *arguments: bytes) -> list[Any]: ...


class Key(Protocol):
    """Makes the key of these parts."""

    def __call__(self, *parts: str) -> bytes: ...


class Usage:
    """The usage events of a ledger.

    Args:
        call: runs a script.
        key: makes a key.
        now: seconds since the epoch.
    """

    def __init__(self, call: Call, key: Key, now: Callable[[], float]) -> None:
        self._now = now
        self._call = call
        self._key = key

    def record(self, rows: Sequence[UsageRow], keep_seconds: float) -> None:
        """See `Ledger.record`."""
        if not rows:
            return
        now = min(self._now(), max(row.timestamp for row in rows))
        limits = (
            b"%d" % MOST_EVENTS, b"%d" % TOMBSTONE_SECONDS, b"%d" % KEEP_SUMS_SECONDS,
            b"%.3f" % (now - keep_seconds), self._key("s", ""),
        )  # fmt: skip
        for at in range(0, len(rows), MAX_ROWS):
            part = rows[at : at + MAX_ROWS]
            holders = list(dict.fromkeys(row.holder for row in part))
            keys = [self._key("usage"), self._key("hours")]
            keys += [self._key("u", holder) for holder in holders]
            place = {holder: b"%d" % number for number, holder in enumerate(holders, start=3)}
            fields = [field for row in part for field in _fields(row, place[row.holder])]
            self._call("record", keys, *limits, *fields)

    def between(self, since: float, until: float, after: int) -> list[tuple[int, UsageRow]]:
        """See `Ledger.usage`."""
        found: list[tuple[int, UsageRow]] = []
        span = [repr(float(since)).encode(), repr(float(until)).encode()]
        while len(found) < PAGE:
            end, *row = self._call("usage", [self._key("usage")], b"%d" % after, *span, b"2000")
            for at in range(0, len(row), 5):
                holder, number, timestamp, text = row[at + 1 : at + 5]
                event = UsageRow(
                    holder.decode(), int(number), float(timestamp), str(text, "utf-8")
                )  # fmt: skip
                found.append((_number(row[at]), event))
            if not end:
                break
            after = _number(end)
        return found[:PAGE]

    def last(self) -> int:
        """See `Ledger.last_usage`."""
        (last,) = self._call("last_usage", [self._key("usage")])
        return _number(last) if last else 0

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Ledger.sums`."""
        found: list[UsageSum] = []
        while True:
            span = (self._key("s", ""), b"%d" % first, b"%d" % last, b"%d" % MAX_HOURS)
            hours = self._call("sums", [self._key("hours")], *span)
            for at in range(0, len(hours), 2):
                found += _sums(int(hours[at]), hours[at + 1])
            if len(hours) < 2 * MAX_HOURS:
                return found
            first = int(hours[-2]) + 1


def _fields(row: UsageRow, place: bytes) -> Iterable[bytes]:
    """What the script is told of an event: its own fields, and each number that it adds."""
    yield from (place, row.holder.encode(), b"%d" % row.number)
    yield from (repr(float(row.timestamp)).encode(), row.text.encode())
    yield b"%d" % sum(len(each.units) for each in row.sums)
    for ends, group, units in row.sums:
        for what, n in units:
            yield from (b"%d" % ends, f"{group}{_SEPARATOR}{what}".encode(), b"%d" % n)


def _sums(ends: int, fields: Sequence[bytes]) -> list[UsageSum]:
    groups: dict[str, list[tuple[str, int]]] = {}
    for at in range(0, len(fields), 2):
        group, _newline, what = str(fields[at], "utf-8").rpartition(_SEPARATOR)
        groups.setdefault(group, []).append((what, int(fields[at + 1])))
    return [UsageSum(ends, group, tuple(groups[group])) for group in sorted(groups)]


def _number(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0])

"""Adding up what usage events say, before it is written down. Not here: what they say."""

from __future__ import annotations

from collections.abc import Iterable

from .terms import UsageRow, UsageSum

Sums = dict[tuple[int, str], dict[str, int]]
"""By the end of the hour and the group: how much of what."""


def add_rows(rows: Iterable[UsageRow], into: Sums) -> Sums:
    """Add what these events say."""
    for row in rows:
        add(row.sums, into)
    return into


def add(sums: Iterable[UsageSum], into: Sums) -> None:
    """Add these."""
    for ends, group, units in sums:
        found = into.get((ends, group))
        if found is None:
            into[ends, group] = dict(units)
        else:
            for what, n in units:
                found[what] = found.get(what, 0) + n


def between(sums: Sums, first: int, last: int) -> list[UsageSum]:
    """Those of the hours that end in this time, in their order."""
    found = sorted(key for key in sums.copy() if first <= key[0] <= last)
    return [UsageSum(ends, group, tuple(sums[ends, group].items())) for ends, group in found]

"""Recorded usage events, as they are shown one by one."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ..errors import InvalidAmount
from ..kernel.dims import check_amount, show
from .times import Time, as_seconds

if TYPE_CHECKING:
    from ..recording import Recorded, Records

MOST = 1_000


def recorded(
    records: Records, since: Time, until: Time | None, after: int, limit: int
) -> list[Recorded]:
    """The events of a time that have a higher number, without what counters count."""
    start = as_seconds("since", since)
    end = inf if until is None else as_seconds("until", until)
    if start > end:
        raise InvalidAmount("the window ends before it begins")
    check_amount("after", after)
    if type(limit) is not int or not 1 <= limit <= MOST:
        raise InvalidAmount(f"limit={show(limit)}: give 1 to {MOST:,}")
    found: list[Recorded] = []
    while page := records.usage(start, end, after=after):
        found += [each for each in page if "count" not in each[1]]
        if len(found) >= limit:
            break
        after = page[-1][0]
    return found[:limit]

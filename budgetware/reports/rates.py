"""How full the bucket of a rate is, of which processes have parts: worked out from usage events.

A ledger hands out parts of a rate, and hears of what becomes of them only later. Not here: what is
enforced (`budgetware.ledgers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import ceil, inf, nextafter
from typing import TYPE_CHECKING

from ..events import event_of
from ..kernel.dims import to_units
from ..quotas import Rate
from ..usage_sums import HOUR, CallGroup, Groups, read_group, sums_of

if TYPE_CHECKING:
    from ..recording import Records

LONGEST_SECONDS = 400 * 86_400
_EXACT_SECONDS = 2 * HOUR
"""A bucket that fills so soon is worked out from events alone."""


def rate_units_used(
    records: Records, names: frozenset[str], dim: str, rate: Rate, now: float
) -> int:
    """How much of the burst was used and has not come back yet; less than 0 never.

    Args:
        names: whose calls count.
    """
    burst = to_units(dim, rate.value if rate.max is None else rate.max)
    per_second = to_units(dim, rate.value) * 1e9 / rate.period_ns
    window = min(burst / per_second, LONGEST_SECONDS)
    since = now - window
    hour = since if window <= _EXACT_SECONDS else now // HOUR * HOUR
    level, at = float(burst), since
    draws = (_hours(records, names, dim, since, hour), _events(records, names, dim, hour, now))
    for when, units in chain.from_iterable(draws):
        level = min(burst, level + max(0.0, when - at) * per_second) - units
        at = max(at, when)
    level = min(burst, level + max(0.0, now - at) * per_second)
    return max(0, burst - int(level))


def _hours(
    records: Records, names: frozenset[str], dim: str, since: float, until: float
) -> Iterator[tuple[float, int]]:
    """What was charged in each hour that has ended, as if in the middle of it."""
    by_hour: dict[int, int] = {}
    for ends, text, units in records.sums(ceil(since), int(until)) if until > since else ():
        group = read_group(text)
        if isinstance(group, CallGroup) and group.principal in names:
            by_hour[ends] = by_hour.get(ends, 0) + dict(units).get(f"d:{dim}", 0)
    for ends in sorted(by_hour):
        yield (max(since, ends - HOUR) + ends) / 2, by_hour[ends]


def _events(
    records: Records, names: frozenset[str], dim: str, since: float, now: float
) -> Iterator[tuple[float, int]]:
    """What was charged by each event after a moment."""
    after, groups = 0, Groups()
    while page := records.usage(nextafter(since, inf), nextafter(now, inf), after=after):
        after = page[-1][0]
        for _number, row in page:
            if "count" not in row and row["principal"] in names:
                [first, *_rest] = sums_of(event_of(row), groups)
                yield row["timestamp"], dict(first.units).get(f"d:{dim}", 0)

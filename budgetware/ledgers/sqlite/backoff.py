"""How long to wait for a lock that another process has: short, random, and not for ever.

SQLite's own busy handler waits in fixed steps, and a process may wait in vain for most of a
second while others come and go. Not here: what is tried again (`database`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import uniform
from time import monotonic

LEAST_SECONDS = 0.000_05
"""About as long as one transaction holds the lock."""
MOST_SECONDS = 0.01
_GROWTH = 1.5


def pauses(timeout_seconds: float, *, clock: Callable[[], float] = monotonic) -> Iterator[float]:
    """Yield how long to sleep before each new try, until the time is up."""
    until = clock() + timeout_seconds
    longest = LEAST_SECONDS
    while (left := until - clock()) > 0:
        yield min(left, uniform(longest / 4, longest))  # noqa: S311 - no secret
        longest = min(MOST_SECONDS, longest * _GROWTH)

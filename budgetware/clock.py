"""Where time comes from, and durations as people write them. Not here: waiting."""

from __future__ import annotations

import math
import re
import time
from typing import Protocol

from .errors import InvalidAmount
from .kernel.dims import show

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_LONGEST_SECONDS = 100 * 365 * 86400.0


class Clock(Protocol):
    """What a service asks for the time; pass your own to `connect(clock=…)`."""

    def now_ns(self) -> int:
        """Nanoseconds on a clock that never goes back; only differences mean anything."""
        ...

    def time(self) -> float:
        """Seconds since the epoch, for records."""
        ...


class SystemClock:
    """The monotonic clock for durations, the wall clock for records."""

    now_ns = staticmethod(time.monotonic_ns)
    time = staticmethod(time.time)


def parse_seconds(what: str, value: object) -> float:
    """Return a duration in seconds: a number above 0, or a text such as `"2m"`, `"2h30m"`.

    Raises:
        InvalidAmount: for anything else, NaN, infinities and more than a hundred years.
    """
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if 0 < value <= _LONGEST_SECONDS else math.nan
    elif isinstance(value, str) and len(value) <= 40 and _DURATION.fullmatch(value):
        parts: list[tuple[str, str]] = _PART.findall(value)
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise InvalidAmount(
            f"{what}={show(value)}: give seconds above 0, or a text such as '30s' or '2h30m'"
        )
    return seconds


def parse_max_wait(value: object) -> float | None:
    """Return the longest wait in seconds; None stays None, 0 is no wait at all."""
    if value is None or value in ("0", "0s") or (value == 0 and type(value) in (int, float)):
        return None if value is None else 0.0
    try:
        return parse_seconds("max_wait", value)
    except InvalidAmount:
        raise InvalidAmount(
            f"max_wait={show(value)}: give seconds, 0 or more, a text such as '30s', or None"
        ) from None

"""Points in time of a report: read, checked, written as RFC 3339 has it."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from ..errors import InvalidAmount
from ..kernel.dims import show

Time = datetime | float | str
"""A datetime with a time zone, seconds since the epoch, or RFC 3339."""
_LAST = 253_402_300_799.0


def stamp(time: datetime) -> str:
    """A time as RFC 3339 has it, in UTC."""
    text = time.astimezone(UTC).isoformat()
    return text.replace("+00:00", "Z")


def read_time(text: object) -> datetime:
    """Read a time; raises `InvalidAmount`."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidAmount(f"{show(text)} is no time: give one such as 2026-11-22T00:00:00Z")
    return found.astimezone(UTC)


def as_seconds(what: str, value: Time) -> float:
    """Return a time in seconds since the epoch; raises `InvalidAmount`."""
    if isinstance(value, str):
        return read_time(value).timestamp()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidAmount(f"{what}={value}: give it a time zone, such as datetime.UTC")
        return value.timestamp()
    if type(value) not in (int, float) or not isfinite(value) or not 0 <= value <= _LAST:
        raise InvalidAmount(f"{what}={show(value)}: give a datetime, or seconds since the epoch")
    return float(value)


def as_time(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)

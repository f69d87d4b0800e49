"""Points in time of a report: read, checked, written as RFC 3339 has it."""

from __future__ import annotations

from datetime import UTC, datetime

from ..errors import InvalidAmount
from ..kernel.dims import show

Time = datetime | float | str
"""A datetime with a time zone, seconds since the epoch, or RFC 3339."""
_LAST = 253_402_214_400.0
"""The last day that can be told."""


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
    seconds: object = value
    if isinstance(value, str):
        seconds = read_time(value).timestamp()
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidAmount(f"{what}={value}: give it a time zone, such as datetime.UTC")
        seconds = value.timestamp()
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise InvalidAmount(f"{what}={show(value)}: give a datetime, or seconds since the epoch")
    if not 0 <= seconds <= _LAST:
        raise InvalidAmount(f"{what}={show(value)}: give a time from 1970 to 9999")
    return float(seconds)


def as_time(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)

"""Points in time as one types them: `7d` ago, `2026-11-01`, RFC 3339. Not here: windows."""

import re
from datetime import UTC, datetime, timedelta

from budgetware.errors import InvalidAmount
from budgetware.formats import parse_duration
from budgetware.kernel.dims import show

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]{5,15}(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?")
_AGO = re.compile(r"(?=.*[1-9])(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhd]))+")
_LONGEST = 40
_YEAR_9999 = 253_370_764_800.0
"""Its first second, since the epoch: no later times can be reckoned with."""


def parse_moment(what: str, text: str, now: float) -> float:
    """Read a point in time as seconds since the epoch.

    Args:
        text: how long ago (`7d`, `90m`), a day (its UTC midnight), `today`, `now`, or RFC 3339;
            without an offset it is UTC.
        now: the time, in seconds since the epoch.

    Raises:
        InvalidAmount: it is none, before the epoch, or in 9999 or later.
    """
    given = text.strip()
    found = _parse(given, now) if len(given) <= _LONGEST else None
    if found is not None and found < 0:
        raise InvalidAmount(
            f"{what} {show(text)}: that is too long ago: give a time in 1970 or later, as 365d or "
            "2026-11-01"
        )
    if found is not None and found >= _YEAR_9999:
        raise InvalidAmount(f"{what} {show(text)}: that is too far ahead: give a time before 9999")
    if found is None:
        raise InvalidAmount(
            f"{what} {show(text)}: give how long ago, as 7d or 12h, a day, as 2026-11-01, or a "
            "time, as 2026-11-01T12:00:00Z"
        )
    return found


def _parse(text: str, now: float) -> float | None:
    if text == "now":
        return now
    if text == "today":
        return now - now % timedelta(days=1).total_seconds()
    if _DATE.fullmatch(text) or _TIME.fullmatch(text):
        return _stamp(text)
    if not _AGO.fullmatch(text):
        return None
    try:
        return now - parse_duration(text)
    except InvalidAmount:  # it is more than that takes
        return -1.0


def _stamp(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

"""What providers say of their limits in statuses and headers, in seconds to hold back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_PAUSE_SECONDS: Final = 3_600.0
_ASK_LATER: Final = frozenset({429, 503, 529})
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LIMITS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)


def pause_seconds(status: int, headers: Mapping[str, str], now: datetime | None = None) -> float:
    """How long the provider wants no more calls; 0 where it does not say so.

    From `retry-after-ms` and `retry-after` of a 429, 503 or 529, else from a rate limit of which
    nothing is left. What cannot be read says nothing; never more than an hour.

    Args:
        status: of the response.
        headers: whose keys are looked up in lower case.
        now: what dates are compared with; by default, now.
    """
    now = now or datetime.now(UTC)
    if status in _ASK_LATER:
        after = _retry_after(headers, now)
        if after > 0:
            return after
    spent = (reset for left, reset in _LIMITS if _is_none_left(headers.get(left)))
    return max((_span(headers.get(reset), now) for reset in spent), default=0.0)


def _retry_after(headers: Mapping[str, str], now: datetime) -> float:
    millis = _number(headers.get("retry-after-ms"))
    return _capped(millis / 1000) if millis > 0 else _span(headers.get("retry-after"), now)


def _is_none_left(text: str | None) -> bool:
    return text is not None and text.strip() in {"0", "0.0"}


def _span(text: str | None, now: datetime) -> float:
    """Seconds from a number of them, a duration such as `6m0s`, or a date to come."""
    if not text or len(text) > 100:
        return 0.0
    text = text.strip()
    seconds = _number(text)
    if seconds:
        return _capped(seconds)
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return _capped(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    return _capped(_until(text, now))


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def _until(text: str, now: datetime) -> float:
    """Seconds until a date as in HTTP, or as in RFC 3339."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = parse(text)
        except (ValueError, TypeError, IndexError):
            continue
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return (date - now).total_seconds()
    return 0.0


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_PAUSE_SECONDS)

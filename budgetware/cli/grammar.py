"""Limits as one types them: `1M/day`, `90k/minute max 100k`, `256MiB`, `4 slots`, `5/day` dollars.

VALUE/PERIOD is a rate, VALUE slots a concurrency, VALUE alone a capacity. Not here: whether the
dimension takes such a limit (`budgetware.quotas`).
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from budgetware.errors import InvalidAmount
from budgetware.formats import amount_text, parse_bytes, parse_count, parse_duration
from budgetware.kernel.dims import show
from budgetware.quotas import PERIOD_SECONDS, Capacity, Concurrency, QuotaLimit, Rate

ALIASES = {"cpu": "cpu_micros"}
"""Shorter names of dimensions, for the command line alone."""
EXAMPLES = "1M/day, '90k/minute max 100k', 50M or '4 slots'"
_SLOTS = re.compile(r"(.*\S)\s+slots?")
_RATE = re.compile(r"([^/]*)/\s*(\S+)(?:\s+max\s+(.+))?")
_PERCENT = re.compile(r"([0-9]{1,6})%")
_LONGEST = 100


def parse_limit(text: str, dim: str | None) -> QuotaLimit:
    """Read a limit.

    Raises:
        InvalidAmount: it is none; the message says what would be.
    """
    given = text.strip()
    if len(given) > _LONGEST:
        raise InvalidAmount(f"limit {show(text)}: give one such as {EXAMPLES}")
    slots = _SLOTS.fullmatch(given)
    if slots is not None:
        return Concurrency(parse_count(slots[1]))
    share = _PERCENT.fullmatch(given)
    if share is not None and dim == "cpu_micros":
        return Rate(int(share[1]) * 10_000, "second")
    if "/" in given:
        return _rate(given, dim)
    if " max " in given:
        raise InvalidAmount(f"limit {show(text)}: max is the burst of a rate, as in 1M/day max 2M")
    return Capacity(parse_value(given, dim))


def _rate(text: str, dim: str | None) -> Rate:
    found = _RATE.fullmatch(text)
    if found is None:
        raise InvalidAmount(f"limit {show(text)}: give a rate as VALUE/PERIOD, such as 1M/day")
    burst = None if found[3] is None else parse_value(found[3], dim)
    return Rate(parse_value(found[1], dim), _period(found[2]), burst)


def _period(text: str) -> str | float:
    if text in PERIOD_SECONDS:
        return text
    try:
        return parse_duration(text)
    except InvalidAmount:
        raise InvalidAmount(
            f"period {show(text)}: give one of {', '.join(PERIOD_SECONDS)}, or a time such as 30s"
        ) from None


def parse_value(text: str, dim: str | None) -> int | Decimal:
    """Read an amount of a dimension: dollars, a size, a time or a count."""
    given = text.strip()
    if dim == "usd":
        return _dollars(given)
    if dim in ("memory", "bytes"):
        return parse_bytes(given)
    if dim == "cpu_micros" and not given.isdecimal():
        return round(parse_duration(given) * 1_000_000)
    return parse_count(given)


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$").replace(",", "")) if len(text) < 40 else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite():
        raise InvalidAmount(f"{show(text)} is no amount of dollars: give one such as 0.25 or 5")
    return amount


def parse_quotas(words: Sequence[str]) -> dict[str, QuotaLimit]:
    """Read `tokens=1M/day usd=5/month`, `tokens 1M/day usd 5/month`, `browsers 4 slots`.

    Raises:
        InvalidAmount: a dimension has no limit, or two.
    """
    waiting = list(words)
    found: dict[str, QuotaLimit] = {}
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        dim = ALIASES.get(name, name)
        if not equals:
            if not waiting:
                raise InvalidAmount(f"{show(name)} has no limit: give one such as {EXAMPLES}")
            value = waiting.pop(0)
        value += _suffix(waiting)
        if dim in found:
            raise InvalidAmount(f"{dim} has two limits: give one of them")
        found[dim] = parse_limit(value, dim)
    return found


def _suffix(waiting: list[str]) -> str:
    """Take the words that belong to the value before them."""
    if waiting[:1] in (["slot"], ["slots"]):
        return f" {waiting.pop(0)}"
    if waiting[:1] == ["max"] and len(waiting) > 1:
        return f" {waiting.pop(0)} {waiting.pop(0)}"
    return ""


def limit_text(limit: Mapping[str, object], dim: str | None) -> str:
    """Show a limit as its JSON has it: `1.0M / day, 2.0M at once`."""
    kind, value = limit.get("type"), _shown(dim, limit.get("value"))
    if kind == "rate":
        burst = limit.get("max")
        at_once = "" if burst is None else f", {_shown(dim, burst)} at once"
        return f"{value} / {period_text(limit.get('period'))}{at_once}"
    return f"{value} at once" if kind == "concurrency" else f"{value} in all"


def _shown(dim: str | None, value: object) -> str:
    try:
        return amount_text(dim, Decimal(str(value)) if dim == "usd" else int(str(value)))
    except (ValueError, InvalidOperation):
        return str(value)


def period_text(period: object) -> str:
    """Show the period of a rate, a name or seconds."""
    return str(period) if not isinstance(period, int | float) else f"{period:g} s"

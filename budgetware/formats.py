"""Numbers as people read and write them: `1.5k`, `2.0 KiB`, `2m05s`, `$0.25`.

Pure, and exact: halves are rounded up, and what is rounded to a thousand gets the next word. Not
here: what the numbers mean.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from .clock import parse_seconds
from .errors import InvalidAmount
from .kernel.dims import MAX_AMOUNT, show

_COUNT_WORDS = ("", "k", "M", "G", "T", "P")
_BYTE_WORDS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNT = re.compile(r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?) ?([kKMGBTP]?)")
_COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12, "P": 10**15}
_BYTES = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?) ?(?:([kmgt])(i?)b|b)?", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_LONGEST_TEXT = 40
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def count_text(n: int) -> str:
    """Show a count in at most six characters: `999`, `1.5k`, `999.9k`, `1.0M`."""
    if n < 0:
        return f"-{count_text(-n)}"
    number, word = _scaled(n, 1000, _COUNT_WORDS)
    return number + word


def rate_text(per_second: float) -> str:
    """Show how many a second: one place below a thousand, else as a count."""
    if not math.isfinite(per_second):
        return "-"
    return f"{per_second:.1f}" if abs(per_second) < 999.95 else count_text(round(per_second))


def bytes_text(n: int) -> str:
    """Show a size: `512 B`, `2.0 KiB`."""
    if n < 0:
        return f"-{bytes_text(-n)}"
    number, word = _scaled(n, 1024, _BYTE_WORDS)
    return f"{number} {word}"


def _scaled(n: int, base: int, words: tuple[str, ...]) -> tuple[str, str]:
    """Show `n` with the smallest word by which it is below `base`."""
    if n < base:
        return str(n), words[0]
    unit, word = 1, words[0]
    tenths = 0
    for word in words[1:]:  # noqa: B007 - the last one takes whatever is left
        unit *= base
        tenths = (n * 20 + unit) // (2 * unit)
        if tenths < base * 10:
            break
    return f"{tenths // 10}.{tenths % 10}", word


def duration_text(seconds: float) -> str:
    """Show a duration by its two largest units: `2m05s`, `1d02h`, `1.5s`, `250ms`."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if seconds < 0.9995:
        millis = _trimmed(seconds * 1000, 3 if seconds < 0.001 else 0)
        return "0s" if millis == "0" else f"{millis}ms"
    if seconds < 59.95:
        return f"{_trimmed(seconds, 1)}s"
    return _whole_duration(round(seconds))


def _whole_duration(seconds: int) -> str:
    if seconds < 3_600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    minutes = (seconds + 30) // 60
    if minutes < 1_440:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = (seconds + 1_800) // 3_600
    return f"{hours // 24}d{hours % 24:02d}h"


def _trimmed(value: float, places: int) -> str:
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd_text(dollars: Decimal | int | str) -> str:
    """Show dollars with two to six places: `$5.00`, `$0.012345`."""
    amount = Decimal(dollars)
    if not amount.is_finite():
        return "-"
    exact = abs(amount).quantize(Decimal("0.000001"), ROUND_HALF_UP)
    whole, _, places = f"{exact:,f}".partition(".")
    sign = "-" if amount < 0 and exact else ""
    return f"{sign}${whole}.{places.rstrip('0').ljust(2, '0')}"


def amount_text(dim: str | None, amount: int | Decimal | str | None) -> str:
    """Show an amount of a dimension as what it is: dollars, a size, a time or a count."""
    if amount is None:
        return "-"
    if dim == "usd":
        return usd_text(amount)
    number = int(amount)
    if dim in ("memory", "bytes"):
        return bytes_text(number)
    if dim in ("millis", "cpu_micros"):
        return duration_text(number / (1_000 if dim == "millis" else 1_000_000))
    return count_text(number)


def visible(text: str) -> str:
    """Escape what a terminal would act on or not show: control and format characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    code = ord(char)
    width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
    return _ESCAPES.get(char) or f"\\{letter}{code:0{width}x}"


def parse_count(text: str) -> int:
    """Read a whole number of 0 or more: `90_000`, `1.5k`, `1M`.

    Raises:
        InvalidAmount: it is none, or above 2**53 - 1.
    """
    found = _COUNT.fullmatch(text.strip()) if len(text) <= _LONGEST_TEXT else None
    if found is not None:
        unit = _COUNT_UNITS["k" if found[2] == "K" else found[2]]
        number = _whole(found[1].replace(",", ""), unit)
        if number is not None:
            return number
    raise InvalidAmount(
        f"{show(text)} is no count: give a whole number up to 2**53 - 1, such as 90_000, 1.5k, 1M"
    )


def parse_bytes(text: str) -> int:
    """Read a size in bytes: `512`, `64MiB` (1024s) or `10GB` (1000s); case does not matter.

    Raises:
        InvalidAmount: it is none, not a whole number of bytes, or above 2**53 - 1.
    """
    found = _BYTES.fullmatch(text.strip()) if len(text) <= _LONGEST_TEXT else None
    if found is not None:
        power = " kmgt".index((found[2] or " ").lower())
        number = _whole(found[1], (1024 if found[3] else 1000) ** power)
        if number is not None:
            return number
    raise InvalidAmount(
        f"{show(text)} is no size: give whole bytes, or kB, MB, GB, TB (1000s) or KiB, MiB, GiB, "
        "TiB (1024s), such as 64MiB or 10GB"
    )


def _whole(number: str, unit: int) -> int | None:
    try:
        amount = Decimal(number.replace("_", "")) * unit
    except InvalidOperation:
        return None
    return int(amount) if amount == amount.to_integral_value() and amount <= MAX_AMOUNT else None


def parse_duration(text: str) -> float:
    """Read a duration in seconds: `30s`, `2h30m`, `1d2h`, `250ms`, or a plain number of them.

    Raises:
        InvalidAmount: it is none, not above 0, or more than a hundred years.
    """
    given = text.strip()
    is_plain = len(given) <= _LONGEST_TEXT and _SECONDS.fullmatch(given)
    try:
        return parse_seconds("duration", float(given) if is_plain else given)
    except InvalidAmount:
        raise InvalidAmount(
            f"{show(text)} is no duration: give one above 0 in d, h, m, s or ms, such as 30s, "
            "2h30m or 1d2h"
        ) from None

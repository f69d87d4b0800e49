"""What may be emitted: short printable text and 64-bit ints. Not here: under which names."""

from __future__ import annotations

MAX_TEXT = 256
MAX_INT = 2**63 - 1

Value = str | bool | int | float
Attributes = dict[str, Value]


def clean(text: str) -> str:
    """Cut a text, and take out what does not print."""
    cut = text[:MAX_TEXT]
    return cut if cut.isprintable() else "".join(filter(str.isprintable, text))[:MAX_TEXT]


def bounded(n: int) -> int:
    """A number that fits; nothing here is ever negative."""
    return min(n, MAX_INT)

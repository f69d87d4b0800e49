"""One line of a benchmark: a ratio, what it may be, and the microseconds it came from."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Only the ratio travels between machines; `target` is the most it may be, None: no target."""

    what: str
    micros: float
    ratio: float
    target: float | None


def target_of(text: str) -> float | None:
    return float(text) if text else None

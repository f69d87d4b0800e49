"""A clock that stands still until it is told to go on."""

from __future__ import annotations


class VirtualClock:
    def __init__(self) -> None:
        self._now_ns = 1_000_000_000

    def now_ns(self) -> int:
        return self._now_ns

    def time(self) -> float:
        return self._now_ns / 1e9

    def advance(self, seconds: float) -> None:
        self._now_ns += int(seconds * 1e9)

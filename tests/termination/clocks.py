"""A clock that a test moves."""

from dataclasses import dataclass


@dataclass
class HandClock:
    seconds: float = 0.0

    def now_ns(self) -> int:
        return int(self.seconds * 1e9)

    def time(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

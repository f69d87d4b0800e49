"""Continuous refill of a rate, in integers and without drift. Not here: what draws on it.

Since `anchor_ns` exactly floor((now - anchor) * value / period) units have come, whoever asked
when. A full bucket stops the clock: what does not fit is not owed.
"""

from __future__ import annotations

NEVER_NS = 1 << 80
"""Later than any time."""


class Refill:
    """`value` units per `period_ns`, into a bucket that holds `most` at once."""

    __slots__ = ("anchor_ns", "given", "most", "period_ns", "value")

    def __init__(self, value: int, period_ns: int, most: int, now_ns: int) -> None:
        self.value = value
        self.period_ns = period_ns
        self.most = most
        self.anchor_ns = now_ns
        self.given = 0

    def due(self, now_ns: int) -> int:
        """Units that have come since this was last asked; a clock that went back gives none."""
        passed_ns = now_ns - self.anchor_ns
        if passed_ns >= self.period_ns:  # whole periods go, so that the numbers stay small
            periods = passed_ns // self.period_ns
            self.anchor_ns += periods * self.period_ns
            self.given -= periods * self.value
            passed_ns -= periods * self.period_ns
        units = passed_ns * self.value // self.period_ns - self.given
        if units <= 0:
            return 0
        self.given += units
        return units

    def stop(self, now_ns: int) -> None:
        """The bucket is full: the next unit begins to come now."""
        self.anchor_ns = max(self.ready_ns(0), now_ns)  # nothing comes twice if clocks go back
        self.given = 0

    def ready_ns(self, deficit: int) -> int:
        """When `deficit` more units will have come. Source: the inverse of `due`, rounded up."""
        units = self.given + deficit
        if units > 0 and not self.value:
            return NEVER_NS
        return self.anchor_ns + -(-units * self.period_ns // (self.value or 1))

    def wait_seconds(self, deficit: int, now_ns: int) -> float:
        """Seconds from now until then."""
        return max(0, self.ready_ns(deficit) - now_ns) / 1e9

    def change(self, value: int, period_ns: int, most: int, now_ns: int) -> None:
        """Go on at another rate; the part of a unit that has come by now is kept."""
        begun = (now_ns - self.anchor_ns) * self.value - self.given * self.period_ns
        self.stop(now_ns)
        if value:
            self.anchor_ns -= max(0, begun) * period_ns // (self.period_ns * value)
        self.value = value
        self.period_ns = period_ns
        self.most = most

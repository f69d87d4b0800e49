"""How far the server's clock is from the own one, so that a jump of it is noticed.

Not here: what follows from a jump, which `sync.lua` decides before it grants anything.
"""

from __future__ import annotations

import time

OLD_US = 60_000_000
"""After such a pause two clocks may have drifted apart without a jump."""


def clock_us() -> int:
    """A clock that nobody sets, and that goes on while the machine sleeps where there is one."""
    which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(which) // 1_000


class Offset:
    """The difference of the two clocks, as of the last reply."""

    __slots__ = ("_measured_us", "_offset_us")

    def __init__(self) -> None:
        self._offset_us = 0
        self._measured_us = -OLD_US - 1

    def clock_us(self) -> int:
        """The own clock."""
        return clock_us()

    def expected_us(self) -> int:
        """What the server's clock should say; -1: who knows."""
        now_us = clock_us()
        if not 0 <= now_us - self._measured_us <= OLD_US:
            return -1
        return now_us + self._offset_us

    def about_us(self) -> int:
        """The same for people: where nobody knows, what the wall clock says."""
        expected_us = self.expected_us()
        return time.time_ns() // 1_000 if expected_us < 0 else expected_us

    def note(self, sent_us: int, server_us: int) -> None:
        """Measure it by a reply that has come just now."""
        now_us = clock_us()
        self._offset_us = server_us - (sent_us + now_us) // 2
        self._measured_us = now_us

"""Clocks for `connect(clock=…)`: one that a test moves, one that reads the event loop's time."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from threading import Lock
from typing import Any

from ..clock import parse_seconds
from ..loops import current_loop

DEFAULT_EPOCH = 1_700_000_000
"""Where the wall time of these clocks starts, so that a test sees the same dates on every day."""

_NS = 10**9


class VirtualClock:
    """Time that stands still until `advance` moves it; usable from any thread.

    `start` is what `now_ns` begins with, in seconds; `epoch` is the wall time at second 0.
    """

    def __init__(self, start: float = 0.0, *, epoch: float = DEFAULT_EPOCH) -> None:
        self._now_ns = _nanoseconds("start", start)
        self._epoch_ns = _nanoseconds("epoch", epoch)
        self._lock = Lock()
        self._watchers: dict[object, Callable[[], object]] = {}

    def now_ns(self) -> int:
        """Nanoseconds since second 0 of this clock."""
        return self._now_ns

    def time(self) -> float:
        """Seconds since the epoch: as far from `epoch` as `now_ns` is from 0."""
        return (self._epoch_ns + self._now_ns) / _NS

    def advance(self, seconds: float | str) -> None:
        """Move on by seconds, or by a text such as `"2h30m"`, then tell those who watch.

        A float counts by its decimal digits, to the nanosecond: 0.1 is 100,000,000 ns. By 0 the
        clock stays where it is, and the watchers are told all the same.

        Raises:
            InvalidAmount: for a negative number and whatever else is no duration.
        """
        step_ns = _nanoseconds("seconds", seconds)
        with self._lock:
            self._now_ns += step_ns
            watchers = list(self._watchers.items())
        for key, callback in watchers:
            if key in self._watchers:  # one before it may have removed it
                callback()

    def watch(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` after every advance, and return what ends that.

        It is called in the thread that advances, with no lock of this clock held, in the order
        of registration; it may advance, watch and remove. If it raises, `advance` raises that.
        """
        key = object()
        with self._lock:
            self._watchers[key] = callback

        def remove() -> None:
            with self._lock:
                self._watchers.pop(key, None)

        return remove


class LoopClock:
    """The time of the event loop that runs here, so that a loop in virtual time moves it.

    Outside of any loop, as in a worker thread, it reads the loop it has seen last, and 0 before
    that. When another loop follows, whatever that one counts from, it goes on from where it was.
    One loop at a time: two in two threads would each make it skip the other's time.
    `epoch` is the wall time at second 0 of this clock.
    """

    def __init__(self, *, epoch: float = DEFAULT_EPOCH) -> None:
        self._epoch_ns = _nanoseconds("epoch", epoch)
        self._lock = Lock()
        self._loop: Any = None
        self._read: Callable[[], float] = float  # float() is 0.0
        self._ahead_ns = 0
        self._last_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds by the event loop's clock; of one loop only, exactly its time."""
        loop = current_loop()
        with self._lock:
            if loop is not None and loop is not self._loop:
                self._follow(loop)
            self._last_ns = max(self._last_ns, self._ahead_ns + round(self._read() * _NS))
            return self._last_ns

    def time(self) -> float:
        """Seconds since the epoch: as far from `epoch` as `now_ns` is from 0."""
        return (self._epoch_ns + self.now_ns()) / _NS

    def _follow(self, loop: Any) -> None:
        is_first = self._loop is None
        self._loop = loop
        self._read = _reader(loop)
        self._ahead_ns = 0 if is_first else self._last_ns - round(self._read() * _NS)


def _reader(loop: Any) -> Callable[[], float]:
    """What reads the time of the running loop, from any thread."""
    if hasattr(loop, "time"):
        read: Callable[[], float] = loop.time
        return read
    import trio  # noqa: TID251 - its token has no clock

    return trio.lowlevel.current_clock().current_time


def _nanoseconds(what: str, value: float | str) -> int:
    is_zero = value == 0 and not isinstance(value, bool)
    seconds = 0.0 if is_zero else parse_seconds(what, value)
    return round(Decimal(repr(seconds)) * _NS)

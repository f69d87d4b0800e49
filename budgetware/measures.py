"""Measuring what a call uses itself: CPU time, step by step. Not here: what that costs."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from time import thread_time_ns
from typing import TYPE_CHECKING, Any, Literal

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .holds import Hold
    from .settlement import Report

Measure = Literal["cpu", "time"]


def check_measures(measure: object) -> frozenset[str]:
    """Return the measures as a set, or raise `ConfigurationError`."""
    given = (measure,) if isinstance(measure, str) else measure
    if isinstance(given, tuple | list | set | frozenset):
        names: frozenset[Any] = frozenset(given)  # pyright: ignore[reportUnknownArgumentType]
        if names <= {"cpu", "time"}:
            return names
    raise ConfigurationError(f"measure={str(measure)[:60]!r}: give ('cpu',), ('time',) or both")


class CpuMeter:
    """CPU time of this thread, summed over the steps of one call."""

    __slots__ = ("_started_ns", "used_ns")

    def __init__(self) -> None:
        self.used_ns = 0
        self._started_ns = 0

    def start(self) -> None:
        """A step begins, on this thread."""
        self._started_ns = thread_time_ns()

    def stop(self) -> None:
        """It ends, on the same thread."""
        self.used_ns += thread_time_ns() - self._started_ns

    @property
    def micros(self) -> int:
        """What to charge: whole microseconds, rounded up."""
        return -(-self.used_ns // 1000)


class Metered:
    """Awaits something, counting only the time in which it runs, not that of other tasks.

    What runs is a coroutine, or one step of an async generator.
    """

    __slots__ = ("_awaited", "_meter")

    def __init__(self, awaited: Awaitable[Any], meter: CpuMeter) -> None:
        self._awaited = awaited
        self._meter = meter

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, meter = self._awaited.__await__(), self._meter
        assert isinstance(
            steps, Generator
        )  # coroutines, and the steps of generators, are driven so
        sent: Any = None
        thrown: BaseException | None = None
        try:
            while True:
                meter.start()
                try:
                    asked = steps.send(sent) if thrown is None else steps.throw(thrown)
                except StopIteration as done:
                    return done.value
                finally:
                    meter.stop()
                try:
                    sent, thrown = (yield asked), None
                except BaseException as error:
                    thrown = error
        finally:
            steps.close()


def with_cpu(hold: Hold, report: Report | None, meter: CpuMeter | None) -> Report | None:
    """Put what was measured into a report, in place of what it says of `cpu_micros`."""
    if meter is None:
        return report
    measured = hold.read({"cpu_micros": meter.micros}, {})
    if report is None:
        return measured
    return [old if new < 0 else new for old, new in zip(report, measured, strict=True)]

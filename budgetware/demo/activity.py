"""What the agent is doing this moment, for the screen. The ledger knows nothing of it."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic


@dataclass(slots=True)
class RunningCall:
    """One call that has begun and not ended."""

    name: str
    document: str
    began_at: float
    chunks: int = 0

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return monotonic() - self.began_at


@dataclass(slots=True)
class Activity:
    """The calls that are running, oldest first."""

    _running: dict[int, RunningCall] = field(default_factory=dict[int, RunningCall])
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def call(self, name: str, document: str) -> Generator[RunningCall]:
        """Show a call while the block runs."""
        number = next(self._numbers)
        running = self._running[number] = RunningCall(name, document, monotonic())
        try:
            yield running
        finally:
            del self._running[number]

    def running(self) -> list[RunningCall]:
        """The running calls, in a list of the caller's own; may be asked from any thread."""
        return list(self._running.values())

"""Threads that wait, and those who watch them. Here time is real, and nobody sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from anyio.lowlevel import checkpoint

from budgetware import QuotaService

_PATIENCE_SECONDS = 20


class Thread(threading.Thread):
    """A thread that keeps what its work returned or raised."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.result: object = None
        self.error: BaseException | None = None
        self._work = work
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error

    def finish(self) -> Thread:
        self.join(_PATIENCE_SECONDS)
        assert not self.is_alive()
        return self

    def raise_it(self) -> None:
        """Raise what it has raised, if anything."""
        error = self.finish().error
        if error is not None:
            raise error


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait in a thread, for another thread."""
    end = monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < end
        threading.Event().wait(0.0005)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait in a task, for a thread."""
    end = monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < end
        await checkpoint()


def in_line(service: QuotaService, number: int, name: str = "slot") -> Callable[[], bool]:
    """Whether so many wait for a resource."""
    return lambda: service.resource(name).waiting == number

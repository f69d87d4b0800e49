"""Threads of its own for what may block, so that the event loop never does.

Not here: what runs in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
MOST_THREADS = 16


class Worker:
    """Runs functions in worker threads, at most so many at a time on each event loop."""

    def __init__(self, threads: int = MOST_THREADS) -> None:
        self._threads = threads
        self._limiters: RunVar[CapacityLimiter] = RunVar("budgetware.admin.threads")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function to its end, also where who asked for it has gone."""
        return await to_thread.run_sync(function, *arguments, limiter=self._limiter())

    async def look(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function that only reads: nobody waits for it who has gone."""
        limiter = self._limiter()
        return await to_thread.run_sync(
            function, *arguments, limiter=limiter, abandon_on_cancel=True
        )

    def _limiter(self) -> CapacityLimiter:
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self._threads)
            self._limiters.set(limiter)
        return limiter

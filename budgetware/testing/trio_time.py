"""Trio's own jumping clock, held while worker threads work, and told when nothing is left.

By itself `MockClock` jumps over threads at work, and spins when there is nothing to jump to.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack

import trio  # noqa: TID251 - virtual time is the backend's own
import trio.testing  # noqa: TID251

from .deadlock import deadlock

T = TypeVar("T")
Args = TypeVarTuple("Args")

_WAITING = [
    "tasks_waiting",
    "tasks_waiting_read",
    "tasks_waiting_write",
    "tasks_waiting_overlapped",
]


def trio_options(watch: TrioWatch) -> dict[str, Any]:
    """Return the options of `trio.run` that put it into virtual time."""
    return {"clock": watch.clock, "instruments": [watch]}


class TrioWatch(trio.abc.Instrument):
    """Looks at the run after each step and each wait; `thread_seconds` is real time."""

    def __init__(self, thread_seconds: float) -> None:
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self._thread_seconds = thread_seconds
        self._scope: trio.CancelScope | None = None
        self._idle_waits = 0

    def guard(
        self, async_fn: Callable[[Unpack[Args]], Awaitable[T]]
    ) -> Callable[[Unpack[Args]], Awaitable[T]]:
        """Return a function that does the same, and is ended if nothing is left to wake it."""

        async def guarded(*args: *Args) -> T:
            self._scope = scope = trio.CancelScope()
            try:
                with scope:
                    result = await async_fn(*args)
                    if not scope.cancel_called:
                        return result
            except Exception as error:
                if not scope.cancel_called:
                    raise
                raise deadlock() from error
            raise deadlock()

        return guarded

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        self._idle_waits = 0
        self._jump_after(self._thread_seconds if trio.testing.active_thread_count() else 0.0)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        if trio.testing.active_thread_count() or not _is_over():
            return
        # A first wait may end in a wake-up by `wait_all_tasks_blocked`; one for other threads
        # must be given time.
        self._idle_waits += 1
        if threading.active_count() > 1:
            self._jump_after(self._thread_seconds)
        if self._idle_waits < 2:
            return
        self._jump_after(self._thread_seconds)  # whatever comes of it, do not spin
        if self._scope is not None and not self._scope.cancel_called:
            trio.lowlevel.current_trio_token().run_sync_soon(self._scope.cancel)

    def _jump_after(self, real_seconds: float) -> None:
        if self.clock.autojump_threshold != real_seconds:
            self.clock.autojump_threshold = real_seconds


def _is_over() -> bool:
    """Whether nothing runs, no timer is set and no task waits for I/O."""
    now = trio.lowlevel.current_statistics()
    waiting = sum(getattr(now.io_statistics, name, 0) for name in _WAITING)
    is_idle = now.tasks_runnable == now.run_sync_soon_queue_size == 0
    return is_idle and now.seconds_to_next_deadline == math.inf and waiting <= 1  # trio's own

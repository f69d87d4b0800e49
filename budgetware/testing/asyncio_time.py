"""An asyncio event loop that jumps to its next timer instead of sleeping until then.

It is the usual selector loop. All it waits for, it waits for in `select`, which here decides
between waiting really, jumping, and giving up.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a loop can be built of nothing else
import math
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from selectors import DefaultSelector, SelectorKey
from typing import Any, TypeVar, TypeVarTuple, Unpack

from .deadlock import deadlock

T = TypeVar("T")
Args = TypeVarTuple("Args")
Ready = list[tuple[SelectorKey, int]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time starts at 0 and moves only by `jump`."""

    def __init__(self, thread_seconds: float) -> None:
        self.is_closing = False
        self._virtual_seconds = 0.0
        self._jobs: set[asyncio.Future[Any]] = set()
        super().__init__(VirtualSelector(self, thread_seconds))

    def time(self) -> float:
        return self._virtual_seconds

    def jump(self, seconds: float) -> None:
        self._virtual_seconds += seconds
        # The loop runs the timers due before now + this. What the system's clock has here would,
        # after a hundred days, be lost in the addition, and a timer due now would never run.
        self._clock_resolution = math.ulp(self._virtual_seconds)

    def is_held(self) -> bool:
        """Whether a worker thread is at work, so that time must not jump."""
        return bool(self._jobs) or any(self._employs(thread) for thread in threading.enumerate())

    def _employs(self, thread: threading.Thread) -> bool:
        """Whether a worker thread of anyio, which anyio shows to nobody, has work to do."""
        queue = getattr(thread, "queue", None)
        return getattr(thread, "loop", None) is self and bool(queue and queue.unfinished_tasks)

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Args]], T],
        *args: *Args,
    ) -> asyncio.Future[T]:
        job = super().run_in_executor(executor, func, *args)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        self.is_closing = True  # it joins threads, since Python 3.12 with a timeout
        await super().shutdown_default_executor(*args, **options)


class VirtualSelector(DefaultSelector):
    """The system's selector, which decides what to do instead of waiting."""

    def __init__(self, loop: VirtualLoop, thread_seconds: float) -> None:
        super().__init__()
        self._loop = loop
        self._thread_seconds = None if thread_seconds == math.inf else thread_seconds

    def select(self, timeout: float | None = None) -> Ready:
        """`timeout` is virtual: the time to the next timer, None without any, 0 not to wait."""
        if self._loop.is_closing or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        is_held = self._loop.is_held()  # before the poll, which sees what a thread did last
        ready = super().select(0)
        if not ready and timeout is None:
            return self._wait_without_timer(is_held=is_held)
        if not ready and is_held:
            ready = super().select(self._thread_seconds)
        if not ready and timeout is not None:
            self._loop.jump(timeout)
        return ready

    def _wait_without_timer(self, *, is_held: bool) -> Ready:
        if is_held or len(self.get_map()) > 1:  # I/O besides the loop's own pipe
            return super().select(None)
        others_live = threading.active_count() > 1
        ready = super().select(self._thread_seconds if others_live else 0)
        if not ready:
            raise deadlock()
        return ready

"""Which event loop, task or thread is this, and how to reach another. The only user of asyncio.

Neither loop is imported: one that nobody has loaded cannot be running. Not here: scopes and
waiting, which are anyio's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any

import anyio


def current_task() -> object | None:
    """The running task of asyncio or trio, or None outside of any."""
    return task_and_loop()[0]


def task_and_loop() -> tuple[object | None, Any | None]:
    """The running task, and the event loop of this thread; each or both may be None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        loop = asyncio._get_running_loop()
        if loop is not None:
            return asyncio.current_task(loop), loop
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_run():
        return None, None
    task = trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None
    return task, trio.lowlevel.current_trio_token()


def current_stack() -> object:
    """What tells one stack of calls from another: the running task, else the thread."""
    return current_task() or get_ident()


def current_loop() -> Any | None:
    """The event loop that runs on this thread (asyncio's loop, trio's token), or None."""
    return task_and_loop()[1]


def native_cancels(task: object | None) -> int:
    """How often an asyncio task was cancelled and not uncancelled; 0 for anything else."""
    cancelling = getattr(task, "cancelling", None)
    return 0 if cancelling is None else cancelling()


def call_on(loop: Any, fn: Callable[[], object]) -> None:
    """Run `fn` on `loop`: at once if this is its thread, else as soon as it gets to it.

    From an anyio worker thread it waits until `fn` has run, so that a cancellation made there
    is seen here. A loop that is closed already is left alone.
    """
    if current_loop() is loop:
        fn()
        return
    from anyio import from_thread

    try:
        from_thread.run_sync(post, loop, fn)
    except RuntimeError:  # not a worker thread of anyio
        post(loop, fn)


def post(loop: Any, fn: Callable[[], object]) -> None:
    """Run `fn` on `loop` as `call_on` does, but never wait for it."""
    if current_loop() is loop:
        fn()
    else:
        post_soon(loop, fn)


def post_soon(loop: Any, fn: Callable[[], object]) -> None:
    """Run `fn` on `loop` as soon as it gets to it; also from where a finalizer may run."""
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    try:
        soon(fn)
    except RuntimeError:  # the loop is gone (asyncio closed it, trio's RunFinishedError)
        return


class Alarm:
    """A sleep that can be cut short, and whose end can be moved; made in the task that sleeps.

    The base works on any event loop that anyio knows.
    """

    __slots__ = ("_event", "_scope")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    def wake(self) -> None:
        """End the sleep. On the loop of the sleeper."""
        self._event.set()

    def move(self, seconds: float) -> None:
        """Let it end in so many seconds from now instead. On the loop of the sleeper."""
        if self._scope is not None:
            self._scope.deadline = anyio.current_time() + seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep until `wake`, or so many seconds."""
        if seconds == math.inf:
            self._scope = anyio.CancelScope()
        else:
            self._scope = anyio.CancelScope(deadline=anyio.current_time() + seconds)
        with self._scope:
            await self._event.wait()
        self._scope = None


class AsyncioAlarm(Alarm):
    """The same on asyncio alone: one future and one timer, at a third of the cost."""

    __slots__ = ("_future", "_is_woken", "_loop", "_timer")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._future: Any = None
        self._timer: Any = None
        self._is_woken = False

    def wake(self) -> None:
        self._is_woken = True
        self._end()

    def _end(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def move(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._future is not None and seconds != math.inf:
            self._timer = self._loop.call_later(seconds, self._end)

    async def sleep(self, seconds: float) -> None:
        if self._is_woken:
            return
        self._future = self._loop.create_future()
        try:
            self.move(seconds)
            await self._future
        finally:
            self._future = None
            self.move(math.inf)


def alarm() -> Alarm:
    """A sleep for the running task."""
    _task, loop = task_and_loop()
    return AsyncioAlarm(loop) if hasattr(loop, "create_future") else Alarm()

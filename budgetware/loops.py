"""Which event loop, task or thread is this, and how to reach another. The only user of asyncio.

Neither loop is imported: one that nobody has loaded cannot be running. Not here: scopes and
waiting, which are anyio's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any


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
        return
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    try:
        soon(fn)
    except RuntimeError:  # the loop is gone (asyncio closed it, trio's RunFinishedError)
        return

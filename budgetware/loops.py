"""Which event loop, task or thread is this, and how to reach another. The only user of asyncio.

Not here: scopes and waiting, which are anyio's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any

from anyio import from_thread


def current_task() -> object | None:
    """The running task of asyncio or trio, or None outside of any."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is not None:
        return task
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()  # type: ignore[no-any-return]
    return None


def current_stack() -> object:
    """What tells one stack of calls from another: the running task, else the thread."""
    return current_task() or get_ident()


def current_loop() -> Any | None:
    """The event loop that runs on this thread (asyncio's loop, trio's token), or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    return None


def native_cancels(task: object | None) -> int:
    """How often an asyncio task was cancelled and not uncancelled; 0 for anything else."""
    return task.cancelling() if isinstance(task, asyncio.Task) else 0


def call_on(loop: Any, fn: Callable[[], object]) -> None:
    """Run `fn` on `loop`: at once if this is its thread, else as soon as it gets to it.

    From an anyio worker thread it waits until `fn` has run, so that a cancellation made there
    is seen here. A loop that is closed already is left alone.
    """
    if current_loop() is loop:
        fn()
        return
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

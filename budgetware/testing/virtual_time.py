"""Run an async function in virtual time. Not here: the two loops that jump."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio

T = TypeVar("T")
Args = TypeVarTuple("Args")

THREAD_SECONDS = 1.0
"""How long, in real seconds, time waits for a thread that gives no sign; `math.inf` is for ever."""


def run_virtual(
    async_fn: Callable[[Unpack[Args]], Awaitable[T]],
    *args: *Args,
    backend: str = "asyncio",
    thread_seconds: float = THREAD_SECONDS,
) -> T:
    """Run an async function as `anyio.run` does, on a loop whose time starts at 0 and jumps.

    Time stands still while anything can run. When every task waits, it jumps to the next timer,
    so that sleeps, timeouts and deadlines come in their order, at exactly their time, at once.

    - Worker threads (`anyio.to_thread`, `asyncio.to_thread`, executors) hold time: it jumps past
      one at work only after `thread_seconds` real seconds in which nothing reached the loop, as
      when that thread itself waits for the loop. On trio an abandoned thread holds nothing.
    - Threads started in other ways, processes and sockets hold nothing: what is not ready the
      moment all tasks wait is overtaken by the next timer. Test those in real time.
    - When all tasks wait and there is no timer, worker thread or I/O, no one will ever wake them.
      While other threads live, one of them may, so they have `thread_seconds` to do it.
    - What blocks a thread (`time.sleep`, a lock's timeout) takes the time it takes.

    Raises:
        RuntimeError: all tasks wait, and nothing is left that could wake one; they are cancelled.
        LookupError: for an unknown backend.
    """
    if backend == "trio":
        from .trio_time import TrioWatch, trio_options

        watch = TrioWatch(thread_seconds)
        options, async_fn = trio_options(watch), watch.guard(async_fn)
    else:
        options = virtual_backend(backend, thread_seconds=thread_seconds)[1]
    return anyio.run(async_fn, *args, backend=backend, backend_options=options)


def virtual_backend(
    backend: str, *, thread_seconds: float = THREAD_SECONDS
) -> tuple[str, dict[str, Any]]:
    """Return the backend and options that the fixture `anyio_backend` of anyio's plugin takes.

    Time behaves as in `run_virtual`, but on trio a test for which nothing is left to wake it
    runs until your own timeout ends it. Call it for every test: the options hold a clock.

    Raises:
        LookupError: for an unknown backend.
    """
    if backend == "trio":
        from .trio_time import TrioWatch, trio_options

        return backend, trio_options(TrioWatch(thread_seconds))
    if backend != "asyncio":
        raise LookupError(f"backend {backend!r}: give 'asyncio' or 'trio'")
    from .asyncio_time import VirtualLoop

    return backend, {"loop_factory": partial(VirtualLoop, thread_seconds)}

"""Context variables in threads: a new one has those of whoever starts it.

Python does so for tasks, `asyncio.to_thread` and anyio's worker threads, but not for these.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import wraps
from threading import Thread
from typing import Any


def carry_context() -> Callable[[], None]:
    """Have `Thread.start` and `ThreadPoolExecutor.submit` pass on the context; returns the undo.

    `loop.run_in_executor` submits, too. Twice is once.
    """
    if getattr(Thread.start, "__budgetware__", False):
        return lambda: None
    start, submit = Thread.start, ThreadPoolExecutor.submit
    Thread.start = _carrying_start(start)  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = _carrying_submit(submit)  # type: ignore[method-assign]

    def undo() -> None:
        Thread.start = start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]

    return undo


def _carrying_start(original: Callable[[Thread], None]) -> Any:
    @wraps(original)
    def start(self: Thread) -> None:
        own = self.__dict__.get("run")
        run, context = self.run, _context()

        def put_back() -> None:
            self.__dict__.pop("run", None)
            if own is not None:
                self.__dict__["run"] = own

        def carried() -> None:
            put_back()
            context.run(run)

        self.__dict__["run"] = carried
        try:
            original(self)
        except BaseException:
            put_back()
            raise

    start.__dict__["__budgetware__"] = True
    return start


def _carrying_submit(original: Any) -> Any:
    @wraps(original)
    def submit(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        future: Future[Any] = original(self, _context().run, fn, *args, **kwargs)
        return future

    return submit


def _context() -> Context:
    """A copy, in which no event loop runs."""
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context

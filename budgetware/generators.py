"""Driving decorated generators step by step, and refusing scopes that would straddle a yield.

A context variable, an attached span or a cancel scope must not stay open while a generator is
suspended: its consumer would run inside them. So a `Stream` is entered for each step only.
Not here: what a stream charges.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol

import anyio

from .errors import ConfigurationError
from .loops import current_loop

_CODE_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_CONTEXTLIB = contextlib.__file__


class Stream(Protocol):
    """What goes around one run of a generator function."""

    async def start_async(self) -> None:
        """Reserve or open, before the first step; may raise."""
        ...

    def start(self) -> None:
        """The same for plain generators."""
        ...

    def enter(self) -> None:
        """A step begins."""
        ...

    def leave(self, error: BaseException | None) -> BaseException | None:
        """A step ended; returns the error that goes on, if any."""
        ...

    def running(self, step: Awaitable[Any], /) -> Awaitable[Any]:
        """What to await for a step of an async generator; others run while it waits."""
        ...

    def seen(self, item: Any, /) -> None:
        """The generator gave an item; an error raised here ends it."""
        ...

    def ended(self, error: BaseException | None) -> BaseException | None:
        """The generator is over; returns what its consumer is to see, if anything."""
        ...


def drive_async(
    fn: Callable[..., AsyncGenerator[Any, Any]], stream: Callable[[Any, Any], Stream]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Wrap an async generator function; each run gets `stream(args, kwargs)`."""

    @functools.wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        around = stream(args, kwargs)
        await around.start_async()
        source = fn(*args, **kwargs)
        advance: Callable[[Any], Any] = source.asend
        sent: Any = None
        while True:
            item, error = await _step_async(around, source, advance, sent)
            if error is not None:
                break
            try:
                sent = yield item
                advance = source.asend
            except GeneratorExit as closing:
                await _close_async(around, source, closing)
                raise
            except BaseException as thrown:
                advance, sent = source.athrow, thrown
        shown = around.ended(None if isinstance(error, StopAsyncIteration) else error)
        if shown is not None:
            raise shown

    return run


async def _step_async(
    around: Stream, source: AsyncGenerator[Any, Any], advance: Callable[[Any], Any], sent: Any
) -> tuple[Any, BaseException | None]:
    around.enter()
    item: Any = None
    error: BaseException | None = None
    try:
        item = await around.running(advance(sent))
    except StopAsyncIteration as done:
        return None, around.leave(None) or done
    except BaseException as raised:
        error = raised
    left = around.leave(error)
    if error is None:
        left = left or _shown(around, item)
        if left is not None:  # it gave an item, but it may not go on
            left = await _clean_up_async(around, source) or left
    return item, left


def _shown(around: Stream, item: Any) -> BaseException | None:
    try:
        around.seen(item)
    except BaseException as raised:
        return raised
    return None


async def _clean_up_async(around: Stream, source: AsyncGenerator[Any, Any]) -> BaseException | None:
    """Close the generator, whatever is cancelled meanwhile; returns what goes on."""
    around.enter()
    error: BaseException | None = None
    try:
        with _shield():
            await around.running(source.aclose())
    except BaseException as raised:
        error = raised
    return around.leave(error)


def _shield() -> contextlib.AbstractContextManager[object]:
    """Nothing to shield from where no event loop runs, as when a finalizer closes a stream."""
    return contextlib.nullcontext() if current_loop() is None else anyio.CancelScope(shield=True)


async def _close_async(
    around: Stream, source: AsyncGenerator[Any, Any], closing: GeneratorExit
) -> None:
    """The consumer went away."""
    shown = around.ended(await _clean_up_async(around, source) or closing)
    if shown is not None and shown is not closing:
        raise shown


def drive(
    fn: Callable[..., Generator[Any, Any, Any]], stream: Callable[[Any, Any], Stream]
) -> Callable[..., Generator[Any, Any, Any]]:
    """Wrap a plain generator function; each run gets `stream(args, kwargs)`."""

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        around = stream(args, kwargs)
        around.start()
        source = fn(*args, **kwargs)
        advance: Callable[[Any], Any] = source.send
        sent: Any = None
        while True:
            item, error = _step(around, source, advance, sent)
            if error is not None:
                break
            try:
                sent = yield item
                advance = source.send
            except GeneratorExit as closing:
                _close(around, source, closing)
                raise
            except BaseException as thrown:
                advance, sent = source.throw, thrown
        if isinstance(error, StopIteration):
            shown, value = around.ended(None), error.value
        else:
            shown, value = around.ended(error), None
        if shown is not None:
            raise shown
        return value

    return run


def _step(
    around: Stream, source: Generator[Any, Any, Any], advance: Callable[[Any], Any], sent: Any
) -> tuple[Any, BaseException | None]:
    around.enter()
    item: Any = None
    error: BaseException | None = None
    try:
        item = advance(sent)
    except StopIteration as done:
        return None, around.leave(None) or done
    except BaseException as raised:
        error = raised
    left = around.leave(error)
    if error is None:
        left = left or _shown(around, item)
        if left is not None:
            left = _clean_up(around, source) or left
    return item, left


def _clean_up(around: Stream, source: Generator[Any, Any, Any]) -> BaseException | None:
    around.enter()
    error: BaseException | None = None
    try:
        source.close()
    except BaseException as raised:
        error = raised
    return around.leave(error)


def _close(around: Stream, source: Generator[Any, Any, Any], closing: GeneratorExit) -> None:
    shown = around.ended(_clean_up(around, source) or closing)
    if shown is not None and shown is not closing:
        raise shown


def refuse_inside_generator(depth: int = 2) -> None:
    """Raise if the caller `depth` frames up is a generator that is not a context manager's.

    Raises:
        ConfigurationError: naming the decorator to use.
    """
    caller = sys._getframe(depth)  # pyright: ignore[reportPrivateUsage]
    if not caller.f_code.co_flags & _CODE_GENERATOR:
        return
    driver = caller.f_back
    if driver is not None and driver.f_code.co_filename == _CONTEXTLIB:
        return
    raise ConfigurationError(
        f"task_budget inside the generator {caller.f_code.co_name!r} would stay open while it is "
        "suspended, and end its consumer: decorate the generator with @task_budget(...) instead"
    )

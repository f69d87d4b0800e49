"""Streams that a framework hands out item by item. Not here: streams of bytes (`_wire`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

__all__ = ["Paid", "See", "each", "each_sync"]

T = TypeVar("T")

See = Callable[[T], bool]
"""Shown each item before the caller has it, and says whether the caller is to see it."""


class Paid(Protocol):
    """A call that was started, such as a `ModelCall`."""

    def inside(self) -> AbstractContextManager[None]:
        """What each step of the stream runs in."""
        ...

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        """Settle; the second time does nothing."""
        ...


async def each(call: Paid, stream: AsyncIterator[T], see: See[T]) -> AsyncGenerator[T]:
    """Pass a stream on, and end the call with it: read to its end, left early, broken, cancelled.

    A generator that is given up is closed, too.
    """
    is_begun = False
    try:
        while True:
            try:
                with call.inside():
                    item = await anext(stream)
            except StopAsyncIteration:
                break
            is_begun = True
            if see(item):
                yield item
    except BaseException as error:
        call.end(error, broken=is_begun and isinstance(error, Exception))
        if isinstance(error, GeneratorExit):
            await _aclose(stream)
        raise
    call.end()


async def _aclose(stream: Any) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()


def each_sync(call: Paid, stream: Iterator[T], see: See[T]) -> Generator[T]:
    """Do the same in sync code."""
    is_begun = False
    try:
        while True:
            try:
                with call.inside():
                    item = next(stream)
            except StopIteration:
                break
            is_begun = True
            if see(item):
                yield item
    except BaseException as error:
        call.end(error, broken=is_begun and isinstance(error, Exception))
        close = getattr(stream, "close", None)
        if isinstance(error, GeneratorExit) and close is not None:
            close()
        raise
    call.end()

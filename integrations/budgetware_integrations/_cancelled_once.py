"""Streams that are told of a cancellation once, as those expect that cancel tasks of their own.

A cancelled scope of anyio tells again and again, which cuts short what cleans up after the first
time: connections stay open, and providers go on writing. For frameworks that know asyncio alone.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the tasks of such frameworks are of asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar

from anyio import move_on_after

T = TypeVar("T")

CLEANUP_SECONDS: Final = 5.0
"""How long a cancelled step may take to end."""
_END: Final[Any] = object()


async def cancelled_once(stream: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Pass a stream on; its steps run in tasks, with one context for all of them."""
    context = copy_context()
    try:
        while (item := await _step(_next(stream), context)) is not _END:
            yield item
    finally:
        with move_on_after(CLEANUP_SECONDS, shield=True):
            await _step(stream.aclose(), context)


async def _next(stream: AsyncGenerator[Any]) -> Any:
    return await anext(stream, _END)


async def _step(step: Coroutine[Any, Any, Any], context: Context) -> Any:
    task = asyncio.get_running_loop().create_task(step, context=context)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as error:
        if not task.done():
            task.cancel(*error.args)
            with move_on_after(CLEANUP_SECONDS, shield=True):
                await asyncio.wait([task])
        if task.done() and not task.cancelled():
            task.exception()  # it has been looked at
        raise

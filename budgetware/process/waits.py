"""Waiting for a child: on an event loop, or blocking a thread. Whatever ends the wait ends it.

Not here: reading from it (`children`), and what it is charged (`runs`).
"""

from __future__ import annotations

import select

import anyio
from anyio import from_thread

from ..admission.decisions import look_at_deadlines
from ..admission.refusals import over
from ..frames import Frame
from ..kernel.nodes import Node
from ..termination import stop_async, stop_sync
from .children import Child, Source

LOOK_SECONDS = 0.05
"""How often it is seen to whether the task still goes on, where nobody may be told of its end."""


def ended_by(frame: Frame) -> Node | None:
    """The outermost task that lets nothing in this frame go on, if any."""
    if frame.deadline_ns and frame.now_ns() >= frame.deadline_ns:
        look_at_deadlines(frame)
    for node in reversed(frame.chain):
        if node not in frame.finishing and (node.latch is not None or node.ended):
            if node.latch is not None:
                node.owner.cancel_scope()
            return node
    return None


async def wait_async(child: Child, frame: Frame) -> None:
    """Wait for the report of a child; end it if this is cancelled. Checkpoint.

    Raises:
        BudgetTerminated, NoBudget: its task has ended meanwhile.
    """
    try:
        ended = await _attend(child, frame)
    except BaseException as error:
        child.kill()
        if isinstance(error, GeneratorExit):  # nothing can be awaited any more
            child.wait_blocking()
        else:
            await _wait_shielded(child)
        raise
    if ended is None:
        return
    if ended.latch is not None:
        await stop_async(ended)
    raise over(ended)


async def _attend(child: Child, frame: Frame) -> Node | None:
    ended: list[Node] = []

    async def look_out() -> None:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            node = ended_by(frame)
            if node is not None:
                ended.append(node)
                child.kill()
                return

    async with anyio.create_task_group() as group:
        for outlet in child.outlets:
            group.start_soon(_read, outlet)
        if frame.chain:
            group.start_soon(look_out)
        await _read(child.line)
        group.cancel_scope.cancel()
    return ended[0] if ended else None


async def _read(source: Source) -> None:
    while not source.step():
        await anyio.wait_readable(source.fd)


async def _wait_shielded(child: Child) -> None:
    try:
        with anyio.CancelScope(shield=True):
            await _read(child.line)
    except BaseException:  # no shield stops a native cancellation
        child.wait_blocking()
        raise


def wait_sync(child: Child, frame: Frame) -> None:
    """The same for sync code, which blocks its thread.

    On a worker thread of anyio it ends when the host is cancelled, too.
    """
    try:
        ended = _attend_blocking(child, frame)
    except BaseException:
        child.kill()
        child.wait_blocking()
        raise
    if ended is None:
        return
    if ended.latch is not None:
        stop_sync(ended)
    raise over(ended)


def _attend_blocking(child: Child, frame: Frame) -> Node | None:
    sources = {source.fd: source for source in (*child.outlets, child.line)}
    poll = select.poll()
    for fd in sources:
        poll.register(fd, select.POLLIN)
    ended: Node | None = None
    while not child.line.is_over:
        for fd, _event in poll.poll(LOOK_SECONDS * 1000):
            if sources[fd].step():
                poll.unregister(fd)
        _check_cancelled()
        if ended is None:
            ended = ended_by(frame)
            if ended is not None:
                child.kill()
    return ended


def _check_cancelled() -> None:
    try:
        from_thread.check_cancelled()
    except RuntimeError:  # not a worker thread of anyio
        return

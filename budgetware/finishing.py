"""`finish()`: where an agent at its limit spends what was kept for its last answer."""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING

from .accounts import acquire, release
from .errors import ConfigurationError, NoBudget
from .frames import Frame, current
from .scopes import restore
from .termination import stop_async, stop_sync, terminated

if TYPE_CHECKING:
    from .kernel.nodes import Node
    from .tasks import TaskBudget


class Finish:
    """A block in which this task's `keep` counts as room, and its latch does not refuse.

    Where the task is being cancelled, entering raises that: whatever was awaited inside would be
    cut, and the keep spent for nothing. It is for the owner's `except` then.
    """

    __slots__ = ("_frame", "_task", "_token")

    def __init__(self, task: TaskBudget) -> None:
        self._task = task
        self._frame: Frame | None = None
        self._token: Token[Frame] | None = None

    def __enter__(self) -> TaskBudget:
        if self._token is not None:
            raise ConfigurationError("this finish() was entered already: call finish() again")
        task, node = self._task, self._task.node
        if node.latch is not None and task.scope.is_cut():
            stop_sync(node)
        return self._open(task, node)

    def _open(self, task: TaskBudget, node: Node) -> TaskBudget:
        try:
            acquire()
            if node.ended:
                _claim_last(task)
        finally:
            release()
        inner = current.get(None)
        base = inner if inner is not None and node in inner.chain else task.frame
        self._frame = Frame(
            base.runtime,
            base.task,
            base.chain,
            principal=base.principal,
            draws=base.draws,
            finishing=base.finishing | {node},
        )
        self._token = current.set(self._frame)
        return task

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._frame is not None and self._token is not None
        self._frame.finishing = self._frame.finishing - {self._task.node}
        restore(self._token)

    async def __aenter__(self) -> TaskBudget:
        if self._task.node.latch is not None and self._task.scope.is_cut():
            await stop_async(self._task.node)
        return self.__enter__()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.__exit__(_type, error, _trace)


def _claim_last(task: TaskBudget) -> None:
    """After the block only a terminated task may finish, and only once. Locked."""
    node = task.node
    if node.latch is None:
        raise NoBudget(f"task {node.path!r} has ended: call finish() inside its block")
    if node.finishes:
        raise terminated(node)
    node.finishes = 1

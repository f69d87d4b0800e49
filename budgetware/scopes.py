"""The owner's cancel scope, and what its exit makes of what comes out of the block.

Only the owner of a task opens a scope. Not here: when a task must end (`admission`).
"""

from __future__ import annotations

import math
from contextvars import Token
from threading import get_ident
from typing import Any

import anyio

from .frames import Frame, current
from .kernel.nodes import Node
from .loops import call_on, current_loop, native_cancels, post, task_and_loop
from .termination import is_ours, terminated


class OwnerScope:
    """Open between `enter` and `close`, which run in one task, or one thread without a loop."""

    stack: object | None = None
    expired = False
    _token: Token[Frame] | None = None
    _cancel_scope: anyio.CancelScope | None = None
    _cancels_before: int | None = None
    _loop: Any = None

    def enter(self, frame: Frame, remaining_seconds: float | None) -> None:
        """Make `frame` current; in a task, open a cancel scope with that deadline."""
        self._token = current.set(frame)
        task, self._loop = task_and_loop()
        self.stack = task or get_ident()
        if task is None:
            return
        scope = anyio.CancelScope()
        if remaining_seconds is not None:
            scope.deadline = anyio.current_time() + remaining_seconds
        self._cancel_scope = scope
        scope.__enter__()

    def cancel(self) -> None:
        """Cancel what runs inside, from any thread."""
        scope = self._cancel_scope
        if scope is not None:
            call_on(self._loop, lambda: self._cancel(scope))

    def _cancel(self, scope: anyio.CancelScope) -> None:
        if not scope.cancel_called:
            self._cancels_before = native_cancels(self.stack)
        scope.cancel()

    def is_cut(self) -> bool:
        """Whether what is awaited here now is cancelled by this scope; a shield keeps it off."""
        scope = self._cancel_scope
        if scope is None or not scope.cancel_called or current_loop() is not self._loop:
            return False
        return anyio.current_effective_deadline() == -math.inf

    def extend(self, seconds: float) -> None:
        """Move the deadline; from any thread."""
        scope = self._cancel_scope
        if scope is not None:
            post(self._loop, lambda: _move_deadline(scope, seconds))

    def close(self, error: BaseException | None) -> BaseException | None:
        """Leave the scope; what it did not swallow is returned."""
        scope, self._cancel_scope = self._cancel_scope, None
        token, self._token = self._token, None
        stack, self.stack = self.stack, None
        if scope is not None:
            was_cut = error is not None and scope.cancel_called
            error = _exit(scope, error)
            # What was cut may come out as an error of its cleanup, or of code that wraps all.
            self.expired = scope.cancelled_caught or (was_cut and isinstance(error, Exception))
            before = self._cancels_before
            if before is not None and native_cancels(stack) == before and _is_of(scope, error):
                error = None
        if token is not None:
            restore(token)
        return error


def _move_deadline(scope: anyio.CancelScope, seconds: float) -> None:
    scope.deadline += seconds


def _exit(scope: anyio.CancelScope, error: BaseException | None) -> BaseException | None:
    """Trio, and anyio for groups, raise what remains; it must not hide how the task ended."""
    try:
        swallowed = scope.__exit__(type(error) if error else None, error, None)
    except BaseException as remains:
        return error if isinstance(error, GeneratorExit) else remains
    return None if swallowed else error


def _is_of(scope: anyio.CancelScope, error: BaseException | None) -> bool:
    """Say whether this cancellation is the scope's own all the same.

    Until Python 3.13 an `asyncio.TaskGroup` whose child failed leaves its parent with one native
    cancellation too many; anyio takes that for one that came together with its own.
    """
    return (
        isinstance(error, anyio.get_cancelled_exc_class())
        and str(error).startswith(f"Cancelled via cancel scope {id(scope):x} ")
        and anyio.current_effective_deadline() > -math.inf
    )


def restore(token: Token[Frame]) -> None:
    """Make current what was so before, if this is the context it was changed in.

    Some test runners leave a block in another one, and so does the collector.
    """
    try:
        current.reset(token)
    except ValueError:
        return


def converted(node: Node, error: BaseException | None) -> BaseException | None:
    """What the owner's block raises for what came out of its body; None: it exits normally.

    A latched task never exits normally. Its own terminations, also inside groups, become one
    `BudgetTerminated`; an ordinary error becomes its cause; a foreign cancellation, an outer
    task's end, KeyboardInterrupt and SystemExit pass unchanged.
    """
    if node.latch is None:
        return error
    rest = _without_ours(node, error)
    if rest is not None and not _may_be_cause(node, rest):
        return rest
    end = terminated(node)
    end.__cause__ = rest
    end.__suppress_context__ = rest is not None
    return end


def _without_ours(node: Node, error: BaseException | None) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.split(lambda e: is_ours(e, node))[1]
    return None if error is None or is_ours(error, node) else error


def _may_be_cause(node: Node, rest: BaseException) -> bool:
    """Outer tasks' terminations and everything that is no `Exception` go on as they are."""
    if isinstance(rest, BaseExceptionGroup):
        return all(_may_be_cause(node, e) for e in rest.exceptions)
    return isinstance(rest, Exception) and not _is_outer(node, rest)


def _is_outer(node: Node, error: BaseException) -> bool:
    budget_id = getattr(error, "budget_id", None)
    return any(outer.id == budget_id and outer.latch is not None for outer in node.chain[1:])

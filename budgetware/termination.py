"""Ending a task so that nothing its code catches can keep it going. Not here: deciding to.

A latch on the node refuses every later reservation; the owner's cancel scope ends what awaits;
and where the refused code stands decides what is raised there:

a. inside the owner's scope, a checkpoint raises the event loop's own cancellation;
b. on the owner's own stack where that is impossible (sync code, a shield), a `TerminateSignal`,
   which can only unwind to its owner;
c. anywhere else (another task, a thread, a server) a `BudgetTerminated`, and from the second
   refusal by that budget in the same context a `TerminateSignal`.

The owner's exit turns each of them into `BudgetTerminated`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from .errors import BudgetTerminated, soft
from .kernel.nodes import Node
from .loops import current_loop, current_stack


@dataclass(frozen=True, slots=True)
class Latch:
    """What ended a task: the dimension that ran out, or None, and one sentence."""

    dim: str | None
    reason: str


class TerminateSignal(BaseException):
    """Unwinds to the block that owns the budget with `budget_id`, which converts it."""

    def __init__(self, error: BudgetTerminated) -> None:
        super().__init__(str(error))
        self.error = error
        self.budget_id = error.budget_id


_MAX_REMEMBERED = 64
_refused_once: ContextVar[tuple[str, ...]] = ContextVar("budgetware_refused", default=())
"""The budgets, by id, that have refused this context after their end; the last few of them."""


def latch(node: Node, dim: str | None, reason: str) -> None:
    """Refuse every later reservation at or below `node`. The first latch stands. Locked."""
    if node.latch is None:
        node.latch = Latch(dim, reason)
        node.guard()


def terminated(node: Node) -> BudgetTerminated:
    """The exception for a latched node, with its balances as they are now."""
    cause: Latch = node.latch
    return BudgetTerminated(
        budget=node.name,
        budget_id=node.id,
        dim=cause.dim,
        reason=cause.reason,
        snapshot=node.owner.snapshot(),
    )


def is_ours(exc: BaseException, node: Node) -> bool:
    """Say whether `exc` is this node's own termination, in either form."""
    return isinstance(exc, BudgetTerminated | TerminateSignal) and exc.budget_id == node.id


async def stop_async(node: Node) -> NoReturn:
    """Raise what ends the code that was refused under a latched `node`. Checkpoint."""
    if current_loop() is not None:  # a coroutine may be driven by hand
        await checkpoint_if_cancelled()
        await checkpoint()
    _stop_here(node)


def stop_sync(node: Node) -> NoReturn:
    """The same for sync code; on a worker thread of anyio the host's cancellation comes first."""
    from anyio import from_thread

    try:
        from_thread.check_cancelled()
    except RuntimeError:  # not such a thread
        pass
    _stop_here(node)


def _stop_here(node: Node) -> NoReturn:
    error = terminated(node)
    if node.owner.stack is not None and node.owner.stack == current_stack():
        raise TerminateSignal(error) from None
    refused = _refused_once.get()
    if node.id not in refused:
        _refused_once.set((*refused, node.id)[-_MAX_REMEMBERED:])
    elif not soft.get():
        raise TerminateSignal(error) from None
    raise error from None


@contextmanager
def shown_outside() -> Generator[None, None, None]:
    """Where code that a task was carried into ends: no owner's block is further out.

    A signal that all began in here is shown as what it stands for. If an earlier call was refused
    already, it goes on: the loop that swallowed that is out there.
    """
    before = _refused_once.get()
    try:
        yield
    except TerminateSignal as signal:
        if signal.budget_id in before or signal.budget_id not in _refused_once.get():
            raise
        raise signal.error from None

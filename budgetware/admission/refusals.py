"""Refusals: what they say, and carrying them out.

A refused call yields to the event loop before it raises, or a loop that retries at once would
freeze it. Not here: who refuses (`decisions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from anyio.lowlevel import checkpoint

from ..calls import Call
from ..errors import (
    BudgetExceeded,
    BudgetwareError,
    ConfigurationError,
    NoBudget,
    QuotaExceeded,
    TokenConsumed,
    UnknownResource,
)
from ..frames import Frame
from ..kernel.dims import from_units
from ..kernel.nodes import Item, Node
from ..kernel.tree import Shortage
from ..loops import current_loop
from ..outcomes import tell_refusal
from ..termination import stop_async, stop_sync, terminated


@dataclass(slots=True)
class Refusal:
    """Nothing was held. `node` decided; without a shortage it was latched, or had ended.

    Attributes:
        by: who was short, where that ended the task `node`.
        retry_after: seconds until time alone might help; None: it does not.
        waited_ns: how long the call waited for its turn.
        timed_out: it would have gone on waiting, had it been allowed to.
        reason: an error to raise as it is.
    """

    frame: Frame
    call: Call
    items: Sequence[Item]
    node: Node
    shortage: Shortage | None
    by: Node | None = None
    retry_after: float | None = None
    waited_ns: int = 0
    reason: BudgetwareError | None = None
    timed_out: bool = False

    @property
    def decision(self) -> str:
        return "rejected" if self.node.latch is None or self.shortage else "terminated"

    @property
    def denied_by(self) -> Node:
        """Whose budget or resource it was that had not enough."""
        return self.by or self.node

    @property
    def dim(self) -> str:
        """The dimension that was short, or that ended the task; `""` where none did."""
        if self.shortage is not None:
            return self.shortage.cell.dim
        return (self.node.latch.dim or "") if self.node.latch is not None else ""

    def end_task(self) -> None:
        """Cancel the block of the task that this has latched, if it has. Without the lock."""
        if self.shortage is None and self.node.latch is not None:
            self.node.owner.cancel_scope()

    def error(self) -> BudgetwareError:
        """The exception that tells of it."""
        if self.reason is not None:
            return self.reason
        if self.shortage is not None:
            return exceeded(self.shortage, self.retry_after, self.waited_ns)
        if self.node.latch is not None:
            return terminated(self.node)
        return over(self.node)


def over(node: Node) -> BudgetwareError:
    """The exception for a node that takes no more reservations."""
    if node.kind == "token":
        return TokenConsumed(
            f"the quota token of {node.name!r} is over: it was merged, moved or closed; use the "
            "token it went into, or a new one"
        )
    if node.kind == "resource" and node.owner.is_closed:
        return ConfigurationError(
            f"the service of resource {node.name!r} is closed: connect() again"
        )
    if node.kind == "resource":
        return UnknownResource(f"resource {node.name!r} was deleted: define it again")
    return NoBudget(
        node.ended_text
        or f"task {node.path!r} has ended: reserve inside its block, or wrap the call in a "
        "task_budget of its own"
    )


def exceeded(
    short: Shortage, retry_after: float | None = None, waited_ns: int = 0
) -> BudgetExceeded:
    """The exception for a payer that had not enough."""
    cell = short.cell
    node, dim, limit = cell.node, cell.dim, cell.limit
    requested: int | Decimal = short.requested
    available: int | Decimal = short.available
    shown: int | Decimal | None = limit
    if dim == "usd":
        requested = from_units(dim, short.requested)
        available = from_units(dim, short.available)
        shown = from_units(dim, limit or 0)
    if node.kind == "task" and not waited_ns:
        return BudgetExceeded(
            budget=node.name,
            dim=dim,
            requested=requested,
            available=available,
            limit=shown,
            retry_after=retry_after,
            budget_id=node.id,
        )
    return QuotaExceeded(
        budget=node.name,
        dim=dim,
        requested=requested,
        available=available,
        limit=shown,
        retry_after=retry_after,
        budget_id=node.id,
        resource=node.name,
        whose=node.kind,
        waited_seconds=waited_ns / 1e9,
        units=units_of(short),
        comes_back=cell.level and limit is not None and short.requested <= limit,
        is_paused=short.is_pause,
    )


def units_of(short: Shortage) -> str:
    """The word for what was short: of a resource without a dimension, its own units."""
    node = short.cell.node
    definition = getattr(getattr(node.owner, "pool", node.owner), "definition", None)
    is_own = node.kind in ("resource", "token") and short.cell.dim == node.name
    return definition.units if is_own and definition is not None else short.cell.dim


def carry_out(refusal: Refusal) -> None:
    """Let everyone know of a refusal: counts, event, span, log; end the task if it is latched."""
    frame = refusal.frame
    refusal.end_task()
    operation = refusal.call.operation
    frame.runtime.tallies.refused(refusal.decision, refusal.denied_by, refusal.dim, operation)
    tell_refusal(refusal)


async def refuse_async(refusal: Refusal) -> NoReturn:
    """Raise what the refusal means. Checkpoint, in every case."""
    carry_out(refusal)
    if refusal.shortage is None and refusal.node.latch is not None:
        await stop_async(refusal.node)
    if current_loop() is not None:  # a coroutine may be driven by hand
        await checkpoint()
    raise refusal.error() from None


def refuse_sync(refusal: Refusal) -> NoReturn:
    """The same for sync code, which cannot yield."""
    carry_out(refusal)
    if refusal.shortage is None and refusal.node.latch is not None:
        stop_sync(refusal.node)
    raise refusal.error() from None

"""Whether a call may run, and what a refusal does. The one module that will ever wait.

`decide` is the close look, taken when the quick hold did not go through: it holds after all, or
answers a `Refusal`. `refuse_async` and `refuse_sync` carry a refusal out: a refused call yields
to the event loop before it raises, or a loop that retries at once would freeze it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from anyio.lowlevel import checkpoint

from .accounts import acquire, release
from .calls import PLAIN, Call
from .errors import BudgetExceeded, BudgetwareError, NoBudget
from .frames import Frame
from .kernel.carving import open_carve
from .kernel.dims import from_units
from .kernel.tree import Cell, Item, Node, Shortage, hold, payers, shortages
from .loops import current_loop
from .outcomes import tell_refusal
from .policies import Reject, Terminate
from .tallies import Tally
from .termination import latch, stop_async, stop_sync, terminated

Carve = Mapping[str, tuple[int, int | None, int]]
"""{dimension: (limit, warn, keep)}, in units."""


@dataclass(slots=True)
class Refusal:
    """Nothing was held. `node` decided; without a shortage it was latched or had ended."""

    frame: Frame
    call: Call
    items: Sequence[Item]
    node: Node
    shortage: Shortage | None

    @property
    def decision(self) -> str:
        return "rejected" if self.node.latch is None or self.shortage else "terminated"

    @property
    def dim(self) -> str:
        """The dimension that was short, or that ended the task; `""` where none did."""
        if self.shortage is not None:
            return self.shortage.cell.dim
        return (self.node.latch.dim or "") if self.node.latch is not None else ""

    def error(self) -> BudgetwareError:
        """The exception that tells of it."""
        if self.shortage is not None:
            return exceeded(self.shortage)
        if self.node.latch is not None:
            return terminated(self.node)
        return NoBudget(
            f"task {self.node.path!r} has ended: reserve inside its block, or wrap the call in a "
            "task_budget of its own"
        )


def exceeded(short: Shortage) -> BudgetExceeded:
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
    return BudgetExceeded(
        budget=node.name,
        budget_id=node.id,
        dim=dim,
        requested=requested,
        available=available,
        limit=shown,
    )


def decide(frame: Frame, items: Sequence[Item], call: Call) -> list[Cell] | Refusal:
    """Look closely: hold, or say who refuses. Latches whoever must end. Locked.

    Returns the cells whose warn threshold a grant crossed.
    """
    stopped = stopped_by(frame)
    if stopped is not None:
        return Refusal(frame, call, items, stopped, None)
    short = shortages(items, frame.finishing)
    if short:
        return _refuse(frame, items, call, short)
    crossed = hold(items)
    for node in frame.chain:
        if node.refusals:
            node.refusals = 0
            node.guard()
    return crossed


def stopped_by(frame: Frame) -> Node | None:
    """The outermost node that takes no more reservations."""
    for node in reversed(frame.chain):
        if node not in frame.finishing and (node.latch is not None or node.ended):
            return node
    return None


def _refuse(frame: Frame, items: Sequence[Item], call: Call, short: list[Shortage]) -> Refusal:
    """Of several short payers one that terminates goes first, then the outermost."""
    if len(short) == 1:
        shortage = short[0]
        ends = _ends(shortage.cell.node, call)
    else:
        shortage, ends = _foremost(frame, call, short)
    node = shortage.cell.node
    if not ends:
        return Refusal(frame, call, items, node, shortage)
    latch(node, shortage.cell.dim, _why(node, shortage, call))
    return Refusal(frame, call, items, node, None)


def _foremost(frame: Frame, call: Call, short: list[Shortage]) -> tuple[Shortage, bool]:
    """Which of several short payers decides, and whether that ends its task."""
    first: dict[Node, Shortage] = {}
    for shortage in short:
        first.setdefault(shortage.cell.node, shortage)
    outermost_first = [node for node in reversed(frame.chain) if node in first]
    ending = [node for node in outermost_first if _ends(node, call)]
    return first[(ending or outermost_first)[0]], bool(ending)


def _ends(node: Node, call: Call) -> bool:
    """Count a refusal by `node`; say whether it ends the task."""
    if node.latch is not None or node.ended:
        return False  # inside finish() after the end: nothing is left to end
    policy, stricter = node.policy, call.policy
    if isinstance(policy, Terminate) or isinstance(stricter, Terminate):
        return True
    node.refusals += 1
    if node.refusals == 1:
        node.guard()
    return _is_out(node, policy) or (stricter is not None and _is_out(node, stricter))


def _is_out(node: Node, policy: Reject) -> bool:
    return policy.patience is not None and node.refusals >= policy.patience


def _why(node: Node, short: Shortage, call: Call) -> str:
    cell = short.cell
    limit = from_units(cell.dim, cell.limit or 0)
    requested = from_units(cell.dim, short.requested)
    available = from_units(cell.dim, short.available)
    text = f"{available} of {limit} {cell.dim} left, {requested} requested"
    if isinstance(node.policy, Terminate) or isinstance(call.policy, Terminate):
        return text
    return f"{text}, after {node.refusals} refusals in a row"


def look_at_deadlines(frame: Frame) -> None:
    """Latch the tasks of this frame whose deadline has passed; tell those that want a warning."""
    now = frame.now_ns()
    warned: list[Node] = []
    try:
        acquire()
        for node in reversed(frame.chain):
            if node in frame.finishing or node.latch is not None or node.ended:
                continue
            if node.deadline_ns is not None and now >= node.deadline_ns:
                latch(node, "millis", "its deadline has passed")
            elif node.warn_ns is not None and now >= node.warn_ns:
                node.warn_ns = None
                warned.append(node)
        frame.look_at_deadlines()
    finally:
        release()
    for node in warned:
        node.owner.warn("millis")


def warn(crossed: list[Cell]) -> None:
    """Tell the owners of cells whose warn threshold was crossed. Without the lock."""
    for cell in crossed:
        cell.node.owner.warn(cell.dim)


def carry_out(refusal: Refusal) -> None:
    """Let everyone know of a refusal: counts, event, span, log; end the task if it is latched."""
    frame, node = refusal.frame, refusal.node
    if node.latch is not None and refusal.shortage is None:
        node.owner.cancel_scope()
    frame.runtime.tallies.refused(refusal.decision, node.name, refusal.dim, refusal.call.operation)
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


def look_closely(frame: Frame, items: Sequence[Item], call: Call, tally: Tally) -> Refusal | None:
    """Book what was left behind, then decide; tells of warnings. None: the units are held."""
    frame.runtime.sweep()
    try:
        acquire()
        decision = decide(frame, items, call)
        if not isinstance(decision, Refusal):
            tally.admitted += 1
    finally:
        release()
    if isinstance(decision, Refusal):
        return decision
    if decision:
        warn(decision)
    return None


def look_at_carve(node: Node, limits: Carve, parent: Frame) -> Refusal | None:
    """Take a child's limits out of its parents' room: all of them, or say who refuses."""
    parent.runtime.sweep()
    try:
        acquire()
        items = [(dim, limit, payers(parent.chain, dim)) for dim, (limit, _w, _k) in limits.items()]
        stopped = stopped_by(parent)
        if stopped is not None:
            return Refusal(parent, PLAIN, items, stopped, None)
        short = shortages(items, parent.finishing)
        if short:
            return Refusal(parent, PLAIN, items, short[-1].cell.node, short[-1])
        open_carve(node, items)
    finally:
        release()
    return None


def look_at_least(frame: Frame) -> Refusal | None:
    """Who would refuse the least that a call could ask for: 1 of whatever is limited."""
    frame.runtime.sweep()
    try:
        acquire()
        stopped = stopped_by(frame)
        if stopped is not None:
            return Refusal(frame, PLAIN, (), stopped, None)
        cells = [cell for node in frame.chain for cell in node.cells.values()]
        limited = {cell.dim for cell in cells if cell.limit is not None and not cell.level}
        items = [(dim, 1, payers(frame.chain, dim)) for dim in sorted(limited)]
        short = shortages(items, frame.finishing)
        return _refuse(frame, (), PLAIN, short) if short else None
    finally:
        release()

"""Whether a call may run: the close look, taken when the quick hold did not go through.

`decide` holds after all, or answers who refuses or what it must wait for. All of it is plain code
under the lock, unless it says otherwise. Not here: waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from ..accounts import acquire, release, waiting
from ..calls import PLAIN, Call
from ..frames import Frame
from ..holding import own_holds, units_in
from ..kernel.carving import open_carve
from ..kernel.dims import from_units
from ..kernel.nodes import KINDS, Cell, Item, Node, payers, refresh
from ..kernel.quota import end_pause
from ..kernel.tree import Shortage, hold, left_of, shortages
from ..policies import Policy, Terminate, severity, terminates
from ..principals import is_exempt
from ..termination import latch
from .lending import (
    ask,
    first_away,
    is_question,
    policy_of,
    refuse_away,
    refuse_recovering,
    without_credit,
)
from .places import goes_first
from .prospects import could_ever, paused, retry_after
from .refusals import Refusal, units_of

Carve = Mapping[str, tuple[int, int | None, int]]
"""{dimension: (limit, warn, keep)}, in units."""


@dataclass(slots=True)
class Delay:
    """Nothing was held; the call may wait for its turn. `holds`: what its callers hold."""

    holds: Sequence[Any]


@dataclass(slots=True)
class Question:
    """Nothing was held; a ledger must be asked first. `events` tell of the answers."""

    events: Sequence[Event]


def decide(
    frame: Frame,
    items: Sequence[Item],
    call: Call,
    now_ns: int,
    *,
    may_wait: bool = False,
    may_ask: bool = True,
) -> list[Cell] | Refusal | Delay | Question:
    """Look closely: hold, or say who refuses, or what to wait for. Latches whoever must end.

    Returns the cells whose warn threshold a grant crossed.
    """
    stopped = stopped_by(frame)
    if stopped is not None:
        return Refusal(frame, call, items, stopped, None)
    exempt = is_exempt(frame.principal)
    if frame.principal is not None or frame.draws or frame.aim is not None or frame.rates:
        bring_up_to_date(items, now_ns)
    obstacles = without_credit(shortages(items, frame.finishing, exempt=exempt))
    if frame.draws or frame.aim is not None:
        obstacles = paused(items, obstacles, frame.finishing, now_ns, exempt=exempt)
    holds = own_holds() if waiting or obstacles else ()
    if waiting:
        obstacles += _queued(frame, items, obstacles, holds, exempt=exempt)
    if not obstacles:
        return grant(frame, items)
    refusal = _refusal(frame, items, call, obstacles, holds, now_ns)
    if refusal is not None:
        return refusal
    if may_wait:
        return Delay(holds)
    events = ask(obstacles, now_ns) if may_ask else ()
    if events:
        return Question(events)
    worst = max(obstacles, key=lambda s: _order(s.cell))
    after = retry_after(obstacles, now_ns)
    return Refusal(frame, call, items, worst.cell.node, worst, retry_after=after)


def _refusal(
    frame: Frame,
    items: Sequence[Item],
    call: Call,
    obstacles: list[Shortage],
    holds: Sequence[Any],
    now_ns: int,
) -> Refusal | None:
    """Say who refuses, whether or not the call could wait; None: nobody does."""
    away = first_away(obstacles)
    if away is not None:
        return refuse_away(frame, call, items, away)
    strict = [s for s in obstacles if not (_lets_wait(s.cell, call) or is_question(s.cell, now_ns))]
    if strict:
        later = refuse_recovering(frame, call, items, strict)
        return later or refuse(frame, items, call, strict, now_ns)
    hopeless = [
        s
        for s in obstacles
        if not s.is_pause
        and not could_ever(s.cell, s.requested, units_in(holds, s.cell), frame.finishing, now_ns)
    ]
    if not hopeless:
        return None
    refusal = refuse(frame, items, call, hopeless, now_ns)
    refusal.retry_after = None
    return refusal


def grant(frame: Frame, items: Sequence[Item]) -> list[Cell]:
    """Hold; whoever refused in a row before has stopped doing so."""
    crossed = hold(items)
    for node in frame.chain:
        if node.refusals:
            node.refusals = 0
            node.guard()
    task = frame.chain[0] if frame.chain else None
    if task is not None and task.refused:
        for _dim, _n, (cells, _above, _special) in items:
            for cell in cells:
                task.refused.pop(cell.node, None)
        task.guard()
    return crossed


def bring_up_to_date(items: Iterable[Item], now_ns: int) -> None:
    """Let rates refill, pauses end, and allowances collect what their parts have left."""
    for _dim, n, (cells, _above, _special) in items:
        for cell in cells:
            if cell.paused_ns:
                end_pause(cell, now_ns)
            if cell.refill is not None or cell.lease is not None:
                refresh(cell, now_ns)
                if cell.lease is not None:
                    cell.lease.look(n)
            elif cell.node.kind == "token":
                cell.node.owner.collect()


def stopped_by(frame: Frame) -> Node | None:
    """The outermost node that takes no more reservations."""
    for node in reversed(frame.chain):
        if node not in frame.finishing and (node.latch is not None or node.ended):
            return node
    draws = frame.draws if frame.aim is None else (frame.aim, *frame.draws)
    for draw in draws:
        if draw.stake is not None and draw.stake.node.ended:
            return draw.stake.node
        for cell in draw.pool.cells:
            if cell.node.ended:
                return cell.node
    return None


def _queued(
    frame: Frame,
    items: Sequence[Item],
    short: list[Shortage],
    holds: Sequence[Any],
    *,
    exempt: bool,
) -> list[Shortage]:
    """Payers that have room, but for which others wait already.

    Some calls inside others go before those, or both might wait for ever.
    """
    known = {id(shortage.cell) for shortage in short}
    queued: list[Shortage] = []
    for _dim, n, (cells, _above, _special) in items:
        for cell in cells:
            queue = cell.queue
            if queue is None or not queue.count or n == 0 or id(cell) in known:
                continue
            if not (exempt and cell.spares_exempt) and not goes_first(holds, cell):
                queued.append(Shortage(cell, n, left_of(cell, frame.finishing)))
    return queued


def _lets_wait(cell: Cell, call: Call) -> bool:
    return policy_of(cell).severity == 0 and severity(call.policy) == 0


def _order(cell: Cell) -> tuple[int, int]:
    """Tasks before all others, and the outermost first; the last in this order decides."""
    return -KINDS.index(cell.node.kind), -len(cell.node.chain)


def refuse(
    frame: Frame, items: Sequence[Item], call: Call, short: list[Shortage], now_ns: int
) -> Refusal:
    """Of several short payers one that terminates goes first, then the outermost."""
    if len(short) == 1:
        shortage = short[0]
        ended = _ended(frame, shortage, call)
    else:
        shortage, ended = _foremost(frame, call, short)
    cell = shortage.cell
    if ended is None:
        after = retry_after(short, now_ns)
        return Refusal(frame, call, items, cell.node, shortage, retry_after=after)
    latch(ended, cell.dim, _why(ended, shortage, call))
    return Refusal(frame, call, items, ended, None, by=cell.node)


def _foremost(frame: Frame, call: Call, short: list[Shortage]) -> tuple[Shortage, Node | None]:
    """Which of several short payers decides, and which task that ends."""
    first: dict[Node, Shortage] = {}
    for shortage in short:
        first.setdefault(shortage.cell.node, shortage)
    ordered = sorted(first.values(), key=lambda s: _order(s.cell), reverse=True)
    strictest = max(severity(policy_of(s.cell)) for s in ordered)
    ended = [(s, _ended(frame, s, call)) for s in ordered]
    ending = [(s, node) for s, node in ended if node is not None]
    if ending:
        return max(ending, key=lambda pair: -len(pair[1].chain))
    return next(s for s in ordered if severity(policy_of(s.cell)) == strictest), None


def _ended(frame: Frame, short: Shortage, call: Call) -> Node | None:
    """Count a refusal by this payer; return the task that it ends.

    A task ends itself; a payer that is none ends the innermost task of the call. A pause ends
    none but by patience.
    """
    node = short.cell.node
    policy = policy_of(short.cell)
    task = node if node.kind == "task" else (frame.chain[0] if frame.chain else None)
    if task is None or task.latch is not None or task.ended:
        return None
    is_strict = isinstance(policy, Terminate) or isinstance(call.policy, Terminate)
    if is_strict and not short.is_pause:
        return task
    refusals = _count(task, node)
    is_out = _is_out(policy, refusals) or _is_out(call.policy, refusals)
    return task if is_out else None


def _is_out(policy: Policy | None, refusals: int) -> bool:
    if policy is None or isinstance(policy, Terminate):
        return False
    return policy.patience is not None and refusals >= policy.patience


def _count(task: Node, node: Node) -> int:
    if node is task:
        node.refusals += 1
        if node.refusals == 1:
            node.guard()
        return node.refusals
    if task.refused is None:
        task.refused = {}
    task.refused[node] = refusals = task.refused.get(node, 0) + 1
    if refusals == 1:
        task.guard()
    return refusals


def _why(ended: Node, short: Shortage, call: Call) -> str:
    cell = short.cell
    node = cell.node
    limit = from_units(cell.dim, cell.limit or 0)
    requested = from_units(cell.dim, short.requested)
    available = from_units(cell.dim, short.available)
    text = f"{available} of {limit} {units_of(short)} left, {requested} requested"
    if node.kind != "task":
        text = f"{node.kind} {node.name!r}: {text}"
    if terminates(policy_of(cell), call.policy) and not short.is_pause:
        return text
    refusals = ended.refusals if node is ended else (ended.refused or {}).get(node, 0)
    return f"{text}, after {refusals} refusals in a row"


def decide_carve(
    node: Node, limits: Carve, parent: Frame, now_ns: int, *, may_ask: bool
) -> Refusal | Question | None:
    """Take a child's limits out of its parents' room: all of them, or say who refuses."""
    items = [(dim, limit, payers(parent.chain, dim)) for dim, (limit, _w, _k) in limits.items()]
    stopped = stopped_by(parent)
    if stopped is not None:
        return Refusal(parent, PLAIN, items, stopped, None)
    bring_up_to_date(items, now_ns)
    short = without_credit(shortages(items, parent.finishing))
    if not short:
        open_carve(node, items)
        return None
    away = first_away(short)
    if away is not None:
        return refuse_away(parent, PLAIN, items, away)
    events = ask(short, now_ns) if may_ask else ()
    return (
        Question(events)
        if events
        else Refusal(parent, PLAIN, items, short[-1].cell.node, short[-1])
    )


def look_at_least(frame: Frame) -> Refusal | None:
    """Who would refuse the least that a call could ask for: 1 of whatever is limited.

    What a call would wait for refuses nothing. Takes the lock itself.
    """
    frame.runtime.sweep()
    now_ns = frame.now_ns()
    try:
        acquire()
        stopped = stopped_by(frame)
        if stopped is not None:
            return Refusal(frame, PLAIN, (), stopped, None)
        cells = [cell for node in frame.chain for cell in node.cells.values()]
        limited = {cell.dim for cell in cells if cell.limit is not None and not cell.level}
        items = [(dim, 1, payers(frame.chain, dim)) for dim in sorted(limited)]
        short = [
            shortage
            for shortage in shortages(items, frame.finishing)
            if not (_lets_wait(shortage.cell, PLAIN) or is_question(shortage.cell, now_ns))
            or not could_ever(shortage.cell, 1, 0, frame.finishing, now_ns)
        ]
        return refuse(frame, (), PLAIN, short, now_ns) if short else None
    finally:
        release()


def look_at_deadlines(frame: Frame) -> None:
    """Latch the tasks of this frame whose deadline has passed; tell those that want a warning.

    Takes the lock itself.
    """
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

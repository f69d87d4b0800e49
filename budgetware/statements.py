"""What a task shows of its balances: amounts, snapshots, a paragraph. Not here: changing them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from .accounts import acquire, release
from .frames import Frame, current
from .kernel import balances
from .kernel.balances import Balance, Snapshot
from .kernel.dims import known_dim
from .kernel.nodes import Node, refresh
from .kernel.verdict import Verdict
from .runtime import Runtime

if TYPE_CHECKING:
    from .tasks import TaskBudget

Amount = int | Decimal


def spent(task: TaskBudget, dim: str) -> Amount:
    """What was charged in `dim`."""
    return _balance(task, dim).spent


def remaining(task: TaskBudget, dim: str) -> Amount | None:
    """What this context could still reserve in `dim`."""
    return _balance(task, dim).remaining


def _balance(task: TaskBudget, dim: str) -> Balance:
    name = known_dim(dim)
    return snapshot(task)[name]


def snapshot(task: TaskBudget) -> Snapshot:
    """All balances at one instant, taken under the lock."""
    node, frame = task.node, task.frame
    frame.runtime.sweep()
    inner = current.get(None)
    finishing = inner is not None and node in inner.finishing
    try:
        acquire()
        dims = {dim: balances.balance(c, finishing=finishing) for dim, c in node.cells.items()}
        state = _verdict(task)
    finally:
        release()
    dims["millis"] = _clock(task)
    return Snapshot(task.name, task.id, node.path, state, dims)


def verdict(task: TaskBudget) -> Verdict:
    """The worst state of the task's own dimensions."""
    task.frame.runtime.sweep()
    try:
        acquire()
        return _verdict(task)
    finally:
        release()


def _verdict(task: TaskBudget) -> Verdict:
    node = task.node
    if node.latch is not None:
        return Verdict("exhausted", node.latch.dim)
    return balances.verdict(node).worst(_clock_verdict(task))


def elapsed_ns(task: TaskBudget) -> int:
    """Wall clock since the task was entered; it stands still once it has ended."""
    now_ns = task.frame.now_ns() if task.ended_ns is None else task.ended_ns
    return max(0, now_ns - task.started_ns)


def limit_ns(node: Node, started_ns: int) -> int | None:
    """The time a task has in all."""
    return None if node.deadline_ns is None else node.deadline_ns - started_ns


def _clock(task: TaskBudget) -> Balance:
    """`millis`: spent is wall clock, never a sum of children."""
    used = elapsed_ns(task) // 1_000_000
    limit = limit_ns(task.node, task.started_ns)
    warn = task.plan.limits.warn_ns
    if limit is None:
        return Balance(None, None, used, 0, 0, None, 0, 0)
    millis = limit // 1_000_000
    left, over = max(0, millis - used), max(0, used - millis)
    return Balance(millis, None if warn is None else warn // 1_000_000, used, 0, 0, left, over, 0)


def _clock_verdict(task: TaskBudget) -> Verdict:
    limit = limit_ns(task.node, task.started_ns)
    warn = task.plan.limits.warn_ns
    if limit is not None and elapsed_ns(task) > limit:
        return Verdict("exhausted", "millis")
    if warn is not None and elapsed_ns(task) > warn:
        return Verdict("warn", "millis")
    return Verdict("continue", None)


def describe(task: TaskBudget) -> str:
    """One paragraph: this task, each ancestor, the principal and bound tokens: how they stand."""
    lines = [_describe(node.owner) for node in task.node.chain]
    text = lines[0]
    for outer in lines[1:]:
        text += f" Around it: {outer[0].lower()}{outer[1:]}"
    return " ".join([text, *_describe_payers(task.frame)])


def _describe(task: TaskBudget) -> str:
    parts = [
        _part(dim, b, task)
        for dim, b in sorted(task.snapshot().dims.items())
        if b.limit is not None
    ]
    latch = task.node.latch
    if latch is not None:
        return f"Task {task.name!r} was terminated: {latch.reason}."
    if task.node.ended:
        return f"Task {task.name!r} has ended."
    return f"Task {task.name!r} has {_listed(parts)} left."


def _describe_payers(frame: Frame) -> list[str]:
    """The same of the principal's quotas, and of what its bound tokens draw on."""
    nodes = () if frame.principal is None else frame.principal.node.chain
    drawn = [cell.node for draw in frame.draws if draw.is_dimension for cell in draw.cells]
    lines: list[str] = []
    for node in dict.fromkeys((*nodes, *drawn)):
        dims = node_snapshot(node, frame.runtime).dims
        parts = [_amount(dim, b) for dim, b in sorted(dims.items()) if b.limit is not None]
        whose = "The token of" if node.kind == "token" else node.kind.capitalize()
        if parts:
            lines.append(f"{whose} {node.name!r} has {_listed(parts)} left.")
    return lines


def node_snapshot(node: Node, runtime: Runtime) -> Snapshot:
    """The balances of a resource, a principal or a token at one instant."""
    runtime.sweep()
    now_ns = runtime.clock.now_ns()
    try:
        acquire()
        for cell in node.cells.values():
            refresh(cell, now_ns)
        dims = {dim: balances.balance(cell) for dim, cell in node.cells.items()}
        return Snapshot(node.name, node.id, node.path, balances.verdict(node), dims)
    finally:
        release()


def _listed(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _part(dim: str, balance: Balance, task: TaskBudget) -> str:
    left, limit = balance.remaining, balance.limit
    if dim == "millis":
        return f"{int(left or 0) / 1000:.1f} of {int(limit or 0) / 1000:.1f} seconds"
    cell = task.node.cells.get(dim)
    kept = f" (and {balance.granted} set aside)" if balance.granted and cell else ""
    return _amount(dim, balance) + kept


def _amount(dim: str, balance: Balance) -> str:
    left, limit = balance.remaining, balance.limit
    return f"${left} of ${limit}" if dim == "usd" else f"{left:,} of {limit:,} {dim}"

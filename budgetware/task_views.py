"""What a service shows of its tasks: those that run here, and the shared ones of its ledger.

Not here: tasks themselves (`tasks`), and what a single one shows of itself (`statements`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .foreign_tasks import PREFIX, ForeignTask, find_foreign
from .kernel.balances import Balance, Snapshot
from .kernel.dims import from_units
from .kernel.verdict import Verdict
from .ledgers.terms import NodeState
from .policies import policy_name
from .reports.times import as_time, stamp
from .shared_nodes import TASK
from .shared_tasks import read_facts
from .statements import elapsed_ns, snapshot
from .tasks import TaskBudget

if TYPE_CHECKING:
    from .runtime import Runtime


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as it was when it was asked for.

    Attributes:
        parent: the id of the task around it.
        policy: what happens where there is not enough; None: not known here.
        started_at: None: not known here.
        is_shared: its limits are in the ledger, and its blocks may be in other processes.
        latched: why it was terminated; None: it was not.
        snapshot: its balances at one instant.
    """

    id: str
    parent: str | None
    name: str
    path: str
    principal: str | None
    policy: str | None
    started_at: datetime | None
    is_shared: bool
    latched: str | None
    snapshot: Snapshot

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "id": self.id,
            "parent": self.parent,
            "name": self.name,
            "path": self.path,
            "principal": self.principal,
            "policy": self.policy,
            "started_at": None if self.started_at is None else stamp(self.started_at),
            "is_shared": self.is_shared,
            "latched": self.latched,
            "verdict": self.snapshot.verdict.name,
            "dims": self.snapshot.to_dict()["dims"],
        }


def task_views(runtime: Runtime) -> list[TaskView]:
    """The tasks that are open, each after the one around it; may block on the ledger."""
    own = [_view(task) for task in open_tasks(runtime)]
    local = {view.name for view in own if view.is_shared}
    return [*own, *(view for view in _shared(runtime) if view.name not in local)]


def open_tasks(runtime: Runtime) -> list[TaskBudget]:
    """The tasks of this process, each after the one around it."""
    tasks = [
        node.owner for node in runtime.nodes.copy() if isinstance(node.owner, TaskBudget)
    ]  # fmt: skip
    return sorted(tasks, key=lambda task: (len(task.node.chain), task.started_ns))


def find_task(runtime: Runtime, task_id: str) -> TaskBudget | ForeignTask | None:
    """The open task of this id; one that runs elsewhere may be found in the ledger."""
    own = next((task for task in open_tasks(runtime) if task.id == task_id), None)
    return find_foreign(runtime, task_id) if own is None else own


def _view(task: TaskBudget) -> TaskView:
    node, frame = task.node, task.frame
    above = node.chain[1].owner if len(node.chain) > 1 else None
    latch = node.latch
    return TaskView(
        task.id,
        None if above is None else above.id,
        task.name,
        node.path,
        None if frame.principal is None else frame.principal.name,
        policy_name(node.policy),
        as_time(round(frame.runtime.clock.time() - elapsed_ns(task) / 1e9, 3)),
        task.plan.shared,
        None if latch is None else latch.reason,
        snapshot(task),
    )


def _shared(runtime: Runtime) -> list[TaskView]:
    """The shared tasks that somebody is in."""
    if runtime.shared is None:
        return []
    by_name: dict[str, list[NodeState]] = {}
    for state in runtime.shared.call(lambda ledger: ledger.read(TASK)):
        name = state.node.removeprefix(TASK).partition("/")[0]
        by_name.setdefault(name, []).append(state)
    return [
        _shared_view(name, states)
        for name, states in by_name.items()
        if any(state.holders for state in states)
    ]


def _shared_view(name: str, states: Sequence[NodeState]) -> TaskView:
    dims = {state.node.rpartition("/")[2]: _balance(state) for state in states}
    latch = next((state.latch.partition("|")[2] for state in states if state.latch), None)
    worst = next((dim for dim, balance in dims.items() if balance.overrun), None)
    verdict = Verdict("continue", None)
    if worst is not None or latch is not None:
        verdict = Verdict("exhausted", worst)
    facts = read_facts(states[0].definition)
    started = facts.get("started")
    return TaskView(
        PREFIX + name,
        None,
        name,
        name,
        facts.get("principal"),
        facts.get("policy"),
        as_time(started) if isinstance(started, float) else None,
        is_shared=True,
        latched=latch,
        snapshot=Snapshot(name, PREFIX + name, name, verdict, dims),
    )


def _balance(state: NodeState) -> Balance:
    """What a ledger has of one limit: what processes hold counts as reserved."""
    dim, value = state.node.rpartition("/")[2], state.terms.value
    spent, out = state.used + state.stranded, state.out
    left = value - spent - out
    amounts = (value, spent, out, 0, max(0, left), max(0, -left))
    limit, used, reserved, nothing, remaining, overrun = (from_units(dim, n) for n in amounts)
    return Balance(limit, None, used, reserved, nothing, remaining, overrun, nothing)

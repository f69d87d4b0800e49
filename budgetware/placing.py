"""Where a task stands: its node below its parent's, and the frame of its calls.

Not here: its life (`tasks`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import shared_tasks
from .admission.closely import look_at_carve
from .admission.refusals import Refusal
from .frames import Frame, current
from .kernel.nodes import Node
from .ledgers.terms import NodeState
from .principals import Principal
from .runtime import Runtime

if TYPE_CHECKING:
    from .tasks import TaskBudget


def place(task: TaskBudget, runtime: Runtime, states: list[NodeState] | None) -> Frame | Refusal:
    """Make a task's node and frame; a carve may be refused, and then nothing has changed.

    Args:
        states: of a shared one: its limits in the ledger; None: ask for them, which blocks.
    """
    parent, plan = current.get(None) or _of_process(runtime), task.plan
    if plan.shared and states is None:
        states = shared_tasks.define(task, runtime)
    if plan.principal is None and (parent is None or parent.runtime is runtime):
        principal = None if parent is None else parent.principal
    else:
        principal = _principal(plan.principal, runtime, parent)
    chain = parent.chain if parent is not None else ()
    node = Node(task.name, task.id, plan.policy, chain[0] if chain else None)
    plan.limits.put_on(node)
    if plan.unpriced != "error":
        node.unpriced = plan.unpriced
    node.owner = task
    if plan.carve and parent is not None and chain:
        refusal = look_at_carve(node, plan.limits.cells, parent)
        if refusal is not None:
            return refusal
    task.started_ns = now_ns = runtime.clock.now_ns()
    if plan.limits.time_ns is not None:
        node.deadline_ns = now_ns + plan.limits.time_ns
        if plan.limits.warn_ns is not None:
            node.warn_ns = now_ns + plan.limits.warn_ns
    if states is not None:
        shared_tasks.attach(task, runtime, node, states)
    return Frame(
        runtime,
        task,
        node.chain,
        principal=principal,
        finishing=parent.finishing if parent is not None else frozenset(),
        draws=parent.draws if parent is not None else (),
    )


def _principal(name: str | None, runtime: Runtime, parent: Frame | None) -> Principal | None:
    """Its own principal, else the one of where it is opened, by its name."""
    inherited = None if parent is None else parent.principal
    name = name or (None if inherited is None else inherited.name)
    return None if name is None else runtime.principals.get(name)


def _of_process(runtime: Runtime) -> Frame | None:
    """The frame of the task that a whole process stands in, where there is one."""
    frame = runtime.outside
    return frame if frame is not None and frame.chain else None

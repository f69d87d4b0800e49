"""Tasks whose limits live in the ledger: every block of one name pays from the same ones.

Not here: tasks (`tasks`), and leases (`ledgers`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .accounts import acquire, release
from .errors import ConfigurationError
from .frames import current
from .kernel.nodes import Node, QuotaCell
from .ledgers.errands import Errand
from .ledgers.leases import Lease
from .ledgers.protocol import Ledger
from .ledgers.terms import NodeState, Terms
from .policies import policy_name
from .runtime import Runtime
from .shared_nodes import TASK, SharedNodes
from .termination import latch

if TYPE_CHECKING:
    from .tasks import TaskBudget

KEPT_SECONDS = 86_400.0
"""How long a shared task is kept after its last block."""
_BEAT_NS = 300_000_000
"""How often a block looks whether the task was terminated elsewhere."""
_CLOCK = "millis"


def check_shared(shared: object, name: str | None, *, carve: bool, keep: object) -> None:
    """Raise unless a task can be shared so."""
    if type(shared) is not bool:
        raise ConfigurationError(f"shared={str(shared)[:40]!r}: give True or False")
    if shared and name is None:
        raise ConfigurationError("shared=True: give the task a name, which is what is shared")
    if shared and (carve or keep):
        raise ConfigurationError(
            f"task_budget({name!r}, shared=True) cannot carve, nor keep: put a task of its own "
            "inside it that does"
        )


def key_of(name: str, dim: str) -> str:
    """The key of one dimension of a shared task."""
    return f"{TASK}{name}/{dim}"


def define(task: TaskBudget, runtime: Runtime) -> list[NodeState]:
    """Have its limits in the ledger, as the first block of its name set them. Blocks.

    Raises:
        ConfigurationError: the task has no limit that can be shared.
        LedgerUnavailable: it does not answer.
    """
    limits = task.plan.limits.cells
    if not limits:
        raise ConfigurationError(
            f"task_budget({task.name!r}, shared=True) has no limit to share: name one, as in "
            "tokens=50_000"
        )

    text = _facts(task, runtime)

    def define_all(ledger: Ledger) -> list[NodeState]:
        return [
            ledger.define(
                key_of(task.name, dim), Terms("capacity", limit), text, idle_seconds=KEPT_SECONDS
            )
            for dim, (limit, _warn, _keep) in limits.items()
        ]

    return runtime.sharing().call(define_all)


def _facts(task: TaskBudget, runtime: Runtime) -> str:
    """What others are shown of it: as its first block was entered."""
    named, outer = task.plan.principal, current.get(None)
    if named is None and outer is not None and outer.principal is not None:
        named = outer.principal.name
    policy = policy_name(task.plan.policy)
    return json.dumps({"policy": policy, "principal": named, "started": runtime.clock.time()})


def read_facts(text: str) -> Mapping[str, Any]:
    """The same, as far as it is told."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def attach(task: TaskBudget, runtime: Runtime, node: Node, states: list[NodeState]) -> None:
    """Have its cells be served from leases. Before anybody can draw on it."""
    shared = runtime.sharing()
    try:
        acquire()
        for state, (dim, (_limit, warn, _keep)) in zip(
            states, task.plan.limits.cells.items(), strict=True
        ):
            cell = QuotaCell(node, dim, state.terms.value, warn)
            node.cells[dim] = cell
            lease = shared.lend_task(cell, state, holder=f"{shared.courier.holder}:{task.id}")
            lease.beat_ns = _BEAT_NS
            lease.on_latch = lambda text: _end_here(task, text)
            if state.latch:
                _latch(node, state.latch)
            lease.ask()
    finally:
        release()


def _shared(task: TaskBudget) -> SharedNodes:
    return task.frame.runtime.sharing()


def _leases(task: TaskBudget) -> list[Lease]:
    cells = list(task.node.cells.values())
    return [cell.lease for cell in cells if cell.lease is not None]


def end(task: TaskBudget) -> None:
    """Its block is over: what it has leased goes back. Locked."""
    for lease in _leases(task):
        lease.end()


def spread(task: TaskBudget) -> None:
    """It was terminated here: end it everywhere. Without the lock."""
    cause = task.node.latch
    if cause is None or cause.dim == _CLOCK or task.is_spread:
        return
    task.is_spread = True
    text = f"{cause.dim or ''}|{cause.reason}"
    for lease in _leases(task):
        _shared(task).courier.tell(Errand("latch", lease.node, text))


def _end_here(task: TaskBudget, text: str) -> None:
    """It was terminated elsewhere. Without the lock; on the courier's thread."""
    try:
        acquire()
        if task.node.ended:
            return
        _latch(task.node, text)
        task.is_spread = True
    finally:
        release()
    task.cancel_scope()


def _latch(node: Node, text: str) -> None:
    dim, _bar, reason = text.partition("|")
    latch(node, dim or None, reason)


def top_up(task: TaskBudget, amounts: Mapping[str, int], request: str) -> None:
    """Raise its limits in the ledger, once for each request. Blocks."""
    name = task.name

    def add_all(ledger: Ledger) -> list[NodeState]:
        return [ledger.add(key_of(name, dim), units, request) for dim, units in amounts.items()]

    states = _shared(task).call(add_all)
    try:
        acquire()
        for dim, state in zip(amounts, states, strict=True):
            lease: Lease = task.node.cells[dim].lease
            lease.change(state.terms)
            lease.ask()
    finally:
        release()

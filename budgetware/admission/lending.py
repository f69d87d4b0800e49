"""What a call does about a payer of which other processes have a part: ask the ledger.

Plain code under the lock. Not here: whether it then may run (`decisions`), and asking itself
(`ledgers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any

from ..calls import Call
from ..frames import Frame
from ..kernel.nodes import Cell, Item
from ..kernel.tree import Shortage
from ..ledgers.leases import Lease
from ..policies import Policy, severity
from .refusals import Refusal


def policy_of(cell: Cell) -> Policy:
    """What happens where this payer has not enough; a token goes by its resource."""
    node = cell.node
    policy: Policy = cell.policy or (
        node.owner.pool.node.policy if node.kind == "token" else node.policy
    )
    return policy


def may_be_waited_for(cell: Cell) -> bool:
    """Whether calls may have to wait for this payer: its policy lets them, or a ledger is asked."""
    return cell.lease is not None or severity(policy_of(cell)) == 0


def stays(waiter: Any, cell: Cell) -> bool:
    """Whether a waiter stays in the line of a payer that has not enough."""
    return severity(policy_of(cell)) == 0 and severity(waiter.call.policy) == 0


def first_stays(lease: Lease) -> bool:
    """Whether the first in line for a lease does."""
    queue = lease.cell.queue
    first = None if queue is None else queue.first()
    return first is not None and stays(first.waiter, lease.cell)


def may_be_asked(cell: Cell, now_ns: int) -> bool:
    """Whether a ledger may have more for this payer."""
    lease: Lease | None = cell.lease
    return lease is not None and lease.is_question(now_ns)


def is_question(cell: Cell, now_ns: int) -> bool:
    """Whether that is asked now: the policy of a payer is of no account until the ledger says."""
    return not cell.paused_ns and may_be_asked(cell, now_ns)


def ask(obstacles: Sequence[Shortage], now_ns: int) -> list[Event]:
    """Ask for what is short; returns what tells of the answers, or nothing if none will come."""
    return [s.cell.lease.ask_for(s.requested) for s in obstacles if is_question(s.cell, now_ns)]


def without_credit(obstacles: Sequence[Shortage]) -> list[Shortage]:
    """Lend what is short where the ledger is away and that is allowed; the other shortages."""
    left: list[Shortage] = []
    for shortage in obstacles:
        lease: Lease | None = shortage.cell.lease
        if lease is not None and lease.error is not None and lease.on_error == "open":
            lease.lend(shortage.requested - shortage.cell.free + shortage.cell.keep)
        else:
            left.append(shortage)
    return left


def first_away(obstacles: Sequence[Shortage]) -> Lease | None:
    """The first of those short payers whose ledger cannot be asked."""
    return next((lease for lease in _leases(obstacles) if lease.error is not None), None)


def refuse_away(frame: Frame, call: Call, items: Sequence[Item], lease: Lease) -> Refusal:
    """Nothing is granted that cannot be booked."""
    reason = lease.error or lease.recovery
    assert reason is not None
    return Refusal(frame, call, items, lease.cell.node, None, reason=reason)


def refuse_recovering(
    frame: Frame, call: Call, items: Sequence[Item], obstacles: Sequence[Shortage]
) -> Refusal | None:
    """Who is short because a ledger grants nothing to anybody for now has not used up anything."""
    recovering = next((lease for lease in _leases(obstacles) if lease.recovery is not None), None)
    return None if recovering is None else refuse_away(frame, call, items, recovering)


def _leases(obstacles: Sequence[Shortage]) -> list[Lease]:
    """Those that are short, and not just paused."""
    return [s.cell.lease for s in obstacles if s.cell.lease is not None and not s.is_pause]

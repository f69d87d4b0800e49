"""What is said of refusals and of waits, alike on spans and in logs. Not here: saying it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import names
from .facts import stricter
from .values import Attributes

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
    from ..admission.waiters import Waiter
    from ..kernel.nodes import Cell

THROTTLE = "throttle"
"""The policy of whoever is waited for."""


def of_refusal(refusal: Refusal) -> Attributes:
    """Who refused, for want of what, and when to come again."""
    node = refusal.denied_by
    short = refusal.shortage
    cell = node.cells.get(refusal.dim) if short is None else short.cell
    policy = None if cell is None else cell.policy
    attributes: Attributes = {
        names.DECISION: refusal.decision,
        names.DENIED_BUDGET: node.name,
        names.POLICY: stricter(policy or node.policy, refusal.call.policy) or "reject",
    }
    if refusal.dim:
        attributes[names.DENIED_DIM] = names.unit_dim(refusal.dim)
    if refusal.retry_after is not None:
        attributes[names.RETRY_AFTER] = float(refusal.retry_after)
    if refusal.waited_ns > 1:
        attributes[names.WAIT_DURATION] = refusal.waited_ns / 1e9
    return attributes


def refusal_type(refusal: Refusal) -> str:
    """What `error.type` says of a refusal: a wait that was too long is a kind of its own."""
    is_timeout = refusal.timed_out and refusal.decision == names.REJECTED
    return f"{names.SCOPE}.{names.TIMEOUT if is_timeout else refusal.decision}"


def of_admission(waiter: Waiter) -> Attributes:
    """What is said of a call that was admitted after a wait, apart from what is said of any."""
    return {
        names.DECISION: names.THROTTLED,
        names.POLICY: THROTTLE,
        names.WAIT_DURATION: waiter.waited_ns / 1e9,
    }


def of_wait(waiter: Waiter, cell: Cell) -> Attributes:
    """How long it was, and for whom: with several, the last."""
    return {
        names.POLICY: THROTTLE,
        names.WAIT_DURATION: waiter.waited_ns / 1e9,
        names.DENIED_BUDGET: cell.node.name,
        names.DENIED_DIM: names.unit_dim(cell.dim),
    }

"""What a holder claims of its ledger, from what it has and what its callers wait for.

Everything here runs under the lock of accounts. Not here: what the answer does (`leases`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..kernel.nodes import refresh
from .leases import Lease
from .stocks import demand_of, stock_of
from .terms import Claim

if TYPE_CHECKING:
    from .letters import Parting

FORGOTTEN_SECONDS = 12 * 3_600
"""A holder that has not been answered for so long may be forgotten by the ledger soon."""
_FORGOTTEN_NS = FORGOTTEN_SECONDS * 1_000_000_000


def make_claim(lease: Lease, now_ns: int, *, waits: bool, is_last: bool = False) -> Claim:
    """Make the next claim; it stands until it is answered.

    Args:
        waits: whether the first in line stays there if there is not enough.
        is_last: the service closes.
    """
    cell, terms = lease.cell, lease.terms
    is_last = is_last or lease.is_ending
    refresh(cell, now_ns)
    if now_ns - lease.acked_ns > _FORGOTTEN_NS:
        lease.begin_anew()
    lease.give(min(lease.lent, max(0, cell.free)))
    lease.lent = 0
    queue = None if lease.steps_back or cell.paused_ns else cell.queue
    lease.steps_back = False
    waiting = (queue.units if queue is not None else 0) + lease.extra
    first = queue.first() if queue is not None and queue.count else None
    foremost = lease.extra_most if first is None else first.units
    used = cell.spent - lease.offset
    if terms.kind == "rate":
        lease.asked_over, lease.over = lease.over, 0
        held, want = cell.free + lease.asked_over, 0
    else:
        want = _keep(lease, now_ns, waiting, used, is_last=is_last)
        lease.covered = max(0, -cell.free)
        held = cell.reserved + cell.granted + max(0, cell.free)
    free = max(0, cell.free)
    lease.epoch += 1
    lease.asked_ns = now_ns
    lease.is_stirred = False
    lease.claimed_touch = lease.touched
    lease.asking = Claim(
        lease.node,
        lease.holder,
        lease.epoch,
        used=0 if cell.level else used,
        held=held,
        want=want,
        need=max(0, waiting - free),
        head=max(0, foremost - (0 if cell.refill else free)),
        waits=waits and first is not None,
        demand=_demand(lease, now_ns, waiting, used) if not is_last else 0,
        share=lease.share,
        cap=lease.cap,
        ttl_ms=lease.desk.ttl_ms,
        revision=lease.revision,
        is_last=is_last,
    )
    lease.due_ns = None
    return lease.asking


def make_parting(lease: Lease, now_ns: int, now: float) -> Parting | None:
    """What would close a lease if this process ended now; None: the ledger knows it all.

    What open calls hold may have been used, so it counts as used. Of a rate nothing is given back:
    what it had in its bucket dies with its share.

    Args:
        now: the same time, in seconds since the epoch.
    """
    from .letters import Parting

    cell = lease.cell
    if not lease.is_known:
        return None
    asked = lease.asking
    ago_ns = now_ns - lease.acked_ns
    counted = 0 if cell.level else lease.counted
    used = 0 if cell.level else cell.spent - lease.offset + max(0, cell.reserved)
    is_empty = cell.base == cell.spent and cell.free == 0 and not lease.share
    if asked is None and is_empty and used == counted:
        return None
    parting = Parting(
        lease.node, lease.holder, lease.epoch + 1, used, counted, now - ago_ns / 1e9,
        is_asked=asked is not None,
    )  # fmt: skip
    if asked is None and ago_ns > _FORGOTTEN_NS:  # as the next claim will have it
        return replace(
            parting, holder=lease.next_holder, epoch=1, used=used - counted, counted=0, answered=now
        )
    return parting


def _keep(lease: Lease, now_ns: int, waiting: int, used: int, *, is_last: bool) -> int:
    """Give back what it does not need; return what it would like to have on top."""
    free = max(0, lease.cell.free)
    recent = used - lease.counted
    is_idle = recent <= 0 and not waiting and lease.cell.reserved <= 0
    is_wanted = lease.known is not None and lease.known.is_wanted
    stock = 0
    if not (lease.is_prompt or is_idle or is_last or is_wanted):
        passed_ns = now_ns - lease.acked_ns
        stock = stock_of(lease.terms.value, recent, passed_ns, lease.largest, lease.most)
    keep = 0 if is_last else min(free, max(waiting, stock))
    lease.give(free - keep)
    return max(0, stock - keep)


def _demand(lease: Lease, now_ns: int, waiting: int, used: int) -> int:
    """Of a rate: what it could use per period."""
    if lease.terms.kind != "rate":
        return 0
    recent = used - lease.counted + max(0, lease.cell.reserved)
    return demand_of(lease.terms, recent, now_ns - lease.acked_ns, is_short=waiting > 0)

"""What a holder claims of its ledger, from what it has and what its callers wait for.

Everything here runs under the lock of accounts. Not here: what the answer does (`leases`).
"""

from __future__ import annotations

from ..kernel.nodes import refresh
from .leases import Lease
from .stocks import demand_of, stock_of
from .terms import Claim

_FORGOTTEN_NS = 12 * 3_600 * 1_000_000_000
"""A holder that has not been answered for so long may be forgotten by the ledger soon."""


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
    queue = cell.queue
    waiting = (queue.units if queue is not None else 0) + lease.extra
    first = queue.first() if queue is not None and queue.count else None
    used = cell.spent - lease.offset
    if terms.kind == "rate":
        held, want = cell.free, 0
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
        head=0 if first is None else max(0, first.units - (0 if cell.refill else free)),
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

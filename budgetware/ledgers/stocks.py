"""How much a holder has in stock, and what it asks of a rate. Not here: asking (`leases`)."""

from __future__ import annotations

from ..kernel.refill import NEVER_NS
from .terms import Claim, Grant, Terms


def stock_of(value: int, recent: int, passed_ns: int, largest: int, most: int | None) -> int:
    """Units to have in stock of a capacity: what is used in a second.

    At least the largest request of late, at most an eighth of all, and two lots of `most`: one to
    serve calls from while the ledger is asked for the other.

    Args:
        recent: units used in the last `passed_ns`.
    """
    per_second = recent * 1_000_000_000 // max(1, passed_ns)
    stock = min(max(per_second, largest), max(1, value // 8))
    return stock if most is None else min(stock, 2 * most)


def floor_of(free: int, most: int | None) -> int:
    """Below how many free units to ask for more: in time, and not too often."""
    return free // 4 if most is None or free <= most else free - most


def demand_of(terms: Terms, recent: int, passed_ns: int, *, is_short: bool) -> int:
    """What a holder could use of a rate, in units per period: twice what it uses.

    Where it runs short nobody knows, so that is all of it.
    """
    if is_short:
        return terms.value
    if recent <= 0:
        return 0
    period_ns = terms.period_us * 1_000
    return max(1, min(terms.value, 2 * recent * period_ns // max(1, passed_ns)))


def refill_ns_of(terms: Terms, units: int) -> int:
    """Nanoseconds in which a rate refills so many units; 0 for what is no rate."""
    if terms.kind != "rate":
        return 0
    return max(0, units) * terms.period_us * 1_000 // terms.value


def retry_ns_of(claim: Claim, grant: Grant) -> int:
    """Nanoseconds after which asking again may give more; never, where nothing was refused."""
    if grant.retry_ms is not None:
        return max(20, grant.retry_ms) * 1_000_000
    return max(20, claim.ttl_ms // 20) * 1_000_000 if grant.granted < claim.need else NEVER_NS

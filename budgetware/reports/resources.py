"""`ResourceUsage`: what a principal uses of the machine, and what is left of its quotas.

Plain data, and how it is gathered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ..kernel.balances import Balance
from ..kernel.dims import from_units
from ..ledgers.terms import EVER
from ..principals import Principal, is_exempt
from ..quotas import QuotaLimit, Rate
from ..statements import node_snapshot
from ..usage_sums import cpu_group
from .rates import rate_units_used

if TYPE_CHECKING:
    from ..runtime import Runtime


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """One quota of a principal, as it stands.

    Attributes:
        kind: `rate`, `capacity` or `concurrency`.
        limit, used, reserved, remaining: units; of `usd` dollars. What of a rate was not refilled
            yet counts as used; of one in a ledger it is worked out from usage events, so what
            calls of other processes hold is not in it. Else `reserved` is what open calls hold,
            and what other processes have leased.
        window: the period of a rate, as it was given; None: it has none.
    """

    kind: str
    limit: int | Decimal
    used: int | Decimal
    reserved: int | Decimal
    remaining: int | Decimal
    window: str | float | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        names = ("limit", "used", "reserved", "remaining")
        amounts = {name: getattr(self, name) for name in names}
        shown = {n: str(v) if isinstance(v, Decimal) else v for n, v in amounts.items()}
        return {"type": self.kind, **shown, "window": self.window}


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a principal uses of the machine, and what is left of its quotas. None: not known.

    Attributes:
        cpu_fuel_consumed_total: microseconds of CPU time that were ever charged to it and to those
            below it.
        cpu_fuel_per_sec_limit: microseconds of CPU time per second that its quota refills.
        exempt: whether quotas refuse it nothing: what is shown is what is enforced.
        memory_bytes_limit_per_instance: its quota of memory, or the nearest one above it.
        memory_bytes_current_total, memory_bytes_peak_total: what its open calls hold now, and the
            most they ever held at once. With a ledger the first is known where there is a quota
            of memory, the second where this process held some.
        quotas: its own quotas, by dimension.
    """

    principal: str
    cpu_fuel_consumed_total: int | None
    cpu_fuel_per_sec_limit: int | None
    exempt: bool
    memory_bytes_limit_per_instance: int | None
    memory_bytes_current_total: int | None
    memory_bytes_peak_total: int | None
    quotas: Mapping[str, QuotaUsage]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; what is not known is written as null."""
        table = {name: getattr(self, name) for name in self.__slots__}
        return {**table, "quotas": {dim: quota.to_dict() for dim, quota in self.quotas.items()}}


def resource_usage(runtime: Runtime, name: str) -> ResourceUsage | None:
    """What a principal has used and has left; None: there is none of that name. May block."""
    principal = runtime.principals.find(name)
    if principal is None:
        return None
    balances = node_snapshot(principal.node, runtime).dims
    current, peak = _memory(runtime, balances.get("memory"))
    own = principal.definition.quotas
    return ResourceUsage(
        name,
        _cpu_micros(runtime, principal),
        _cpu_per_second(principal),
        is_exempt(principal),
        _memory_limit(principal),
        current,
        peak,
        {dim: _quota(runtime, name, dim, quota.limit, balances[dim]) for dim, quota in own.items()},
    )


def _quota(
    runtime: Runtime, name: str, dim: str, limit: QuotaLimit, balance: Balance
) -> QuotaUsage:
    """A quota as it stands; of a rate in a ledger, by what all processes have used of it."""
    used, remaining = balance.spent, balance.remaining or 0
    reserved = balance.reserved + balance.granted
    if isinstance(limit, Rate) and runtime.shared is not None and runtime.records is not None:
        names, now = below(runtime, name), runtime.clock.time()
        used = from_units(dim, rate_units_used(runtime.records, names, dim, limit, now))
        reserved = balance.reserved
        remaining = max(from_units(dim, 0), (balance.limit or 0) - used - reserved)
    return QuotaUsage(
        type(limit).__name__.lower(),
        balance.limit or 0,
        used,
        reserved,
        remaining,
        limit.period if isinstance(limit, Rate) else None,
    )


def _memory(runtime: Runtime, memory: Balance | None) -> tuple[int | None, int | None]:
    """What is held now, and the most that ever was; others who share a ledger are unknown."""
    if runtime.shared is None:
        return (0, 0) if memory is None else (int(memory.reserved), int(memory.spent))
    if memory is None or memory.limit is None:
        return None, None
    return int(memory.reserved + memory.granted), int(memory.spent) or None


def _cpu_micros(runtime: Runtime, principal: Principal) -> int | None:
    """All CPU time that was ever charged to it, and to those below it; None: nobody counts."""
    if runtime.records is None:
        return None
    groups = {cpu_group(name) for name in below(runtime, principal.name)}
    sums = runtime.records.sums(EVER, EVER)
    return sum(dict(units)["cpu_micros"] for _ends, group, units in sums if group in groups)


def below(runtime: Runtime, name: str) -> frozenset[str]:
    """The names of a principal and of all below it."""
    found = {name}
    for principal in runtime.principals:
        chain = {node.name for node in principal.node.chain}
        if name in chain:
            found.add(principal.name)
    return frozenset(found)


def _limits(principal: Principal, dim: str) -> list[QuotaLimit]:
    """Its own quota of a dimension, and those above it."""
    found: list[QuotaLimit] = []
    at: Principal | None = principal
    while at is not None:
        if dim in at.definition.quotas:
            found.append(at.definition.quotas[dim].limit)
        at = at.parent
    return found


def _cpu_per_second(principal: Principal) -> int | None:
    """The lowest of the rates that count, in microseconds per second."""
    rates = [limit for limit in _limits(principal, "cpu_micros") if isinstance(limit, Rate)]
    return min((int(rate.value) * 10**9 // rate.period_ns for rate in rates), default=None)


def _memory_limit(principal: Principal) -> int | None:
    """The lowest of the ceilings that count, in bytes."""
    found = [limit for limit in _limits(principal, "memory") if not isinstance(limit, Rate)]
    return min((int(limit.value) for limit in found), default=None)

"""From a service's own numbers to series: sums by bounded attributes. Not here: instruments.

Read on the exporter's thread, without the lock of budgets: every dict is copied before it is
walked, and a sum may be a call ahead of another. Nothing is refilled or booked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import TYPE_CHECKING

from ..kernel.balances import shared
from . import names
from .values import bounded

if TYPE_CHECKING:
    from ..kernel.nodes import Cell, Node
    from ..runtime import Runtime
    from ..tallies import Tallies

Series = tuple[tuple[str, str], ...]
"""The attributes of one series; one that is not known is left out."""
Sums = Counter[Series]


def usage(tallies: Tallies) -> Sums:
    """What was charged, at the leaf; never falls."""
    sums = Sums()
    for tally in tallies.all():
        for dim, units in tally.totals().items():
            sums[_used(*tallies.leaf(tally, dim), tally.operation)] += units
    return sums


def corrections(tallies: Tallies) -> Sums:
    """What corrections of assumed charges gave back."""
    sums = Sums()
    for tally in tallies.all():
        for dim, units in tally.corrections.copy().items():
            sums[_used(*tallies.leaf(tally, dim), tally.operation)] += units
    return sums


def overdraft(tallies: Tallies) -> Sums:
    """What was charged beyond a limit, at each level that it exceeded."""
    sums = Sums()
    for (name, dim), units in tallies.overdrafts.copy().items():
        sums[_limited(name, dim)] += units
    return sums


def admissions(tallies: Tallies) -> Sums:
    """How calls were decided, and by whom: admitted ones count at the leaf."""
    sums = Sums()
    for tally in tallies.all():
        key = (names.ADMITTED, tally.name, "", tally.operation)
        sums[_decided(*key)] += tally.admitted
    for refusal, n in tallies.refusals.copy().items():
        sums[_decided(*refusal)] += n
    return sums


def limits(runtime: Runtime) -> Sums:
    """What open tasks of a name, resources and principals may use; of a rate, its burst."""
    sums = Sums()
    for name, dim, cell in _levels(runtime):
        limit = cell.limit
        if limit is not None:
            sums[_limited(name, dim)] += limit
    return sums


def balances(runtime: Runtime) -> Sums:
    """What they have used, and hold for calls in flight."""
    sums = Sums()
    now_ns = runtime.clock.now_ns()
    for name, dim, cell in _levels(runtime):
        used, reserved = _balance(cell, now_ns)
        series = _limited(name, dim)
        sums[*series, (names.QUOTA_STATE, "used")] += used
        sums[*series, (names.QUOTA_STATE, "reserved")] += reserved
    return sums


def _levels(runtime: Runtime) -> Iterator[tuple[str, str, Cell]]:
    """Every payer that others see, with the name and dimension that it counts under."""
    tallies = runtime.tallies
    for node in runtime.nodes.copy():
        name = tallies.name(node.name)
        for dim, cell in node.cells.copy().items():
            yield name, dim, cell
    for pool in runtime.resources:
        yield tallies.name(pool.name), tallies.dim(pool.node, pool.cell.dim), pool.cell
    for principal in runtime.principals:
        node = principal.node
        for dim, cell in node.cells.copy().items():
            if cell.limit is not None and _is_outermost(node, dim):
                yield tallies.name_of(node), dim, cell


def _is_outermost(node: Node, dim: str) -> bool:
    """Whether no quota above it counts the same units: all principals share one series."""
    above = [other.cells.get(dim) for other in node.chain[1:]]
    return all(cell is None or cell.limit is None for cell in above)


def _balance(cell: Cell, now_ns: int) -> tuple[int, int]:
    """What a snapshot would show as used and reserved; of a rate, as far as it is not refilled.

    A rate refills when somebody draws on it; here a copy does, and that may be a moment old. Of
    what is leased, other processes' usage counts too, as the ledger last told; a rate shows ours.
    """
    refill, limit = cell.refill, cell.limit
    if cell.lease is not None and refill is None:
        spent, reserved, _granted, _free = shared(cell)
        return 0 if cell.dim == "memory" else spent, reserved
    reserved = max(0, cell.reserved)
    if refill is None or limit is None:
        return 0 if cell.level else cell.spent, reserved
    if cell.lease is not None:
        limit = cell.lease.cap
    out = max(0, limit - cell.free - copy(refill).due(now_ns))
    reserved = min(reserved, out)
    return out - reserved, reserved


def waited(tallies: Tallies, node: Node, dim: str) -> dict[str, str]:
    """The attributes of a wait: who was waited for."""
    return dict(_limited(tallies.name_of(node), tallies.dim(node, dim)))


def plain(sums: Sums) -> list[tuple[dict[str, str], int]]:
    """As instruments want them."""
    return [(dict(series), bounded(n)) for series, n in sums.items()]


def _used(name: str, dim: str, operation: str) -> Series:
    return *_limited(name, dim), (names.OPERATION, operation)


def _limited(name: str, dim: str) -> Series:
    return (names.DIM, names.unit_dim(dim)), *_named(name)


def _decided(decision: str, name: str, dim: str, operation: str) -> Series:
    short = ((names.DIM, names.unit_dim(dim)),) if dim else ()
    return (names.DECISION, decision), *_named(name), *short, (names.OPERATION, operation)


def _named(name: str) -> Series:
    """Calls outside any task have no name to count under."""
    return ((names.BUDGET_NAME, name),) if name else ()

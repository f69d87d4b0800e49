"""From a service's own numbers to series: sums by bounded attributes. Not here: instruments.

Read on the exporter's thread, without the lock of budgets: every dict is copied before it is
walked, and a sum may be a call ahead of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import names
from .values import bounded

if TYPE_CHECKING:
    from ..kernel.nodes import Node
    from ..tallies import Tallies

Series = tuple[tuple[str, str], ...]
"""The attributes of one series; one that is not known is left out."""
Sums = Counter[Series]


def usage(tallies: Tallies) -> Sums:
    """What was charged, at the leaf; never falls."""
    sums = Sums()
    for tally in tallies.all():
        for dim, units in tally.totals().items():
            sums[_used(dim, tally.name, tally.operation)] += units
    return sums


def corrections(tallies: Tallies) -> Sums:
    """What corrections of assumed charges gave back."""
    sums = Sums()
    for tally in tallies.all():
        for dim, units in tally.corrections.copy().items():
            sums[_used(dim, tally.name, tally.operation)] += units
    return sums


def overdraft(tallies: Tallies) -> Sums:
    """What was charged beyond a limit, at each level that it exceeded."""
    sums = Sums()
    for (name, dim), units in tallies.overdrafts.copy().items():
        sums[_limited(dim, name)] += units
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


def limits(tallies: Tallies, nodes: Iterable[Node]) -> Sums:
    """What open tasks of a name may use together."""
    sums = Sums()
    for node in nodes:
        name = tallies.name(node.name)
        for dim, cell in node.cells.copy().items():
            if cell.limit is not None:
                sums[_limited(dim, name)] += cell.limit
    return sums


def balances(tallies: Tallies, nodes: Iterable[Node]) -> Sums:
    """What open tasks of a name have used, and hold for calls in flight."""
    sums = Sums()
    for node in nodes:
        name = tallies.name(node.name)
        for dim, cell in node.cells.copy().items():
            series = _limited(dim, name)
            sums[*series, (names.QUOTA_STATE, "used")] += cell.spent
            sums[*series, (names.QUOTA_STATE, "reserved")] += max(0, cell.reserved)
    return sums


def plain(sums: Sums) -> list[tuple[dict[str, str], int]]:
    """As instruments want them."""
    return [(dict(series), bounded(n)) for series, n in sums.items()]


def _used(dim: str, name: str, operation: str) -> Series:
    return *_limited(dim, name), (names.OPERATION, operation)


def _limited(dim: str, name: str) -> Series:
    return (names.DIM, names.unit_dim(dim)), *_named(name)


def _decided(decision: str, name: str, dim: str, operation: str) -> Series:
    short = ((names.DIM, names.unit_dim(dim)),) if dim else ()
    return (names.DECISION, decision), *_named(name), *short, (names.OPERATION, operation)


def _named(name: str) -> Series:
    """Calls outside any task have no name to count under."""
    return ((names.BUDGET_NAME, name),) if name else ()

"""Counts for the metrics, shared by all tasks of one name. Not here: exporting them.

A tally is charged once, at the leaf; counting a call costs one addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .accounts import acquire, release
from .kernel.dims import is_declared
from .kernel.nodes import Cell, Item, Node

MAX_NAMES = 200
MAX_TALLIES = 4_096
OTHER = "other"
PRINCIPALS = "principals"
"""The one name under which all principals are counted: metrics know no ids."""
UNITS = "units"
"""The dimension of what counts in units of its own; its name would add a series per resource."""


class Tally:
    """What tasks of one name used through one operation.

    Where every call is of the same fixed `amounts`, `settled` counts the calls charged exactly
    those; everything else is summed in `usage`. `usage` never falls: what corrections gave back
    is in `corrections`. `own` is the resource whose own units are among what is drawn.
    """

    __slots__ = (
        "admitted",
        "amounts",
        "corrections",
        "name",
        "operation",
        "own",
        "settled",
        "usage",
    )

    def __init__(
        self, name: str, operation: str, amounts: tuple[tuple[str, int], ...], own: str = ""
    ) -> None:
        self.name = name
        self.operation = operation
        self.amounts = amounts
        self.own = own
        self.admitted = 0
        self.settled = 0
        self.usage: dict[str, int] = {}
        self.corrections: dict[str, int] = {}

    def count(self, items: Sequence[Item], used: Sequence[int]) -> bool:
        """Count what was booked of each dimension; levels are not usage.

        Returns whether anything used more than it held.
        """
        usage = self.usage
        is_over = False
        for i, (dim, n, (cells, _above, is_special)) in enumerate(items):
            if is_special and _is_level(dim, cells):
                continue
            units = used[i]
            usage[dim] = usage.get(dim, 0) + (n if units < 0 else units)
            is_over = is_over or units > n
        return is_over

    def count_held(self, items: Sequence[Item]) -> None:
        """Count a call that was charged exactly what it held."""
        if self.amounts:
            self.settled += 1
            return
        usage = self.usage
        for dim, n, (cells, _above, is_special) in items:
            if not (is_special and _is_level(dim, cells)):
                usage[dim] = usage.get(dim, 0) + n

    def correct(self, items: Sequence[Item], before: Sequence[int], after: Sequence[int]) -> None:
        """Count a correction of an assumed booking: more is usage, less is a correction."""
        for (dim, _n, payers), old, new in zip(items, before, after, strict=True):
            if not _is_level(dim, payers[0]):
                counts = self.usage if new > old else self.corrections
                counts[dim] = counts.get(dim, 0) + abs(new - old)

    def totals(self) -> dict[str, int]:
        """Units booked so far by dimension."""
        totals = dict(self.usage)
        for dim, n in self.amounts:
            if dim == "memory":
                continue
            totals[dim] = totals.get(dim, 0) + n * self.settled
        return totals


class Tallies:
    """All tallies of a service; how many there are does not depend on how many tasks ran."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str, tuple[tuple[str, int], ...], str], Tally] = {}
        self._names: set[str] = set()
        self.refusals: dict[tuple[str, str, str, str], int] = {}
        self.overdrafts: dict[tuple[str, str], int] = {}

    def name(self, name: str) -> str:
        """The name to count under: beyond 200 distinct ones, `other`; none stays none."""
        if name and name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return OTHER
            self._names.add(name)
        return name

    def name_of(self, node: Node) -> str:
        """The name to count a payer under."""
        return self.name(self.shown(node))

    @staticmethod
    def shown(node: Node) -> str:
        """The name of a payer where ids are banned."""
        return PRINCIPALS if node.kind == "principal" else node.name

    @staticmethod
    def dim(node: Node | None, dim: str) -> str:
        """The dimension to count under; there are no more of them than were declared."""
        if dim and node is not None and node.kind in ("resource", "token"):
            return _definition(node).dim or UNITS
        return dim if not dim or is_declared(dim) else UNITS

    def tally(
        self,
        name: str,
        operation: str,
        amounts: tuple[tuple[str, int], ...] = (),
        *,
        own: str = "",
    ) -> Tally:
        """The tally of a leaf and an operation, for calls of fixed amounts or of any.

        `own`: they draw on the resource of that name, which counts in units of its own.
        """
        if len(self._by_key) >= MAX_TALLIES:
            amounts, own = (), ""
        key = (self.name(name), operation, amounts, own)
        tally = self._by_key.get(key)
        if tally is None:
            tally = self._by_key[key] = Tally(*key)
        return tally

    def leaf(self, tally: Tally, dim: str) -> tuple[str, str]:
        """The name and dimension under which usage of a tally is shown.

        A resource that counts in units of its own is the only one that paid for those.
        """
        if dim == tally.own or not is_declared(dim):
            return self.name(dim), UNITS
        return tally.name, dim

    def refused(self, decision: str, node: Node | None, dim: str, operation: str) -> None:
        """Count a refusal by the payer that decided, or a wait for it. Takes the lock itself."""
        name = "" if node is None else self.name_of(node)
        key = (decision, name, self.dim(node, dim), operation)
        try:
            acquire()
            self.refusals[key] = self.refusals.get(key, 0) + 1
        finally:
            release()

    def overdrawn(self, before: dict[Cell, int]) -> None:
        """Count by how much the debts of these cells have grown.

        An allowance is a part of its resource, which has the same name and is counted itself.
        """
        for cell, debt in before.items():
            more = debt_of(cell) - debt
            if more > 0 and cell.node.kind != "token":
                key = (self.name_of(cell.node), self.dim(cell.node, cell.dim))
                self.overdrafts[key] = self.overdrafts.get(key, 0) + more

    def all(self) -> Iterable[Tally]:
        """A copy that may be walked while calls run."""
        return self._by_key.copy().values()


def _definition(node: Node) -> Any:
    """What is defined of the resource that a node is, or draws on."""
    return getattr(node.owner, "pool", node.owner).definition


def _is_level(dim: str, cells: Sequence[Cell]) -> bool:
    """Whether all of it comes back: memory, or the slots of a resource without a dimension."""
    if dim == "memory" or not cells:
        return dim == "memory"
    node = cells[0].node
    is_own = node.kind in ("resource", "token") and _definition(node).dim is None
    return is_own and all(cell.level for cell in cells)


def debts(items: Iterable[Item]) -> dict[Cell, int]:
    """How far beyond its limit each payer is."""
    payers = [
        cell for _dim, _n, (cells, above, _special) in items for cell in (*cells, *_above(above))
    ]
    return {cell: debt_of(cell) for cell in payers if cell.limit is not None}


def _above(above: Iterable[tuple[Cell, Cell]]) -> Iterable[Cell]:
    return (cell for cell, _via in above)


def debt_of(cell: Cell) -> int:
    """How far beyond its limit a payer is."""
    return max(0, -(cell.free + cell.returned))

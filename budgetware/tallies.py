"""Counts for the metrics, shared by all tasks of one name. Not here: exporting them.

A tally is charged once, at the leaf; counting a call costs one addition.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .kernel.nodes import Cell, Item

MAX_NAMES = 200
MAX_TALLIES = 4_096
OTHER = "other"


class Tally:
    """What tasks of one name used through one operation.

    Where every call is of the same fixed `amounts`, `settled` counts the calls charged exactly
    those; everything else is summed in `usage`. `usage` never falls: what corrections gave back
    is in `corrections`.
    """

    __slots__ = ("admitted", "amounts", "corrections", "name", "operation", "settled", "usage")

    def __init__(self, name: str, operation: str, amounts: tuple[tuple[str, int], ...]) -> None:
        self.name = name
        self.operation = operation
        self.amounts = amounts
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
        for i, (dim, n, _payers) in enumerate(items):
            if dim != "memory":
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
        for dim, n, _payers in items:
            if dim != "memory":
                usage[dim] = usage.get(dim, 0) + n

    def correct(self, items: Sequence[Item], before: Sequence[int], after: Sequence[int]) -> None:
        """Count a correction of an assumed booking: more is usage, less is a correction."""
        for (dim, _n, _payers), old, new in zip(items, before, after, strict=True):
            if dim != "memory":
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
        self._by_key: dict[tuple[str, str, tuple[tuple[str, int], ...]], Tally] = {}
        self._names: set[str] = set()
        self.refusals: dict[tuple[str, str, str, str], int] = {}
        self.overdrafts: dict[tuple[str, str], int] = {}

    def name(self, name: str) -> str:
        """The name to count under: beyond 200 distinct ones, `other`."""
        if name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return OTHER
            self._names.add(name)
        return name

    def tally(self, name: str, operation: str, amounts: tuple[tuple[str, int], ...] = ()) -> Tally:
        """The tally of a leaf and an operation, for calls of fixed amounts or of any."""
        if len(self._by_key) >= MAX_TALLIES:
            amounts = ()
        key = (self.name(name), operation, amounts)
        tally = self._by_key.get(key)
        if tally is None:
            tally = self._by_key[key] = Tally(*key)
        return tally

    def refused(self, decision: str, name: str, dim: str, operation: str) -> None:
        """Count a refusal by the budget that decided."""
        key = (decision, self.name(name), dim, operation)
        self.refusals[key] = self.refusals.get(key, 0) + 1

    def overdrawn(self, before: dict[Cell, int]) -> None:
        """Count by how much the debts of these cells have grown."""
        for cell, debt in before.items():
            more = debt_of(cell) - debt
            if more > 0:
                key = (self.name(cell.node.name), cell.dim)
                self.overdrafts[key] = self.overdrafts.get(key, 0) + more

    def all(self) -> Iterable[Tally]:
        """A copy that may be walked while calls run."""
        return self._by_key.copy().values()


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

"""Room that moves between a parent and its child, and limits that are raised.

Not here: holds and settlements, which are `tree`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from .nodes import Cell, Item, Node, refloor


def open_carve(node: Node, items: Iterable[Item]) -> None:
    """Take a child's limits out of its parents' room; `items` are the parents'."""
    for dim, n, (cells, _above, _special) in items:
        for cell in cells:
            cell.free -= n
            cell.granted += n
            refloor(cell)
        node.lent[dim] = cells


def lending(cell: Cell, more: int) -> int:
    """What raising a carved cell takes out of its lenders' room: they bear its debt already."""
    return max(0, cell.free + more) - max(0, cell.free)


def raise_limit(cell: Cell, more: int, warn: int | None) -> None:
    """Allow `more` units; pays off debt first. A carved cell takes them from its lenders."""
    if cell.limit is None:
        raise ValueError("a cell without a limit cannot be raised")
    taken = lending(cell, more)
    for lender in cell.node.lent.get(cell.dim, ()):
        lender.free -= taken
        lender.granted += taken
        refloor(lender)
    cell.limit += more
    cell.base += more
    cell.free += more
    cell.warn = warn
    cell.warned = warn is not None and cell.in_use > warn
    refloor(cell)

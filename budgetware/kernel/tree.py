"""The tree of budgets: cells, nodes, and the few moves that change them.

A cell is one dimension of one node. It stores what is free and what is spent; what is reserved
follows: base = spent + reserved + granted + free, with `base` the limit. So a hold is one
subtraction per payer and a settlement at what was held one addition. Every function here runs
under the lock of its caller and leaves all payers changed, or none.

Not here: who waits, who is told, what a refusal means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

OPEN = 1 << 29
"""What stands in for a limit where there is none; raised when it runs low, and small, because
Python subtracts small ints faster."""
AS_HELD = -1
"""In what was used: this dimension as it was held."""
GUARDED = 1 << 100
"""A floor no grant can reach: every hold on the cell takes the path that looks closely."""


class Cell:
    """One dimension of one node, in units."""

    __slots__ = (
        "assumed",
        "base",
        "dim",
        "floor",
        "free",
        "granted",
        "keep",
        "level",
        "limit",
        "node",
        "peak",
        "returned",
        "spent",
        "warn",
        "warned",
    )

    def __init__(self, node: Node, dim: str, limit: int | None, warn: int | None, keep: int):
        self.node = node
        self.dim = dim
        self.limit = limit
        self.base = self.free = OPEN if limit is None else limit
        self.warn = warn
        self.keep = keep
        self.spent = self.granted = self.assumed = self.peak = self.returned = 0
        self.warned = False
        self.level = dim == "memory"
        self.floor = keep
        if self.level or warn is not None or node.guarded:
            refloor(self)

    @property
    def reserved(self) -> int:
        return self.base - self.spent - self.granted - self.free - self.returned

    @property
    def in_use(self) -> int:
        """Spent and reserved together: what a warn threshold is judged on."""
        return self.base - self.granted - self.free - self.returned


class Node:
    """A payer: a task here, later a principal, an allowance or a resource.

    `latch` is what ended it early, set once. `lent` maps each carved dimension to the cells of
    the ancestors that granted it.
    """

    deadline_ns: int | None = None
    ended = False
    finishes = 0
    latch: Any = None
    owner: Any = None
    refusals = 0
    unpriced = "error"
    warn_ns: int | None = None

    def __init__(self, name: str, id: str, policy: Any, parent: Node | None = None) -> None:
        self.name = name
        self.id = id
        self.policy = policy
        self.chain: tuple[Node, ...] = (self,) if parent is None else (self, *parent.chain)
        self.cells: dict[str, Cell] = {}
        self.lent: dict[str, tuple[Cell, ...]] = {}

    def cell(self, dim: str) -> Cell:
        """The cell of a dimension; one without a limit is made when it is first asked for."""
        cell = self.cells.get(dim)
        if cell is None:
            cell = self.cells[dim] = Cell(self, dim, None, None, 0)
        return cell

    @property
    def path(self) -> str:
        """The names from the root to here."""
        return "/".join([node.name for node in reversed(self.chain)])

    @property
    def guarded(self) -> bool:
        return self.ended or self.latch is not None or self.refusals > 0

    def guard(self) -> None:
        """Send every hold down the close path while this node is latched, ended or refusing."""
        for cell in self.cells.values():
            refloor(cell)


Payers = tuple[tuple[Cell, ...], tuple[tuple[Cell, Cell], ...]]
"""Those with room, the leaf first, then (payer above a carve, the carved cell below it) …"""
Item = tuple[str, int, Payers]
"""(dimension, units, who pays)."""


@dataclass(slots=True)
class Shortage:
    """A payer that has not enough; units."""

    cell: Cell
    requested: int
    available: int


def payers(chain: Sequence[Node], dim: str) -> Payers:
    """Who pays for `dim` on a path, the leaf first: those with room, and those above a carve.

    Above a carve the room was taken when it was made; there a hold moves units out of
    `granted` only.
    """
    cells: list[Cell] = []
    above: list[tuple[Cell, Cell]] = []
    via: Cell | None = None
    for node in chain:
        cell = node.cell(dim)
        if via is None:
            cells.append(cell)
        else:
            above.append((cell, via))
        if dim in node.lent:
            via = cell
    return tuple(cells), tuple(above)


def refloor(cell: Cell) -> None:
    """Set the level of `free` below which a hold must be looked at closely."""
    if cell.level or cell.node.guarded:
        cell.floor = GUARDED
    elif cell.warn is None or cell.warned:
        cell.floor = cell.keep
    else:
        cell.floor = max(cell.keep, cell.base - cell.granted - cell.returned - cell.warn)


def try_hold(items: Iterable[Item]) -> bool:
    """Hold all items on all payers if nothing stands in the way; else change nothing."""
    for _, n, (cells, above) in items:
        for cell in cells:
            cell.free = free = cell.free - n
            if free < cell.floor:
                _undo(items, cell)
                return False
        for cell, _via in above:
            cell.granted -= n
            if cell.floor >= GUARDED or cell.warn is not None:
                _undo(items, cell)
                return False
    return True


def _undo(items: Iterable[Item], last: Cell) -> None:
    for _, n, (cells, above) in items:
        for cell in cells:
            cell.free += n
            if cell is last:
                return
        for cell, _via in above:
            cell.granted += n
            if cell is last:
                return


def shortages(items: Iterable[Item], finishing: frozenset[Node]) -> list[Shortage]:
    """Every payer that has not enough, the leaf's first. Inside `finish()` keep counts as room."""
    short: list[Shortage] = []
    for _, n, (cells, _above) in items:
        for cell in cells:
            if cell.limit is None:
                if cell.free < n:
                    more = n - cell.free + OPEN
                    cell.base += more
                    cell.free += more
                continue
            room = cell.free if cell.node in finishing else cell.free - cell.keep
            if n > room and n > 0:
                short.append(Shortage(cell, n, max(0, room)))
    return short


def hold(items: Iterable[Item]) -> list[Cell]:
    """Hold all items, room or not; return the cells whose warn threshold this crossed."""
    crossed: list[Cell] = []
    for _, n, (cells, above) in items:
        for cell in cells:
            cell.free -= n
            _touched(cell, crossed)
        for cell, _via in above:
            cell.granted -= n
            _touched(cell, crossed)
    return crossed


def _touched(cell: Cell, crossed: list[Cell]) -> None:
    in_use = cell.in_use
    if cell.level:
        cell.peak = max(cell.peak, in_use)
    if cell.warn is not None:
        now = in_use > cell.warn
        if now and not cell.warned:
            crossed.append(cell)
        cell.warned = now
        refloor(cell)


def settle_held(items: Iterable[Item]) -> None:
    """Book exactly what was held."""
    for item in items:
        dim, n, (cells, above) = item
        if dim == "memory":
            _book(item, n, n, 0, [])
            continue
        for cell in cells:
            cell.spent += n
        for cell, _via in above:
            cell.spent += n


def settle(items: Sequence[Item], used: Sequence[int], *, assumed: bool = False) -> list[Cell]:
    """Book `used` (aligned with `items`) and return the rest, or take what is more as debt.

    Returns the cells whose warn threshold was crossed by using more than was held.
    """
    crossed: list[Cell] = []
    for item, reported in zip(items, used):  # noqa: B905 - `strict` costs more than the loop
        dim, held, (cells, above) = item
        booked = held if reported < 0 else reported
        if above or assumed or dim == "memory":
            _book(item, held, booked, booked if assumed else 0, crossed)
            continue
        rest = held - booked
        if not rest:
            for cell in cells:
                cell.spent += booked
            continue
        for cell in cells:
            cell.spent += booked
            cell.free += rest
            if cell.warn is not None:
                _touched(cell, crossed)
    return crossed


def correct(items: Sequence[Item], before: Sequence[int], after: Sequence[int]) -> None:
    """Replace an assumed settlement by the true one, on every payer."""
    for item, old, new in zip(items, before, after, strict=True):
        if item[0] != "memory":
            _book(item, 0, new - old, -old, [])


def _book(item: Item, held: int, booked: int, assumed: int, crossed: list[Cell]) -> None:
    dim, _n, (cells, above) = item
    if dim == "memory":
        _raise_peak(item, booked - held)
        booked = assumed = 0
    rest = held - booked
    debt = 0
    for cell in cells:
        debt = max(0, -cell.free)
        cell.spent += booked
        cell.assumed += assumed
        cell.free += rest
        if rest:
            _touched(cell, crossed)
    if above:
        _book_above(item, rest, booked, assumed, debt, crossed)


def _book_above(
    item: Item, rest: int, booked: int, assumed: int, debt: int, crossed: list[Cell]
) -> None:
    """Above a carve the rest goes back to what was granted; debt below it is taken from room."""
    cells, above = item[2]
    debts = {id(cells[-1]): max(0, -cells[-1].free) - debt}
    for cell, via in above:
        debt = max(0, -cell.free)
        deeper = debts.get(id(via), 0)
        cell.spent += booked
        cell.assumed += assumed
        cell.granted += rest + deeper
        cell.free -= deeper
        if rest:
            _touched(cell, crossed)
        debts[id(cell)] = max(0, -cell.free) - debt
    for via in dict.fromkeys(via for _, via in above):
        if via.node.ended:
            give_back(via)


def _raise_peak(item: Item, more: int) -> None:
    cells, above = item[2]
    for cell in (*cells, *(cell for cell, _via in above)):
        cell.peak = max(cell.peak, cell.in_use + more)


def give_back(cell: Cell) -> None:
    """Return what a carved cell of an ended task still has free to those that granted it."""
    lenders = cell.node.lent.get(cell.dim, ())
    rest = cell.free
    if rest <= 0 or not lenders:
        return
    cell.free = 0
    cell.returned += rest
    _free_up(lenders, rest)
    if lenders[-1].node.ended:
        give_back(lenders[-1])


def _free_up(lenders: Sequence[Cell], units: int) -> None:
    """Turn what was granted into room; a carve that owes less by that takes less from its own."""
    top = lenders[-1]
    debt = max(0, -top.free)
    for lender in lenders:
        lender.granted -= units
        lender.free += units
        refloor(lender)
    paid = debt - max(0, -top.free)
    above = top.node.lent.get(top.dim, ())
    if paid and above:
        _free_up(above, paid)

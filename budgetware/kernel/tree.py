"""The few moves that change the tree of budgets: hold, settle, correct, give back.

A hold is one subtraction per payer and a settlement at what was held one addition. Every function
here runs under the lock of its caller and leaves all payers changed, or none.

Not here: who waits, who is told, what a refusal means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .balances import shared
from .nodes import GUARDED, OPEN, Cell, Item, Node, refloor
from .quota import pass_on

AS_HELD = -1
"""In what was used: this dimension as it was held."""


@dataclass(slots=True)
class Shortage:
    """A payer that has not enough; units. `is_pause`: it may have, but grants nothing for now."""

    cell: Cell
    requested: int
    available: int
    is_pause: bool = False


def try_hold(items: Iterable[Item]) -> bool:
    """Hold all items on all payers if nothing stands in the way; else change nothing."""
    for _, n, (cells, above, _special) in items:
        for cell in cells:
            cell.free = free = cell.free - n
            if free < cell.floor:
                _undo(items, cells, cell)
                return False
        for cell, _via in above:
            cell.granted -= n
            if cell.floor >= GUARDED or cell.warn is not None:
                _undo(items, cells, cell)
                return False
    return True


def _undo(items: Iterable[Item], last: tuple[Cell, ...], last_cell: Cell) -> None:
    """Up to that cell of that item: a resource may pay for several items, as their parent."""
    for _, n, (cells, above, _special) in items:  # pragma: no branch - it is among them
        is_last = cells is last
        for cell in cells:
            cell.free += n
            if is_last and cell is last_cell:
                return
        for cell, _via in above:
            cell.granted += n
            if is_last and cell is last_cell:
                return


def room_of(cell: Cell, finishing: frozenset[Node]) -> int:
    """What a call could have now; less than 0 while there is debt."""
    return cell.free if cell.node in finishing else cell.free - cell.keep


def left_of(cell: Cell, finishing: frozenset[Node]) -> int:
    """What to tell whoever asks for more; of what others draw on too, as far as that is known."""
    if cell.lease is None or cell.refill is not None:
        return max(0, room_of(cell, finishing))
    _spent, _reserved, _granted, free = shared(cell)
    return max(0, free)


def shortages(
    items: Sequence[Item], finishing: frozenset[Node], *, exempt: bool = False
) -> list[Shortage]:
    """Every payer that has not enough, the leaf's first. Inside `finish()` keep counts as room."""
    short: list[Shortage] = []
    asked: dict[Cell, int] = {}  # a resource may pay for several items, as their parent
    several = len(items) > 1
    for _, units, (cells, _above, _special) in items:
        for cell in cells:
            n = units
            if several:
                n = asked[cell] = asked.get(cell, 0) + units
            if cell.limit is None:
                if cell.free < n:
                    more = n - cell.free + OPEN
                    cell.base += more
                    cell.free += more
                continue
            room = room_of(cell, finishing)
            if n > room and units > 0 and not (exempt and cell.spares_exempt):
                short.append(Shortage(cell, n, left_of(cell, finishing)))
    return short


def hold(items: Iterable[Item]) -> list[Cell]:
    """Hold all items, room or not; return the cells whose warn threshold this crossed."""
    crossed: list[Cell] = []
    for _, n, (cells, above, _special) in items:
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
        _dim, n, (cells, _above, is_special) = item
        if is_special:
            _book(item, n, n, 0, [])
            continue
        for cell in cells:
            cell.spent += n


def settle(items: Sequence[Item], used: Sequence[int], *, assumed: bool = False) -> list[Cell]:
    """Book `used` (aligned with `items`) and return the rest, or take what is more as debt.

    Returns the cells whose warn threshold was crossed by using more than was held.
    """
    crossed: list[Cell] = []
    for item, reported in zip(items, used):  # noqa: B905 - `strict` costs more than the loop
        _dim, held, (cells, _above, is_special) = item
        booked = held if reported < 0 else reported
        if is_special or assumed:
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


def spend_keep(items: Sequence[Item], used: Sequence[int], finishing: frozenset[Node]) -> None:
    """What was used inside `finish()` was kept for that; so much less is kept from now on."""
    for (_dim, _n, (cells, _above, _special)), units in zip(items, used, strict=True):
        for cell in cells:
            if cell.keep and cell.node in finishing:
                cell.keep = max(0, cell.keep - units)
                refloor(cell)


def correct(items: Sequence[Item], before: Sequence[int], after: Sequence[int]) -> None:
    """Replace an assumed settlement by the true one, on every payer; levels came back before."""
    for item, old, new in zip(items, before, after, strict=True):
        if item[0] != "memory":
            _book(item, 0, new - old, -old, [])
            for cell in item[2][0]:
                if cell.heir is not None:
                    pass_on(cell)


def _book(item: Item, held: int, booked: int, assumed: int, crossed: list[Cell]) -> None:
    _dim, _n, (cells, above, _special) = item
    rest = held - booked
    carved = above[0][1] if above else None
    deeper = 0
    for cell in cells:
        debt = max(0, -cell.free)
        if cell.level:
            _end_level(cell, held, booked, crossed)
        else:
            cell.spent += booked
            cell.assumed += assumed
            cell.free += rest
            if rest:
                _touched(cell, crossed)
        if cell.lease is not None:
            cell.lease.touch()
        if cell is carved:
            deeper = max(0, -cell.free) - debt
    if carved is not None:
        _book_above(item, held, booked, assumed, {id(carved): deeper}, crossed)


def _end_level(cell: Cell, held: int, booked: int, crossed: list[Cell]) -> None:
    """A level comes back whole, whatever was used of it; its peak stays."""
    if held or booked > 0:
        cell.peak = max(cell.peak, cell.in_use + booked - held)
    cell.free += held
    if held:
        _touched(cell, crossed)


def _book_above(
    item: Item, held: int, booked: int, assumed: int, debts: dict[int, int], crossed: list[Cell]
) -> None:
    """Above a carve the rest goes back to what was granted; debt below it is taken from room."""
    above = item[2][1]
    for cell, via in above:
        debt = max(0, -cell.free)
        deeper = debts.get(id(via), 0)
        if cell.level:
            cell.peak = max(cell.peak, cell.in_use + booked - held)
            rest = held
        else:
            cell.spent += booked
            cell.assumed += assumed
            rest = held - booked
        cell.granted += rest + deeper
        cell.free -= deeper
        if rest:
            _touched(cell, crossed)
        debts[id(cell)] = max(0, -cell.free) - debt
    for via in dict.fromkeys(via for _, via in above):
        if via.node.ended:
            give_back(via)


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

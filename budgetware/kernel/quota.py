"""Shared limits on cells: put there, changed live, passed on. Not here: holds and settlements."""

from __future__ import annotations

from .nodes import Cell, QuotaCell, refloor, refresh
from .refill import Refill


def put_rate(cell: QuotaCell, value: int, period_ns: int, most: int, now_ns: int) -> None:
    """Limit a cell to `value` per period; the bucket is full at the start, or keeps its level."""
    if cell.refill is None:
        _limit(cell, most, used=0)
        cell.refill = Refill(value, period_ns, most, now_ns)
    else:
        refresh(cell, now_ns)
        _change(cell, most)
        cell.refill.change(value, period_ns, most, now_ns)
    cell.spares_exempt = True
    refloor(cell)


def put_capacity(cell: QuotaCell, value: int) -> None:
    """Limit a cell to `value` in all; what was used counts."""
    if cell.limit is None:
        used = cell.reserved if cell.level else cell.spent + cell.reserved
        _limit(cell, value, used=used)
    else:
        _change(cell, value)
    cell.spares_exempt = True
    refloor(cell)


def put_slots(cell: QuotaCell, value: int) -> None:
    """Limit a cell to `value` at once."""
    if cell.limit is None:
        cell.level = True
        _limit(cell, value, used=cell.reserved)
    else:
        _change(cell, value)
    refloor(cell)


def lift(cell: QuotaCell) -> None:
    """Take the limit away; counting goes on."""
    cell.limit = None
    cell.refill = None
    cell.level = cell.dim == "memory"
    cell.spares_exempt = False
    cell.is_watched = True
    refloor(cell)


def pause(cell: QuotaCell, until_ns: int) -> None:
    """Grant nothing before then; 0: at once again. Of a resource, which nobody else watches."""
    cell.paused_ns = until_ns
    cell.is_watched = until_ns > 0
    refloor(cell)


def end_pause(cell: Cell, now_ns: int) -> None:
    """Lift a pause whose time is over."""
    if isinstance(cell, QuotaCell) and now_ns >= cell.paused_ns:
        pause(cell, 0)


def _limit(cell: QuotaCell, units: int, *, used: int) -> None:
    reserved = cell.reserved
    cell.limit = units
    cell.free = units - used
    cell.base = cell.spent + cell.granted + reserved + cell.free + cell.returned


def _change(cell: QuotaCell, units: int) -> None:
    more = units - (cell.limit or 0)
    cell.limit = units
    cell.free += more
    cell.base += more


def take_allowance(giver: QuotaCell, units: int) -> None:
    """Take room out of an allowance; it is given on, not copied."""
    _change(giver, (giver.limit or 0) - units)
    refloor(giver)


def inherit(cell: QuotaCell) -> bool:
    """Pass on to the heir all but what is reserved; say whether nothing is left here."""
    heir = cell.heir
    if heir is None:
        return cell.reserved == 0
    reserved, spent = cell.reserved, cell.spent
    passed = spent
    if cell.limit is None:
        cell.base -= spent
    else:
        rest = cell.limit - reserved
        cell.limit = cell.base = reserved
        cell.free = 0
        if heir.limit is not None:
            passed = rest
            heir.limit += rest
            heir.free += rest - spent
    heir.base += passed
    heir.spent += spent
    heir.assumed += cell.assumed
    cell.spent = cell.assumed = 0
    if isinstance(heir, QuotaCell):
        refloor(heir)
    return reserved == 0


def pass_on(cell: Cell) -> None:
    """Let what was corrected after the end of a quota token reach whoever has inherited it."""
    while isinstance(cell, QuotaCell) and cell.heir is not None and cell.node.ended:
        inherit(cell)
        cell = cell.heir

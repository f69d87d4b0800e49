"""What is shown of cells and nodes: balances, snapshots, verdicts. Not here: changing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from .dims import BUILT_IN, from_units, known_dim
from .nodes import Cell, Item, Node
from .verdict import Verdict

Amount = int | Decimal


@dataclass(frozen=True, slots=True)
class Balance:
    """One dimension of a snapshot: limit = spent + reserved + granted + remaining - overrun.

    `granted` is what is set aside: carved by children, or kept for `finish()`. `remaining` is
    None where there is no limit. `usd` is in dollars.
    """

    limit: Amount | None
    warn: Amount | None
    spent: Amount
    reserved: Amount
    granted: Amount
    remaining: Amount | None
    overrun: Amount
    assumed: Amount

    def to_dict(self) -> dict[str, int | str | None]:
        """The JSON form: money as a string of dollars."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {k: str(v) if isinstance(v, Decimal) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The balances of one budget at one instant; `snapshot["tokens"]` is a `Balance`."""

    name: str
    id: str
    path: str
    verdict: Verdict
    dims: Mapping[str, Balance]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", MappingProxyType(dict(self.dims)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self.name, self.id, self.path, self.verdict, dict(self.dims))

    def __getitem__(self, dim: str) -> Balance:
        balance = self.dims.get(dim)
        return _nothing(known_dim(dim)) if balance is None else balance

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as the command line and HTTP show it."""
        dims = {dim: balance.to_dict() for dim, balance in self.dims.items()}
        verdict = {"name": self.verdict.name, "dim": self.verdict.dim}
        return {
            "name": self.name,
            "id": self.id,
            "path": self.path,
            "verdict": verdict,
            "dims": dims,
        }


def balance(cell: Cell, *, finishing: bool = False) -> Balance:
    """What a snapshot shows of a cell."""

    def show(units: int) -> Amount:
        return from_units(cell.dim, units)

    limited = cell.limit is not None
    if cell.lease is None:
        free, granted = cell.free + cell.returned, cell.granted
        spent, reserved = _used(cell)
    else:
        spent, reserved, granted, free = shared(cell)
    kept = 0 if finishing else min(cell.keep, max(0, free))
    return Balance(
        limit=None if cell.limit is None else show(cell.limit),
        warn=None if cell.warn is None else show(cell.warn),
        spent=show(spent),
        reserved=show(reserved),
        granted=show(granted + kept),
        remaining=show(max(0, free - kept)) if limited else None,
        overrun=show(max(0, -free)) if limited else from_units(cell.dim, 0),
        assumed=show(min(cell.assumed, spent)),
    )


def shared(cell: Cell) -> tuple[int, int, int, int]:
    """(spent, reserved, granted, free) of a payer that other processes draw on, too.

    As of the last answer of its ledger, with what happened here since.
    """
    reserved = max(0, cell.reserved)
    limit = cell.limit or 0
    if cell.refill is not None:
        elsewhere, free = _rate_elsewhere(cell.lease, cell.free, limit - reserved)
        return limit - elsewhere - free - reserved, reserved, elsewhere, free
    spent = cell.elsewhere if cell.level else cell.spent + cell.elsewhere - cell.lease.before
    granted = cell.granted + cell.lease.out_elsewhere()
    if cell.dim == "memory":
        return cell.peak, reserved, granted, limit - reserved - granted
    return spent, reserved, granted, limit - spent - reserved - granted


def _rate_elsewhere(lease: Any, free: int, most: int) -> tuple[int, int]:
    """What of a rate others have, and what is there to be had here, which is `most` at the most."""
    if lease.spare is not None:
        free = min(free + lease.spare, most)
        return min(max(0, lease.lent_out - lease.cap), most - free), free
    if lease.known is None:
        return 0, most  # nobody knows better yet
    return max(0, lease.terms.most - lease.cap), free


def _used(cell: Cell) -> tuple[int, int]:
    """What is spent and what is reserved; of a rate, as far as it was not refilled since."""
    if cell.dim == "memory":
        return cell.peak, cell.reserved
    if cell.level:
        return 0, cell.reserved
    if cell.refill is None or cell.limit is None:
        return cell.spent, cell.reserved
    out = max(0, cell.limit - cell.free)
    reserved = min(cell.reserved, out)
    return out - reserved, reserved


def _nothing(dim: str) -> Balance:
    zero = from_units(dim, 0)
    return Balance(None, None, zero, zero, zero, None, zero, zero)


def verdict(node: Node) -> Verdict:
    """The worst state of any dimension, in the order of the dimensions, later the user's own."""
    worst = Verdict("continue", None)
    for dim in sorted(node.cells, key=_order):
        cell = node.cells[dim]
        if cell.limit is not None:
            worst = worst.worst(_judge(cell))
    return worst


def worst_of(items: Iterable[Item]) -> Verdict:
    """The worst state of any payer of these amounts."""
    worst = Verdict("continue", None)
    for _dim, _n, (cells, above, _special) in items:
        for cell in (*cells, *(cell for cell, _via in above)):
            if cell.limit is not None:
                worst = worst.worst(_judge(cell))
    return worst


def _order(dim: str) -> int:
    return BUILT_IN.index(dim) if dim in BUILT_IN else len(BUILT_IN)


def _judge(cell: Cell) -> Verdict:
    if cell.free + cell.returned < 0:
        return Verdict("exhausted", cell.dim)
    if cell.warn is not None and cell.in_use > cell.warn:
        return Verdict("warn", cell.dim)
    return Verdict("continue", cell.dim)

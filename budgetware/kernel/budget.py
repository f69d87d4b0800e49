"""Limits, what was spent of them, and a verdict on every charge.

Deterministic bookkeeping that can be used alone. Not here: reservations, tasks, time; nor a lock:
a budget shared by threads needs the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar, cast, overload

from ..errors import ConfigurationError, InvalidAmount
from .dims import BUILT_IN, MAX_AMOUNT, declare, from_units, known_dim, show, to_units
from .verdict import CONTINUE, Verdict

MAX_SPENT: Final = 2**64 - 1
_RANK: Final = {dim: rank for rank, dim in enumerate(BUILT_IN)}

Price: TypeAlias = int | str | Decimal | float
AnyDim = TypeVar("AnyDim", bound=str)


@dataclass(frozen=True, slots=True)
class Limit:
    """Set the most a budget allows in one dimension, and where it starts to warn.

    Both are ints; for `usd`, dollars as int, str, `Decimal` or float. What depends on the
    dimension is judged by `units`, which every budget asks.

    Raises:
        InvalidAmount: not a number of these types, or a negative int.
    """

    limit: Price
    warn: Price | None = None

    def __post_init__(self) -> None:
        _check_number("limit", self.limit)
        if self.warn is not None:
            _check_number("warn", self.warn)

    def units(self, dim: str, *, maximum: int = MAX_AMOUNT) -> tuple[int, int | None]:
        """Return limit and warn in the units of `dim`; fractions of a micro-dollar are cut off.

        Raises:
            InvalidAmount: no amount of this dimension, a zero limit, or warn not below limit.
        """
        limit = to_units(dim, self.limit, round_up=False, maximum=maximum)
        if limit == 0:
            raise InvalidAmount(f"{dim}: a limit of 0 allows nothing; give one above 0")
        if self.warn is None:
            return limit, None
        warn = to_units(dim, self.warn, round_up=False, maximum=maximum)
        if warn >= limit:
            raise InvalidAmount(f"{dim}: warn {self.warn} must be below limit {self.limit}")
        return limit, warn


def _check_number(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal | float):
        raise InvalidAmount(f"{what}={show(value)}: give a number, not {type(value).__name__}")
    if isinstance(value, int) and value < 0:
        raise InvalidAmount(f"{what}={show(value)}: it cannot be negative; give one above 0")


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """Show one dimension of a `Budget` at one moment; `usd` in dollars."""

    limit: int | Decimal
    warn: int | Decimal | None
    spent: int | Decimal
    remaining: int | Decimal


class _Cell:
    """The running total of one dimension, in units, with its two possible complaints."""

    __slots__ = ("dim", "exhausted", "limit", "spent", "warn", "warned")

    def __init__(self, dim: str, limit: int, warn: int | None) -> None:
        self.dim = dim
        self.limit = limit
        self.warn = warn
        self.spent = 0
        self.warned = Verdict("warn", dim)
        self.exhausted = Verdict("exhausted", dim)

    def units(self, amount: object) -> int:
        return to_units(self.dim, amount, maximum=MAX_SPENT)

    def after(self, units: int) -> int:
        return min(self.spent + units, MAX_SPENT)

    def judge(self, spent: int) -> Verdict:
        if spent > self.limit:
            return self.exhausted
        if self.warn is not None and spent > self.warn:
            return self.warned
        return CONTINUE

    def add(self, units: int) -> Verdict:
        self.spent = self.after(units)
        return self.judge(self.spent)

    @property
    def remaining(self) -> int:
        return max(self.limit - self.spent, 0)

    def line(self) -> BudgetLine:
        return BudgetLine(
            limit=from_units(self.dim, self.limit),
            warn=None if self.warn is None else from_units(self.dim, self.warn),
            spent=from_units(self.dim, self.spent),
            remaining=from_units(self.dim, self.remaining),
        )


class Budget:
    """Count what is spent in each limited dimension and judge every charge.

    It never refuses: a charge past the limit is recorded, and the verdict says so. Totals are
    ints in 0..2**64-1 and stop there; `usd` comes in and goes out in dollars.

    Args:
        limits: a mapping, or pairs, of dimension to `Limit` or to the bare limit.

    Raises:
        ConfigurationError: a dimension comes twice, or there is none.
        InvalidAmount: an unknown dimension, a zero limit, warn not below limit, not a number.
            The first dimension in the order of `Dim` is named, a user's own ones last.
    """

    __slots__ = ("_cells",)

    @overload
    def __init__(self, limits: Mapping[AnyDim, Limit | Price]) -> None: ...
    @overload
    def __init__(self, limits: Iterable[tuple[str, Limit | Price]]) -> None: ...
    def __init__(
        self, limits: Mapping[AnyDim, Limit | Price] | Iterable[tuple[str, Limit | Price]]
    ) -> None:
        given = _without_duplicates(limits)
        if not given:
            raise ConfigurationError("a budget needs a limit in at least one dimension")
        ordered = sorted(given, key=lambda dim: _RANK.get(dim, len(_RANK)))
        cells = {dim: _cell(declare(dim), given[dim]) for dim in ordered}
        self._cells = {dim: cells[dim] for dim in given}

    def charge(self, dim: str, n: Price) -> Verdict:
        """Add `n` to what was spent in `dim`, then judge that dimension; 0 only asks.

        Raises:
            InvalidAmount: `dim` has no limit here, or `n` is no amount; nothing has changed.
        """
        cell = self._cell(dim)
        return cell.add(cell.units(n))

    def charge_many(self, amounts: Mapping[AnyDim, Price]) -> Verdict:
        """Charge every dimension or, on an error, none; return the worst verdict.

        Of equally bad ones, the first given wins.

        Raises:
            InvalidAmount: as `charge`; nothing has changed.
        """
        cells = [(self._cell(dim), n) for dim, n in amounts.items()]
        units = [(cell, cell.units(n)) for cell, n in cells]
        verdict = CONTINUE
        for cell, n in units:
            verdict = verdict.worst(cell.add(n))
        return verdict

    def peek(self, dim: str, n: Price) -> Verdict:
        """Return what `charge` would, changing nothing; raises as `charge` does."""
        cell = self._cell(dim)
        return cell.judge(cell.after(cell.units(n)))

    def spent(self, dim: str) -> int | Decimal | None:
        """Return what was charged in `dim`, or None where it has no limit."""
        cell = self._cells.get(dim)
        return None if cell is None else from_units(cell.dim, cell.spent)

    def remaining(self, dim: str) -> int | Decimal | None:
        """Return limit minus spent, at least 0, or None where `dim` has no limit."""
        cell = self._cells.get(dim)
        return None if cell is None else from_units(cell.dim, cell.remaining)

    def limit(self, dim: str) -> int | Decimal | None:
        """Return the limit of `dim`, or None where it has none."""
        cell = self._cells.get(dim)
        return None if cell is None else from_units(cell.dim, cell.limit)

    def reset(self) -> None:
        """Forget what was spent; limits and warn thresholds stay."""
        for cell in self._cells.values():
            cell.spent = 0

    def snapshot(self) -> Mapping[str, BudgetLine]:
        """Return every dimension as it is now, in the order given; read-only."""
        return MappingProxyType({dim: cell.line() for dim, cell in self._cells.items()})

    def _cell(self, dim: str) -> _Cell:
        cell = self._cells.get(dim)
        if cell is None:
            raise InvalidAmount(
                f"dimension {known_dim(dim)!r} has no limit in this budget; "
                f"it has {', '.join(self._cells)}"
            )
        return cell

    def __repr__(self) -> str:
        lines = (f"{dim}={line.spent}/{line.limit}" for dim, line in self.snapshot().items())
        return f"<Budget {' '.join(lines)}>"


def _without_duplicates(limits: object) -> dict[str, Limit | Price]:
    if isinstance(limits, Mapping):
        limits = cast("Mapping[str, Limit | Price]", limits).items()
    if not isinstance(limits, Iterable):
        raise ConfigurationError(f"Budget({show(limits)}): give limits by dimension")
    pairs = cast("Iterable[tuple[str, Limit | Price]]", limits)
    given: dict[str, Limit | Price] = {}
    for name, limit in pairs:
        dim = str(name)
        if dim in given:
            raise ConfigurationError(f"dimension {dim[:64]!r} is limited twice; keep one")
        given[dim] = limit
    return given


def _cell(dim: str, limit: Limit | Price) -> _Cell:
    asked = limit if isinstance(limit, Limit) else Limit(limit)
    return _Cell(dim, *asked.units(dim, maximum=MAX_SPENT))

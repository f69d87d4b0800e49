"""From what a call reports to what is booked, dimension by dimension. Not here: booking it.

A report is a list aligned with what is held; `AS_HELD` stands for a dimension it does not name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, cast

from .calls import Call
from .errors import InvalidAmount
from .kernel.dims import ABOVE_MAX, is_declared, known_dim, show, to_units
from .kernel.nodes import Item
from .kernel.tree import AS_HELD
from .usage import Usage, read_usage

if TYPE_CHECKING:
    from .pricing import PriceBook

Used = int | Usage | Mapping[str, int | str | Decimal | float] | object
Report = list[int]


def held_tokens(amounts: Mapping[str, int]) -> int:
    """The tokens that amounts stand for: the total if it is given, else both directions."""
    if "tokens" in amounts:
        return amounts["tokens"]
    return amounts.get("input_tokens", 0) + amounts.get("output_tokens", 0)


def read_quickly(items: Sequence[Item], used: Any, amounts: Mapping[str, Any]) -> Report | None:
    """Read the plain cases: one int for one dimension, or ints for dimensions held."""
    if used is None and amounts:
        given = amounts
    elif type(used) is int and len(items) == 1 and items[0][0] != "usd" and not amounts:
        return [used] if 0 <= used < ABOVE_MAX else None
    elif type(used) is dict and not amounts:
        given = cast("dict[str, Any]", used)
    else:
        return None
    report: Report = []
    named = 0
    for dim, _n, _payers in items:
        value = given.get(dim)
        if value is None:
            report.append(AS_HELD)
        elif type(value) is int and 0 <= value < ABOVE_MAX and dim != "usd":
            report.append(value)
            named += 1
        else:
            return None
    return report if named == len(given) else None


def merge(record: Report, later: Report) -> Report:
    """Join two cumulative reports: the highest per dimension counts."""
    return [max(pair) for pair in zip(record, later, strict=True)]


class HasPrices(Protocol):
    """A runtime, as far as reading needs it."""

    @property
    def prices(self) -> PriceBook: ...


class Reader:
    """Reads any report for one hold.

    `implied` are dimensions that the caller did not name. `priced` says that `usd` was not given
    with the call but is held for its model: then it does not count as a dimension of the
    caller's, and is replaced by the price of what was used.
    """

    __slots__ = ("_call", "_held", "_own", "_priced", "_runtime", "usage")

    def __init__(
        self,
        items: Sequence[Item],
        call: Call,
        runtime: HasPrices,
        *,
        priced: bool,
        implied: Sequence[str] = (),
    ) -> None:
        self.usage: Usage | None = None
        self._held = [dim for dim, _n, _payers in items]
        self._own = [
            dim for dim in self._held if dim not in implied and not (priced and dim == "usd")
        ]
        self._call = call
        self._runtime = runtime
        self._priced = priced or (
            # Dollars given for a model that has no price stand.
            "usd" in self._held
            and call.model is not None
            and runtime.prices.rates(call.model, call.provider) is not None
        )

    def read(self, used: Used, amounts: Mapping[str, Any]) -> Report:
        """Turn what `commit` was given into a report; `usage` is what it was read from, if any.

        Raises:
            InvalidAmount: nothing has changed.
        """
        if amounts:
            if used is not None:
                raise InvalidAmount("commit: give one amount, or amounts by keyword, not both")
            used = amounts
        if isinstance(used, int | float | str | Decimal):
            return self._number(used)
        if isinstance(used, Mapping):
            return self._mapping(cast("Mapping[str, Any]", used))
        return self.price_usage(Usage.of(used))

    def price_usage(self, usage: Usage) -> Report:
        """The report of a usage: what it measures of the dimensions held, and its price."""
        self.usage = usage
        measured: dict[str, int] = usage.amounts()
        units = {dim: measured[dim] for dim in self._own if dim in measured}
        if self._priced:
            units["usd"] = self._price(usage)
        return self._aligned(units)

    def _aligned(self, units: Mapping[str, int]) -> Report:
        return [units.get(dim, AS_HELD) for dim in self._held]

    def _number(self, used: int | float | str | Decimal) -> Report:
        if len(self._own) != 1:
            raise InvalidAmount(
                f"commit({show(used)}): several dimensions are held "
                f"({', '.join(self._own)}); name one: commit({self._own[0]}=...)"
            )
        return self._amounts({self._own[0]: used})

    def _mapping(self, used: Mapping[str, Any]) -> Report:
        if all(dim in self._held for dim in used):
            return self._amounts(used)
        usage = read_usage(used)
        if usage is not None:
            return self.price_usage(usage)
        strange = next(dim for dim in used if dim not in self._held)
        if not is_declared(strange):
            known_dim(strange)
        raise InvalidAmount(
            f"{strange}={show(used[strange])}: this reservation holds "
            f"{', '.join(self._held)}; hold {strange} too, or book it with charge()"
        )

    def _amounts(self, used: Mapping[str, Any]) -> Report:
        units = {str(dim): to_units(dim, value) for dim, value in used.items()}
        if self._priced and "usd" not in units and held_tokens(units):
            units["usd"] = self._price_of_tokens(units)
        return self._aligned(units)

    def _price_of_tokens(self, units: Mapping[str, int]) -> int:
        if "input_tokens" in units and "output_tokens" in units:
            return self._price(
                Usage(input_tokens=units["input_tokens"], output_tokens=units["output_tokens"])
            )
        model = self._call.model or ""
        return self._runtime.prices.hold_micros(model, self._call.provider, held_tokens(units))

    def _price(self, usage: Usage) -> int:
        provider = self._call.provider or usage.provider
        prices, model = self._runtime.prices, self._call.model or ""
        if usage.model is not None and usage.model != model:
            model = prices.answering(model, usage.model, provider)
        return prices.price_micros(model, provider, usage)

"""From what a call reports to what is booked, dimension by dimension. Not here: booking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from .calls import Call
from .errors import InvalidAmount
from .kernel.dims import is_declared, known_dim, to_units
from .kernel.tree import Item
from .pricing import PriceBook
from .usage import Usage, read_usage

Used = int | Usage | Mapping[str, int | str | Decimal | float] | object


@dataclass(slots=True)
class Settlement:
    """What was used: units by dimension held, and the usage it was read from, if any."""

    units: dict[str, int]
    usage: Usage | None = None


def held_tokens(amounts: Mapping[str, int]) -> int:
    """The tokens that amounts stand for: the total if it is given, else both directions."""
    if "tokens" in amounts:
        return amounts["tokens"]
    return amounts.get("input_tokens", 0) + amounts.get("output_tokens", 0)


class Reader:
    """Reads reports for one reservation.

    `priced` says that `usd` was not given with the call but is held for its model: then it does
    not count as a dimension of the caller's, and is replaced by the price of what was used.
    """

    __slots__ = ("_call", "_held", "_own", "_prices", "_priced")

    def __init__(
        self, items: Sequence[Item], call: Call, prices: PriceBook, *, priced: bool
    ) -> None:
        self._held = {dim: n for dim, n, _payers in items}
        self._own = [dim for dim in self._held if not (priced and dim == "usd")]
        self._call = call
        self._prices = prices
        self._priced = priced or (
            call.model is not None and "usd" in self._held
        )

    def read(self, used: Used, amounts: Mapping[str, Any]) -> Settlement:
        """Turn what `commit` was given into units; raises `InvalidAmount`, changing nothing."""
        if amounts:
            if used is not None:
                raise InvalidAmount("commit: give one amount, or amounts by keyword, not both")
            used = amounts
        if isinstance(used, int | float | str | Decimal):
            return self._number(used)
        if isinstance(used, Usage):
            return self._usage(used)
        if isinstance(used, Mapping):
            return self._mapping(cast("Mapping[str, Any]", used))
        return self._usage(Usage.of(used))

    def highest(self, record: Settlement, later: Settlement) -> Settlement:
        """Join two cumulative reports: the higher in every axis of usage and every dimension."""
        usage = record.usage or later.usage
        joined = dict(later.units)
        if record.usage is not None and later.usage is not None:
            usage = record.usage.highest(later.usage)
            joined = self._usage(usage).units
        for units in (record.units, later.units):
            for dim, n in units.items():
                joined[dim] = max(n, joined.get(dim, 0))
        return Settlement(joined, usage)

    def _number(self, used: int | float | str | Decimal) -> Settlement:
        if len(self._own) != 1:
            raise InvalidAmount(
                f"commit({used!r}): several dimensions are held ({', '.join(self._own)}); "
                f"name one: commit({self._own[0]}={used!r})"
            )
        return self._amounts({self._own[0]: used})

    def _mapping(self, used: Mapping[str, Any]) -> Settlement:
        if all(dim in self._held for dim in used):
            return self._amounts(used)
        usage = read_usage(used)
        if usage is not None:
            return self._usage(usage)
        strange = next(dim for dim in used if dim not in self._held)
        if not is_declared(strange):
            known_dim(strange)
        raise InvalidAmount(
            f"{strange}={str(used[strange])[:40]}: this reservation holds "
            f"{', '.join(self._held)}; hold {strange} too, or book it with charge()"
        )

    def _amounts(self, used: Mapping[str, Any]) -> Settlement:
        units = {str(dim): to_units(dim, value) for dim, value in used.items()}
        if self._priced and "usd" not in units and held_tokens(units):
            units["usd"] = self._price_of_tokens(units)
        return Settlement(units)

    def _price_of_tokens(self, units: Mapping[str, int]) -> int:
        if "input_tokens" in units and "output_tokens" in units:
            usage = Usage(
                input_tokens=units["input_tokens"], output_tokens=units["output_tokens"]
            )
            return self._price(usage)
        model = self._call.model or ""
        return self._prices.hold_micros(model, self._call.provider, held_tokens(units))

    def _usage(self, usage: Usage) -> Settlement:
        measured = usage.amounts()
        units = {dim: measured[dim] for dim in self._own if dim in measured}
        if self._priced:
            units["usd"] = self._price(usage)
        return Settlement(units, usage)

    def _price(self, usage: Usage) -> int:
        provider = self._call.provider or usage.provider
        return self._prices.price_micros(self._call.model or "", provider, usage)

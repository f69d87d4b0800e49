"""Amounts as users give them, checked and in units; and what a named model may cost.

Not here: holding them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from .calls import Call
from .errors import InvalidAmount
from .frames import Amounts, Frame
from .kernel.dims import ABOVE_MAX, check_amount, check_dim, is_declared, known_dim, to_units
from .kernel.nodes import Cell
from .settlement import held_tokens

Price = int | str | Decimal | float


def check_amounts(amounts: Mapping[str, Any]) -> Amounts:
    """Turn amounts as users give them into units, or raise `InvalidAmount`."""
    is_plain = "usd" not in amounts and "millis" not in amounts
    for value in amounts.values():
        if type(value) is not int or not 0 <= value < ABOVE_MAX:
            is_plain = False
    if is_plain:
        return tuple(amounts.items())
    return tuple([(dim, _check_one(dim, value)) for dim, value in amounts.items()])


def _check_one(dim: str, value: object) -> int:
    if dim == "millis":
        raise InvalidAmount(
            "millis is wall clock and cannot be reserved: give the task seconds=..."
        )
    return to_units(known_dim(dim), value)


def check_amounts_later(amounts: Mapping[str, Any], computed: Iterable[str]) -> Amounts:
    """Check the amounts of a decorator; a slip of the pen is refused now.

    A user's own dimension need not be declared yet: a limit may come later, and the call asks
    again.
    """
    for dim in (*amounts, *computed):
        check_dim(dim)
        if dim == "millis":
            _check_one(dim, 0)
    return tuple(
        (dim, to_units(dim, value) if is_declared(dim) else check_amount(dim, value))
        for dim, value in amounts.items()
    )


def with_price(frame: Frame, call: Call, amounts: Amounts) -> Amounts:
    """Add the `usd` a named model may cost at most, where some payer limits `usd`.

    Raises:
        UnknownPrice: the model has no price, and a payer does not allow that.
    """
    if not frame.limits_usd or call.model is None:
        return amounts
    held = dict(amounts)
    if "usd" in held:
        return amounts
    prices = frame.runtime.prices
    if _unpriced_allowed(frame) and prices.rates(call.model, call.provider) is None:
        return amounts
    return (*amounts, ("usd", prices.hold_micros(call.model, call.provider, held_tokens(held))))


def _unpriced_allowed(frame: Frame) -> bool:
    paying = [node for node in frame.chain if _is_limited(node.cells.get("usd"))]
    if frame.shares_usd and not any(node.unpriced == "allow" for node in frame.chain):
        return False
    return all(node.unpriced == "allow" for node in paying)


def _is_limited(cell: Cell | None) -> bool:
    return cell is not None and cell.limit is not None

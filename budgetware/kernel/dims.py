"""Dimensions and the numbers they are counted in. Not here: limits and balances.

`usd` is dollars at every border and micro-dollars inside; every other dimension is an int.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from enum import StrEnum

from ..errors import ConfigurationError, InvalidAmount

MAX_AMOUNT = 2**53 - 1
ABOVE_MAX = 2**53
MAX_USER_DIMS = 256
_MICROS = 1_000_000
_SIX_PLACES = Decimal("0.000001")


class Dim(StrEnum):
    """What can be counted without declaring it; a user's own dimensions are plain strings."""

    TOKENS = "tokens"
    MILLIS = "millis"
    BYTES = "bytes"
    CALLS = "calls"
    MEMORY = "memory"
    CUSTOM0 = "custom0"
    CUSTOM1 = "custom1"
    CUSTOM2 = "custom2"
    USD = "usd"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CPU_MICROS = "cpu_micros"


BUILT_IN = tuple(dim.value for dim in Dim)
USER_DIM = re.compile(r"[a-z][a-z0-9_]{0,63}")
NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
_declared: dict[str, str] = {name: name for name in BUILT_IN}


def check_name(what: str, name: object) -> str:
    """Return `name` if it may name a budget, task, resource or principal."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise ConfigurationError(
        f"{what} name {str(name)[:60]!r} is not valid: use 1 to 128 of A-Z a-z 0-9 . _ : @ -"
    )


def is_declared(name: object) -> bool:
    """Say whether `name` is a dimension that amounts may be given in."""
    return name in _declared


def known_dim(name: str) -> str:
    """Return the plain name of a declared dimension, or raise `InvalidAmount`."""
    known = _declared.get(name)
    if known is None:
        raise _unknown(name, _declared)
    return known


def declare(name: str) -> str:
    """Make `name` a dimension, as limiting it does.

    A name one keystroke away from a built-in one is taken for a slip of the pen and refused.
    """
    known = _declared.get(name)
    if known is not None:
        return known
    check_dim(name)
    if len(_declared) >= MAX_USER_DIMS + len(BUILT_IN):
        raise InvalidAmount(f"dimension {name!r}: more than {MAX_USER_DIMS} own dimensions")
    return _declared.setdefault(name, name)


def check_dim(name: str) -> None:
    """Raise `InvalidAmount` unless `name` is a dimension or could be declared as one."""
    if name in _declared:
        return
    if name == "seconds":
        raise InvalidAmount("seconds is the wall clock of a task, no dimension: its name is millis")
    slip = [known for known in BUILT_IN if _is_slip(name, known)]
    if slip or name == "usd_micros" or not USER_DIM.fullmatch(name):
        raise _unknown(name, BUILT_IN)


def _is_slip(name: str, known: str) -> bool:
    """Whether one keystroke is wrong in `name`: a letter missing, doubled, swapped or another.

    A digit more or another one is no slip: `custom3` is a dimension of its own.
    """
    if name.rstrip("0123456789") == known.rstrip("0123456789"):
        return False
    if len(name) < len(known):
        name, known = known, name
    if len(name) == len(known):
        wrong = [i for i in range(len(name)) if name[i] != known[i]]
        swapped = (
            len(wrong) == 2 and name[wrong[0]] + name[wrong[1]] == known[wrong[1]] + known[wrong[0]]
        )
        return len(wrong) == 1 or swapped
    return any(name[:i] + name[i + 1 :] == known for i in range(len(name)))


def nearest(name: str, among: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `among` that is most like `name`; None: none is like it."""
    from difflib import get_close_matches  # seldom needed, and slow to import

    return next(iter(get_close_matches(name, list(among), n=1, cutoff=cutoff)), None)


def _unknown(name: object, among: Iterable[str]) -> InvalidAmount:
    text = str(name)[:64]
    near = "usd" if text == "usd_micros" else nearest(text, among)
    hint = f"; did you mean {near!r}?" if near else "; limit it in a task_budget to declare it"
    return InvalidAmount(f"unknown dimension {text!r}{hint}")


def check_amount(dim: str, value: object, *, maximum: int = MAX_AMOUNT) -> int:
    """Return `value` if it is an int in 0..`maximum`, or raise `InvalidAmount`."""
    if type(value) is int and 0 <= value <= maximum:
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidAmount(f"{dim}={show(value)}: an amount is an int, not {type(value).__name__}")
    if value < 0:
        raise InvalidAmount(f"{dim}={show(value)}: an amount cannot be negative")
    if value > maximum:
        raise InvalidAmount(f"{dim}={show(value)}: an amount is at most {maximum}")
    return int(value)


def to_units(dim: str, value: object, *, round_up: bool = True, maximum: int = MAX_AMOUNT) -> int:
    """Turn an amount as users give it into units: micro-dollars for `usd`, itself otherwise.

    Dollars finer than a micro-dollar are rounded: up for what is charged, down
    (`round_up=False`) for what is allowed.
    """
    if dim != "usd":
        return check_amount(dim, value, maximum=maximum)
    dollars = _dollars(value)
    if not dollars.is_finite() or dollars < 0:
        raise InvalidAmount(f"usd={show(value)}: a price is a finite number, 0 or more")
    exponent = dollars.as_tuple().exponent
    if dollars.adjusted() > 20 or not isinstance(exponent, int) or exponent < -1000:
        raise InvalidAmount(f"usd={show(value)}: not a price in dollars")
    rounding = ROUND_CEILING if round_up else ROUND_FLOOR
    micros = int((dollars * _MICROS).to_integral_value(rounding=rounding))
    return check_amount("usd (micro-dollars)", micros, maximum=maximum)


def _dollars(value: object) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_AMOUNT:
        text = str(value)
    elif isinstance(value, str) and len(value) < 40:
        text = value
    elif isinstance(value, float):
        text = repr(value)
    else:
        text = ""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InvalidAmount(
            f"usd={show(value)}: give dollars as an int, a str such as '0.25', or a Decimal"
        ) from None


def show(value: object) -> str:
    """A value for a message: short, also where its text would be long or cannot be made."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"an int of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def from_units(dim: str, units: int) -> int | Decimal:
    """Turn units back into what users see: dollars with six places for `usd`."""
    return (Decimal(units) / _MICROS).quantize(_SIX_PLACES) if dim == "usd" else units

"""What single values of a manifest may be: amounts, dollars, sizes, durations, words.

Each function takes a value as `tomllib` read it and returns it checked, or raises `InvalidAmount`
with what is wrong and what would be right. Not here: tables.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ..clock import parse_max_wait, parse_seconds
from ..errors import ConfigurationError, InvalidAmount
from ..formats import parse_bytes
from ..kernel.dims import (
    BUILT_IN,
    MAX_AMOUNT,
    USER_DIM,
    check_dim,
    check_name,
    is_declared,
    show,
    to_units,
)
from ..policies import Policy, parse_policy
from ..quotas import PERIOD_SECONDS
from .problems import nearest

_SIZED: Final = ("bytes", "memory")
_MAX_DIGITS: Final = 40


@dataclass(frozen=True, slots=True, repr=False)
class Real:
    """A number with a point or an exponent, as it stands in the file: nothing is rounded."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def decimal(self) -> Decimal | None:
        """Return it exactly; None where it has too many digits, or too large an exponent."""
        return decimal(self.text)


def decimal(text: str) -> Decimal | None:
    """Return what a text says, or None where that is no number of reasonable length."""
    try:
        return Decimal(text) if len(text) <= _MAX_DIGITS else None
    except ArithmeticError:
        return None


def shown(value: object) -> str:
    """Return a value for a message: short, on one line, without control characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return show(value)


def wrong(value: object, complaint: str, instead: str) -> InvalidAmount:
    """Make the error: what is wrong with the value; what would be right."""
    return InvalidAmount(f"{shown(value)} {complaint}; {instead}")


def amount(dim: str | None, value: object) -> int | Decimal:
    """Read an amount of a dimension, above 0: dollars, a size, or an int."""
    if dim == "usd":
        return dollars(value)
    if dim in _SIZED and isinstance(value, str):
        return size(value)
    return count(value)


def count(value: object) -> int:
    """Read an int above 0."""
    if type(value) is int and 0 < value <= MAX_AMOUNT:
        return value
    complaint = "is not an int"
    if type(value) is int:
        complaint = "is too large" if value > 0 else "is not above 0"
    raise wrong(value, complaint, f"give an int of 1 to {MAX_AMOUNT}, such as 50_000")


def dollars(value: object) -> Decimal:
    """Read dollars above 0, exactly."""
    given = number(value)
    try:
        micros = 0 if given is None else to_units("usd", given, round_up=False)
    except InvalidAmount:
        micros = 0
    if given is None or micros == 0:
        raise wrong(
            value, "is no limit in dollars", 'give dollars of 0.000001 to 10**9, such as "0.25"'
        )
    return given


def number(value: object) -> Decimal | None:
    """Return a number given as an int, with a point, or as a text; None for anything else."""
    if isinstance(value, Real):
        return value.decimal()
    if isinstance(value, str):
        return decimal(value)
    if type(value) is int and abs(value) <= MAX_AMOUNT:
        return Decimal(value)
    return None


def size(value: str) -> int:
    """Read bytes written as `"64MiB"` (1024s) or `"10GB"` (1000s)."""
    try:
        octets = parse_bytes(value) if value[-1:] in ("b", "B") else 0  # a plain number is no text
    except InvalidAmount:
        octets = 0
    if not octets:
        instead = 'give whole bytes above 0, such as 1_000_000, "64MiB" or "10GB"'
        raise wrong(value, "is no size", instead)
    return octets


def duration(value: object) -> float:
    """Read a time above 0, in seconds."""
    try:
        return parse_seconds("duration", _plain(value))
    except InvalidAmount:
        raise _no_duration(value, "above 0") from None


def wait(value: object) -> float:
    """Read a time in seconds; 0 is none at all."""
    try:
        return parse_max_wait(_plain(value)) or 0.0
    except InvalidAmount:
        raise _no_duration(value, "of 0 or more") from None


def _plain(value: object) -> object:
    return float(value.text) if isinstance(value, Real) else value


def _no_duration(value: object, bound: str) -> InvalidAmount:
    return wrong(value, "is no duration", f"give seconds {bound}, or a text such as '30s', '2h30m'")


def period(value: object) -> str | float:
    """Read the period of a rate."""
    if isinstance(value, str) and value in PERIOD_SECONDS:
        return value
    try:
        seconds = duration(value)
    except InvalidAmount:
        seconds = 0.0
    if seconds < 1e-9:
        names = ", ".join(PERIOD_SECONDS)
        raise wrong(value, "is no period", f"give {names}, seconds, or a text such as '30s'")
    return seconds


def share(value: object) -> float:
    """Read a share between 0 and 1."""
    given = number(value) if not isinstance(value, str) else None
    part = 0.0 if given is None else float(given)
    if not 0 < part < 1:
        raise wrong(value, "is no share", "give a number between 0 and 1, such as 0.8")
    return part


def patience(value: object) -> int:
    """Read how many refusals in a row end a task."""
    if type(value) is int and 0 < value <= MAX_AMOUNT:
        return value
    raise wrong(value, "is no patience", "give how many refusals end the task, such as 100")


def flag(value: object) -> bool:
    """Read true or false."""
    if isinstance(value, bool):
        return value
    raise wrong(value, "is not a boolean", "give true or false, without quotes")


def one_of(*words: str) -> Callable[[object], str]:
    """Return what reads one of these words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = nearest(value, words) if isinstance(value, str) else None
        meant = f"; did you mean {near!r}?" if near else ""
        raise wrong(value, "is not possible here", f"give {' or '.join(map(repr, words))}{meant}")

    return read


def word(value: object) -> str:
    """Read the word for a unit."""
    if isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable():
        return value
    raise wrong(value, "is no word for a unit", "give 1 to 64 printable characters")


def named_policy(value: object) -> Policy:
    """Read a policy by its name."""
    try:
        policy = parse_policy(value)
    except ConfigurationError:
        policy = None
    if policy is None:
        near = nearest(value, ("throttle", "reject", "terminate")) if isinstance(value, str) else ""
        meant = f"; did you mean {near!r}?" if near else ""
        raise wrong(
            value,
            "is no policy",
            "give 'throttle', 'reject' or 'terminate', or a table such as "
            f'{{ type = "reject", patience = 100 }}{meant}',
        )
    return policy


def name(value: object) -> str:
    """Read the name of a resource, a budget or a principal."""
    try:
        return check_name("the", value)
    except ConfigurationError:
        raise wrong(value, "is no name", "use 1 to 128 of A-Z a-z 0-9 . _ : @ -") from None


def dimension(value: object) -> str:
    """Read the name of a dimension: declared, or one that could be; declares nothing."""
    if not isinstance(value, str):
        raise wrong(value, "is no name of a dimension", "give a text such as 'tokens'")
    if is_declared(value):
        return value
    if not USER_DIM.fullmatch(value):
        near = nearest(value.lower(), BUILT_IN)
        meant = f"did you mean {near!r}?" if near else "use a-z, 0-9 and _, a letter first"
        raise wrong(value, "is no name of a dimension", meant)
    check_dim(value)
    return value

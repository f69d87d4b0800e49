"""Reading names off dicts and objects alike. Not here: what the names mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, cast

from .errors import InvalidAmount
from .kernel.dims import check_amount


class Fields(Protocol):
    """Names with values, None where there is none."""

    def get(self, name: str, /) -> object:
        """Return the value of `name`, or None."""
        ...


class _Attributes:
    """The attributes of an object."""

    __slots__ = ("_holder",)

    def __init__(self, holder: object) -> None:
        self._holder = holder

    def get(self, name: str, /) -> object:
        value: object = getattr(self._holder, name, None)
        return value


_NOTHING: Final[dict[str, object]] = {}


def fields(holder: object) -> Fields:
    """Return the names of a mapping, or the attributes of anything else; None has none."""
    if holder is None:
        return _NOTHING
    if isinstance(holder, dict):
        return cast("dict[str, object]", holder)
    if hasattr(type(holder), "__pydantic_extra__"):
        # An attribute that a pydantic model has not got costs it a microsecond to look for.
        extra: dict[str, object] | None = getattr(holder, "__pydantic_extra__", None)
        return {**vars(holder), **(extra or {})}
    if isinstance(holder, Mapping):
        return cast("Mapping[str, object]", holder)
    return _Attributes(holder)


def first(holder: Fields, names: Iterable[str]) -> object:
    """Return the first of `names` that has a value, or None."""
    for name in names:
        value = holder.get(name)
        if value is not None:
            return value
    return None


def text(holder: Fields, names: Iterable[str]) -> str | None:
    """Return the first of `names` that has a value if that is a str, or None."""
    value = first(holder, names)
    # A member of a str enum is a str, but str() of it is the name of the member.
    return str.__str__(value) if isinstance(value, str) and value else None


def count(holder: Fields, *names: str) -> int:
    """Return the first of `names` that has a value, 0 where none has.

    Raises:
        InvalidAmount: it is not an int in 0..2**53-1.
    """
    for name in names:
        value = holder.get(name)
        if value is not None:
            return checked(name, value)
    return 0


def checked(name: str, value: object) -> int:
    """Return `value` if it is a count; anything but a number is told by its type alone.

    Raises:
        InvalidAmount: it is not an int in 0..2**53-1.
    """
    if not isinstance(value, int | float):
        raise InvalidAmount(f"{name}: a count is an int, not {type(value).__name__}")
    return check_amount(name, value)

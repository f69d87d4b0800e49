"""A table of a manifest that knows where it stands. Not here: what belongs into which table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from ..errors import ConfigurationError
from .lines import Path
from .problems import Problems, hint
from .values import name, shown

Value = TypeVar("Value")
Table = Mapping[str, object]


class Section:
    """Read the keys of one table; what is wrong with them becomes a problem at its place."""

    __slots__ = ("data", "path", "problems")

    def __init__(self, data: Table, path: Path, problems: Problems) -> None:
        self.data = data
        self.path = path
        self.problems = problems

    def wrong(self, message: str, *path: str | int) -> None:
        """Add a problem with this table, or with what is inside it."""
        self.problems.add((*self.path, *path), message)

    def only(self, known: Sequence[str], what: str) -> None:
        """Complain about every key that `what` does not have."""
        for key in self.data:
            if key in known:
                continue
            meant = "" if self.problems.is_full else hint(key, known)
            self.wrong(f"unknown key of {what}; {meant}", key)

    def get(self, key: str, read: Callable[[object], Value]) -> Value | None:
        """Return the value of a key as `read` gives it; None where absent, or wrong."""
        return self.check(lambda: read(self.data[key]), key) if key in self.data else None

    def need(self, key: str, read: Callable[[object], Value], example: str) -> Value | None:
        """Return the value of a key that has to be there."""
        if key not in self.data:
            self.wrong(f"is missing; write {example}", key)
        return self.get(key, read)

    def check(self, make: Callable[[], Value], *path: str | int) -> Value | None:
        """Return what `make` makes; an error that it raises is a problem at that path."""
        try:
            return make()
        except ConfigurationError as error:
            self.wrong(str(error), *path)
            return None

    def table(self, key: str, example: str) -> Section | None:
        """Return a table inside this one; None where absent, or something else."""
        value = self.data.get(key)
        if isinstance(value, dict):
            return Section(cast("Table", value), (*self.path, key), self.problems)
        if value is not None:
            self.wrong(f"{shown(value)} is no table; write {example}", key)
        return None

    def tables(self, key: str, example: str, *, any_name: bool = False) -> Iterator[Section]:
        """Give every table inside the table of that name; `name_of` says how each is called."""
        outer = self.table(key, example)
        for inner in outer.data if outer is not None else ():
            if outer is None or not (any_name or self._has_name(key, inner)):
                continue
            section = outer.table(inner, example)
            if section is not None:
                yield section

    def _has_name(self, key: str, inner: str) -> bool:
        return self.check(lambda: name(inner), key, inner) is not None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return str(self.path[-1])

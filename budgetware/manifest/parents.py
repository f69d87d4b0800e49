"""Who is above whom: parents that are there, no circles, parents first. Not here: quotas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from ..kernel.dims import NAME
from .problems import hint
from .section import Section, Table


def check_parents(root: Section, key: str) -> Mapping[str, str]:
    """Complain about parents that are not there, and about every circle.

    Args:
        root: the whole manifest.
        key: `resources` or `principals`.

    Returns:
        The parents by name, in the order of the file.
    """
    known = root.data.get(key)
    names = [*cast("Table", known)] if isinstance(known, dict) else []
    there = set(names)
    given = texts_of(root, key, "parent")
    parents = {name: parent for name, parent in given.items() if NAME.fullmatch(parent)}
    for name, parent in parents.items():
        if parent not in there:
            meant = "" if root.problems.is_full else hint(parent, names)
            root.wrong(f"there is no {parent!r} in [{key}]; {meant}", key, name, "parent")
    for circle in _circles(parents):
        drawn = " -> ".join([*circle[:8], *(["..."] if len(circle) > 8 else []), circle[0]])
        message = f"{drawn} is a circle; take the parent of one of them away"
        root.wrong(message, key, circle[0], "parent")
    return parents


def texts_of(root: Section, key: str, inner: str) -> Mapping[str, str]:
    """Return the texts that the tables under a key have for an inner key, right or wrong."""
    outer = root.data.get(key)
    texts: dict[str, str] = {}
    for name, table in cast("Table", outer).items() if isinstance(outer, dict) else ():
        value = cast("Table", table).get(inner) if isinstance(table, dict) else None
        if isinstance(value, str):
            texts[name] = value
    return texts


def parents_first(parents: Mapping[str, str | None]) -> list[str]:
    """Return the names so that each comes after its parent, else in the order given."""
    placed: dict[str, None] = {}
    for name in parents:
        chain: list[str] = []
        above: str | None = name
        while above is not None and above not in placed:
            chain.append(above)
            above = parents[above]
        placed.update(dict.fromkeys(reversed(chain)))
    return [*placed]


def _circles(parents: Mapping[str, str]) -> Iterator[list[str]]:
    """Give each circle once, from its member that comes first in the file."""
    seen_from: dict[str, str] = {}
    order = {name: number for number, name in enumerate(parents)}
    for start in parents:
        chain: list[str] = []
        name = start
        while name in parents and name not in seen_from:
            seen_from[name] = start
            chain.append(name)
            name = parents[name]
        if seen_from.get(name) == start:
            circle = chain[chain.index(name) :]
            first = circle.index(min(circle, key=order.__getitem__))
            yield [*circle[first:], *circle[:first]]

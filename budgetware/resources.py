"""Shared resources as they stand. Not here: the rights to draw on them (`stakes`).

Everything here runs under the lock of accounts, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .accounts import acquire, release
from .clock import Clock, parse_max_wait
from .errors import ConfigurationError, UnknownResource
from .ids import new_id
from .kernel.dims import nearest
from .kernel.nodes import Cell, Node, QuotaCell
from .kernel.quota import put_capacity, put_rate, put_slots
from .quotas import Capacity, Concurrency, Rate, Resource, limit_units, value_units

MAX_RESOURCES = 10_000


class Pool:
    """One resource: its definition now, and its place in the tree."""

    __slots__ = ("cell", "cells", "definition", "is_closed", "node", "parent", "revision")

    def __init__(
        self, definition: Resource, parent: Pool | None, revision: int, now_ns: int
    ) -> None:
        self.definition = definition
        self.parent = parent
        self.revision = revision
        self.is_closed = False
        above = None if parent is None else parent.node
        self.node: Node = Node(definition.name, new_id(), definition.policy, above, kind="resource")
        self.node.owner = self
        self.cell = QuotaCell(self.node, definition.key, None)
        self.node.cells[definition.key] = self.cell
        self.cells: tuple[Cell, ...] = (self.cell,)
        if parent is not None:
            self.cells += parent.cells
        put_quota(self.cell, definition, now_ns)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def most_weight(self) -> int:
        """The most that a token may claim: what the resource has, or gives in one period.

        Slots are used over and over, so of a concurrency it is a hundred times as many.
        """
        limit, dim = self.definition.limit, self.definition.dim
        if isinstance(limit, Concurrency):
            return 100 * limit.value
        return max(value_units(limit.value, dim), limit_units(limit, dim))

    def is_used(self) -> bool:
        """Whether reservations are open."""
        return self.cell.reserved > 0


def put_quota(cell: QuotaCell, definition: Resource, now_ns: int) -> None:
    """Set or change the limit of a cell, and what happens at it."""
    limit, dim = definition.limit, definition.dim
    units = limit_units(limit, dim)
    if cell.lease is not None:
        cell.lease.change(definition.terms)
    elif isinstance(limit, Rate):
        put_rate(cell, value_units(limit.value, dim), limit.period_ns, units, now_ns)
    elif isinstance(limit, Capacity):
        put_capacity(cell, units)
    else:
        put_slots(cell, units)
    cell.policy = definition.policy
    cell.wait_seconds = parse_max_wait(definition.max_wait)


class Resources:
    """The resources of a service, by name. Takes the lock itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._revisions: dict[str, int] = {}

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.copy().values())

    def get(self, name: object) -> Pool:
        """The pool of that name, or `UnknownResource`."""
        pool = self._pools.get(name) if isinstance(name, str) else None
        if pool is None:
            raise self._unknown(name)
        return pool

    def _unknown(self, name: object) -> UnknownResource:
        text = str(name)[:128]
        near = nearest(text, self._pools.copy())
        hint = f"; did you mean {near!r}?" if near else "; define it in the manifest or service"
        return UnknownResource(f"unknown resource {text!r}{hint}")

    def define(self, resource: Resource, attach: Attach | None = None) -> Pool:
        """Add a resource; raises `ConfigurationError` where that cannot be.

        Args:
            attach: called with it before anybody can draw on it. Locked.
        """
        self.check_new(resource)
        now_ns = self._clock.now_ns()
        try:
            acquire()
            parent = self._check_place(resource)
            revision = self._revisions.pop(resource.name, 0) + 1
            pool = Pool(resource, parent, revision, now_ns)
            if attach is not None:
                attach(pool)
            self._pools[resource.name] = pool
            return pool
        finally:
            release()

    def check_new(self, resource: Resource) -> None:
        """Raise unless such a resource could be added."""
        check_resource(resource)
        if resource.dim is None and resource.name in ("usd", "memory", "millis"):
            raise ConfigurationError(
                f"resource {resource.name!r} would be taken for that dimension: give it "
                f"dim={resource.name!r}, or another name"
            )
        try:
            acquire()
            self._check_place(resource)
        finally:
            release()

    def _check_place(self, resource: Resource) -> Pool | None:
        """Return its parent, or raise. Locked."""
        name = resource.name
        if name in self._pools:
            raise ConfigurationError(
                f"resource {name!r} is defined already: update it, or delete it first"
            )
        if len(self._pools) >= MAX_RESOURCES:
            raise ConfigurationError(f"more than {MAX_RESOURCES} resources: delete some first")
        return None if resource.parent is None else self._parent(resource)

    def _parent(self, resource: Resource) -> Pool:
        parent = self._pools.get(resource.parent or "")
        if parent is None:
            raise UnknownResource(
                f"resource {resource.name!r}: its parent {resource.parent!r} is not defined; "
                "define the parent first"
            )
        check_units(resource, parent.definition)
        return parent

    def changed(
        self, name: str, changes: dict[str, Any], expected_revision: int | None
    ) -> tuple[Pool, Resource]:
        """What a resource would be with these changes; raises where that cannot be."""
        pool = self.get(name)
        check_revision(pool, expected_revision)
        new = replace(pool.definition, **changes)
        _check_same(pool.definition, new)
        return pool, new

    def update(self, name: str, changes: dict[str, Any], expected_revision: int | None) -> Pool:
        """Change a definition in place: in effect at once, and what was used stays used."""
        now_ns = self._clock.now_ns()
        try:
            acquire()
            pool, new = self.changed(name, changes, expected_revision)
            _put(pool, new, pool.revision + 1, now_ns)
            return pool
        finally:
            release()

    def take_over(self, pool: Pool, new: Resource, revision: int) -> None:
        """Change a definition to what it is elsewhere."""
        now_ns = self._clock.now_ns()
        try:
            acquire()
            _put(pool, new, revision, now_ns)
        finally:
            release()

    def close(self) -> None:
        """The service closes: draws are refused from now on; what is open still settles."""
        try:
            acquire()
            for pool in self._pools.values():
                pool.is_closed = pool.node.ended = True
                pool.node.guard()
        finally:
            release()

    def check_delete(self, name: str, expected_revision: int | None) -> Pool:
        """Return a resource that can be taken out, or raise."""
        pool = self.get(name)
        check_revision(pool, expected_revision)
        if pool.is_used():
            raise ConfigurationError(
                f"resource {name!r} has reservations open: delete it when they have ended"
            )
        below = [other.name for other in self if other.parent is pool]
        if below:
            raise ConfigurationError(
                f"resource {name!r} is the parent of {below[0]!r}: delete that first"
            )
        return pool

    def delete(self, name: str, expected_revision: int | None) -> Pool:
        """Take a resource out; draws on it are refused from now on."""
        try:
            acquire()
            pool = self.check_delete(name, expected_revision)
            del self._pools[name]
            if len(self._revisions) >= MAX_RESOURCES:
                self._revisions.clear()
            self._revisions[name] = pool.revision
            pool.node.ended = True
            pool.node.guard()
            return pool
        finally:
            release()


Attach = Callable[[Pool], object]


def _put(pool: Pool, new: Resource, revision: int, now_ns: int) -> None:
    pool.definition = new
    pool.revision = revision
    pool.node.policy = new.policy
    put_quota(pool.cell, new, now_ns)


def check_resource(resource: object) -> None:
    """Raise unless it is one."""
    if not isinstance(resource, Resource):
        raise ConfigurationError(f"define({str(resource)[:60]!r}): give a Resource(...)")


def check_units(resource: Resource, parent: Resource) -> None:
    """Raise unless a draw on the one may be charged to the other as well."""
    if resource.dim is not None and parent.dim is not None and resource.dim != parent.dim:
        raise ConfigurationError(
            f"resource {resource.name!r} counts {resource.dim}, its parent {parent.name!r} "
            f"{parent.dim}: a parent is charged the same units"
        )
    if "usd" in (resource.dim, parent.dim) and resource.dim != parent.dim:
        raise ConfigurationError(
            f"resource {resource.name!r} and its parent {parent.name!r}: only one counts usd"
        )


def check_revision(pool: Pool, expected: int | None) -> None:
    """Raise unless the caller has seen the definition as it is."""
    if expected is None or (type(expected) is int and expected == pool.revision):
        return
    raise ConfigurationError(
        f"resource {pool.name!r} is at revision {pool.revision}, not {str(expected)[:40]}: read it "
        "again, and then change it"
    )


def _check_same(old: Resource, new: Resource) -> None:
    """What open reservations rest on cannot change."""
    if type(old.limit) is not type(new.limit):
        raise ConfigurationError(
            f"resource {old.name!r} is a {type(old.limit).__name__} and cannot become a "
            f"{type(new.limit).__name__}: define another one"
        )
    for what in ("name", "dim", "parent"):
        if getattr(old, what) != getattr(new, what):
            raise ConfigurationError(
                f"resource {old.name!r}: its {what} cannot change; delete it and define it again"
            )

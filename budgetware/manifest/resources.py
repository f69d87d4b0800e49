"""`[resources.NAME]`, and the limits that quotas of principals share with them.

Not here: who is above whom (`parents`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ..kernel.dims import declare, is_declared
from ..policies import Policy
from ..quotas import (
    ON_LEDGER_ERROR,
    STRANDED,
    Capacity,
    Concurrency,
    QuotaLimit,
    Rate,
    Resource,
    check_kind,
)
from .enforcement import read_policy
from .section import Section
from .values import amount, count, dimension, flag, name, one_of, period, wait, word

KEYS: Final = (
    "limit",
    "enforcement",
    "dim",
    "max_wait",
    "unit",
    "units",
    "parent",
    "per_call",
    "stranded",
    "max_lease",
    "on_ledger_error",
)
EXAMPLE: Final = '{ type = "rate", value = 1_000, period = "minute" }'
_LIMIT_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "rate": ("type", "value", "period", "max"),
    "capacity": ("type", "value"),
    "concurrency": ("type", "value"),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked resource that has declared no dimension yet."""

    resource: Resource
    dim: str | None

    def finished(self) -> Resource:
        """Return the resource as defined; this declares its dimension."""
        return replace(self.resource, dim=None if self.dim is None else declare(self.dim))


def read_resource(section: Section) -> Draft | None:
    """Read one resource; None where something of it is wrong."""
    before = section.problems.count
    section.only(KEYS, "a resource")
    dim = section.get("dim", dimension)
    example = f"limit = {EXAMPLE}"
    if "limit" not in section.data:
        section.wrong(f"is missing; write {example}", "limit")
    table = section.table("limit", example)
    is_dim_wrong = dim is None and "dim" in section.data
    limit = read_limit(table, dim, is_dim_wrong=is_dim_wrong) if table is not None else None
    if table is not None:
        table.only(limit_keys(table), "this limit")
    policy = read_policy(section, "enforcement")
    given: dict[str, object] = {
        "max_wait": section.get("max_wait", wait),
        "unit": section.get("unit", word),
        "units": section.get("units", word),
        "parent": section.get("parent", name),
        "per_call": section.get("per_call", flag),
        "max_lease": section.get("max_lease", partial(amount, dim)),
        "stranded": section.get("stranded", one_of(*STRANDED)),
        "on_ledger_error": section.get("on_ledger_error", one_of(*ON_LEDGER_ERROR)),
    }
    if limit is None or section.problems.count > before:
        return None
    return draft(section, ("limit",), dim, limit, policy, given)


def draft(
    section: Section,
    path: tuple[str, ...],
    dim: str | None,
    limit: QuotaLimit,
    policy: Policy | None,
    given: Mapping[str, object],
) -> Draft | None:
    """Make a resource that declares nothing; what cannot be is a problem at `path`."""
    fields: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if policy is not None:
        fields["enforcement"] = policy

    def make() -> Draft:
        check_kind("this limit", limit, dim)
        known = dim if is_declared(dim) else None
        return Draft(Resource(str(section.path[1]), limit, dim=known, **fields), dim)

    return section.check(make, *path)


def limit_keys(table: Section) -> tuple[str, ...]:
    """Return the keys that a limit of the type given has."""
    return _LIMIT_KEYS.get(str(table.data.get("type")), _LIMIT_KEYS["rate"])


def read_limit(table: Section, dim: str | None, *, is_dim_wrong: bool = False) -> QuotaLimit | None:
    """Read a rate, a capacity or a concurrency; amounts of an unknown dimension are not judged."""
    before = table.problems.count
    kind = table.need("type", one_of(*_LIMIT_KEYS), 'type = "rate", "capacity" or "concurrency"')

    def units(value: object) -> object:
        if is_dim_wrong:
            return 1
        return count(value) if kind == "concurrency" and dim == "usd" else amount(dim, value)

    value = table.need("value", units, "value = 1_000")
    fields: dict[str, Any] = {"value": value}
    if kind == "rate":
        fields["period"] = table.need("period", period, 'period = "minute"')
        fields["max"] = table.get("max", units)
    if kind is None or table.problems.count > before:
        return None
    classes: Mapping[str, Callable[..., QuotaLimit]] = {
        "rate": Rate,
        "capacity": Capacity,
        "concurrency": Concurrency,
    }
    return table.check(lambda: classes[kind](**fields))

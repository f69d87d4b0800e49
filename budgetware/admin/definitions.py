"""Definitions as HTTP gives them: to resources, quotas and amounts, by the rules of manifests.

Not here: putting them into force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from ..errors import ConfigurationError
from ..kernel.dims import known_dim
from ..manifest.enforcement import read_policy
from ..manifest.lines import Path
from ..manifest.principals import read_principal
from ..manifest.problems import Problems
from ..manifest.resources import KEYS, limit_keys, read_limit, read_resource
from ..manifest.section import Section
from ..manifest.values import amount, duration, name, wait, word
from ..quotas import Resource
from ..views import Changes
from .bodies import dotted, only
from .failures import Failure, bad_request

T = TypeVar("T")
NEW: Final = ("name", *KEYS)
FIXED: Final = ("name", "dim", "parent")
CHANGING: Final = ("limit", "enforcement", "max_wait", "unit", "units")
_NULLABLE: Final = ("dim", "parent", "max_wait", "max_lease", "on_ledger_error")
QUOTAS: Final = ("principal", "parent", "exempt", "is_exempt", "quotas")


class _Faults(Problems):
    """Problems; the first one is what is answered."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        super().__init__()
        self.first: Failure | None = None

    def add(self, path: Path, message: str) -> None:
        """Add what is wrong at a path, whose first two parts are the table and its name."""
        super().add(path, message)
        if self.first is None:
            self.first = bad_request(message, dotted([str(part) for part in path[2:]]) or "name")

    def check(self) -> None:
        """Raise `Failure` if there is one."""
        if self.first is not None:
            raise self.first


def _read(table: Mapping[str, Any], path: tuple[str, str], read: Callable[[Section], T]) -> T:
    """Read a table as that of a manifest; raises `Failure`, which names the field."""
    _check_nulls(table, ())
    faults = _Faults()
    found = read(Section(table, path, faults))
    faults.check()
    return found


def _check_nulls(value: object, path: tuple[str, ...]) -> None:
    """Manifests know no null."""
    if value is None:
        raise bad_request("null is nothing that it can be", dotted(path))
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            _check_nulls(inner, (*path, key))


def checked(field: str, read: Callable[[object], T], value: object) -> T:
    """Read one value; raises `Failure`, which names the field."""
    try:
        return read(value)
    except ConfigurationError as error:
        raise bad_request(str(error), field) from None


def new_resource(body: Mapping[str, Any]) -> Resource:
    """The resource that a body defines."""
    only(body, NEW, ("name", "limit"))
    called = checked("name", name, body["name"])
    table = {k: v for k, v in body.items() if k != "name" and _is_given(k, v)}
    draft = _read(table, ("resources", called), read_resource)
    assert draft is not None
    return checked("dim", lambda _: draft.finished(), None)


def _is_given(key: str, value: object) -> bool:
    return value is not None or key not in _NULLABLE


@dataclass(frozen=True, slots=True)
class Change:
    """What of a resource is to change; `revision` is the one that was read, or None."""

    changes: Changes
    revision: int | None


def resource_changes(body: Mapping[str, Any], current: Resource) -> Change:
    """What a body changes; what cannot change may be repeated in it."""
    only(body, (*FIXED, *CHANGING, "expected_revision"))
    for key in FIXED:
        if key in body and body[key] != getattr(current, key):
            raise bad_request("it cannot change; delete the resource and define it again", key)
    table = {k: v for k, v in body.items() if k in CHANGING and _is_given(k, v)}
    _check_nulls(table, ())
    faults = _Faults()
    section = Section(table, ("resources", current.name), faults)
    changes = Changes()
    if "limit" in table:
        inner = section.table("limit", '{"type": "capacity", "value": 1000}')
        limit = None if inner is None else read_limit(inner, current.dim)
        if inner is not None:
            inner.only(limit_keys(inner), "this limit")
        if limit is not None:
            changes["limit"] = limit
        elif faults.first is None:
            raise bad_request("this is no limit", "limit")
    _read_words(section, changes)
    faults.check()
    if "max_wait" in body and body["max_wait"] is None:
        changes["max_wait"] = None
    if not changes:
        raise bad_request(f"it changes nothing: give some of {', '.join(CHANGING)}")
    return Change(changes, body.get("expected_revision"))


def _read_words(section: Section, changes: Changes) -> None:
    policy = read_policy(section, "enforcement")
    if policy is not None:
        changes["enforcement"] = policy
    longest = section.get("max_wait", wait)
    if longest is not None:
        changes["max_wait"] = longest
    unit, units = section.get("unit", word), section.get("units", word)
    if unit is not None:
        changes["unit"] = unit
    if units is not None:
        changes["units"] = units


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """What of a principal is given; None where it stays as it is.

    Attributes:
        has_exempt: whether `exempt` was given; None is as the parent then.
    """

    parent: str | None
    quotas: Mapping[str, Resource] | None
    exempt: bool | None
    has_exempt: bool


def quota_change(called: str, body: Mapping[str, Any]) -> QuotaChange:
    """What a body says of a principal."""
    only(body, QUOTAS)
    if body.get("principal", called) != called:
        raise bad_request("it is not the principal of the path", "principal")
    if "exempt" not in body and "quotas" not in body:
        raise bad_request("the field is missing; or give exempt", "quotas")
    if not isinstance(body.get("is_exempt", False), bool):
        raise bad_request("give true or false, or leave it out: it is only shown", "is_exempt")
    table = {k: v for k, v in body.items() if k not in ("principal", "is_exempt")}
    for key in ("parent", "exempt"):
        if table.get(key) is None:
            table.pop(key, None)
    draft = _read(table, ("principals", called), read_principal)
    quotas = None
    if "quotas" in body:
        definition = checked("quotas", lambda _: draft.finished(), None)
        quotas = MappingProxyType(dict(definition.quotas))
    return QuotaChange(draft.parent, quotas, draft.exempt, "exempt" in body)


def amounts(given: object) -> dict[str, Any]:
    """Amounts by dimension, and `seconds`, as `TaskBudget.top_up` takes them."""
    if not isinstance(given, dict) or not given:
        raise bad_request('give amounts by dimension, as {"tokens": 1000}', "amounts")
    table = cast("dict[str, object]", given)
    return {dim: _amount(dim, value) for dim, value in table.items()}


def _amount(dim: str, value: object) -> int | Decimal | float:
    field = dotted(["amounts", dim])
    if dim == "seconds":
        return checked(field, duration, value)
    return checked(field, lambda found: amount(known_dim(dim), found), value)

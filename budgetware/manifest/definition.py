"""What a manifest says, checked: plain data. Not here: reading it, nor putting it into force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..limits import LimitValue
from ..pricing import PriceTable
from ..quotas import PrincipalDefinition, Resource


@dataclass(frozen=True, slots=True)
class Template:
    """What `task_budget` is given for a name.

    Attributes:
        limits: its keyword limits: ints, `Limit`, `Decimal` dollars, seconds as float.
        options: its other keywords that were given, of `policy warn_at carve keep unpriced`.
    """

    limits: Mapping[str, LimitValue]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest; everything in it can be used as it is.

    Attributes:
        file: where it was read; None for a text.
        ledger: the address; it may hold a password, so it is not in the repr.
        dimensions: those it lists.
        resources, principals: each after its parent, else in the order of the file.
        budgets: templates by name.
        strict, prices, lease_seconds, durability, on_ledger_error, record_usage,
        usage_retention, outbox:
            arguments of `connect`; None where the manifest does not say.
    """

    file: str | None = None
    ledger: str = field(default="memory://", repr=False)
    dimensions: tuple[str, ...] = ()
    resources: tuple[Resource, ...] = ()
    budgets: Mapping[str, Template] = field(default_factory=lambda: MappingProxyType({}))
    principals: tuple[PrincipalDefinition, ...] = ()
    strict: bool = False
    prices: PriceTable | None = None
    lease_seconds: float | None = None
    durability: str | None = None
    on_ledger_error: str | None = None
    record_usage: bool | None = None
    usage_retention: float | None = None
    outbox: str | None = None

    @property
    def ledger_shown(self) -> str:
        """The address of the ledger for people: without user, password and parameters."""
        scheme, separator, rest = self.ledger.partition("://")
        if scheme in ("memory", "sqlite"):
            return self.ledger
        host = rest.partition("?")[0]
        return scheme + separator + ("***@" if "@" in host else "") + host.rpartition("@")[2]

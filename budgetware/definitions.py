"""Definitions of resources as texts that a ledger keeps for all who use it.

Not here: the numbers it decides by (`ledgers.terms`).
"""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from typing import Any

from .errors import ConfigurationError
from .kernel.dims import declare
from .policies import Policy, Reject, Terminate, Throttle
from .quotas import Capacity, Concurrency, QuotaLimit, Rate, Resource

_LIMITS: dict[str, type[Any]] = {"rate": Rate, "capacity": Capacity, "concurrency": Concurrency}
_POLICIES: dict[str, type[Any]] = {"throttle": Throttle, "reject": Reject, "terminate": Terminate}


def definition_text(resource: Resource) -> str:
    """A resource as canonical JSON."""
    shown = {
        field.name: getattr(resource, field.name)
        for field in fields(resource)
        if getattr(resource, field.name) != field.default
    }
    shown["limit"] = _as_table(resource.limit, _LIMITS)
    shown["enforcement"] = _as_table(resource.policy, _POLICIES)
    return json.dumps(shown, sort_keys=True, separators=(",", ":"), default=str)


def _as_table(value: QuotaLimit | Policy, kinds: dict[str, type[Any]]) -> dict[str, Any]:
    kind = next(name for name, made in kinds.items() if isinstance(value, made))
    return {"type": kind, **{f.name: getattr(value, f.name) for f in fields(value)}}


def resource_of(text: str) -> Resource:
    """The resource of such a text; raises `ConfigurationError` where it is none."""
    try:
        table: dict[str, Any] = json.loads(text)
        table["limit"] = _from_table(table["limit"], _LIMITS)
        table["enforcement"] = _from_table(table["enforcement"], _POLICIES)
        if table.get("dim") is not None:
            declare(table["dim"])
        return Resource(**table)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the ledger has a definition that this version cannot read ({error!r:.200}): delete "
            "it there, or use the version that wrote it"
        ) from None


def _from_table(table: dict[str, Any], kinds: dict[str, type[Any]]) -> Any:
    values = {name: _number(name, value) for name, value in table.items() if name != "type"}
    return kinds[table["type"]](**values)


def _number(name: str, value: Any) -> Any:
    """Dollars are written as texts; a period may be one, too."""
    return Decimal(value) if isinstance(value, str) and name in ("value", "max") else value

"""What `budgetware resource define` and `update` were asked for. Not here: putting it into force.

A value is read by the dimension of its resource, which an update learns from the ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from budgetware.clock import parse_max_wait
from budgetware.errors import InvalidAmount
from budgetware.formats import parse_duration
from budgetware.kernel.dims import check_name, declare
from budgetware.quotas import PERIOD_SECONDS, QuotaLimit, Rate, Resource

from .failures import MISUSED, Failure, misuse
from .grammar import ALIASES, parse_limit, parse_value
from .tables import part_of

_NO_BOUND = "none"


def definition_of(
    name: str, limit: str, *, burst: str | None, dim: str | None, **given: str | None
) -> Resource:
    """Read the definition of a resource; raises `ConfigurationError`."""
    check_name("resource", name)
    counted = None if dim is None else declare(ALIASES.get(dim, dim))
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return Resource(name, _limit(limit, burst, counted), dim=counted, **options)


def _limit(text: str, burst: str | None, dim: str | None) -> QuotaLimit:
    limit = parse_limit(text, dim)
    return limit if burst is None else _with_burst(limit, burst, dim)


def _with_burst(limit: QuotaLimit, burst: str, dim: str | None) -> Rate:
    if not isinstance(limit, Rate):
        raise InvalidAmount("--max is the burst of a rate: give --limit VALUE/PERIOD with it")
    if limit.max is not None:
        raise InvalidAmount("--limit has a max of its own: leave out --max")
    return replace(limit, max=parse_value(burst, dim))


@dataclass(frozen=True, slots=True)
class Edits:
    """What changes of a resource: texts, until its dimension is known."""

    limit: str | None
    burst: str | None
    others: Mapping[str, Any]

    def of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The changes of the resource whose JSON this is; raises `Failure`."""
        dim = row.get("dim")
        with misuse():
            if self.limit is not None:
                return {"limit": _limit(self.limit, self.burst, dim), **self.others}
            if self.burst is not None:
                return {"limit": _with_burst(_rate_of(row, dim), self.burst, dim), **self.others}
        return dict(self.others)


def edits_of(
    name: str,
    limit: str | None,
    *,
    burst: str | None,
    max_wait: str | None,
    **given: str | None,
) -> Edits:
    """Read what changes of a resource; raises `ConfigurationError` or `Failure`.

    Args:
        max_wait: `"none"`: as long as it takes.
    """
    check_name("resource", name)
    others: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if max_wait is not None:
        others["max_wait"] = None if max_wait == _NO_BOUND else max_wait
        parse_max_wait(others["max_wait"])
    if limit is None and burst is None and not others:
        raise Failure(
            "nothing to change: give --limit, --max, --enforcement, --max-wait or units", MISUSED
        )
    return Edits(limit, burst, others)


def _rate_of(row: Mapping[str, Any], dim: str | None) -> Rate:
    """The rate in the JSON of a resource, its burst left out."""
    table = part_of(row, "limit")
    if table.get("type") != "rate":
        raise InvalidAmount("--max is the burst of a rate, and this resource has none")
    value = str(table.get("value"))
    period = table.get("period", "second")
    return Rate(
        parse_value(value, "usd") if dim == "usd" else int(value),
        period if period in PERIOD_SECONDS else parse_duration(str(period)),
    )

"""What shared quotas are: `Rate`, `Capacity`, `Concurrency`, and the `Resource` that has one.

Checked, immutable definitions. Not here: what is left of them (`resources`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from .clock import parse_max_wait, parse_seconds
from .errors import ConfigurationError, InvalidAmount
from .kernel.dims import check_name, declare, show, to_units
from .ledgers.leases import OnLedgerError
from .ledgers.terms import Terms
from .policies import THROTTLE, Policy, PolicyLike, parse_policy

PERIOD_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
Price = int | str | Decimal | float


@dataclass(frozen=True, slots=True)
class Rate:
    """So much per period, refilled continuously.

    Attributes:
        value: units per period; dollars, where the resource counts `usd`.
        period: `"second"`, `"minute"`, `"hour"`, `"day"`, `"month"` (30 days), `"year"` (365
            days), or seconds, also as a text such as `"30s"`.
        max: the burst, the most that can be there at once; by default `value`.
    """

    value: Price
    period: str | float
    max: Price | None = None

    def __post_init__(self) -> None:
        _check_positive("value", self.value)
        if self.max is not None:
            _check_positive("max", self.max)
        _ = self.period_ns

    @property
    def period_ns(self) -> int:
        """The period in nanoseconds."""
        if isinstance(self.period, str) and self.period in PERIOD_SECONDS:
            return PERIOD_SECONDS[self.period] * 1_000_000_000
        try:
            period_ns = round(parse_seconds("period", self.period) * 1e9)
        except InvalidAmount:
            period_ns = 0
        if not period_ns:
            raise InvalidAmount(
                f"period={show(self.period)}: give one of {', '.join(PERIOD_SECONDS)}, or seconds"
            )
        return period_ns


@dataclass(frozen=True, slots=True)
class Capacity:
    """So much in all; what is spent never comes back.

    Attributes:
        value: units; dollars, where the resource counts `usd`.
    """

    value: Price

    def __post_init__(self) -> None:
        _check_positive("value", self.value)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """So many at once; a slot returns at the end of its reservation, whatever is committed.

    Attributes:
        value: slots.
    """

    value: int

    def __post_init__(self) -> None:
        to_units("value", self.value)
        _check_positive("value", self.value)


STRANDED = ("keep", "free")
ON_LEDGER_ERROR = ("lease", "reject", "open")

QuotaLimit = Rate | Capacity | Concurrency


def _check_positive(what: str, value: object) -> None:
    """What depends on the dimension is judged when the resource is made."""
    is_count = isinstance(value, int)
    units = to_units(what if is_count else "usd", value, round_up=False)
    if units == 0:
        raise InvalidAmount(f"{what}={show(value)}: a limit is positive; unlimited is `exempt`")


def limit_units(limit: QuotaLimit, dim: str | None) -> int:
    """What a quota allows at most at once, in units: its value, or the burst of a rate."""
    value = limit.value
    if isinstance(limit, Rate) and limit.max is not None:
        value = limit.max
    return value_units(value, dim)


def value_units(value: Price, dim: str | None) -> int:
    """An amount of a quota in units, at least 1."""
    units = to_units(dim or "value", value, round_up=False)
    if units == 0:
        raise InvalidAmount(f"{dim or 'value'}={show(value)}: a limit is positive")
    return units


@dataclass(frozen=True, slots=True)
class Resource:
    """A named quota that many tasks share.

    Attributes:
        name: by which calls draw on it.
        limit: `Rate`, `Capacity` or `Concurrency`.
        enforcement: what happens when there is not enough, by name or as an object.
        dim: the dimension it counts; a draw also charges that to the task, and a reservation of
            it draws on the resource where a token for it is bound. None: units of its own.
        parent: the name of a resource that is charged with it.
        unit, units: the words for one and for many, in messages.
        max_wait: the longest wait of a throttled call: seconds, or a text such as `"30s"`.
        per_call: where a ledger has it, ask that for each call, instead of leasing a stock: exact
            to the unit in every process, at the price of a round trip.
        max_lease: the most units a process leases at a time; while it serves calls from one such
            lot it may fetch another, and so its death strands two of them at most.
        stranded: of a capacity in a ledger, what becomes of units whose holder died: `"keep"`
            counts them as gone, `"free"` grants them again.
        on_ledger_error: while the ledger is away: `"lease"` spends what is leased, `"reject"`
            nothing, `"open"` lets calls through and books them later; None: as the service says.

    Raises:
        ConfigurationError, InvalidAmount: something of it cannot be.
    """

    name: str
    limit: QuotaLimit
    enforcement: PolicyLike = THROTTLE
    dim: str | None = None
    parent: str | None = None
    unit: str = "unit"
    units: str = "units"
    max_wait: float | str | None = None
    per_call: bool = False
    max_lease: Price | None = None
    stranded: Literal["keep", "free"] = "keep"
    on_ledger_error: OnLedgerError | None = None

    def __post_init__(self) -> None:
        check_name("resource", self.name)
        _check_lending(self)
        if not isinstance(self.limit, Rate | Capacity | Concurrency):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"resource {self.name!r}: limit={show(self.limit)}: give a Rate, a Capacity or a "
                "Concurrency"
            )
        if self.parent is not None:
            check_name("resource", self.parent)
        if self.dim is not None:
            if not isinstance(self.dim, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidAmount(f"resource {self.name!r}: dim={show(self.dim)}: give its name")
            object.__setattr__(self, "dim", declare(self.dim))
        for word in (self.unit, self.units):
            _check_word(self.name, word)
        _ = self.policy
        parse_max_wait(self.max_wait)
        check_kind(f"resource {self.name!r}", self.limit, self.dim)
        _ = self.most_leased

    @property
    def terms(self) -> Terms:
        """What a ledger needs to know of it."""
        limit = self.limit
        value = value_units(limit.value, self.dim)
        if isinstance(limit, Rate):
            burst = limit_units(limit, self.dim)
            return Terms("rate", value, max(1, limit.period_ns // 1_000), burst)
        if isinstance(limit, Capacity):
            return Terms("capacity", value, stranded=self.stranded)
        return Terms("concurrency", value)

    @property
    def most_leased(self) -> int | None:
        """The most units to have in stock."""
        if self.max_lease is None:
            return None
        try:
            return value_units(self.max_lease, self.dim)
        except InvalidAmount:
            raise InvalidAmount(
                f"resource {self.name!r}: max_lease={show(self.max_lease)}: give an amount of at "
                "least 1, or None"
            ) from None

    @property
    def policy(self) -> Policy:
        """The enforcement as an object."""
        return parse_policy(self.enforcement, "enforcement") or THROTTLE

    @property
    def key(self) -> str:
        """What a draw on it is counted as: its dimension, else its own name."""
        return self.dim or self.name


def check_kind(what: str, limit: QuotaLimit, dim: str | None) -> None:
    """Raise unless a limit of this kind can be set on the dimension."""
    if dim == "millis":
        raise InvalidAmount(f"{what}: millis is wall clock and cannot be reserved")
    if dim == "memory" and isinstance(limit, Rate):
        raise InvalidAmount(f"{what}: memory is a level: give it a Capacity or a Concurrency")
    if isinstance(limit, Concurrency) and dim == "usd":
        raise InvalidAmount(f"{what}: dollars are no slots: give a Rate or a Capacity")
    limit_units(limit, dim)
    value_units(limit.value, dim)


def _check_lending(resource: Resource) -> None:
    name = resource.name
    if type(resource.per_call) is not bool:
        raise ConfigurationError(f"resource {name!r}: per_call is True or False")
    if resource.stranded not in STRANDED:
        raise ConfigurationError(f"resource {name!r}: stranded is one of {', '.join(STRANDED)}")
    if resource.on_ledger_error not in (None, *ON_LEDGER_ERROR):
        raise ConfigurationError(
            f"resource {name!r}: on_ledger_error is one of {', '.join(ON_LEDGER_ERROR)}"
        )


def _check_word(name: str, word: Any) -> None:
    if not isinstance(word, str) or not 0 < len(word) <= 64 or not word.isprintable():
        raise ConfigurationError(
            f"resource {name!r}: unit {str(word)[:40]!r}: give 1 to 64 printable characters"
        )


@dataclass(frozen=True, slots=True)
class PrincipalDefinition:
    """On whose behalf calls run, as a manifest or a program defines it.

    Attributes:
        name: of the principal.
        parent: the name of the principal whose quotas count too.
        quotas: by dimension; each a `Resource` named like the principal, with that `dim`.
        exempt: not refused by quotas; None: as the parent.
    """

    name: str
    parent: str | None = None
    quotas: Mapping[str, Resource] = field(default_factory=dict[str, Resource])
    exempt: bool | None = None

    def __post_init__(self) -> None:
        check_name("principal", self.name)
        if self.parent is not None:
            check_name("principal", self.parent)
        if self.exempt is not None and type(self.exempt) is not bool:
            raise ConfigurationError(f"principal {self.name!r}: exempt is True, False or None")


def quota(name: str, dim: str, limit: QuotaLimit, enforcement: PolicyLike = None) -> Resource:
    """One quota of a principal: a resource of its own; refused calls are rejected by default."""
    return Resource(name, limit, enforcement or "reject", dim=dim)

"""What a service shows of its resources and principals, and what changes them live.

Not here: what calls draw (`requests`), and the registries themselves (`resources`, `principals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

from .accounts import acquire, release, waiting
from .admission import changes
from .admission.parking import dismiss, tell_stirred
from .errors import ConfigurationError, InvalidAmount
from .frames import definitions_changed
from .kernel.balances import Balance, Snapshot
from .kernel.dims import declare, show
from .kernel.nodes import Node
from .pauses import paused_seconds
from .policies import PolicyLike, policy_name
from .principals import Principal, is_exempt
from .quotas import PrincipalDefinition, QuotaLimit, Resource, quota
from .resources import Pool
from .runtime import Runtime
from .statements import node_snapshot

if TYPE_CHECKING:
    from .manifest import Manifest


class Changes(TypedDict, total=False):
    """What of a resource may change."""

    limit: QuotaLimit
    enforcement: PolicyLike
    unit: str
    units: str
    max_wait: float | str | None


_CHANGES = frozenset(Changes.__optional_keys__)


@dataclass(frozen=True, slots=True, eq=False)
class ResourceView:
    """One resource as it was when it was asked for; `snapshot` and `waiting` are of now.

    Attributes:
        definition: the `Resource`.
        revision: grows by one with each change; give it back as `expected_revision`.
    """

    definition: Resource
    revision: int
    _pool: Pool
    _runtime: Runtime

    @staticmethod
    def of(pool: Pool, runtime: Runtime) -> ResourceView:
        """The view of a pool."""
        try:
            acquire()
            return ResourceView(pool.definition, pool.revision, pool, runtime)
        finally:
            release()

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def limit(self) -> QuotaLimit:
        """`Rate`, `Capacity` or `Concurrency`."""
        return self.definition.limit

    @property
    def enforcement(self) -> str:
        """`throttle`, `reject` or `terminate`."""
        return policy_name(self.definition.policy)

    @property
    def dim(self) -> str | None:
        """The dimension it counts, if any."""
        return self.definition.dim

    @property
    def parent(self) -> str | None:
        """The resource that is charged with it."""
        return self.definition.parent

    @property
    def waiting(self) -> int:
        """How many calls wait for it now."""
        queue = self._pool.cell.queue
        return 0 if queue is None else queue.count

    @property
    def paused_seconds(self) -> float:
        """How long it still grants nothing in this process, after `QuotaService.pause`."""
        return paused_seconds(self._pool, self._runtime)

    @property
    def balance(self) -> Balance:
        """What is left of it now."""
        return self.snapshot()[self.definition.key]

    def snapshot(self) -> Snapshot:
        """Its balance at one instant; of a rate, what was not refilled yet counts as spent."""
        return node_snapshot(self._pool.node, self._runtime)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as the command line and HTTP show it."""
        own = self.definition
        return {
            "name": self.name,
            "revision": self.revision,
            "limit": limit_dict(self.limit),
            "enforcement": self.enforcement,
            "dim": self.dim,
            "parent": self.parent,
            "unit": own.unit,
            "units": own.units,
            "max_wait": own.max_wait,
            "waiting": self.waiting,
            "paused_seconds": self.paused_seconds,
            "balance": self.balance.to_dict(),
        }


def limit_dict(limit: QuotaLimit) -> dict[str, Any]:
    """A limit as a manifest writes it: money as text, a period by its name or in seconds."""
    values = {f.name: getattr(limit, f.name) for f in fields(limit)}
    shown = {
        key: value if isinstance(value, int) or key == "period" else f"{Decimal(str(value)):.6f}"
        for key, value in values.items()
        if value is not None
    }
    return {"type": type(limit).__name__.lower(), **shown}


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalView:
    """One principal as it was when it was asked for; `snapshot` is of now.

    Attributes:
        definition: what is defined of it.
        exempt: whether quotas refuse it nothing: what is shown is what is enforced.
    """

    definition: PrincipalDefinition
    exempt: bool
    _principal: Principal
    _runtime: Runtime

    @staticmethod
    def of(principal: Principal, runtime: Runtime) -> PrincipalView:
        """The view of a principal."""
        return PrincipalView(principal.definition, is_exempt(principal), principal, runtime)

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def parent(self) -> str | None:
        """The principal whose quotas count too."""
        return self.definition.parent

    @property
    def quotas(self) -> dict[str, QuotaLimit]:
        """Its own quotas, by dimension."""
        return {dim: quota.limit for dim, quota in self.definition.quotas.items()}

    def snapshot(self) -> Snapshot:
        """What was charged to it at one instant, and what is left of its quotas."""
        return node_snapshot(self._principal.node, self._runtime)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as the command line and HTTP show it."""
        quotas = self.definition.quotas
        return {
            "name": self.name,
            "parent": self.parent,
            "exempt": self.exempt,
            "quotas": {
                dim: {**limit_dict(quota.limit), "enforcement": policy_name(quota.policy)}
                for dim, quota in quotas.items()
            },
            "dims": self.snapshot().to_dict()["dims"],
        }


def update(
    runtime: Runtime, resource: Resource | str, changes: dict[str, Any], expected: int | None
) -> Pool:
    """Change a resource by a new definition, or by what changes of it."""
    if isinstance(resource, Resource):
        if changes:
            raise ConfigurationError("update: give a Resource, or a name and what changes")
        new = {f.name: getattr(resource, f.name) for f in fields(resource)}
        pool = _update(runtime, resource.name, new, expected)
    else:
        strange = sorted(changes.keys() - _CHANGES)
        if strange or not changes:
            raise ConfigurationError(
                f"update: {strange[0]!r} of a resource cannot change"
                if strange
                else "update changes nothing: give limit=, enforcement=, max_wait= or the units"
            )
        pool = _update(runtime, resource, changes, expected)
    definitions_changed()
    recheck(pool.node, runtime)
    return pool


def _update(runtime: Runtime, name: str, new: dict[str, Any], expected: int | None) -> Pool:
    if runtime.shared is not None:
        return runtime.shared.update(name, new, expected)
    return runtime.resources.update(name, new, expected)


def define(runtime: Runtime, resource: Resource, *, is_declared: bool = False) -> Pool:
    """Add a resource, in the ledger first, if there is one."""
    if runtime.shared is not None:
        return runtime.shared.define(resource, is_declared=is_declared)
    return runtime.resources.define(resource)


def put_on(runtime: Runtime, manifest: Manifest) -> None:
    """Define what a manifest defines; parents come first there."""
    for resource in manifest.resources:
        define(runtime, resource, is_declared=True)
    for principal in manifest.principals:
        define_principal(runtime, principal, is_declared=True)
    runtime.templates = manifest.budgets


def changed_elsewhere(pool: Pool, runtime: Runtime) -> None:
    """Take note that another process has changed a resource."""
    definitions_changed()
    recheck(pool.node, runtime)


def recheck(node: Node, runtime: Runtime) -> None:
    """Serve or refuse those who wait for what has changed."""
    if not waiting:
        return
    now_ns = runtime.clock.now_ns()
    try:
        acquire()
        changes.recheck(node, now_ns)
    finally:
        release()
    tell_stirred()


def delete(runtime: Runtime, name: str, expected: int | None) -> None:
    """Take a resource out, and refuse those who wait for it."""
    runtime.sweep()  # what has expired is no longer open
    if runtime.shared is not None:
        runtime.shared.delete(name, expected)
        expected = None
    pool = runtime.resources.delete(name, expected)
    dismiss(runtime.clock.now_ns(), pool.node)


def close_line(runtime: Runtime) -> None:
    """The service closes: refuse everyone who waits in it."""
    runtime.resources.close()
    now_ns = runtime.clock.now_ns()
    try:
        acquire()
        for waiter in [w for w in waiting if w.frame.runtime is runtime]:
            reason = "the service was closed while the call waited: connect() again"
            changes.turn_away(waiter, now_ns, ConfigurationError(reason))
    finally:
        release()
    tell_stirred()


def define_principal(
    runtime: Runtime, definition: PrincipalDefinition, *, is_declared: bool = False
) -> Principal:
    """Add or change a principal, and look again at those who wait for a quota of it."""
    if runtime.shared is None:
        principal = runtime.principals.define(definition)
    else:
        shared = runtime.shared
        principal = shared.define_principal(runtime.principals, definition, is_declared=is_declared)
    definitions_changed()
    recheck(principal.node, runtime)
    return principal


def as_quotas(name: str, given: Mapping[str, object] | None) -> dict[str, Resource]:
    """The quotas of a principal, as users give them."""
    if not isinstance(given, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"principal {show(name)}: quotas={show(given)}: give limits by dimension, as "
            '{"tokens": Rate(1_000_000, "day")}'
        )
    return {dim: _as_quota(name, dim, quota) for dim, quota in (given or {}).items()}


def _as_quota(name: str, dim: str, given: object) -> Resource:
    dim = declare(dim)
    if isinstance(given, Resource):
        return replace(given, name=name, dim=dim)
    if not hasattr(given, "value"):
        raise InvalidAmount(
            f"principal {name!r}: quota {dim}={show(given)}: give a Rate, a Capacity or a "
            "Concurrency"
        )
    return quota(name, dim, given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

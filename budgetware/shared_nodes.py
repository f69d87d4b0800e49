"""Which nodes of a service live in its ledger: resources, quotas of principals, shared tasks.

Each gets a lease here; what is defined or changed goes to the ledger first, and what others
changed there is taken over. Not here: leases themselves (`ledgers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .accounts import acquire, release
from .definitions import definition_text, resource_of
from .errors import BudgetwareError, ConfigurationError, UnknownResource
from .ids import new_id
from .kernel.nodes import Cell, QuotaCell
from .ledgers.courier import Courier
from .ledgers.leases import Lease, OnLedgerError
from .ledgers.terms import Grant, NodeState, Terms
from .quotas import PrincipalDefinition, Resource
from .resources import Pool, Resources, check_resource
from .shared_principals import (
    PLAIN,
    PRINCIPAL,
    node_of,
    principal_text,
    principals_of,
    quota_node,
)

if TYPE_CHECKING:
    from .ledgers.protocol import Ledger
    from .principals import Principal, Principals

T = TypeVar("T")
RESOURCE, TASK = "r/", "t/"
"""What the keys of nodes begin with."""
_ALWAYS = 1e9
"""More seconds than any node is idle."""
_MOST_TRIES = 5
"""How often a change is made anew because others have changed the same meanwhile."""


class SharedNodes:
    """The nodes of one service that are in its ledger.

    Args:
        courier: not started yet.
        on_error: what happens while the ledger is away, where a resource does not say.

    `on_change` is called when a definition was changed elsewhere, without the lock.
    """

    def __init__(
        self,
        courier: Courier,
        resources: Resources,
        on_error: OnLedgerError,
    ) -> None:
        self.courier = courier
        self.leases: dict[str, Lease] = {}
        courier.leases = lambda: list(self.leases.values())
        self._resources = resources
        self._found: dict[str, Pool] = {}
        self._on_error: OnLedgerError = on_error
        self.on_change: Callable[[Pool], object] | None = None

    def call(self, function: Callable[[Ledger], T]) -> T:
        """Have the ledger do something; blocks until it has."""
        return self.courier.call(function)

    def open(self) -> None:
        """Open the ledger, and take over the resources that it has. Blocks.

        Raises:
            LedgerUnavailable, ConfigurationError: nothing is left open.
        """
        self.courier.start()
        try:
            states = self.call(lambda ledger: ledger.read(RESOURCE))
            waiting = {state.node: (resource_of(state.definition), state) for state in states}
            while waiting:
                self._take_in(waiting)
        except BaseException:
            self.courier.close(())
            raise

    def _take_in(self, waiting: dict[str, tuple[Resource, NodeState]]) -> None:
        """Define one of those whose parents are defined; a lost parent is done without."""
        for node, (resource, state) in waiting.items():
            parent = resource.parent
            if parent is None or RESOURCE + parent not in waiting:
                del waiting[node]
                self._found[resource.name] = self._join(resource, state)
                return
        waiting.clear()

    def flush(self) -> None:
        """Report all that was used by now. Blocks."""
        self.courier.flush(list(self.leases.values()))

    def close(self) -> None:
        """Return what is leased, and close the ledger. Blocks."""
        self.courier.close(list(self.leases.values()))

    # Resources.

    def define(self, resource: Resource, *, is_declared: bool) -> Pool:
        """Add a resource; one that a manifest declares may be there already."""
        check_resource(resource)
        lost = self._lost(resource.name)
        known = self._found.pop(resource.name, None) or lost
        if known is None or known.is_closed or known.node.ended:
            self._resources.check_new(resource)
            state = self._tell(resource, is_declared) if is_declared else self._add(resource)
            return self._join(resource, state)
        state = self._tell(resource, is_declared) if is_declared else self._add(resource)
        self._resources.take_over(known, resource_of(state.definition), state.revision)
        if lost is not None:  # it hears of it now
            self.courier.ring(self.leases[RESOURCE + resource.name])
        return known

    def _lost(self, name: str) -> Pool | None:
        """A resource that is here, but that the ledger knows nothing of any more."""
        lease = self.leases.get(RESOURCE + name)
        if lease is None or not lease.is_lost:
            return None
        return self._resources.get(name)

    def _add(self, resource: Resource) -> NodeState:
        """Add one to the ledger, where another process may have put the same."""
        text = definition_text(resource)
        node = RESOURCE + resource.name
        state = self._put(node, resource.terms, text, idle_seconds=_ALWAYS)
        if state.definition != text:
            raise ConfigurationError(
                f"resource {resource.name!r} is in the ledger already, with another definition: "
                "update it, or delete it first"
            )
        return state

    def _tell(
        self,
        resource: Resource,
        is_declared: bool,  # noqa: FBT001
        expected: int | None = None,
    ) -> NodeState:
        node, text = RESOURCE + resource.name, definition_text(resource)
        declared = text if is_declared else None
        return self._put(node, resource.terms, text, declared=declared, expected_revision=expected)

    def _join(self, resource: Resource, state: NodeState) -> Pool:
        """Add a resource that is in the ledger, as it is there."""
        defined = resource_of(state.definition) if state.definition else resource

        def attach(pool: Pool) -> None:
            pool.revision = state.revision
            lease = self._lend(state.node, pool.cell, defined)
            lease.seen(state)
            lease.on_news = lambda grant: self._hear(pool, grant)

        return self._resources.define(defined, attach)

    def _hear(self, pool: Pool, grant: Grant) -> None:
        """A definition was changed by somebody else."""
        if not grant.definition:
            return
        try:
            self._resources.take_over(pool, resource_of(grant.definition), grant.revision)
        except BudgetwareError:
            return  # of a newer version: its numbers are in force all the same
        if self.on_change is not None:
            self.on_change(pool)

    def update(self, name: str, changes: dict[str, Any], expected: int | None) -> Pool:
        """Change a resource, for all who use the ledger."""
        tries = _MOST_TRIES if expected is None else 1
        while True:
            tries -= 1
            self._catch_up(name)
            pool, new = self._resources.changed(name, changes, expected)
            try:
                state = self._tell(new, is_declared=False, expected=pool.revision)
            except ConfigurationError:
                if not tries:
                    raise
            else:
                self._resources.take_over(pool, new, state.revision)
                return pool

    def _catch_up(self, name: str) -> None:
        """Take over what others have made of a resource; raises `UnknownResource`."""
        pool, node = self._resources.get(name), RESOURCE + name
        states = self.call(lambda ledger: ledger.read(node))
        state = next((state for state in states if state.node == node), None)
        if state is None:
            raise UnknownResource(
                f"resource {name!r} was deleted by another process: delete it here, too, and then "
                "define it again"
            )
        if state.revision != pool.revision and state.definition:
            self._resources.take_over(pool, resource_of(state.definition), state.revision)

    def delete(self, name: str, expected: int | None) -> None:
        """Take a resource out of the ledger."""
        self._resources.get(name)
        node = RESOURCE + name
        is_there = True
        try:
            self._catch_up(name)
        except UnknownResource:
            is_there = False
        self._resources.check_delete(name, expected)
        lease = self.leases.get(node)
        if lease is not None and is_there:
            self._give_back(lease)
        if is_there:
            self.call(lambda ledger: ledger.delete(node, expected_revision=expected))
        if lease is not None:
            lease.is_closed = True
            del self.leases[node]

    def _give_back(self, lease: Lease) -> None:
        """Return what this process has in stock, so that nothing is in use."""
        self.courier.return_stock(lease)

    # Principals and tasks.

    def take_in_principals(self, principals: Principals) -> None:
        """Define those that the ledger has, and nobody here has defined. Blocks."""
        states = {state.node: state for state in self.call(lambda ledger: ledger.read(PRINCIPAL))}
        for definition in principals_of(list(states.values())):
            name, quotas = definition.name, definition.quotas
            has_parent = definition.parent is None or principals.find(definition.parent) is not None
            if principals.find(name) is None and has_parent:
                known = {dim: states[quota_node(name, dim)] for dim in quotas}
                self._put_principal(principals, definition, known)

    def refresh(self, principals: Principals) -> None:
        """Take over what others have defined, changed and used. Blocks."""
        states = self.call(self._look)
        self._refresh_resources(states)
        for definition in principals_of([s for n, s in states.items() if n.startswith(PRINCIPAL)]):
            known = principals.find(definition.name)
            if known is None or known.definition != definition:
                quotas = {d: states[quota_node(definition.name, d)] for d in definition.quotas}
                self._put_principal(principals, definition, quotas)

    def _look(self, ledger: Ledger) -> dict[str, NodeState]:
        """Read all, and what was used of each. In the courier's thread, as answers are."""
        found = [*ledger.read(RESOURCE), *ledger.read(PRINCIPAL)]
        states = {state.node: state for state in found}
        for node, lease in self.leases.copy().items():
            state = states.get(node)
            if state is not None and lease.asking is None:
                try:
                    acquire()
                    lease.seen(state)
                finally:
                    release()
        return states

    def _refresh_resources(self, states: Mapping[str, NodeState]) -> None:
        new: dict[str, tuple[Resource, NodeState]] = {}
        pools = {pool.name: pool for pool in self._resources}
        for node, state in states.items():
            name = node.removeprefix(RESOURCE)
            if not node.startswith(RESOURCE) or not state.definition:
                continue
            pool = pools.get(name)
            if pool is None:
                new[node] = resource_of(state.definition), state
            elif pool.revision != state.revision:
                self._resources.take_over(pool, resource_of(state.definition), state.revision)
        while new:
            self._take_in(new)
        for name, pool in pools.items():
            if RESOURCE + name not in states:
                self._forget(pool)

    def _forget(self, pool: Pool) -> None:
        """One that was deleted elsewhere; it stays as long as reservations of it are open."""
        lease = self.leases.get(RESOURCE + pool.name)
        if lease is None:
            return
        try:
            self._resources.delete(pool.name, None)
        except ConfigurationError:
            return
        lease.is_closed = True
        del self.leases[RESOURCE + pool.name]

    def find_principal(self, principals: Principals, name: str) -> None:
        """Define one that the ledger has, and those above it. Blocks."""
        node = node_of(name)
        found = self.call(lambda ledger: ledger.read(node))
        states = {s.node: s for s in found if s.node == node or s.node.startswith(f"{node}/")}
        for definition in principals_of(list(states.values())):
            if definition.parent is not None:
                principals.get(definition.parent)
            known = {dim: states[quota_node(name, dim)] for dim in definition.quotas}
            self._put_principal(principals, definition, known)

    def define_principal(
        self, principals: Principals, definition: PrincipalDefinition, *, is_declared: bool = False
    ) -> Principal:
        """Add or change a principal, its quotas in the ledger first.

        One that a manifest declares is as it is there: what was changed by hand stays.
        """
        principals.check(definition)
        name, quotas = definition.name, definition.quotas
        states: dict[str, NodeState] = {}
        for dim, quota in quotas.items():
            text = definition_text(quota)
            declared = text if is_declared else None
            states[dim] = self._put(quota_node(name, dim), quota.terms, text, declared=declared)
        text = principal_text(definition)
        self._put(node_of(name), PLAIN, text, declared=text if is_declared else None)
        if is_declared:
            self.find_principal(principals, name)
            return principals.get(name)
        return self._put_principal(principals, definition, states)

    def _put_principal(
        self,
        principals: Principals,
        definition: PrincipalDefinition,
        states: Mapping[str, NodeState],
    ) -> Principal:
        """Add or change a principal whose quotas are in the ledger."""
        name, quotas = definition.name, definition.quotas
        try:
            acquire()
            known = principals.find(name)
            gone = [] if known is None else sorted(known.definition.quotas.keys() - quotas.keys())
            principal = principals.define(definition)
            for dim, state in states.items():
                self._attach_quota(principal.node.cell(dim), quotas[dim], state)
        finally:
            release()
        for dim in gone:
            self._part_with(quota_node(name, dim))
        return principal

    def _put(self, node: str, terms: Terms, text: str, **options: Any) -> NodeState:
        return self.call(lambda ledger: ledger.define(node, terms, text, **options))

    def _attach_quota(self, cell: Cell, quota: Resource, state: NodeState) -> None:
        """Have it served from a lease, each of which is a holder. Locked."""
        lease = self.leases.get(state.node)
        if lease is not None:
            lease.change(state.terms)
            return
        assert isinstance(cell, QuotaCell)
        holder = f"{self.courier.holder}:{new_id()}"
        self._lend(state.node, cell, quota, holder=holder).seen(state)

    def _part_with(self, node: str) -> None:
        """A quota is lifted here: what is leased of it goes back, and calls are only counted."""
        lease = self.leases[node]
        self._give_back(lease)
        try:
            acquire()
            lease.is_closed = True
            lease.cell.lease = None
            del self.leases[node]
        finally:
            release()

    def lend_task(self, cell: QuotaCell, state: NodeState, *, holder: str) -> Lease:
        """Lease one dimension of a shared task; each of its blocks is a holder. Locked."""
        lease = Lease(
            state.node, cell, state.terms, self.courier, self.courier.clock.now_ns(),
            holder=holder, on_error=self._on_error,
        )  # fmt: skip
        lease.seen(state)
        key = f"{state.node} {holder}"
        self.leases[key] = lease
        lease.on_end = lambda: self.leases.pop(key, None)
        return lease

    def _lend(
        self, node: str, cell: QuotaCell, resource: Resource, *, holder: str | None = None
    ) -> Lease:
        """Have a cell be served from a lease. Locked."""
        lease = self.leases[node] = Lease(
            node,
            cell,
            resource.terms,
            self.courier,
            self.courier.clock.now_ns(),
            holder=holder,
            is_per_call=resource.per_call,
            most=resource.most_leased,
            on_error=resource.on_ledger_error or self._on_error,
        )
        return lease

"""On whose behalf calls run: principals, their quotas, and who is exempt.

Not here: making one current (`bindings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .accounts import acquire, release
from .clock import Clock
from .errors import ConfigurationError
from .ids import new_id
from .kernel.nodes import Node, QuotaCell
from .kernel.quota import lift
from .policies import DEFAULT, Throttle
from .quotas import Concurrency, PrincipalDefinition
from .resources import put_quota

MAX_PRINCIPALS = 10_000


class Principal:
    """One principal: what is defined of it, and its place in the tree."""

    __slots__ = ("definition", "node", "parent")

    def __init__(self, definition: PrincipalDefinition, parent: Principal | None) -> None:
        self.definition = definition
        self.parent = parent
        above = None if parent is None else parent.node
        self.node: Node = Node(definition.name, new_id(), DEFAULT, above, kind="principal")
        self.node.owner = self

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def is_throttled(self) -> bool:
        """Whether a call may have to wait for what others hold of it, or of one above it."""
        cells = [cell for node in self.node.chain for cell in node.cells.values()]
        return any(isinstance(c.policy, Throttle) and c.refill is None for c in cells)


def is_exempt(principal: Principal | None) -> bool:
    """Whether quotas refuse nothing to it: what is nearest to it decides.

    The one predicate; what is enforced and what is shown both ask it.
    """
    while principal is not None:
        if principal.definition.exempt is not None:
            return principal.definition.exempt
        principal = principal.parent
    return False


class Principals:
    """The principals of a service, by name; unknown ones are added when they first appear."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, Principal] = {}
        self._seen: set[str] = set()  # of these, the ones that nobody has defined
        self.look_elsewhere: Callable[[str], object] | None = None

    def __iter__(self) -> Iterator[Principal]:
        return iter(self._known.copy().values())

    def find(self, name: str) -> Principal | None:
        """The principal of that name, if it was ever seen."""
        return self._known.get(name)

    def get(self, name: str) -> Principal:
        """The principal of that name; raises `ConfigurationError` where there are too many.

        One that nobody here knows is looked up in the ledger, if there is one, which blocks.
        """
        principal = self._known.get(name)
        if principal is None and self.look_elsewhere is not None:
            self.look_elsewhere(name)
            principal = self._known.get(name)
        if principal is None:
            principal = self.define(PrincipalDefinition(name), is_new=True)
        return principal

    def check(self, definition: PrincipalDefinition) -> None:
        """Raise unless it could be defined."""
        try:
            acquire()
            known = self._known.get(definition.name)
            if known is None:
                self._parent_of(definition)
            else:
                _check_change(known, definition)
        finally:
            release()

    def define(self, definition: PrincipalDefinition, *, is_new: bool = False) -> Principal:
        """Add a principal, or change its quotas and exemption: in effect at once."""
        if not isinstance(definition, PrincipalDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"define_principal({str(definition)[:60]!r}): not one")
        now_ns = self._clock.now_ns()
        try:
            acquire()
            known = self._known.get(definition.name)
            if known is None:
                known = self._add(definition, is_new=is_new)
            elif is_new:
                return known
            else:
                self._seen.discard(known.name)
            _check_change(known, definition)
            _put_quotas(known, definition, now_ns)
            known.definition = definition
            return known
        finally:
            release()

    def _add(self, definition: PrincipalDefinition, *, is_new: bool) -> Principal:
        """Add one; of those that only appear there is a cap, which refuses none that is defined."""
        if is_new:
            if len(self._seen) >= MAX_PRINCIPALS:
                raise ConfigurationError(
                    f"principal {definition.name!r}: more than {MAX_PRINCIPALS} principals that "
                    "nobody has defined; define it, or group those without a quota under one name"
                )
            self._seen.add(definition.name)
        parent = self._parent_of(definition)
        principal = self._known[definition.name] = Principal(definition, parent)
        return principal

    def _parent_of(self, definition: PrincipalDefinition) -> Principal | None:
        """The parent of a new one; raises where it cannot be added."""
        if definition.parent is None:
            return None
        parent = self._known.get(definition.parent)
        if parent is None:
            raise ConfigurationError(
                f"principal {definition.name!r}: its parent {definition.parent!r} is not "
                "defined; define the parent first"
            )
        return parent


def _check_change(known: Principal, new: PrincipalDefinition) -> None:
    old = known.definition
    if old.parent != new.parent:
        raise ConfigurationError(f"principal {new.name!r}: its parent cannot change")
    for dim, cell in known.node.cells.items():
        before, after = old.quotas.get(dim), new.quotas.get(dim)
        is_slots = [q is not None and isinstance(q.limit, Concurrency) for q in (before, after)]
        kinds = {type(q.limit) for q in (before, after) if q is not None}
        if len(kinds) > 1 or (is_slots[0] != is_slots[1] and cell.spent + cell.reserved > 0):
            raise ConfigurationError(
                f"principal {new.name!r}: the kind of its quota of {dim} cannot change"
            )


def _put_quotas(known: Principal, new: PrincipalDefinition, now_ns: int) -> None:
    node = known.node
    for dim, quota in new.quotas.items():
        is_late = dim in node.cells
        cell = node.cell(dim)
        assert isinstance(cell, QuotaCell)
        if is_late and cell.limit is None:
            cell.is_watched = True  # frames that know the cell take it for one without a limit
        put_quota(cell, quota, now_ns)
    for dim in known.definition.quotas.keys() - new.quotas.keys():
        gone = node.cells[dim]
        if isinstance(gone, QuotaCell):
            lift(gone)
            gone.policy = None

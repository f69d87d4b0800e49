"""What `budgetware quota set` changes of a principal. Not here: putting it into force."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from budgetware.errors import BudgetwareError, InvalidAmount
from budgetware.kernel.dims import BUILT_IN, check_name
from budgetware.quotas import PrincipalDefinition, Resource, quota

from .failures import Failure
from .grammar import ALIASES, parse_quotas
from .sources import Source
from .tables import Table, part_of

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """Checked arguments.

    Attributes:
        limits: new quotas by dimension; those not named stay.
        removed: dimensions whose quota is lifted.
        keeps_enforcement: a quota that is there keeps what happens at it.
        parent: None: as it is.
        exempt: None: as it is; `"inherit"`: as the parent.
    """

    principal: str
    limits: Mapping[str, Resource]
    removed: frozenset[str]
    keeps_enforcement: bool
    parent: str | None
    exempt: bool | Literal["inherit"] | None

    @staticmethod
    def read(
        principal: str,
        limits: Sequence[str],
        *,
        removed: Sequence[str],
        enforcement: str | None,
        parent: str | None,
        exempt: bool | Literal["inherit"] | None,
    ) -> "QuotaChange":
        """Check what was typed.

        Raises:
            ConfigurationError: it contradicts itself, changes nothing, or is no limit.
        """
        check_name("principal", principal)
        if parent is not None:
            check_name("principal", parent)
        given = {
            dim: quota(principal, dim, limit, enforcement)
            for dim, limit in parse_quotas(limits).items()
        }
        lifted = frozenset(ALIASES.get(dim, dim) for dim in removed)
        for dim in sorted(given.keys() & lifted):
            raise InvalidAmount(f"{dim} is both set and removed: give one")
        if enforcement is not None and not given:
            raise InvalidAmount("--enforcement is of the limits given with it: give one")
        if not (given or lifted) and parent is None and exempt is None:
            raise InvalidAmount("nothing to set: give a limit, such as tokens=1M/day")
        return QuotaChange(principal, given, lifted, enforcement is None, parent, exempt)

    def own_dims(self) -> frozenset[str]:
        """The dimensions that get a quota and are not built in."""
        return frozenset(self.limits) - frozenset(BUILT_IN)

    def of(self, known: PrincipalDefinition | None) -> PrincipalDefinition:
        """What the principal is afterwards.

        Raises:
            Failure: a quota to remove is not there.
        """
        old = known or PrincipalDefinition(self.principal)
        for dim in sorted(self.removed - old.quotas.keys()):
            raise Failure(f"principal {self.principal!r} has no quota of {dim} to remove")
        quotas = {dim: each for dim, each in old.quotas.items() if dim not in self.removed}
        for dim, new in self.limits.items():
            keeps = self.keeps_enforcement and dim in quotas
            # a new limit is a new limit: what is not typed here, such as max_wait, stays
            quotas[dim] = replace(quotas[dim], limit=new.limit) if keeps else new
        exempt = old.exempt if self.exempt is None else self.exempt
        return PrincipalDefinition(
            self.principal,
            old.parent if self.parent is None else self.parent,
            quotas,
            None if exempt == "inherit" else exempt,
        )


def dims_in_use(source: Source) -> frozenset[str]:
    """The dimensions that some resource or principal has; none where that may not be seen."""
    try:
        overview = source.overview(_LOOK_SECONDS)
    except (Failure, BudgetwareError):
        return frozenset()
    resources: list[Table] = overview.get("resources") or []
    principals: list[Table] = overview.get("principals") or []
    counted = {str(row.get("dim")) for row in resources}
    return frozenset(counted.union(*(part_of(row, "dims") for row in principals)))

"""`[principals.NAME]`: parents, exemptions and quotas. Not here: on whose behalf a call runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..policies import DEFAULT
from ..quotas import PrincipalDefinition
from .enforcement import read_policy
from .resources import Draft, draft, limit_keys, read_limit
from .section import Section
from .values import dimension, flag, name, wait

KEYS: Final = ("parent", "exempt", "quotas")
EXAMPLE: Final = 'tokens = { type = "rate", value = 1_000_000, period = "day" }'


@dataclass(frozen=True, slots=True)
class PrincipalDraft:
    """A checked principal whose quotas have declared no dimension yet."""

    name: str
    parent: str | None
    exempt: bool | None
    quotas: Mapping[str, Draft]

    def finished(self) -> PrincipalDefinition:
        """Return the principal as defined; this declares its dimensions."""
        quotas = {dim: quota.finished() for dim, quota in self.quotas.items()}
        return PrincipalDefinition(self.name, self.parent, MappingProxyType(quotas), self.exempt)


def read_principal(section: Section) -> PrincipalDraft:
    """Read one principal; without what is wrong with it."""
    section.only(KEYS, "a principal")
    parent = section.get("parent", name)
    exempt = section.get("exempt", flag)
    found = section.tables("quotas", EXAMPLE, any_name=True)
    quotas = {quota.name: _read_quota(quota) for quota in found}
    read = {dim: quota for dim, quota in quotas.items() if quota is not None}
    return PrincipalDraft(section.name, parent, exempt, read)


def _read_quota(section: Section) -> Draft | None:
    before = section.problems.count
    dim = section.check(lambda: dimension(section.name))
    limit = read_limit(section, dim, is_dim_wrong=dim is None)
    section.only((*limit_keys(section), "enforcement", "max_wait"), "this quota")
    policy = read_policy(section, "enforcement") or DEFAULT
    max_wait = section.get("max_wait", wait)
    if limit is None or section.problems.count > before:
        return None
    return draft(section, (), dim, limit, policy, {"max_wait": max_wait})

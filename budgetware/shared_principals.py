"""Principals as a ledger keeps them: whose quotas count too, who is exempt, which quotas they have.

A node for each, of which nothing is ever claimed; the quotas are nodes of their own. Not here: what
a principal is (`principals`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from .definitions import resource_of
from .errors import ConfigurationError
from .ledgers.terms import NodeState, Terms
from .quotas import PrincipalDefinition

PRINCIPAL = "p/"
PLAIN = Terms("capacity", 1)
"""What stands in for the terms of a principal."""


def node_of(principal: str) -> str:
    """The key of a principal."""
    return f"{PRINCIPAL}{principal}"


def quota_node(principal: str, dim: str) -> str:
    """The key of one of its quotas."""
    return f"{PRINCIPAL}{principal}/{dim}"


def principal_text(definition: PrincipalDefinition) -> str:
    """A principal as canonical JSON."""
    table = {
        "parent": definition.parent,
        "exempt": definition.exempt,
        "quotas": sorted(definition.quotas),
    }
    return json.dumps(table, sort_keys=True, separators=(",", ":"))


def principals_of(states: Sequence[NodeState]) -> list[PrincipalDefinition]:
    """The principals of these nodes, each after its parent.

    Raises:
        ConfigurationError: one of them was written by a newer version.
    """
    by_key = {state.node: state for state in states}
    found = {
        name: _principal(name, state, by_key)
        for state in states
        if "/" not in (name := state.node.removeprefix(PRINCIPAL))
    }
    ordered: dict[str, PrincipalDefinition] = {}
    for name in found:
        path: list[str] = []
        at: str | None = name
        while at is not None and at in found and at not in ordered and at not in path:
            path.append(at)
            at = found[at].parent
        ordered.update({step: found[step] for step in reversed(path)})
    return list(ordered.values())


def _principal(name: str, state: NodeState, by_key: Mapping[str, NodeState]) -> PrincipalDefinition:
    try:
        table = json.loads(state.definition)
        keys = {dim: quota_node(name, dim) for dim in table["quotas"]}
        return PrincipalDefinition(
            name,
            table["parent"],
            {
                dim: resource_of(by_key[key].definition)
                for dim, key in keys.items()
                if key in by_key
            },
            table["exempt"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the ledger has a principal {name!r} that this version cannot read ({error!r:.200}): "
            "use the version that wrote it"
        ) from None

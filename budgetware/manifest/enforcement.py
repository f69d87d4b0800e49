"""A policy as a manifest writes it: a name, or a table with the fields of its class.

Not here: what policies do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..policies import Policy, Reject, Terminate, Throttle
from .section import Section
from .values import named_policy, one_of, patience, wait

_Fields = Mapping[str, Callable[[object], float]]
_CLASSES: Mapping[str, tuple[Callable[..., Policy], _Fields]] = {
    "throttle": (Throttle, {"max_wait": wait}),
    "reject": (Reject, {"patience": patience}),
    "terminate": (Terminate, {"settle_seconds": wait}),
}
_EXAMPLE = '{ type = "reject", patience = 100 }'


def read_policy(section: Section, key: str) -> Policy | None:
    """Return the policy that the key gives; None where it gives none."""
    if not isinstance(section.data.get(key), dict):
        return section.get(key, named_policy)
    table = section.table(key, _EXAMPLE)
    assert table is not None
    kind = table.need("type", one_of(*_CLASSES), f"{key} = {_EXAMPLE}")
    if kind is None:
        return None
    make, fields = _CLASSES[kind]
    table.only(("type", *fields), f"a {kind} policy")
    given = {name: table.get(name, read) for name, read in fields.items()}
    return make(**{name: value for name, value in given.items() if value is not None})

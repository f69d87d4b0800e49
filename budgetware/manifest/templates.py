"""`[budgets.NAME]`: what `task_budget("NAME")` stands for. Not here: tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigurationError, InvalidAmount
from ..kernel.budget import Limit, Price
from ..kernel.dims import is_declared
from ..limits import LimitValue, parse_limits, parse_share
from . import principals, resources
from .definition import Template
from .enforcement import read_policy
from .problems import nearest
from .section import Section
from .values import amount, dimension, duration, flag, one_of, share

OPTIONS: Final = ("policy", "warn_at", "carve", "keep", "unpriced")
_NO_DIMS: Final = {
    *resources.KEYS,
    *principals.KEYS,
    *("limits", "max", "name", "period", "principal", "type", "value", "warn"),
}
_ALIAS: Final = "custom0"


def read_template(section: Section, own_dims: Collection[str]) -> Template:
    """Read one template; without what is wrong with it.

    Args:
        section: its table.
        own_dims: those the manifest lists; a name that looks like a slip is no slip among them.
    """
    options: dict[str, Any] = {
        "policy": read_policy(section, "policy"),
        "warn_at": section.get("warn_at", share),
        "carve": section.get("carve", flag),
        "keep": _read_keep(section),
        "unpriced": section.get("unpriced", one_of("error", "allow")),
    }
    given = {key: value for key, value in options.items() if value is not None}
    dims = [key for key in section.data if key not in OPTIONS]
    if not dims:
        section.wrong("has no limit; name at least one, such as tokens = 50_000")
    limits: dict[str, LimitValue] = {}
    for key in dims:
        dim = section.check(partial(_limited_dim, key, own_dims), key)
        limit = _read_limit(section, dim) if dim is not None else None
        if dim is not None and limit is not None:
            limits[dim] = limit
            _check_limit(section, dim, limit, given)
    if "seconds" in section.data and "millis" in section.data:
        section.wrong("is the same limit as seconds; give one of them", "millis")
    return Template(MappingProxyType(limits), MappingProxyType(given))


def _limited_dim(key: str, own_dims: Collection[str]) -> str:
    """Any name of the right shape can be a dimension; those that look like a slip are refused."""
    if key == "seconds" or key in own_dims or is_declared(key):
        return key
    near = nearest(key, (*OPTIONS, "seconds"), 0.85)
    if near is not None or key in _NO_DIMS:
        meant = f"did you mean {near!r}? Else" if near is not None else "to count it,"
        raise InvalidAmount(f"unknown key of a budget; {meant} list it in `dimensions`")
    return dimension(key)


def _read_limit(section: Section, dim: str) -> LimitValue | None:
    if not isinstance(section.data[dim], dict):
        return section.get(dim, partial(_amount, dim))
    example = f"{dim} = {{ limit = {_SAMPLES.get(dim, '50_000')} }}"
    table = section.table(dim, example)
    assert table is not None
    table.only(("limit", "warn"), "a limit")
    limit = table.need("limit", partial(_amount, dim), example)
    warn = table.get("warn", partial(_amount, dim))
    return None if limit is None else Limit(limit, warn)


_SAMPLES: Final[Mapping[str, str]] = {"usd": '"0.25"', "seconds": "120", "bytes": '"64MiB"'}


def _amount(dim: str, value: object) -> Price:
    return duration(value) if dim == "seconds" else amount(dim, value)


def _read_keep(section: Section) -> Mapping[str, LimitValue] | None:
    table = section.table("keep", "keep = { tokens = 2_000 }")
    if table is None:
        return None
    kept: dict[str, LimitValue] = {}
    for dim in table.data:
        if dim not in section.data or dim in OPTIONS:
            table.wrong("has no limit here; what is kept is a part of a limit", dim)
        elif dim in ("seconds", "millis"):
            table.wrong("is wall clock and cannot be kept; leave it out", dim)
        elif (value := table.get(dim, partial(amount, dim))) is not None:
            kept[dim] = value
    return MappingProxyType(kept)


def _check_limit(section: Section, dim: str, limit: LimitValue, given: Mapping[str, Any]) -> None:
    """Ask what `task_budget` asks, one limit at a time and without declaring a dimension."""
    alias = dim if dim == "seconds" or is_declared(dim) else _ALIAS
    kept = given.get("keep", {})
    keep = {alias: kept[dim]} if dim in kept else None
    try:
        parse_limits({alias: limit}, share=parse_share(given.get("warn_at")), keep=keep)
    except ConfigurationError as error:
        section.wrong(str(error).replace(alias, dim).removeprefix(f"{dim}: "), dim)

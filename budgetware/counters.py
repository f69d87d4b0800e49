"""Named counters: what else a principal is to see in its reports. Not here: reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .errors import InvalidAmount
from .frames import current
from .kernel.dims import check_amount, check_name, show
from .reports.tallies import RESERVED

if TYPE_CHECKING:
    from .runtime import Runtime

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def count(runtime: Runtime, name: str, principal: str | None, counts: Mapping[str, int]) -> None:
    """Add to a counter, once everything is checked."""
    if not _NAME.fullmatch(str(name)):
        raise InvalidAmount(f"count({show(name)}): a counter is named like 'bundle_builds'")
    if name in RESERVED:
        raise InvalidAmount(f"count({name!r}): a report has a section of that name: choose another")
    if not counts:
        raise InvalidAmount(f"count({name!r}): say what is added, such as requested=1")
    for what, n in counts.items():
        if not _NAME.fullmatch(what):
            raise InvalidAmount(f"count({name!r}): {show(what)} is no name of a count")
        check_amount(what, n)
    frame = current.get(None)
    task = ""
    if frame is not None and frame.runtime is runtime:
        task = frame.path
        if principal is None and frame.principal is not None:
            principal = frame.principal.name
    if principal is not None:
        check_name("principal", principal)
    if runtime.records is not None:
        runtime.records.count(principal, task, name, dict(counts))

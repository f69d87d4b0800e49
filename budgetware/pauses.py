"""Pausing resources: for some time they grant nothing, as a provider has asked for.

In this process alone; a ledger hears nothing of it. Not here: who waits for its end (`admission`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .accounts import acquire, release
from .admission.parking import serve_cells
from .clock import parse_seconds
from .errors import InvalidAmount
from .frames import Frame
from .holds import Hold
from .kernel.dims import show
from .kernel.nodes import QuotaCell
from .kernel.quota import end_pause, pause
from .resources import Pool
from .runtime import Runtime
from .stakes import Draw

MAX_PAUSE_SECONDS = 86_400.0


def check_pause(seconds: object) -> int:
    """Nanoseconds of a pause; raises `InvalidAmount`."""
    if seconds == 0 and type(seconds) in (int, float):
        return 0
    try:
        checked = parse_seconds("pause", seconds)
    except InvalidAmount:
        checked = math.inf
    if checked > MAX_PAUSE_SECONDS:
        raise InvalidAmount(
            f"pause({show(seconds)}): give seconds from 0 to {MAX_PAUSE_SECONDS:,.0f}, or a text "
            "such as '30s'"
        )
    return math.ceil(checked * 1e9)


def pause_by_name(runtime: Runtime, name: str, seconds: object) -> None:
    """Pause a resource, or lift its pause."""
    nanos = check_pause(seconds)
    _pause([runtime.resources.get(name).cell], runtime, nanos, lifts=nanos == 0)


def pause_drawn(hold: Hold, seconds: object) -> None:
    """Pause what a hold draws on."""
    nanos = check_pause(seconds)
    cells = list(dict.fromkeys(_drawn(hold)))
    if nanos and cells:
        _pause(cells, hold.frame.runtime, nanos, lifts=False)


def paused_seconds(pool: Pool, runtime: Runtime) -> float:
    """How long a resource still grants nothing; 0: it does."""
    return max(0, pool.cell.paused_ns - runtime.clock.now_ns()) / 1e9


def _drawn(hold: Hold) -> Iterable[QuotaCell]:
    for dim, units, _payers in hold.items:
        if units > 0:
            yield from (draw.pool.cell for draw in _draws_of(hold.frame, dim))


def _draws_of(frame: Frame, dim: str) -> list[Draw]:
    if frame.aim is not None and frame.aim.key == dim:
        return [frame.aim]
    return [draw for draw in frame.draws if draw.key == dim and draw.is_dimension]


def _pause(cells: list[QuotaCell], runtime: Runtime, nanos: int, *, lifts: bool) -> None:
    now_ns = runtime.clock.now_ns()
    try:
        acquire()
        for cell in cells:
            end_pause(cell, now_ns)
            if lifts or now_ns + nanos > cell.paused_ns:
                pause(cell, 0 if lifts else now_ns + nanos)
    finally:
        release()
    serve_cells(cells, now_ns)

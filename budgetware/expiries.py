"""Holds that end by themselves after a time. Not here: when that is looked at (`runtime`)."""

from __future__ import annotations

from weakref import ref

from .accounts import waiting
from .admission.parking import serve
from .holds import Hold

EXPIRES_SECONDS = 600.0
"""How long a bare reservation stays open unless told otherwise."""


def expire_in(hold: Hold, seconds: float) -> None:
    """Assume it after this time, unless it is settled before."""
    runtime = hold.frame.runtime
    held = ref(hold)

    def expire() -> None:
        open_hold = held()
        if open_hold is not None:
            open_hold.expire()

    now_ns = runtime.clock.now_ns()
    runtime.expire_at(hold.numbered(), now_ns + int(seconds * 1e9), expire)
    if waiting:
        serve(hold.items, now_ns)  # who waits for it sets an alarm

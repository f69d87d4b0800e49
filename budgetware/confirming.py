"""Waiting until the ledger has a settlement: what leaves a block whose resource is `per_call`.

Whether that is waited for or cut short, what is booked stays booked, and is told to the ledger as
soon as it answers. Not here: telling it (`ledgers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from .accounts import acquire, release
from .holds import Hold
from .kernel.nodes import Item
from .ledgers.courier import PATIENCE_SECONDS
from .ledgers.leases import Lease
from .loops import Alarm, alarm, current_loop, post


class _LoopBell:
    """What wakes a task of an event loop, from any thread."""

    __slots__ = ("_alarm", "_loop")

    def __init__(self, loop: Any, sleeper: Alarm) -> None:
        self._loop = loop
        self._alarm = sleeper

    def set(self) -> None:
        """Wake it."""
        post(self._loop, self._alarm.wake)


def _untold(items: Sequence[Item]) -> list[tuple[Lease, int]]:
    """The leases of payers that do not know of their last ends yet, and of how many they will."""
    leases: dict[Lease, int] = {}
    for _dim, _n, (cells, _above, _special) in items:
        for cell in cells:
            lease: Lease | None = cell.lease
            if lease is not None and lease.is_per_call:
                leases[lease] = lease.touched
    return list(leases.items())


def _listen(untold: list[tuple[Lease, int]], make_bell: Callable[[], Any]) -> Any:
    """A bell that rings when the first of them hears something; None: they all know, or cannot."""
    try:
        acquire()
        for lease, touched in untold:
            if lease.error is None and not lease.has_acknowledged(touched):
                bell = make_bell()
                lease.listen(bell)
                return bell
    finally:
        release()
    return None


async def confirm_async(hold: Hold) -> None:
    """Wait until the ledger has what this hold came to, or is away. Checkpoint if it waits."""
    loop = current_loop()
    if loop is None:  # a coroutine may be driven by hand
        confirm_sync(hold)
        return
    untold = _untold(hold.items)
    while True:
        sleeper = alarm()
        bell = _listen(untold, lambda: _LoopBell(loop, sleeper))  # noqa: B023 - used at once
        if bell is None:
            return
        await sleeper.sleep(PATIENCE_SECONDS)


def confirm_sync(hold: Hold) -> None:
    """The same for sync code, which blocks its thread."""
    untold = _untold(hold.items)
    while True:
        bell = _listen(untold, Event)
        if bell is None:
            return
        bell.wait(PATIENCE_SECONDS)

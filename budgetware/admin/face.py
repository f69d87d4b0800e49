"""What all operations share: the service, who may ask, threads, and what is remembered.

Not here: the operations.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Any
from weakref import WeakSet

import anyio
from anyio.lowlevel import RunVar

from ..service import QuotaService
from .door_keeper import DoorKeeper
from .keys import Keys
from .stream import Broadcast
from .top_ups import TopUps
from .worker import Worker

OVERVIEW_SECONDS = 0.2
REFRESH_SECONDS = 0.2
HEALTH_SECONDS = 1.0


class Remembered:
    """What was asked of the service a moment ago, so that many who ask cost one."""

    def __init__(self) -> None:
        self.at = float("-inf")
        self.value: Any = None

    def is_fresh(self, seconds: float) -> bool:
        """Whether it is no older."""
        return time.monotonic() - self.at <= seconds

    def keep(self, value: Any, at: float) -> None:
        """Take another one, asked for at this time."""
        self.at, self.value = at, value


class Face:
    """One application: what its operations work with.

    Attributes:
        resources_lock: one at a time defines a resource, or takes over what others have defined.
        broadcasts: those of all event loops that it runs on.
    """

    def __init__(self, service: QuotaService, keys: Keys | None) -> None:
        self.service = service
        self.worker = Worker()
        self.door_keeper = DoorKeeper(service, keys)
        self.top_ups = TopUps()
        self.principals_lock = Lock()
        self.resources_lock = Lock()
        self.health = Remembered()
        self._overview = Remembered()
        self._refreshed = Remembered()
        self._locks: RunVar[anyio.Lock] = RunVar("budgetware.admin.overview")
        self.broadcasts: WeakSet[Broadcast] = WeakSet()
        self._broadcasts: RunVar[Broadcast] = RunVar("budgetware.admin.events")

    def refreshed(self) -> QuotaService:
        """The service, which knows what other processes have changed a moment ago. Blocks.

        Raises:
            LedgerUnavailable: it did not answer.
        """
        with self.resources_lock:
            if not self._refreshed.is_fresh(REFRESH_SECONDS):
                at = time.monotonic()
                self.service.refresh()
                self._refreshed.keep(None, at)
        return self.service

    async def overview(self) -> dict[str, Any]:
        """The overview, as it was a moment ago at most; asked for once at a time."""
        lock = self._locks.get(None)
        if lock is None:
            lock = anyio.Lock()
            self._locks.set(lock)
        async with lock:
            if not self._overview.is_fresh(OVERVIEW_SECONDS):
                at = time.monotonic()
                self._overview.keep(await self.worker.look(self.service.overview), at)
            found: dict[str, Any] = self._overview.value
            return found

    def broadcast(self) -> Broadcast:
        """What sends events to the clients of this event loop."""
        found = self._broadcasts.get(None)
        if found is None:
            found = Broadcast(self.service, self.worker)
            self.broadcasts.add(found)
            self._broadcasts.set(found)
        return found

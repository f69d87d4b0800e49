"""What a courier has to do, and when: jobs at once, and claims for leases that are due.

Anybody may add to it, from any thread; the rest is for the courier's own. Not here: doing it
(`courier`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from ..kernel.refill import NEVER_NS
from .leases import Lease
from .protocol import Ledger

_LINGER_NS = 100_000_000
"""How long a slot that has come back is kept for the next call."""


class Job:
    """Something the ledger is to do, and what came of it."""

    __slots__ = ("_done", "error", "function", "result")

    def __init__(self, function: Callable[[Ledger], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = Event()

    def run(self, ledger: Ledger) -> None:
        """Do it."""
        try:
            self.result = self.function(ledger)
        except BaseException as error:  # whoever waits for it is told
            self.error = error
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done; say whether it was."""
        return self._done.wait(seconds)


class Agenda:
    """Jobs, and leases that are to be claimed for.

    Attributes:
        active: leases with a time at which they are due.
    """

    def __init__(self) -> None:
        self._bell: SimpleQueue[Lease | Job | None] = SimpleQueue()
        self._later: deque[Lease] = deque()
        self.active: dict[Lease, None] = {}

    # From any thread; never waits.

    def put(self, item: Lease | Job | None) -> None:
        """Have something done at once; None: look at the clock."""
        self._bell.put(item)

    def put_later(self, lease: Lease) -> None:
        """Have a lease claimed for in a moment."""
        self._later.append(lease)
        self._bell.put(None)

    # In the courier's own.

    def take_jobs(self, wait_seconds: float) -> list[Job]:
        """Sleep until there is something to do, for so long at most; note who has become due."""
        jobs: list[Job] = []
        try:
            item = self._bell.get(timeout=wait_seconds)
            while True:
                if isinstance(item, Job):
                    jobs.append(item)
                elif item is not None:
                    item.due_ns = 0
                    self.active[item] = None
                item = self._bell.get_nowait()
        except Empty:
            pass
        return jobs

    def settle_later(self, now_ns: int) -> None:
        """Set the time for those that were put off."""
        while self._later:
            lease = self._later.popleft()
            due_ns = now_ns + _LINGER_NS
            lease.due_ns = due_ns if lease.due_ns is None else min(due_ns, lease.due_ns)
            self.active[lease] = None

    def due(self, now_ns: int) -> list[Lease]:
        """Who is to be claimed for now."""
        return [
            lease for lease in self.active if lease.due_ns is not None and lease.due_ns <= now_ns
        ]

    def next_ns(self) -> int:
        """When the next one is."""
        return min((lease.due_ns or 0 for lease in self.active), default=NEVER_NS)

"""Usage events on their way into the ledger: numbered, so that each is kept there once.

Not here: when they are written (`courier`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice

from .protocol import Ledger
from .terms import KEEP_SECONDS, UsageRow, UsageSum

Entry = tuple[float, str, tuple[UsageSum, ...]]
"""Of a usage event: its time, its text, what it adds."""
MAX_ROWS = 100_000
"""So many usage events are kept while the ledger is away; then the oldest are dropped."""
_BATCH = 1_000

_log = logging.getLogger("budgetware")


class UsageQueue:
    """The usage events of one holder that are not in the ledger yet.

    Attributes:
        dropped: events that were lost because the ledger was away too long.
        keep_seconds: how long the ledger is to keep them.
    """

    def __init__(self, holder: str, keep_seconds: float = KEEP_SECONDS) -> None:
        self.dropped = 0
        self.keep_seconds = keep_seconds
        self._holder = holder
        self._events: deque[Callable[[], Entry]] = deque()
        self._rows: deque[UsageRow] = deque()
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._events) + len(self._rows)

    def put(self, make: Callable[[], Entry]) -> bool:
        """Take an event: made later; say whether there was none before.

        From any thread; never waits.
        """
        events = self._events
        events.append(make)
        return len(events) == 1

    def write(self, ledger: Ledger) -> None:
        """Write down all that have come. In the courier's thread."""
        while self._events or self._rows:
            self._number(_BATCH)
            batch = list(islice(self._rows, _BATCH))
            if batch:
                ledger.record(batch, keep_seconds=self.keep_seconds)
            for _ in batch:
                self._rows.popleft()

    def since(self, number: int) -> list[UsageRow]:
        """Those that are not written yet and have a higher number. In the courier's thread."""
        self._number(MAX_ROWS)
        return [row for row in self._rows if row.number > number]

    def _number(self, most: int) -> None:
        """Make rows of events, until there are so many."""
        events, rows = self._events, self._rows
        while len(self) > MAX_ROWS:
            (rows or events).popleft()
            self.dropped += 1
        while events and len(rows) < most:
            try:
                timestamp, text, sums = events.popleft()()
            except Exception:
                _log.exception("a usage event cannot be written down")
                continue
            self._numbers += 1
            rows.append(UsageRow(self._holder, self._numbers, timestamp, text, sums))

    def shut(self) -> None:
        """Take no more, and forget what there is."""
        self._events = deque(maxlen=0)
        self._rows.clear()

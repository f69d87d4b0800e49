"""Usage events and counts on their way into the ledger.

Not here: those of a service without one (`memory_records`), what they add up to (`usage_sums`), and
who asks for it (`reports`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .accounts import drain
from .clock import Clock
from .ledgers.terms import UsageSum
from .usage_sums import CountGroup, Groups, count_sums, count_text, sums_of

if TYPE_CHECKING:
    from .events import UsageEvent
    from .ledgers.courier import Courier
    from .ledgers.protocol import Ledger

T = TypeVar("T")
Recorded = tuple[int, dict[str, Any]]
"""An event as it is kept: its number, which only grows, and its JSON form."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Records(Protocol):
    """What keeps usage events; a listener of the service. Reading blocks where it is a ledger."""

    def put(self, event: Callable[[], UsageEvent]) -> None:
        """Take an event, made later. From any thread; never waits."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...

    def count(
        self, principal: str | None, task: str, counter: str, counts: Mapping[str, int]
    ) -> None:
        """Add to a counter. From any thread; never waits."""
        ...

    def usage(self, since: float, until: float, *, after: int = 0) -> list[Recorded]:
        """Return events of a time, `until` not included, at most 1,000, counts among them."""
        ...

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """Return what was added up of the hours that end in this time."""
        ...

    def last(self) -> int:
        """Return the number of the newest event; 0: there is none."""
        ...


class LedgerRecords:
    """Events that the courier writes into the ledger.

    Args:
        call: asks the ledger, and waits for its answer.
    """

    def __init__(
        self, courier: Courier, clock: Clock, call: Callable[[Callable[[Ledger], Any]], Any]
    ) -> None:
        self._courier = courier
        self._clock = clock
        self._call = call
        self._groups = Groups()

    def put(self, event: Callable[[], UsageEvent]) -> None:
        """See `Records.put`."""
        self._courier.record(lambda: self._entry(event()))

    def _entry(self, event: UsageEvent) -> tuple[float, str, tuple[UsageSum, ...]]:
        return event.timestamp, _encode(event.to_dict()), sums_of(event, self._groups)

    def close(self) -> None:
        """The courier writes what it has when it closes."""

    def count(
        self, principal: str | None, task: str, counter: str, counts: Mapping[str, int]
    ) -> None:
        """See `Records.count`."""
        group = CountGroup(principal, task, counter)
        now, groups = self._clock.time(), self._groups
        self._courier.record(
            lambda: (now, count_text(group, now, counts), count_sums(group, now, counts, groups))
        )

    def usage(self, since: float, until: float, *, after: int = 0) -> list[Recorded]:
        """See `Records.usage`."""
        rows = self._ask(lambda ledger: ledger.usage(since, until, after=after))
        return [(number, json.loads(row.text)) for number, row in rows]

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """See `Records.sums`."""
        return self._ask(lambda ledger: ledger.sums(first, last))

    def last(self) -> int:
        """See `Records.last`."""
        return self._ask(lambda ledger: ledger.last_usage())

    def _ask(self, function: Callable[[Ledger], T]) -> T:
        """Ask the ledger, once it has what was recorded here."""
        drain()

        def answer(ledger: Ledger) -> T:
            self._courier.usage.write(ledger)
            return function(ledger)

        found: T = self._call(answer)
        return found

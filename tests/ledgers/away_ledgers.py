"""A ledger that can be away, beside the store that others share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.protocol import Ledger

SECONDS = 20.0


class AwayLedger:
    """One service's way to a store.

    Attributes:
        is_away: nothing arrives.
        loses_answers: all arrives, but no answer comes back.
        fails_at: the name of a method that does not arrive.
    """

    def __init__(self, store: Ledger) -> None:
        self._store = store
        self.is_away = False
        self.loses_answers = False
        self.fails_at = ""

    @property
    def address(self) -> str:
        return self._store.address

    def close(self) -> None:
        """The store stays open."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*args: Any, **options: Any) -> Any:
            if self.is_away or name == self.fails_at:
                raise LedgerUnavailable("away")
            result = method(*args, **options)
            if self.loses_answers:
                raise LedgerUnavailable("its answer is lost")
            return result

        return call


def wait_until(is_so: Callable[[], object]) -> None:
    """Look again and again, for a while."""
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.002)

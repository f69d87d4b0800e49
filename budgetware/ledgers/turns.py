"""Taking turns at slots, among processes that wait for the same ones.

A process whose own calls wait would never give a slot back: each goes to the next in its line. So
after a moment it hands over, if others stand in line, and waits behind them. Not here: who is next
in the ledger (`rules`).
"""

from __future__ import annotations

from .terms import Claim, Grant

QUANTUM_NS = 100_000_000
"""How long a process serves its own line before it hands over."""
_FIRST_RETRY_NS = 20_000_000


class Turn:
    """Where one process stands with the slots of one node. `is_over`: others are next."""

    __slots__ = ("_refusals", "_since_ns", "is_over")

    def __init__(self, now_ns: int) -> None:
        self._refusals = 0
        self._since_ns = now_ns
        self.is_over = False

    def heard(self, claim: Claim, grant: Grant, now_ns: int) -> None:
        """Take note of an answer."""
        if grant.granted > 0:
            self._refusals, self._since_ns = 0, now_ns
        elif claim.need:
            self._refusals += 1
        self.is_over = grant.is_wanted and now_ns - self._since_ns >= QUANTUM_NS

    def retry_ns(self, longest_ns: int) -> int:
        """When to ask again: soon at first, as slots may be held for a moment only."""
        return min(longest_ns, _FIRST_RETRY_NS << min(self._refusals, 16))

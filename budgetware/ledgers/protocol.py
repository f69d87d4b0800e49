"""What a ledger must do. Not here: who calls it (`courier`), and how it decides (`rules`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .terms import KEEP_SECONDS, Claim, Difference, Grant, NodeState, Terms, UsageRow, UsageSum


class Ledger(Protocol):
    """A store of shared balances.

    Sync, and called from one thread at a time: a service has a thread of its own for it. Each
    method is one attempt and one atomic step; it raises `LedgerUnavailable` where it cannot tell
    whether that was taken, and is called again then with the same arguments, which must count
    once. `budgetware.testing.ledger_contract` is the suite it has to pass.
    """

    @property
    def address(self) -> str:
        """Where it is, for people: without user, password and parameters."""
        ...

    def open(self) -> None:
        """Connect, and make or migrate what it needs.

        Raises:
            LedgerUnavailable: it cannot be reached.
            ConfigurationError: it can, but is not fit: another kind of file, a newer version, no
                permission, no persistence.
        """
        ...

    def close(self) -> None:
        """Let go of it. Closing twice does nothing."""
        ...

    def define(
        self,
        node: str,
        terms: Terms,
        definition: str,
        *,
        declared: str | None = None,
        expected_revision: int | None = None,
        idle_seconds: float | None = None,
    ) -> NodeState:
        """Add a node, or change its definition; return it as it is then.

        Nothing changes where it is defined so already, nor where `declared` is the text that it
        was last declared by: what was changed by hand since then stays.

        Args:
            declared: what a manifest says of it.
            expected_revision: of the definition as the caller has read it.
            idle_seconds: only add it: one that is there stays as it is, unless nobody has
                claimed anything of it for so long; then it begins anew.

        Raises:
            ConfigurationError: another revision, or another kind.
        """
        ...

    def add(self, node: str, units: int, request: str) -> NodeState:
        """Raise the value of a node by so many units, once for each `request`.

        Raises:
            ConfigurationError: there is no such node.
        """
        ...

    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        """Take a node out; it begins anew, with a higher revision, if it is defined again.

        Raises:
            ConfigurationError: another revision, or units of it are held.
        """
        ...

    def read(self, prefix: str = "") -> list[NodeState]:
        """Return the nodes whose keys begin so, in the order of their keys."""
        ...

    def sync(self, claims: Sequence[Claim]) -> list[Grant]:
        """Answer claims, each on its own and in order; all of them, or `LedgerUnavailable`."""
        ...

    def latch(self, node: str, reason: str) -> None:
        """Have a node take no more reservations, for the reason that came first."""
        ...

    def spend(self, token: str, expires: float) -> bool:
        """Note that a token was imported; False if it was before.

        Args:
            expires: until when it must be remembered, in seconds since the epoch.
        """
        ...

    def remember(self, key: str, text: str, seconds: float) -> str:
        """Keep a text by a key for so long; return it, or what is kept there already."""
        ...

    def replace(self, key: str, text: str) -> None:
        """Keep another text by a key that is known, for as long as before."""
        ...

    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        """Keep usage events, and add up what they say; those that are known already count once.

        Args:
            keep_seconds: older ones may be deleted; their sums stay for 400 days.
        """
        ...

    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        """Return recorded events of a time, at most 1,000, each with its number.

        Args:
            since, until: seconds since the epoch; `until` is not included.
            after: only those with a higher number: the last one of the page before.
        """
        ...

    def last_usage(self) -> int:
        """Return the number of the event that was recorded last; 0: there is none."""
        ...

    def sums(self, first: int, last: int) -> list[UsageSum]:
        """Return what was added up of the hours that end in this time, in their order.

        Args:
            first, last: seconds since the epoch; both are included. `EVER` is a sum of all time.
        """
        ...

    def verify(self) -> list[Difference]:
        """Replay the journal; return where balances differ from it."""
        ...

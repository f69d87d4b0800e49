"""Where a lease hands in that a claim should be made. Not here: making it (`courier`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .leases import Lease


class Desk(Protocol):
    """Who takes claims to the ledger."""

    holder: str
    ttl_ms: int
    is_owed_a_turn: bool

    def ring(self, lease: Lease, *, later: bool = False) -> None:
        """Have a claim made, at once or after a moment. Never waits."""
        ...


class Bell(Protocol):
    """What is rung when the ledger has answered, or does not; an `Event`, say."""

    def set(self) -> None:
        """Ring it. Never waits; locked."""
        ...

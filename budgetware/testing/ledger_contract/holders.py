"""A process that holds a lease, as small as it can be and still right. Not here: real ones."""

from __future__ import annotations

from dataclasses import dataclass

from ...ledgers.protocol import Ledger
from ...ledgers.terms import Claim, Grant


@dataclass(eq=False)
class Holder:
    """What one holder knows of one capacity, or of one set of slots.

    Attributes:
        used: units it has used in all.
        reserved: units that open calls hold.
        free: the rest of its lease.
        epoch: of the last claim that was answered.
        revision: of the definition it knows.
        asked: the claim that was not answered yet.
    """

    ledger: Ledger
    node: str
    name: str
    ttl_ms: int
    used: int = 0
    reserved: int = 0
    free: int = 0
    epoch: int = 0
    revision: int = 0
    asked: Claim | None = None

    @property
    def held(self) -> int:
        """Its lease."""
        return self.reserved + self.free

    def claim(
        self,
        *,
        want: int = 0,
        need: int = 0,
        head: int = 0,
        waits: bool = False,
        is_last: bool = False,
    ) -> Claim:
        """Make its next claim; the very same until it is answered."""
        if self.asked is None:
            if is_last:
                self.free = 0
            self.asked = Claim(
                self.node, self.name, self.epoch + 1, self.used, self.held, want, need, head,
                waits, ttl_ms=self.ttl_ms, revision=self.revision, is_last=is_last,
            )  # fmt: skip
        return self.asked

    def take(self, grant: Grant) -> Grant:
        """Take the answer to the claim that waits for one; ignore any other."""
        if self.asked is None or grant.epoch != self.asked.epoch:
            return grant
        self.asked = None
        self.epoch = grant.epoch
        self.revision = grant.revision
        self.free += grant.granted
        return grant

    def sync(
        self,
        *,
        want: int = 0,
        need: int = 0,
        head: int = 0,
        waits: bool = False,
        is_last: bool = False,
    ) -> Grant:
        """Claim, and take the answer."""
        claim = self.claim(want=want, need=need, head=head, waits=waits, is_last=is_last)
        [grant] = self.ledger.sync([claim])
        return self.take(grant)

    def wait_for(self, units: int) -> Grant:
        """Have a caller wait in line for so many units."""
        return self.sync(need=units, head=units, waits=True)

    def spend(self, units: int) -> None:
        """Use units of its lease."""
        self.free -= units
        self.used += units

    def repeat(self, claim: Claim) -> Grant:
        """Send a claim again, and leave the answer be."""
        [grant] = self.ledger.sync([claim])
        return grant

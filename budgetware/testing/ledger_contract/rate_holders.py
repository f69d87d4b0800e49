"""A process that has a share of a rate, as small as it can be and still right.

It refills its own bucket by its share, and what it lets through it takes from there. While a claim
is on its way it refills nothing: the share may have been cut already. Not here: real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ledgers.protocol import Ledger
from ...ledgers.terms import FINE, Claim, Grant, Terms

ALIVE = 0.9
"""Of its time, that a lease is used."""


@dataclass(eq=False)
class RateHolder:
    """What one holder knows of one rate.

    Attributes:
        level: of its bucket, in parts of a unit: `parts` of them are one.
        refilled_us: when that was refilled last.
        ends_us: when it stops to use its lease.
        share, cap, demand, revision, epoch: of its last claim and the answer.
        asked, asked_us: the claim that was not answered yet, and when it was made.
        again_us: when to ask again.
    """

    ledger: Ledger
    node: str
    name: str
    terms: Terms
    ttl_ms: int
    demand: int
    level: int = 0
    refilled_us: int = 0
    ends_us: int = 0
    share: int = 0
    cap: int = 0
    used: int = 0
    revision: int = 0
    epoch: int = 0
    asked: Claim | None = None
    asked_us: int = 0
    again_us: int = 0

    @property
    def parts(self) -> int:
        """So many make a unit: a share is in units/1024 per period, the time in microseconds."""
        return self.terms.period_us * FINE

    def refill(self, now_us: int) -> None:
        """Put in what has come since, while no claim is on its way."""
        if self.asked is None:
            self._pour(self.share, min(now_us, self.ends_us))

    def _pour(self, share: int, until_us: int) -> None:
        if until_us > self.refilled_us:
            self.level += (until_us - self.refilled_us) * share
            self.level = min(self.level, self.cap * self.parts)
            self.refilled_us = until_us

    def spend(self, units: int, now_us: int) -> bool:
        """Let so many units through if they are there."""
        self.refill(now_us)
        if now_us >= self.ends_us or self.level < units * self.parts:
            return False
        self.level -= units * self.parts
        self.used += units
        return True

    def claim(self, now_us: int, *, head: int = 0, is_last: bool = False) -> Claim:
        """Make its next claim; the very same until it is answered."""
        if self.asked is None:
            self.refill(now_us)
            held = self.level // self.parts
            self.asked_us = now_us
            self.asked = Claim(
                self.node, self.name, self.epoch + 1, self.used, held, head=head,
                waits=head > 0, demand=0 if is_last else self.demand, share=self.share,
                cap=self.cap, ttl_ms=self.ttl_ms, revision=self.revision, is_last=is_last,
            )  # fmt: skip
        return self.asked

    def take(self, grant: Grant, now_us: int) -> None:
        """Take the answer to the claim that waits for one; ignore any other."""
        if self.asked is None or grant.epoch != self.asked.epoch:
            return
        self.asked = None
        self.epoch, self.revision = grant.epoch, grant.revision
        if grant.terms is not None:
            self.level = self.level * grant.terms.period_us // self.terms.period_us
            self.terms = grant.terms
        self.level += grant.granted * self.parts
        lasts_us = self.ttl_ms * 1_000
        slow = min(self.share, grant.share)
        self.cap = grant.cap
        self._pour(slow, min(now_us, self.ends_us))
        self.refilled_us = now_us
        self.level = min(self.level, self.cap * self.parts)
        self.share = grant.share
        self.ends_us = self.asked_us + int(lasts_us * ALIVE)
        retry_ms = lasts_us // 3_000 if grant.retry_ms is None else grant.retry_ms
        self.again_us = now_us + min(retry_ms * 1_000, lasts_us // 3)

    def sync(self, now_us: int, *, head: int = 0, is_last: bool = False) -> Grant:
        """Claim, and take the answer at once."""
        [grant] = self.ledger.sync([self.claim(now_us, head=head, is_last=is_last)])
        self.take(grant, now_us)
        return grant


@dataclass(eq=False)
class Window:
    """The bucket that all of them together must not outrun: burst + value * time.

    Attributes:
        level: in parts of a unit, never below 0 where they keep to it.
        lowest: the lowest level so far.
    """

    terms: Terms
    at_us: int
    level: int = 0
    lowest: int = 0
    passed: int = 0

    def __post_init__(self) -> None:
        self.level = self.lowest = self.terms.burst * self.terms.period_us

    def let_through(self, units: int, now_us: int) -> None:
        """Note that so many units passed."""
        self.level += (now_us - self.at_us) * self.terms.value
        self.level = min(self.level, self.terms.burst * self.terms.period_us)
        self.at_us = now_us
        self.level -= units * self.terms.period_us
        self.lowest = min(self.lowest, self.level)
        self.passed += units

    @property
    def excess(self) -> float:
        """Units beyond burst + value * time, in the worst of all windows."""
        return max(0, -self.lowest) / self.terms.period_us

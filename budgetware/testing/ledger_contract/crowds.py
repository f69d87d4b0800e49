"""Many holders of one rate at work: their claims, lost answers, deaths, and what they let through.

Not here: a single one (`rate_holders`), and what is asked of the ledger (`rates`).
"""

from __future__ import annotations

from random import Random

from ...ledgers.protocol import Ledger
from ...ledgers.terms import Terms
from .rate_holders import RateHolder, Window


class Crowd:
    """Holders that let through as much as they may.

    Args:
        units: of each call.
        lost: how many of 1,000 answers are lost; the same claim is sent again then.
        deaths: how many of 1,000 holders die in each step; another takes the place.
    """

    def __init__(
        self,
        ledger: Ledger,
        terms: Terms,
        now_us: int,
        *,
        holders: int,
        ttl_ms: int,
        node: str = "r/rate",
        units: int = 1,
        lost: int = 0,
        deaths: int = 0,
        seed: int = 1,
    ) -> None:
        self.ledger = ledger
        self.terms = terms
        self.node = node
        self.ttl_ms = ttl_ms
        self.units = units
        self.lost = lost
        self.deaths = deaths
        self.window = Window(terms, now_us)
        self.started_us = now_us
        self.claims = 0
        self._random = Random(seed)  # noqa: S311
        self._born = 0
        self.holders = [self._bear() for _ in range(holders)]
        self._calm = set[str]()

    def _bear(self) -> RateHolder:
        self._born += 1
        terms = self.terms
        name = f"h-{self._born:04}"
        return RateHolder(self.ledger, self.node, name, terms, self.ttl_ms, terms.value)

    def _is(self, of_1000: int) -> bool:
        return of_1000 > 0 and self._random.randrange(1_000) < of_1000

    def step(self, now_us: int) -> None:
        """Have each holder let through what it may, and claim where it is time to."""
        for place in range(len(self.holders)):
            if self._is(self.deaths):
                self.holders[place] = self._bear()
            holder = self.holders[place]
            while holder.spend(self.units, now_us):
                self.window.let_through(self.units, now_us)
            is_due = now_us >= holder.again_us or (not holder.share and holder.name in self._calm)
            if is_due or holder.asked is not None:
                self._claim(holder, now_us)

    def _claim(self, holder: RateHolder, now_us: int) -> None:
        self.claims += 1
        [grant] = self.ledger.sync([holder.claim(now_us, head=self.units)])
        if self._is(self.lost):
            return
        holder.take(grant, now_us)
        self._calm.discard(holder.name)
        if grant.retry_ms is None:
            self._calm.add(holder.name)

    def allowed(self, now_us: int) -> float:
        """Units that may have passed: burst + value * time."""
        terms = self.terms
        return terms.burst + (now_us - self.started_us) * terms.value / terms.period_us

"""Random lives of holders of a rate, compared with the bound and with the memory ledger.

Not here: capacities (`lives`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ...ledgers.terms import Claim, Terms
from .lives import ACTORS, NODE, TTL_MS, Twins
from .rate_holders import RateHolder, Window
from .stage import Stage

UNITS = st.integers(min_value=1, max_value=12)
PERIODS = st.sampled_from([100_000, 1_000_000, 60_000_000, 86_400_000_000])


@dataclass(eq=False)
class Actor:
    """A holder, and what it has sent so far."""

    holder: RateHolder
    sent: list[Claim] = field(default_factory=list[Claim])


class RateLives(RuleBasedStateMachine):
    """What may happen to three holders of a rate."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.born = 0

    @initialize(value=UNITS, burst=UNITS, period_us=PERIODS)
    def begin(self, value: int, burst: int, period_us: int) -> None:
        self.terms = Terms("rate", value, period_us, burst)
        self.twins = Twins(self.stage, self.terms)
        self.window: Window | None = Window(self.terms, self.twins.now_us)
        self.actors = [self.bear() for _ in range(3)]

    def bear(self) -> Actor:
        self.born += 1
        terms = self.terms
        return Actor(RateHolder(self.twins.one, NODE, f"h-{self.born}", terms, TTL_MS, terms.value))

    @rule(number=ACTORS, head=st.integers(0, 4), part=st.integers(0, 4), is_lost=st.booleans())
    def claim(self, number: int, head: int, part: int, *, is_lost: bool) -> None:
        holder = self.actors[number].holder
        holder.demand = -(-self.terms.value * part // 4)
        self.send(number, head=min(head, self.terms.burst), is_last=False, is_lost=is_lost)

    def send(self, number: int, *, head: int, is_last: bool, is_lost: bool) -> None:
        actor = self.actors[number]
        now_us = self.twins.now_us
        claim = actor.holder.claim(now_us, head=head, is_last=is_last)
        actor.sent.append(claim)
        grant = self.twins.sync(claim)
        if not is_lost:
            actor.holder.take(grant, now_us)

    @rule(number=ACTORS, units=UNITS)
    def let_through(self, number: int, units: int) -> None:
        holder, now_us = self.actors[number].holder, self.twins.now_us
        if holder.spend(units, now_us) and self.window is not None:
            self.window.let_through(units, now_us)
            assert not self.window.excess, f"{self.window.excess} units beyond the bound"

    @rule(number=ACTORS, back=st.integers(min_value=0, max_value=5))
    def send_again(self, number: int, back: int) -> None:
        sent = self.actors[number].sent
        if sent:
            self.twins.sync(sent[max(0, len(sent) - 1 - back)])

    @rule(number=ACTORS)
    def die(self, number: int) -> None:
        self.actors[number] = self.bear()

    @rule(number=ACTORS, is_lost=st.booleans())
    def end(self, number: int, *, is_lost: bool) -> None:
        self.send(number, head=0, is_last=True, is_lost=is_lost)
        if self.actors[number].holder.asked is None:
            self.actors[number] = self.bear()

    @rule(number=ACTORS)
    def lose_claims(self, number: int) -> None:
        """The store has lost some: the holder is ahead of it."""
        holder = self.actors[number].holder
        if holder.asked is None:
            holder.epoch += 2

    @rule(milliseconds=st.sampled_from([1, 30, 100, 300, 950, 1_100, 20_000]))
    def let_time_pass(self, milliseconds: int) -> None:
        self.stage.advance(milliseconds / 1_000)

    @rule(value=UNITS, burst=UNITS, period_us=PERIODS)
    def redefine(self, value: int, burst: int, period_us: int) -> None:
        """Change it; what its holders let through until they know is another matter."""
        self.terms = Terms("rate", value, period_us, burst)
        self.twins.define(self.terms)
        self.window = None

    @invariant()
    @precondition(lambda self: hasattr(self, "twins"))
    def ledgers_agree(self) -> None:
        self.twins.compare()

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            found = self.twins.one.verify()
            assert found == [], f"the journal differs: {found}"

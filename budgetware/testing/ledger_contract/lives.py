"""Random lives of holders of a capacity, compared with a reckoning and with the memory ledger.

Holders claim, use, die and come back; answers are lost, claims come twice, definitions change.
Not here: rates (`rate_lives`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ...ledgers.memory import MemoryLedger
from ...ledgers.protocol import Ledger
from ...ledgers.terms import Claim, Grant, Terms
from .holders import Holder
from .reference import Reference
from .stage import Stage

NODE = "r/life"
TTL_MS = 1_000
ACTORS = st.integers(min_value=0, max_value=2)
UNITS = st.integers(min_value=0, max_value=20)
VALUES = st.integers(min_value=1, max_value=40)
KINDS = st.sampled_from([
    Terms("capacity", 0), Terms("capacity", 0, stranded="free"), Terms("concurrency", 0),
])  # fmt: skip
FEW = st.sampled_from([0, 0, 0, 0, 1, 3])


def settings_of(examples: int, *, is_shrunk: bool) -> settings:
    """The same lives on every run, and no files left behind."""
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if is_shrunk else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


class Twins:
    """The ledger under test and a memory ledger, told the same at the same time."""

    def __init__(self, stage: Stage, terms: Terms) -> None:
        stage.begin_again()
        self.stage = stage
        self.one = stage.ledger
        self.other = MemoryLedger(now=stage.now, wall=stage.now)
        self.define(terms)

    @property
    def ledgers(self) -> tuple[Ledger, Ledger]:
        """Both of them."""
        return self.one, self.other

    @property
    def now_us(self) -> int:
        """The time as they have it."""
        return int(self.stage.now() * 1_000_000)

    def define(self, terms: Terms) -> None:
        """Define the node in both."""
        one, other = (ledger.define(NODE, terms, "") for ledger in self.ledgers)
        assert one == other, f"defined, it is {one}; in the memory ledger {other}"

    def add(self, units: int, request: str) -> None:
        """Top the node up in both."""
        one, other = (ledger.add(NODE, units, request) for ledger in self.ledgers)
        assert one == other, f"topped up, it is {one}; in the memory ledger {other}"

    def sync(self, claim: Claim) -> Grant:
        """Have both answer a claim, and compare."""
        [one], [other] = (ledger.sync([claim]) for ledger in self.ledgers)
        assert one == other, f"{claim}\ngave {one},\nin the memory ledger {other}"
        return one

    def compare(self) -> None:
        """Compare what both say of their nodes."""
        one, other = (ledger.read() for ledger in self.ledgers)
        assert one == other, f"it reads {one}, the memory ledger {other}"


@dataclass(eq=False)
class Actor:
    """A holder, what it has sent so far, and when its lease ends."""

    holder: Holder
    sent: list[Claim] = field(default_factory=list[Claim])
    asked_us: int = 0
    ends_us: int = 0
    overran: int = 0


class Lives(RuleBasedStateMachine):
    """What may happen to three holders of a node."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.past: list[Actor] = []
        self.born = 0
        self.requests = 0

    @initialize(kind=KINDS, value=VALUES)
    def begin(self, kind: Terms, value: int) -> None:
        terms = Terms(kind.kind, value, stranded=kind.stranded)
        self.twins = Twins(self.stage, terms)
        self.reference = Reference(terms)
        self.actors = [self.bear() for _ in range(3)]

    def bear(self) -> Actor:
        self.born += 1
        holder = Holder(self.twins.one, NODE, f"h-{self.born}", TTL_MS)
        actor = Actor(holder)
        self.past.append(actor)
        return actor

    def awake(self, number: int) -> Actor:
        """The actor, which drops what is free if its lease has ended."""
        actor = self.actors[number]
        if self.twins.now_us >= actor.ends_us:
            actor.holder.free = 0
        return actor

    @property
    def is_slots(self) -> bool:
        return self.reference.terms.kind == "concurrency"

    @rule(number=ACTORS, want=UNITS, need=UNITS, waits=st.booleans(), is_lost=st.booleans())
    def claim(self, number: int, want: int, need: int, *, waits: bool, is_lost: bool) -> None:
        actor = self.awake(number)
        head = (need + 1) // 2
        claim = self.made(actor, want=want, need=need, head=head, waits=waits and need > 0)
        self.send(actor, claim, is_lost=is_lost)

    @rule(number=ACTORS, units=UNITS, part=st.integers(0, 4), over=FEW, need=UNITS)
    def work(self, number: int, units: int, part: int, over: int, need: int) -> None:
        """Have calls, and report what they used; then ask for more."""
        self.open_call(number, units)
        self.close_calls(number, part, over)
        self.claim(number, 3, need, waits=False, is_lost=False)

    def made(
        self,
        actor: Actor,
        *,
        want: int = 0,
        need: int = 0,
        head: int = 0,
        waits: bool = False,
        is_last: bool = False,
    ) -> Claim:
        """Its next claim, or the one that was not answered yet."""
        if actor.holder.asked is None:
            actor.asked_us = self.twins.now_us
        claim = actor.holder.claim(want=want, need=need, head=head, waits=waits, is_last=is_last)
        actor.sent.append(claim)
        return claim

    def send(self, actor: Actor, claim: Claim, *, is_lost: bool) -> None:
        now_us = self.twins.now_us
        grant = self.twins.sync(claim)
        self.reference.answered(claim, grant, now_us)
        if is_lost:
            return
        actor.holder.take(grant)
        actor.ends_us = actor.asked_us + TTL_MS * 900
        if now_us >= actor.ends_us:
            actor.holder.free = 0

    @rule(number=ACTORS, units=UNITS)
    def open_call(self, number: int, units: int) -> None:
        holder = self.awake(number).holder
        units = min(units, holder.free)
        holder.free -= units
        holder.reserved += units

    @rule(number=ACTORS, part=st.integers(0, 4), over=FEW)
    def close_calls(self, number: int, part: int, over: int) -> None:
        actor = self.awake(number)
        holder = actor.holder
        if self.is_slots:
            holder.free += holder.reserved
        else:
            spent = holder.reserved * part // 4
            holder.free += holder.reserved - spent
            holder.used += spent + over
            actor.overran += over
        holder.reserved = 0

    @rule(number=ACTORS)
    def correct(self, number: int) -> None:
        holder = self.actors[number].holder
        holder.used = max(0, holder.used - 1)

    @rule(number=ACTORS, back=st.integers(min_value=0, max_value=5))
    def send_again(self, number: int, back: int) -> None:
        actor = self.actors[number]
        if actor.sent:
            claim = actor.sent[max(0, len(actor.sent) - 1 - back)]
            known = self.reference.parts.get(claim.holder)
            assert known is not None, "a claim that was sent is not known"
            self.reference.answered(claim, self.twins.sync(claim), self.twins.now_us)

    @rule(number=ACTORS)
    def die(self, number: int) -> None:
        self.actors[number] = self.bear()

    @rule(number=ACTORS, is_lost=st.booleans())
    def end(self, number: int, *, is_lost: bool) -> None:
        actor = self.awake(number)
        self.send(actor, self.made(actor, is_last=True), is_lost=is_lost)
        if actor.holder.asked is None:
            self.actors[number] = self.bear()

    @rule(number=ACTORS)
    @precondition(lambda self: self.past)
    def come_back(self, number: int) -> None:
        """One that was thought dead takes a place again."""
        actor = self.past[number * 7 % len(self.past)]
        if actor not in self.actors:
            self.actors[number] = actor

    @rule(number=ACTORS)
    def lose_claims(self, number: int) -> None:
        """The store has lost some: the holder is ahead of it."""
        holder = self.actors[number].holder
        if holder.asked is None:
            holder.epoch += 2

    @rule(milliseconds=st.sampled_from([1, 30, 300, 950, 1_100, 1_300]))
    def let_time_pass(self, milliseconds: int) -> None:
        self.stage.advance(milliseconds / 1_000)

    @rule(value=VALUES)
    def redefine(self, value: int) -> None:
        terms = self.reference.terms
        self.reference.terms = Terms(terms.kind, value, stranded=terms.stranded)
        self.twins.define(self.reference.terms)

    @rule(units=UNITS, is_new=st.booleans())
    def top_up(self, units: int, *, is_new: bool) -> None:
        terms = self.reference.terms
        is_new = is_new or not self.requests
        self.requests += is_new
        self.twins.add(units, f"request-{self.requests}")
        if is_new:
            value = terms.value + units
            self.reference.terms = Terms(terms.kind, value, stranded=terms.stranded)

    @invariant()
    @precondition(lambda self: hasattr(self, "twins"))
    def balances_agree(self) -> None:
        self.reference.check(self.stage.state(NODE))
        self.twins.compare()

    @invariant()
    @precondition(lambda self: hasattr(self, "twins"))
    def nothing_that_was_used_is_forgotten(self) -> None:
        terms = self.reference.terms
        if terms.kind == "capacity" and terms.stranded == "keep":
            truth = sum(actor.holder.used - actor.overran for actor in self.past)
            state = self.stage.state(NODE)
            known = state.used + state.out + state.stranded
            assert truth <= known, f"{truth} were used, of which it has {known}"

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            found = self.twins.one.verify()
            assert found == [], f"the journal differs: {found}"

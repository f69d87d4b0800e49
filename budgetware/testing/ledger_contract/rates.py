"""What is asked of a rate: shares and buckets of its holders, which together let through no more.

Not here: the holder's side (`rate_holders`).
"""

from __future__ import annotations

from ...ledgers.terms import FINE, Grant, Terms
from .crowds import Crowd
from .rate_holders import RateHolder
from .stage import Stage, expect_equal

DAY = 86_400.0
BRISK = Terms("rate", 100, 1_000_000, 100)


class RateContract(Stage):
    """A rate is divided among those who use it."""

    def rate(self, terms: Terms) -> Terms:
        """Define it."""
        self.need_given_time()
        self.define("r/rate", terms)
        return terms

    @property
    def now_us(self) -> int:
        """The time as the ledger has it."""
        return int(self.now() * 1_000_000)

    def rate_holder(self, name: str, terms: Terms, demand: int | None = None) -> RateHolder:
        """A holder that has no share yet, and could use all of it unless it says otherwise."""
        wants = terms.value if demand is None else demand
        return RateHolder(
            self.ledger, "r/rate", name, terms, int(self.lease_seconds * 1_000), wants
        )

    def rounds(self, holders: list[RateHolder], count: int = 24) -> list[Grant]:
        """Have all of them claim some times; check that no more was given than there is."""
        last: list[Grant] = []
        for _ in range(count):
            self.advance(self.lease_seconds / 32)
            last = [holder.sync(self.now_us) for holder in holders]
            self.check_parts(holders)
        return last

    def check_parts(self, holders: list[RateHolder]) -> None:
        """Compare the parts of all holders with the whole."""
        terms = holders[0].terms
        shares = sum(holder.share for holder in holders)
        caps = sum(holder.cap for holder in holders)
        assert shares <= terms.value * FINE, f"{shares} parts of {terms.value * FINE} were given"
        assert caps <= terms.burst, f"{caps} of a burst of {terms.burst} were given"

    def test_only_holder_gets_all_of_a_rate(self) -> None:
        terms = self.rate(BRISK)
        a = self.rate_holder("a", terms)
        self.rounds([a])
        expect_equal((a.share, a.cap), (100 * FINE, 100), "share and cap")
        assert a.spend(100, self.now_us), "the whole burst is not there"
        self.advance(0.5)
        assert a.spend(50, self.now_us), "what came in half a second is not there"
        assert not a.spend(1, self.now_us), "there is more than came"

    def test_raised_rate_has_more_at_once_and_a_lowered_one_less(self) -> None:
        self.rate(BRISK)
        for value, spare in ((200, 200), (150, 150), (300, 300)):
            self.define("r/rate", Terms("rate", value, int(DAY * 1e6), value))
            expect_equal(self.state("r/rate").spare, spare, f"spare of a rate of {value}")

    def test_what_is_not_lent_of_a_rate_is_seen(self) -> None:
        terms = self.rate(BRISK)
        seen = self.state("r/rate")
        expect_equal((seen.spare, seen.lent), (100, 0), "spare and lent")
        a = self.rate_holder("a", terms)
        self.rounds([a])
        seen = self.state("r/rate")
        expect_equal((seen.spare, seen.lent), (0, 100), "with all of it lent")
        self.ledger.sync([a.claim(self.now_us, is_last=True)])
        spare = self.state("r/rate").spare
        self.advance(0.5)
        later = self.state("r/rate").spare
        assert spare is not None and later is not None, "spare is not said"
        assert later == 100 or later >= spare + 49, f"{spare} became {later} in half a second"

    def test_only_holder_gets_all_of_a_rate_that_holds_one_unit(self) -> None:
        terms = self.rate(Terms("rate", 100, 1_000_000, 1))
        a = self.rate_holder("a", terms)
        self.rounds([a])
        expect_equal((a.share, a.cap), (100 * FINE, 1), "share and cap")

    def test_first_holder_leaves_some_for_the_next(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        a.sync(self.now_us)
        b.sync(self.now_us)
        assert b.share > 0, "the first took all"
        assert b.spend(1, self.now_us), "the first took the whole burst"
        self.check_parts([a, b])

    def test_shares_become_max_min_fair(self) -> None:
        terms = self.rate(BRISK)
        demands = {"a": 10, "b": 100, "c": 100, "d": 25}
        holders = [self.rate_holder(name, terms, demand) for name, demand in demands.items()]
        last = self.rounds(holders)
        fair = (100 - 10 - 25) * FINE // 2
        shares = [holder.share for holder in holders]
        expect_equal(shares, [10 * FINE, fair, fair, 25 * FINE], "shares of 10, 100, 100 and 25")
        expect_equal([grant.retry_ms for grant in last], [None] * 4, "when to ask again")

    def test_who_is_short_of_its_share_is_told_when_to_ask_again(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a])
        retry_ms = b.sync(self.now_us).retry_ms
        assert retry_ms is not None, "b has no share yet, and is not told when to ask again"
        assert 0 < retry_ms < self.lease_seconds * 1_000, f"b is told to ask in {retry_ms} ms"

    def test_share_of_a_holder_that_ended_returns(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a, b])
        a.sync(self.now_us, is_last=True)
        self.rounds([b])
        expect_equal((b.share, b.cap), (100 * FINE, 100), "share and cap of the other")
        self.expect("r/rate", holders=1)

    def test_units_of_a_holder_that_ended_return_at_once(self) -> None:
        terms = self.rate(Terms("rate", 10, int(DAY) * 1_000_000, 10))
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        a.sync(self.now_us, head=10)
        assert a.spend(4, self.now_us), "the burst is not there"
        a.sync(self.now_us, is_last=True)
        b.sync(self.now_us, head=6)
        assert b.spend(6, self.now_us), "what came back is not there"
        assert not b.spend(1, self.now_us), "more came back than was given"

    def test_share_of_a_dead_holder_returns_after_its_lease(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a, b])
        self.pass_leases()
        self.rounds([b])
        expect_equal((b.share, b.cap), (100 * FINE, 100), "share and cap of the other")

    def test_dead_holder_that_returns_gets_its_part_and_no_more(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a, b])
        self.pass_leases()
        self.rounds([b])
        assert not a.spend(1, self.now_us), "a lease that has ended was used"
        a.sync(self.now_us)
        self.check_parts([a, b])
        self.rounds([a, b])
        expect_equal([a.share, b.share], [50 * FINE] * 2, "shares")

    def test_holder_without_demand_gives_its_share_up(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a, b])
        a.demand = 0
        self.rounds([a, b])
        expect_equal([a.share, a.cap, b.share], [0, 0, 100 * FINE], "share, cap; share of b")

    def test_debt_of_a_holder_is_paid_before_it_goes_on(self) -> None:
        terms = self.rate(BRISK)
        a = self.rate_holder("a", terms)
        self.rounds([a])
        a.refill(self.now_us)
        a.level -= 150 * a.parts
        a.used += 150
        a.sync(self.now_us)
        a.sync(self.now_us, is_last=True)
        b = self.rate_holder("b", terms)
        b.sync(self.now_us, head=1)
        assert not b.spend(1, self.now_us), "a debt was forgotten as its holder ended"
        self.advance(0.6)
        b.sync(self.now_us, head=1)
        assert b.spend(1, self.now_us), "a debt of 50 is not paid after 60 came"

    def test_repeated_claim_pours_once(self) -> None:
        terms = self.rate(Terms("rate", 10, int(DAY) * 1_000_000, 10))
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        claim = a.claim(self.now_us, head=4)
        expect_equal(self.ask(claim), self.ask(claim), "the answers")
        b.sync(self.now_us, head=10)
        self.check_parts([b])
        assert not b.spend(7, self.now_us), "what was poured for one was poured for two"

    def test_slow_rate_that_is_asked_often_loses_nothing(self) -> None:
        terms = self.rate(Terms("rate", 1, int(DAY) * 1_000_000, 1))
        a, b, c = (self.rate_holder(name, terms) for name in "abc")
        a.sync(self.now_us, head=1)
        assert a.spend(1, self.now_us), "the burst is not there"
        b.sync(self.now_us, head=1)
        c.sync(self.now_us, head=1)
        a.sync(self.now_us, is_last=True)
        for _ in range(100):
            self.advance(0.02)
            b.sync(self.now_us, head=1)
            c.sync(self.now_us, head=1)
        self.advance(DAY - 100 * 0.02 + 1.0)
        b.sync(self.now_us, head=1)
        assert b.spend(1, self.now_us), "one a day has not come after a day"

    def test_big_call_in_line_is_not_passed_by_small_ones(self) -> None:
        terms = self.rate(Terms("rate", 100, 10_000_000, 100))
        small = [self.rate_holder(name, terms) for name in "abc"]
        big = self.rate_holder("z", terms)
        passed = 0
        for _ in range(80):
            self.advance(0.5)
            for holder in small:
                while holder.spend(1, self.now_us):
                    passed += 1
                holder.sync(self.now_us, head=1)
            big.sync(self.now_us, head=80)
            if big.spend(80, self.now_us):
                return
        raise AssertionError(f"80 of 100 were not there in 40 seconds, {passed} passed by")

    def test_nothing_is_poured_from_a_latched_rate(self) -> None:
        terms = self.rate(BRISK)
        self.ledger.latch("r/rate", "by hand")
        grant = self.rate_holder("a", terms).sync(self.now_us, head=5)
        expect_equal((grant.granted, grant.latch), (0, "by hand"), "units and latch")

    def test_use_of_a_rate_is_counted(self) -> None:
        terms = self.rate(BRISK)
        a = self.rate_holder("a", terms)
        self.rounds([a])
        a.spend(30, self.now_us)
        a.sync(self.now_us)
        self.expect("r/rate", used=30, out=0, stranded=0, debt=0)
        expect_equal(self.ledger.verify(), [], "where the journal differs")

    def test_smaller_definition_holds_from_the_next_claims_on(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        self.rounds([a, b])
        smaller = Terms("rate", 10, 1_000_000, 20)
        self.define("r/rate", smaller)
        expect_equal(a.sync(self.now_us).terms, smaller, "what a is told")
        b.sync(self.now_us)
        self.rounds([a, b])
        expect_equal([a.share, b.share, a.cap, b.cap], [5 * FINE] * 2 + [10] * 2, "shares, caps")

    def test_time_before_a_change_counts_by_the_old_definition(self) -> None:
        terms = self.rate(Terms("rate", 1, 1_000_000, 100))
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        a.sync(self.now_us, head=100)
        a.spend(100, self.now_us)
        a.sync(self.now_us, is_last=True)
        self.advance(10.0)
        self.define("r/rate", Terms("rate", 1_000, 1_000_000, 100))
        b.sync(self.now_us, head=11)
        assert not b.spend(11, self.now_us), "ten seconds at 1 a second gave more than 10"

    def test_shares_are_declared_again_to_a_store_that_lost_them(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        a.epoch, a.share, a.cap = 7, 60 * FINE, 60
        grant = a.sync(self.now_us, head=70)
        found = grant.outcome, grant.share, grant.cap
        expect_equal(found, ("recovering", 60 * FINE, 60), "outcome, share, cap")
        grant = b.sync(self.now_us, head=1)
        found = grant.outcome, grant.granted, grant.share
        expect_equal(found, ("recovering", 0, 0), "outcome, units, share")
        self.pass_leases()
        self.rounds([a, b])
        expect_equal([a.share, b.share], [50 * FINE] * 2, "shares after the recovery")

    def test_holder_that_ends_during_a_recovery_leaves_its_share(self) -> None:
        terms = self.rate(BRISK)
        a, b = self.rate_holder("a", terms), self.rate_holder("b", terms)
        a.epoch, a.share, a.cap = 7, 60 * FINE, 60
        a.sync(self.now_us)
        a.sync(self.now_us, is_last=True)
        self.pass_leases()
        self.rounds([b])
        expect_equal((b.share, b.cap), (100 * FINE, 100), "share and cap of the other")


class CrowdContract(Stage):
    """In any time, all holders together let through no more than burst + value * time."""

    def crowd(
        self,
        terms: Terms,
        *,
        holders: int,
        steps: int,
        seconds: float,
        units: int = 1,
        lost: int = 0,
        deaths: int = 0,
        least: float = 0.85,
    ) -> Crowd:
        """Run it; nothing beyond the bound, and not too far below it."""
        self.need_given_time()
        self.define("r/rate", terms)
        crowd = Crowd(
            self.ledger, terms, int(self.now() * 1e6), holders=holders,
            ttl_ms=int(max(self.lease_seconds, 4 * seconds / steps) * 1_000),
            units=units, lost=lost, deaths=deaths,
        )  # fmt: skip
        for _ in range(steps):
            self.advance(seconds / steps)
            crowd.step(int(self.now() * 1e6))
        window, allowed = crowd.window, crowd.allowed(int(self.now() * 1e6))
        assert window.excess == 0, f"{window.excess} units beyond burst + value * time"
        part = window.passed / allowed
        assert part >= least, f"{window.passed} of {allowed:.0f} units passed, only {part:.0%}"
        return crowd

    def expect_all_served(self, crowd: Crowd) -> None:
        """Nobody starved."""
        starved = [holder.name for holder in crowd.holders if not holder.used]
        assert not starved, f"{starved} let nothing through"

    def test_few_holders_use_all_of_a_rate(self) -> None:
        self.expect_all_served(self.crowd(BRISK, holders=4, steps=400, seconds=20.0))

    def test_more_holders_than_the_bucket_has_units_take_turns(self) -> None:
        terms = Terms("rate", 6, 60_000_000, 6)
        crowd = self.crowd(terms, holders=15, steps=1_200, seconds=240.0)
        self.expect_all_served(crowd)

    def test_big_calls_take_turns(self) -> None:
        terms = Terms("rate", 1_000, 10_000_000, 1_000)
        crowd = self.crowd(terms, holders=4, steps=400, seconds=60.0, units=600, least=0.7)
        self.expect_all_served(crowd)

    def test_small_bucket_of_a_brisk_rate_is_shared(self) -> None:
        terms = Terms("rate", 10, 1_000_000, 1)
        crowd = self.crowd(terms, holders=3, steps=500, seconds=20.0, least=0.5)
        self.expect_all_served(crowd)

    def test_slow_rate_is_shared(self) -> None:
        terms = Terms("rate", 24, int(DAY) * 1_000_000, 1)
        crowd = self.crowd(terms, holders=3, steps=1_500, seconds=DAY / 2, least=0.5)
        self.expect_all_served(crowd)

    def test_lost_answers_let_no_more_through(self) -> None:
        crowd = self.crowd(BRISK, holders=4, steps=400, seconds=20.0, lost=300)
        self.expect_all_served(crowd)

    def test_deaths_let_no_more_through(self) -> None:
        self.crowd(BRISK, holders=4, steps=400, seconds=40.0, lost=100, deaths=10, least=0.2)

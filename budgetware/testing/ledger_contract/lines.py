"""What is asked of the line in which callers wait. Not here: what they wait for (`capacities`)."""

from __future__ import annotations

from ...ledgers.terms import Terms
from .holders import Holder
from .stage import Stage, expect_equal


class LineContract(Stage):
    """First come, first served; and small ones do not pass a big one."""

    def taken(self, value: int, *, left: int) -> Holder:
        """Define a capacity, and have somebody hold all but so many units of it."""
        self.define("r/x", value)
        taker = self.holder("taker")
        taker.sync(need=value - left)
        return taker

    def give_back(self, taker: Holder, units: int) -> None:
        """Have it give some of them back."""
        taker.free -= units
        taker.sync()

    def test_caller_that_waits_gets_all_or_nothing(self) -> None:
        self.taken(10, left=5)
        expect_equal(self.holder("a").wait_for(8).granted, 0, "granted of 8 where 5 are left")
        self.expect(out=5)

    def test_caller_that_does_not_wait_gets_what_is_there(self) -> None:
        self.taken(10, left=5)
        expect_equal(self.holder("a").sync(need=8, head=8).granted, 5, "granted of 8")

    def test_first_caller_is_served_where_not_all_can_be(self) -> None:
        self.taken(10, left=5)
        grant = self.holder("a").sync(need=9, head=4, waits=True)
        expect_equal(grant.granted, 5, "granted where 9 are needed, 4 of them first")

    def test_small_claims_do_not_pass_a_big_one_that_waits(self) -> None:
        taker = self.taken(10, left=5)
        big, small = self.holder("big"), self.holder("small")
        big.wait_for(8)
        expect_equal(small.sync(need=1, want=2).granted, 0, "granted past a claim that waits")
        self.give_back(taker, 2)
        expect_equal(small.sync(need=1).granted, 0, "granted past a claim that waits for 8 of 7")
        self.give_back(taker, 1)
        expect_equal(small.sync(need=1).granted, 0, "granted of the 8 that are due to another")
        expect_equal(big.wait_for(8).granted, 8, "granted to the first in line")

    def test_what_the_first_in_line_does_not_need_is_granted(self) -> None:
        taker = self.taken(10, left=5)
        big, small = self.holder("big"), self.holder("small")
        big.wait_for(6)
        self.give_back(taker, 3)
        expect_equal(small.sync(need=5).granted, 2, "granted of 8, 6 of which are due to another")
        expect_equal(big.wait_for(6).granted, 6, "granted to the first in line")

    def test_line_is_kept_in_the_order_of_coming(self) -> None:
        taker = self.taken(10, left=0)
        second, first = self.holder("a-second"), self.holder("b-first")
        first.wait_for(4)
        self.advance(0.05)
        second.wait_for(4)
        self.give_back(taker, 5)
        expect_equal(second.wait_for(4).granted, 0, "granted to the second in line")
        expect_equal(first.wait_for(4).granted, 4, "granted to the first in line")
        self.give_back(taker, 3)
        expect_equal(second.wait_for(4).granted, 4, "granted once it is the first")

    def test_place_is_kept_where_more_is_waited_for(self) -> None:
        taker = self.taken(10, left=0)
        first, second = self.holder("first"), self.holder("second")
        first.wait_for(4)
        self.advance(0.05)
        second.wait_for(4)
        first.wait_for(6)
        self.give_back(taker, 6)
        expect_equal(second.wait_for(4).granted, 0, "granted to the second in line")
        expect_equal(first.wait_for(6).granted, 6, "granted to the first in line")

    def test_others_are_told_that_somebody_waits(self) -> None:
        taker = self.taken(10, left=0)
        assert not taker.sync().is_wanted, "nobody waits, and the holder is told so"
        waiter = self.holder("waiter")
        assert not waiter.wait_for(4).is_wanted, "who waits alone is told that others do"
        assert taker.sync().is_wanted, "somebody waits, and the holder is not told"

    def test_who_waits_no_more_leaves_the_line(self) -> None:
        self.taken(10, left=5)
        big, small = self.holder("big"), self.holder("small")
        big.wait_for(8)
        big.sync()
        expect_equal(small.sync(need=5).granted, 5, "granted after the only waiter has left")

    def test_who_is_served_leaves_the_line(self) -> None:
        taker = self.taken(10, left=0)
        first, second = self.holder("first"), self.holder("second")
        first.wait_for(4)
        self.give_back(taker, 4)
        first.wait_for(4)
        self.give_back(taker, 4)
        expect_equal(second.sync(need=4).granted, 4, "granted after the only waiter was served")

    def test_who_ends_leaves_the_line(self) -> None:
        self.taken(10, left=5)
        big, small = self.holder("big"), self.holder("small")
        big.wait_for(8)
        big.sync(is_last=True)
        expect_equal(small.sync(need=5).granted, 5, "granted after the only waiter has ended")

    def test_dead_holder_leaves_the_line(self) -> None:
        taker = self.taken(10, left=5)
        self.holder("big").wait_for(8)
        self.advance(self.lease_seconds * 0.7)
        taker.sync()
        self.advance(self.lease_seconds * 0.7)
        expect_equal(self.holder("small").sync(need=5).granted, 5, "granted after its death")

    def test_slots_are_waited_for_in_line_too(self) -> None:
        self.define("r/x", Terms("concurrency", 2))
        taker, big, small = self.holder("taker"), self.holder("big"), self.holder("small")
        taker.sync(need=1)
        big.wait_for(2)
        expect_equal(small.sync(need=1).granted, 0, "slots granted past a claim that waits")
        self.give_back(taker, 1)
        expect_equal(big.wait_for(2).granted, 2, "slots granted to the first in line")

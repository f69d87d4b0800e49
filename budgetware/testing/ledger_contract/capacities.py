"""What is asked of a capacity, and of slots: grants, stock, use, debt, death and return.

Not here: who is first in line (`lines`), claims that come twice or out of order (`repeats`).
"""

from __future__ import annotations

from ...ledgers.terms import MAX_REAPED, MOST, Terms
from .stage import Stage, expect_equal

FREE = Terms("capacity", 10, stranded="free")


class CapacityContract(Stage):
    """A capacity is used up."""

    def test_need_is_granted_to_the_unit_and_never_beyond_the_value(self) -> None:
        self.define("r/x", 10)
        needs = {"a": 7, "b": 7, "c": 1}
        grants = [self.holder(name).sync(need=need).granted for name, need in needs.items()]
        expect_equal(grants, [7, 3, 0], "grants of 7, 7 and 1 out of 10")
        self.expect(used=0, out=10, stranded=0, holders=3)

    def test_answer_tells_the_balances_after_it(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=6)
        a.spend(4)
        grant = a.sync(need=1)
        found = grant.outcome, grant.granted, grant.used, grant.out, grant.stranded
        expect_equal(found, ("ok", 1, 4, 3, 0), "outcome, granted, used, out, stranded")

    def test_who_gets_less_than_needed_is_told_when_to_ask_again(self) -> None:
        self.define("r/x", 5)
        a, b = self.holder("a"), self.holder("b")
        assert a.sync(need=5).retry_ms is None, "a has all it needs, and is told to ask again"
        retry_ms = b.sync(need=1).retry_ms
        assert retry_ms is not None, "b got nothing, and is not told when to ask again"
        assert 0 < retry_ms <= b.ttl_ms, f"b is told to ask again in {retry_ms} ms"

    def test_stock_is_at_most_a_part_of_half_of_the_rest(self) -> None:
        self.define("r/x", 100)
        a, b = self.holder("a"), self.holder("b")
        stock = [a.sync(want=100).granted, b.sync(want=100).granted, a.sync(want=3).granted]
        expect_equal(stock, [50, 13, 3], "stock for a alone, then for b beside a, then a little")

    def test_stock_shrinks_as_the_rest_does_down_to_the_last_unit(self) -> None:
        self.define("r/x", 64)
        holders = [self.holder(name) for name in "abcd"]
        stock = [holder.sync(want=64).granted for _ in range(12) for holder in holders]
        assert stock == sorted(stock, reverse=True), f"stock does not shrink: {stock}"
        expect_equal(sum(stock), 64, "all stock together")

    def test_need_comes_before_stock(self) -> None:
        self.define("r/x", 100)
        expect_equal(self.holder("a").sync(need=90, want=5).granted, 90, "need 90, want 5")

    def test_free_units_come_back(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=10)
        a.spend(2)
        a.reserved, a.free = 3, 0
        a.sync()
        expect_equal(b.sync(need=10).granted, 5, "what is left of 10 after 2 used and 3 held")

    def test_last_claim_gives_back_all_but_what_open_calls_hold(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=6)
        b.sync(need=4)
        a.spend(1)
        a.reserved = 2
        a.sync(need=3, is_last=True)
        b.spend(4)
        b.sync(is_last=True)
        self.expect(used=5, out=2, stranded=0, holders=1)

    def test_use_is_cumulative_and_may_be_corrected_downwards(self) -> None:
        self.define("r/x", 100)
        a = self.holder("a")
        a.sync(need=50)
        for used in (5, 12, 12, 8):
            a.used, a.free = used, 50 - used
            a.sync()
            self.expect(used=used, out=50 - used)

    def test_use_beyond_what_was_held_is_debt_and_stops_grants(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=10)
        a.used, a.free = 15, 0
        a.sync()
        self.expect(used=15, out=0, debt=5)
        expect_equal(b.sync(need=1, want=1).granted, 0, "granted in debt")
        self.ledger.add("r/x", 6, "more")
        expect_equal(b.sync(need=2).granted, 1, "granted once the debt is covered")

    def test_lease_lasts_as_long_as_it_was_asked_for(self) -> None:
        self.define("r/x", Terms("capacity", 10, stranded="free"))
        self.holder("a").sync(need=10)
        self.advance(self.lease_seconds * 0.8)
        expect_equal(self.holder("b").sync(need=1).granted, 0, "granted of a lease that lasts")
        self.pass_leases(0.2)
        expect_equal(self.holder("c").sync(need=1).granted, 1, "granted after its end")

    def test_claim_renews_the_lease(self) -> None:
        self.define("r/x", FREE)
        a = self.holder("a")
        a.sync(need=10)
        for _ in range(3):
            self.advance(self.lease_seconds * 0.6)
            a.sync()
        expect_equal(self.holder("b").sync(need=1).granted, 0, "granted of a renewed lease")

    def test_units_of_a_dead_holder_are_stranded(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=6)
        self.pass_leases()
        expect_equal(b.sync(need=10).granted, 4, "granted beside 6 stranded")
        self.expect(used=0, out=4, stranded=6, holders=1)

    def test_units_of_a_dead_holder_are_free_where_the_terms_say_so(self) -> None:
        self.define("r/x", FREE)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=6)
        self.pass_leases()
        expect_equal(b.sync(need=10).granted, 10, "granted of 10")
        self.expect(used=0, out=10, stranded=0)

    def test_late_return_is_reconciled_exactly(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=6)
        self.pass_leases()
        b.sync(need=1)
        a.used, a.reserved, a.free = 3, 1, 0
        a.sync()
        self.expect(used=3, out=2, stranded=0, holders=2)

    def test_late_return_to_freed_units_leaves_debt(self) -> None:
        self.define("r/x", FREE)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=6)
        self.pass_leases()
        b.sync(need=10)
        a.used, a.free = 6, 0
        a.sync()
        self.expect(used=6, out=10, stranded=0, debt=6)

    def test_holder_that_was_late_itself_has_lost_nothing(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=6)
        self.pass_leases()
        a.used, a.free = 2, 4
        a.sync()
        self.expect(used=2, out=4, stranded=0)

    def test_use_of_a_holder_that_was_forgotten_with_nothing_counts_once(self) -> None:
        self.need_given_time()
        self.define("r/x", 100)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=5)
        a.spend(5)
        a.sync()
        self.advance(3_700.0)
        b.sync(need=1)
        self.expect(used=5, out=1, stranded=0)
        a.used = 7
        expect_equal(a.sync().outcome, "ok", "outcome of a claim an hour later")
        self.expect(used=7, out=1, stranded=0)

    def test_use_of_a_holder_that_ended_counts_once(self) -> None:
        self.define("r/x", 100)
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=5)
        a.spend(5)
        a.sync(is_last=True)
        self.pass_leases()
        b.sync(need=1)
        a.used = 6
        a.sync(is_last=True)
        self.expect(used=6, out=1, stranded=0, holders=1)

    def test_many_dead_holders_are_cleared_in_some_steps(self) -> None:
        self.define("r/x", Terms("capacity", 50, stranded="free"))
        for number in range(50):
            self.holder(f"dead-{number}").sync(need=1)
        self.pass_leases()
        b = self.holder("b")
        granted = [b.sync(need=50 - b.held).granted for _ in range(50 // MAX_REAPED + 1)]
        expect_equal(sum(granted), 50, f"granted in {len(granted)} steps")
        self.expect(out=50, stranded=0, holders=1)

    def test_largest_amount_is_counted_exactly(self) -> None:
        self.define("r/x", MOST)
        a, b = self.holder("a"), self.holder("b")
        expect_equal(a.sync(need=MOST - 1).granted, MOST - 1, "granted")
        expect_equal(b.sync(need=MOST).granted, 1, "the last unit")
        a.spend(MOST - 1)
        a.sync()
        self.expect(used=MOST - 1, out=1, debt=0)
        expect_equal(self.state().terms.value, MOST, "value")

    def test_stock_of_the_largest_amount_is_exact(self) -> None:
        self.define("r/x", MOST)
        expect_equal(self.holder("a").sync(want=MOST).granted, -(-MOST // 2), "stock")


class ConcurrencyContract(Stage):
    """Slots come back."""

    def test_slots_are_granted_and_come_back(self) -> None:
        self.define("r/x", Terms("concurrency", 3))
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=2)
        expect_equal(b.sync(need=2).granted, 1, "slots for b beside 2 of 3")
        a.free = 0
        a.sync()
        expect_equal(b.sync(need=1).granted, 1, "slots for b after a gave back")
        self.expect(used=0, out=2, stranded=0)

    def test_slots_of_a_dead_holder_are_free_after_its_lease_and_a_margin(self) -> None:
        self.define("r/x", Terms("concurrency", 3))
        self.holder("a").sync(need=3)
        self.pass_leases()
        expect_equal(self.holder("b").sync(need=1).granted, 0, "slots within the margin")
        self.pass_leases(0.25)
        expect_equal(self.holder("c").sync(need=1).granted, 1, "slots after the margin")
        self.expect(out=1, stranded=0)

    def test_slots_of_a_late_holder_are_counted_again(self) -> None:
        self.define("r/x", Terms("concurrency", 3))
        a, b = self.holder("a"), self.holder("b")
        a.sync(need=3)
        self.pass_leases(1.25)
        b.sync(need=3)
        a.reserved, a.free = 2, 0
        a.sync()
        self.expect(out=5, debt=2)
        b.free = 0
        expect_equal(b.sync(need=3).granted, 1, "slots beside those of the late one")

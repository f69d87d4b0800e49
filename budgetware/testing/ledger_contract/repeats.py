"""What is asked where claims are lost, come twice or late, or the store goes back in time.

Not here: what a claim gets (`capacities`).
"""

from __future__ import annotations

from dataclasses import replace

from ...ledgers.terms import Claim, Terms
from .holders import Holder
from .stage import Stage, expect_equal


class RepeatContract(Stage):
    """Everything counts once."""

    def test_repeated_claim_gets_the_same_answer_and_counts_once(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        claim = a.claim(need=4)
        first = a.sync()
        b.sync(need=5)
        for _ in range(3):
            expect_equal(a.repeat(claim), first, "the answer to a repeated claim")
        self.expect(used=0, out=9)

    def test_repeated_report_of_use_counts_once(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=4)
        a.spend(3)
        claim = a.claim(need=2)
        answers = [a.repeat(claim) for _ in range(3)]
        expect_equal(answers, answers[:1] * 3, "the answers")
        self.expect(used=3, out=3)

    def test_claim_repeated_in_one_batch_counts_once(self) -> None:
        self.define("r/x", 10)
        claim = self.holder("a").claim(need=4)
        first, second = self.ledger.sync([claim, claim])
        expect_equal(first, second, "the answers")
        self.expect(out=4)

    def test_repeated_claim_gets_the_same_answer_after_a_change_of_the_definition(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        claim = a.claim(need=4)
        first = a.sync()
        self.define("r/x", 20)
        expect_equal(a.repeat(claim), first, "the answer to a repeated claim")

    def test_repeated_last_claim_changes_nothing(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=4)
        a.spend(1)
        last = a.claim(is_last=True)
        expect_equal(a.repeat(last), a.repeat(last), "the answers")
        self.expect(used=1, out=0, holders=0)

    def test_repeated_claim_of_an_ended_lease_gets_the_same_answer_and_changes_nothing(
        self,
    ) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        claim = a.claim(need=4)
        first = a.sync()
        self.pass_leases()
        b.sync(need=1)
        before = self.state()
        expect_equal(a.repeat(claim), first, "the answer to a repeated claim")
        expect_equal(self.state(), before, "the node after it")

    def test_repeated_claim_for_nothing_is_known_after_its_lease(self) -> None:
        self.define("r/x", 10)
        a, b = self.holder("a"), self.holder("b")
        claim = a.claim()
        first = a.sync()
        self.pass_leases()
        b.sync(need=1)
        expect_equal(a.repeat(claim), first, "the answer to a repeated claim")
        self.expect(out=1, holders=1)

    def test_older_claim_is_stale_and_changes_nothing(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        first = a.claim(need=4)
        a.sync()
        a.spend(2)
        a.sync(need=1)
        before = self.state()
        grant = a.repeat(first)
        expect_equal((grant.outcome, grant.granted), ("stale", 0), "outcome and units")
        expect_equal(self.state(), before, "the node after it")
        expect_equal(a.sync().outcome, "ok", "the outcome of the next claim")

    def test_claims_of_a_batch_are_answered_in_order(self) -> None:
        self.define("r/x", 10)
        self.define("r/y", 5)
        grants = self.ledger.sync([
            self.holder("a").claim(need=8),
            self.holder("a", "r/y").claim(need=8),
            self.holder("a", "r/none").claim(need=8),
            self.holder("b").claim(need=8),
        ])  # fmt: skip
        found = [(grant.node, grant.outcome, grant.granted) for grant in grants]
        expected = [
            ("r/x", "ok", 8), ("r/y", "ok", 5), ("r/none", "undefined", 0), ("r/x", "ok", 2),
        ]  # fmt: skip
        expect_equal(found, expected, "node, outcome and units")

    def test_nothing_is_asked_and_nothing_answered(self) -> None:
        expect_equal(list(self.ledger.sync([])), [], "the answers to no claims")

    def test_claim_of_an_unknown_node_is_undefined(self) -> None:
        grant = self.ask(Claim("r/none", "a", 3, used=4, held=2, need=1))
        found = grant.node, grant.epoch, grant.outcome, grant.granted
        expect_equal(found, ("r/none", 3, "undefined", 0), "node, epoch, outcome and units")
        expect_equal(self.ledger.read(), [], "the nodes after it")

    def test_definition_is_told_where_the_claim_knows_another(self) -> None:
        state = self.define("r/x", 10)
        a = self.holder("a")
        grant = a.sync()
        found = grant.terms, grant.definition, grant.revision
        expect_equal(found, (state.terms, state.definition, state.revision), "what is told")
        grant = a.sync()
        expect_equal((grant.terms, grant.definition), (None, ""), "what is told again")
        self.define("r/x", 20)
        expect_equal(a.sync().terms, Terms("capacity", 20), "what is told of a change")


class RecoveryContract(Stage):
    """A store that has lost the last claims is told by those who have made them."""

    def survivor(self, name: str, *, used: int, free: int, epoch: int = 7) -> Holder:
        """A holder that the store knows nothing of, or not the last."""
        holder = self.holder(name)
        holder.used, holder.free, holder.epoch = used, free, epoch
        return holder

    def test_what_is_held_is_declared_again_to_a_store_that_lost_it(self) -> None:
        self.define("r/x", 100)
        grant = self.survivor("a", used=30, free=20).sync(need=10, want=10)
        expect_equal((grant.outcome, grant.granted), ("recovering", 0), "outcome and units")
        assert grant.retry_ms is not None, "it is not told when to ask again"
        assert 0 < grant.retry_ms <= self.lease_seconds * 1_000, f"retry in {grant.retry_ms} ms"
        self.expect(used=30, out=20)

    def test_nothing_is_granted_to_anybody_for_the_length_of_a_lease(self) -> None:
        self.define("r/x", 100)
        self.survivor("a", used=30, free=20).sync()
        grant = self.holder("new").sync(need=1)
        expect_equal((grant.outcome, grant.granted), ("recovering", 0), "outcome and units")
        self.advance(self.lease_seconds * 0.5)
        late = self.survivor("b", used=10, free=30).sync(need=1)
        expect_equal((late.outcome, late.granted), ("recovering", 0), "outcome and units")
        self.expect(used=40, out=50)

    def test_grants_go_on_after_the_recovery(self) -> None:
        self.define("r/x", 100)
        a = self.survivor("a", used=30, free=20)
        a.sync()
        self.pass_leases()
        expect_equal(a.sync(need=5).outcome, "ok", "outcome after the recovery")
        expect_equal(self.holder("b").sync(need=100).granted, 45, "granted of what is left")

    def test_lost_claims_of_a_known_holder_are_noticed(self) -> None:
        self.define("r/x", 100)
        a = self.holder("a")
        a.sync(need=20)
        a.used, a.free, a.epoch = 15, 25, a.epoch + 2
        grant = a.sync(need=1)
        expect_equal((grant.outcome, grant.granted), ("recovering", 0), "outcome and units")
        self.expect(used=15, out=25)

    def test_use_that_was_counted_is_not_counted_again(self) -> None:
        self.define("r/x", 100)
        a = self.holder("a")
        a.sync(need=20)
        a.spend(8)
        a.sync()
        a.used, a.free, a.epoch = 12, 8, a.epoch + 5
        a.sync()
        self.expect(used=12, out=8)

    def test_first_and_next_claims_are_no_sign_of_a_loss(self) -> None:
        self.define("r/x", 100)
        a = self.holder("a")
        outcomes = [a.sync(need=1).outcome for _ in range(3)]
        expect_equal(outcomes, ["ok"] * 3, "outcomes")

    def test_repeated_claim_does_not_lengthen_the_recovery(self) -> None:
        self.define("r/x", 100)
        a = self.survivor("a", used=1, free=1)
        claim = a.claim()
        first = a.sync()
        self.pass_leases()
        expect_equal(a.repeat(claim), first, "the answer to a repeated claim")
        expect_equal(self.holder("b").sync(need=3).granted, 3, "granted after the recovery")

    def test_stock_declared_beyond_the_value_is_debt(self) -> None:
        self.define("r/x", 10)
        self.survivor("a", used=5, free=9).sync()
        self.expect(used=5, out=9, debt=4)

    def test_replaced_claim_is_answered_anew(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        claim = a.claim(need=4)
        a.sync()
        grant = self.ask(replace(claim, epoch=2, held=4, need=1))
        expect_equal(grant.granted, 1, "granted to the next claim")
        self.expect(out=5)

"""What is asked of definitions: add, change, top up, delete, read, latch.

Not here: what is granted by them (`capacities`, `rates`).
"""

from __future__ import annotations

import string
from dataclasses import replace

from ...ledgers.terms import MOST, Terms
from .stage import Stage, expect_equal, expect_refusal

ALLOWED = string.ascii_letters + string.digits + "._:@-"
TEXTS = ["", "{}", '{"a": "\'\\"\\\\"}', "line\nline\ttab", "größe 量 🦊", "x" * 4_000]


class DefinitionContract(Stage):
    """A definition changes at once, and what was used stays."""

    def test_definition_is_read_back_as_it_was_given(self) -> None:
        terms = [
            Terms("capacity", 10), Terms("capacity", MOST, stranded="free"),
            Terms("rate", 5, period_us=60_000_000, burst=7), Terms("concurrency", 3),
        ]  # fmt: skip
        for number, each in enumerate(terms):
            made = self.ledger.define(f"r/{number}", each, "text")
            expect_equal((made.node, made.terms), (f"r/{number}", each), "what was defined")
            read = replace(self.state(f"r/{number}"), spare=made.spare)
            expect_equal(read, made, "what is read")

    def test_any_text_is_kept(self) -> None:
        for number, text in enumerate(TEXTS):
            self.ledger.define(f"r/{number}", Terms("capacity", 1), text)
            expect_equal(self.state(f"r/{number}").definition, text, "the definition")

    def test_every_allowed_name_is_kept_apart(self) -> None:
        names = [f"r/{ALLOWED}", *(f"r/{letter}" for letter in ALLOWED), "r/" + "n" * 128]
        for value, name in enumerate(names, start=1):
            self.define(name, value)
        found = {state.node: state.terms.value for state in self.ledger.read()}
        expect_equal(found, {name: n for n, name in enumerate(names, start=1)}, "names and values")
        grants = self.ledger.sync([self.holder("a", name).claim(need=100) for name in names])
        expected = list(range(1, len(names) + 1))
        expect_equal([grant.granted for grant in grants], expected, "granted of each")

    def test_same_definition_again_changes_nothing(self) -> None:
        made = self.define("r/x", 10)
        expect_equal(self.define("r/x", 10), made, "the node after the same definition")

    def test_changed_definition_has_a_higher_revision_and_keeps_the_balances(self) -> None:
        first = self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=8)
        a.spend(5)
        a.sync()
        second = self.define("r/x", 6)
        assert second.revision > first.revision, f"revision {second.revision} after {first}"
        self.expect(used=5, out=3, debt=2, holders=1)
        expect_equal(a.sync(need=1).granted, 0, "granted below what is used")
        self.define("r/x", 20)
        expect_equal(a.sync(need=20).granted, 12, "granted after the value was raised")

    def test_changed_text_alone_has_a_higher_revision(self) -> None:
        first = self.ledger.define("r/x", Terms("capacity", 1), "one")
        second = self.ledger.define("r/x", Terms("capacity", 1), "two")
        assert second.revision > first.revision, f"revision {second.revision} after {first}"

    def test_kind_cannot_change(self) -> None:
        made = self.define("r/x", 10)
        expect_refusal(lambda: self.define("r/x", Terms("concurrency", 10)), "another kind")
        expect_equal(self.state(), made, "the node after it")

    def test_what_was_changed_by_hand_stays_until_it_is_declared_otherwise(self) -> None:
        def declare(value: int, text: str) -> int:
            terms = Terms("capacity", value)
            return self.ledger.define("r/x", terms, "", declared=text).terms.value

        declare(10, "ten")
        self.ledger.define("r/x", Terms("capacity", 25), "")
        expect_equal(declare(10, "ten"), 25, "value after the same declaration")
        expect_equal(declare(12, "twelve"), 12, "value after another declaration")
        expect_equal(declare(10, "ten"), 10, "value after the first declaration again")

    def test_definition_by_hand_needs_the_revision_that_was_read(self) -> None:
        first = self.define("r/x", 10)
        old = first.revision
        expect_refusal(lambda: self.change(11, old + 1), "a revision that is not")
        second = self.change(11, old)
        expect_refusal(lambda: self.change(12, old), "a revision that was")
        expect_equal(self.state(), second, "the node after it")

    def change(self, value: int, expected_revision: int) -> object:
        """Change the value where the revision is the one expected."""
        return self.ledger.define(
            "r/x", Terms("capacity", value), "by hand", expected_revision=expected_revision
        )

    def test_revision_of_what_is_not_there_is_zero(self) -> None:
        expect_refusal(lambda: self.change(1, 1), "a revision of nothing")
        expect_equal(self.ledger.read(), [], "the nodes after it")
        self.change(1, 0)
        expect_refusal(lambda: self.change(2, 0), "adding what is there")

    def test_node_that_is_only_added_stays_as_it_is(self) -> None:
        made = self.ledger.define("t/x", Terms("capacity", 5), "first", idle_seconds=60.0)
        again = self.ledger.define("t/x", Terms("capacity", 9), "second", idle_seconds=60.0)
        expect_equal(again, made, "what is there")

    def test_node_that_nobody_has_used_for_long_begins_anew(self) -> None:
        idle = self.lease_seconds * 2
        first = self.ledger.define("t/x", Terms("capacity", 5), "first", idle_seconds=idle)
        a = self.holder("a", "t/x")
        a.sync(need=3)
        a.spend(3)
        self.advance(idle * 0.6)
        a.sync()
        self.advance(idle * 0.6)
        kept = self.ledger.define("t/x", Terms("capacity", 9), "second", idle_seconds=idle)
        expect_equal((kept.terms.value, kept.used), (5, 3), "value and use after a claim")
        self.advance(idle * 1.1)
        anew = self.ledger.define("t/x", Terms("capacity", 9), "second", idle_seconds=idle)
        expect_equal((anew.terms.value, anew.used, anew.holders), (9, 0, 0), "value, use, holders")
        assert anew.revision > first.revision, f"revision {anew.revision} after {first.revision}"
        expect_equal(self.holder("b", "t/x").sync(need=9).granted, 9, "granted of it")

    def test_deleted_node_is_gone_and_begins_anew(self) -> None:
        first = self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=4)
        a.spend(4)
        a.sync(is_last=True)
        self.ledger.latch("r/x", "enough")
        self.ledger.delete("r/x")
        expect_equal(self.ledger.read(), [], "the nodes after it")
        expect_equal(self.holder("b").sync(need=1).outcome, "undefined", "outcome")
        again = self.define("r/x", 10)
        assert again.revision > first.revision, f"revision {again.revision} after {first.revision}"
        expect_equal((again.used, again.latch), (0, ""), "use and latch")
        expect_equal(self.holder("c").sync(need=10).granted, 10, "granted of it")

    def test_deleted_node_may_come_back_as_another_kind(self) -> None:
        self.define("r/x", 10)
        self.ledger.delete("r/x")
        expect_equal(self.define("r/x", Terms("concurrency", 2)).terms.kind, "concurrency", "kind")

    def test_node_is_not_deleted_while_units_are_held_or_at_another_revision(self) -> None:
        made = self.define("r/x", 10)
        wrong = made.revision + 1
        expect_refusal(
            lambda: self.ledger.delete("r/x", expected_revision=wrong), "another revision"
        )
        a = self.holder("a")
        a.sync(need=1)
        expect_refusal(lambda: self.ledger.delete("r/x"), "deleting what is held")
        self.expect(out=1)
        a.free = 0
        a.sync()
        self.ledger.delete("r/x", expected_revision=made.revision)
        expect_equal(self.ledger.read(), [], "the nodes after it")

    def test_what_is_not_there_is_neither_deleted_nor_topped_up(self) -> None:
        expect_refusal(lambda: self.ledger.delete("r/none"), "deleting nothing")
        expect_refusal(lambda: self.ledger.add("r/none", 1, "once"), "adding to nothing")

    def test_top_up_counts_once_for_each_request(self) -> None:
        first = self.define("r/x", 10)
        self.define("r/y", 10)
        values = [self.ledger.add("r/x", 5, key).terms.value for key in ("a", "a", "b", "a", "b")]
        expect_equal(values, [15, 15, 20, 20, 20], "values")
        expect_equal(self.ledger.add("r/y", 1, "a").terms.value, 11, "value of another node")
        assert self.state().revision > first.revision, "the revision has not changed"
        expect_equal(self.holder("a").sync(need=30).granted, 20, "granted of it")

    def test_nodes_are_read_by_prefix_in_order(self) -> None:
        for name in ("r/b", "r/a_b", "r/axb", "r/A_b", "p/a", "r/a_", "r/B", "r/a-"):
            self.define(name, 1)
        found = {
            prefix: [state.node for state in self.ledger.read(prefix)]
            for prefix in ("", "r/a_", "r/", "r/none", "p/a")
        }
        ordered = ["r/A_b", "r/B", "r/a-", "r/a_", "r/a_b", "r/axb", "r/b"]
        expected = {
            "": ["p/a", *ordered],
            "r/a_": ["r/a_", "r/a_b"],
            "r/": ordered,
            "r/none": [],
            "p/a": ["p/a"],
        }
        expect_equal(found, expected, "what is read")

    def test_latched_node_takes_no_more_for_the_first_reason(self) -> None:
        self.define("t/x", 10)
        a, b = self.holder("a", "t/x"), self.holder("b", "t/x")
        a.sync(need=4)
        self.ledger.latch("t/x", "tokens")
        self.ledger.latch("t/x", "by hand")
        grant = b.sync(need=1, want=1)
        expect_equal((grant.latch, grant.granted), ("tokens", 0), "latch and units")
        expect_equal(self.state("t/x").latch, "tokens", "latch")
        a.spend(4)
        expect_equal(a.sync(need=1).granted, 0, "granted to a known holder")
        self.expect("t/x", used=4, out=0)

    def test_nothing_is_latched_where_there_is_nothing(self) -> None:
        self.ledger.latch("t/none", "tokens")
        expect_equal(self.ledger.read(), [], "the nodes after it")

    def test_second_ledger_of_the_store_sees_all_of_it(self) -> None:
        self.define("r/x", 10)
        a = self.holder("a")
        a.sync(need=4)
        with self.second() as second:
            expect_equal(second.read(), self.ledger.read(), "what the second ledger reads")
            b = self.holder("b")
            b.ledger = second
            expect_equal(b.sync(need=10).granted, 6, "granted by the second ledger")
        self.expect(out=10, holders=2)

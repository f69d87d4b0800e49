"""What is asked of the rest: tokens, texts, usage, the journal, several threads.

Not here: balances (`capacities`, `rates`).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Lock, Thread
from unittest import SkipTest

from ...errors import LedgerUnavailable
from ...ledgers.protocol import Ledger
from ...ledgers.terms import EVER, Terms, UsageRow, UsageSum
from .stage import Stage, expect_equal

THREADS = 8
PAGE = 1_000


def row(number: int, at: float, holder: str = "a") -> UsageRow:
    """A usage event."""
    return UsageRow(holder, number, at, f'{{"number": {number}, "of": "{holder} größe"}}')


def adding(number: int, at: float, *sums: UsageSum, holder: str = "a") -> UsageRow:
    """A usage event that adds something."""
    return UsageRow(holder, number, at, "{}", sums)


def added(ledger: Ledger, first: int, last: int) -> dict[tuple[int, str], dict[str, int]]:
    """What was added up."""
    return {(ends, group): dict(units) for ends, group, units in ledger.sums(first, last)}


class RecordContract(Stage):
    """What is kept beside the balances."""

    def test_token_is_spent_once(self) -> None:
        until = self.now() + 1e6
        found = [self.ledger.spend(token, until) for token in ("k", "k", "K", "k")]
        expect_equal(found, [True, False, True, False], "spent k, k, K, k")

    def test_token_is_spent_once_by_all_ledgers_of_the_store(self) -> None:
        self.ledger.spend("k", self.now() + 1e6)
        with self.second() as second:
            assert not second.spend("k", self.now() + 1e6), "a token was spent twice"

    def test_token_is_remembered_until_it_expires(self) -> None:
        self.need_given_time()
        until = self.now() + 100.0
        self.ledger.spend("k", until)
        self.advance(99.0)
        self.ledger.spend("other", until)
        assert not self.ledger.spend("k", until), "a token was spent twice"

    def test_text_that_comes_first_is_kept(self) -> None:
        found = [self.ledger.remember("k", text, 1e6) for text in ("größe", "other")]
        expect_equal(found, ["größe"] * 2, "what is kept")
        expect_equal(self.ledger.remember("K", "third", 1e6), "third", "what another key keeps")
        with self.second() as second:
            expect_equal(second.remember("k", "x", 1e6), "größe", "what a second ledger reads")

    def test_text_is_replaced_where_there_is_one(self) -> None:
        self.ledger.replace("k", "nothing yet")
        expect_equal(self.ledger.remember("k", "first", 1e6), "first", "what is kept")
        self.ledger.replace("k", "second")
        expect_equal(self.ledger.remember("k", "third", 1e6), "second", "what is kept then")

    def test_text_is_kept_for_its_time_also_where_it_is_replaced(self) -> None:
        kept = self.lease_seconds * 2
        self.ledger.remember("k", "first", kept)
        self.advance(kept * 0.5)
        self.ledger.replace("k", "second")
        expect_equal(self.ledger.remember("k", "third", kept), "second", "kept until then")
        self.advance(kept * 0.6)
        expect_equal(self.ledger.remember("k", "fourth", kept), "fourth", "kept after that")

    def test_usage_is_recorded_once(self) -> None:
        at = self.now()
        rows = [row(1, at), row(2, at), row(1, at, "b")]
        self.ledger.record(rows)
        self.ledger.record([*rows, row(3, at), row(3, at)])
        self.ledger.record([])
        found = [each for _, each in self.ledger.usage(at, at + 1)]
        key = [(each.holder, each.number) for each in found]
        expect_equal(sorted(key), [("a", 1), ("a", 2), ("a", 3), ("b", 1)], "recorded events")
        expect_equal(set(found), {*rows, row(3, at)}, "the events as recorded")

    def test_usage_of_a_time_is_read_from_its_first_moment_to_before_its_last(self) -> None:
        at = self.now()
        self.ledger.record([row(number, at + number * 0.5) for number in range(6)])
        found = [each.number for _, each in self.ledger.usage(at + 0.5, at + 2.0)]
        expect_equal(sorted(found), [1, 2, 3], "events from 0.5 to 2.0 seconds")
        expect_equal(self.ledger.usage(at + 100, at + 200), [], "events of later")

    def test_usage_is_read_in_pages(self) -> None:
        at = self.now()
        self.ledger.record([row(number, at) for number in range(PAGE + 200)])
        self.ledger.record([row(number, at + 5) for number in range(PAGE, PAGE + 300)])
        seen: list[int] = []
        sizes: list[int] = []
        after = 0
        while page := self.ledger.usage(at, at + 1, after=after):
            numbers = [number for number, _ in page]
            assert numbers == sorted(set(numbers)), "the numbers of a page do not rise"
            assert numbers[0] > after, f"number {numbers[0]} in the page after {after}"
            after = numbers[-1]
            seen += [each.number for _, each in page]
            sizes.append(len(page))
            assert len(sizes) < 5, f"pages without end: {sizes}"
        expect_equal(sizes, [PAGE, 200], "the sizes of the pages")
        expect_equal(sorted(seen), list(range(PAGE + 200)), "the events of all pages")

    def test_newest_usage_has_the_highest_number(self) -> None:
        expect_equal(self.ledger.last_usage(), 0, "the last number, before any event")
        at = self.now()
        self.ledger.record([row(number, at) for number in range(3)])
        newest = self.ledger.usage(at, at + 1)[-1][0]
        expect_equal(self.ledger.last_usage(), newest, "the last number")
        self.ledger.record([row(3, at - 50)])
        [(number, _row)] = self.ledger.usage(0, at + 1, after=newest)
        expect_equal(self.ledger.last_usage(), number, "the last number then")

    def test_usage_is_added_up_by_hour_and_group(self) -> None:
        at = self.now()
        end = int(at) + 3_600
        one = UsageSum(end, '["größe", null]', (("calls", 1), ("usd", 2**40)))
        other = UsageSum(end + 3_600, '["größe", null]', (("calls", 5),))
        back = UsageSum(end, '["größe", null]', (("usd", -3), ("tokens", 7)))
        else_ = UsageSum(end, "b", (("calls", 1),))
        self.ledger.record([adding(1, at, one, else_), adding(2, at, other), adding(3, at, back)])
        expected = {
            (end, '["größe", null]'): {"calls": 1, "usd": 2**40 - 3, "tokens": 7},
            (end, "b"): {"calls": 1},
            (end + 3_600, '["größe", null]'): {"calls": 5},
        }
        expect_equal(added(self.ledger, end, end + 3_600), expected, "what was added up")
        self.ledger.record([adding(1, at, one, holder="b")])
        expected[end, '["größe", null]'] = {"calls": 2, "usd": 2**41 - 3, "tokens": 7}
        expect_equal(added(self.ledger, end - 9, end + 9_999), expected, "and then")

    def test_usage_is_added_up_once(self) -> None:
        at = self.now()
        end = int(at) + 3_600
        rows = [adding(n, at, UsageSum(end, "g", (("calls", 1),))) for n in range(1, 6)]
        self.ledger.record(rows[:3])
        self.ledger.record([*rows, rows[4]])
        self.ledger.record(rows)
        expect_equal(added(self.ledger, end, end), {(end, "g"): {"calls": 5}}, "calls of 5 events")

    def test_sums_of_a_time_are_of_the_hours_that_end_in_it(self) -> None:
        at = self.now()
        end = int(at) // 3_600 * 3_600
        ends = [end + 3_600 * hour for hour in range(60)]
        self.ledger.record(
            [adding(n, at, UsageSum(each, "g", (("n", n),))) for n, each in enumerate(ends)]
        )
        found = [each.ends for each in self.ledger.sums(ends[0], ends[-1])]
        expect_equal(found, ends, "the hours")
        found = [each.ends for each in self.ledger.sums(ends[0] + 1, ends[3] - 1)]
        expect_equal(found, ends[1:3], "the hours between")
        expect_equal(self.ledger.sums(1, ends[0] - 1), [], "the hours before")

    def test_sum_of_all_time_is_no_hour(self) -> None:
        at = self.now()
        self.ledger.record([adding(n, at, UsageSum(EVER, "g", (("n", 2),))) for n in (1, 2)])
        expect_equal(added(self.ledger, EVER, EVER), {(EVER, "g"): {"n": 4}}, "the sum")
        expect_equal(self.ledger.sums(1, int(at) + 9_999), [], "the hours")

    def test_what_was_added_up_is_read_by_all_ledgers_of_the_store(self) -> None:
        at = self.now()
        end = int(at) + 3_600
        self.ledger.record([adding(1, at, UsageSum(end, "g", (("n", 2),)))])
        with self.second() as second:
            second.record([adding(1, at, UsageSum(end, "g", (("n", 3),)), holder="b")])
            expect_equal(added(second, end, end), {(end, "g"): {"n": 5}}, "what both added")

    def test_old_usage_goes_and_its_sums_stay(self) -> None:
        at = self.now()
        end = int(at) + 3_600
        old = [adding(n, at - 500, UsageSum(end, "g", (("n", 1),))) for n in range(1, 31)]
        self.ledger.record(old)
        for number in range(31, 41):
            self.ledger.record([row(number, at)], keep_seconds=400)
        found = [each.number for _, each in self.ledger.usage(0, at + 1)]
        expect_equal(sorted(found), list(range(31, 41)), "events that are kept")
        expect_equal(added(self.ledger, end, end), {(end, "g"): {"n": 30}}, "the sums")

    def test_address_shows_no_secret(self) -> None:
        address = self.ledger.address
        assert address, "a ledger has an address"
        assert "@" not in address, f"{address} shows a user"
        assert "?" not in address, f"{address} shows parameters"

    def test_close_twice_does_nothing(self) -> None:
        self.ledger.close()
        self.ledger.close()


class JournalContract(Stage):
    """The journal makes the same balances."""

    def test_journal_agrees_after_everything(self) -> None:
        self.define("r/x", 100)
        self.define("r/slots", Terms("concurrency", 5))
        a, b = self.holder("a"), self.holder("b")
        for each in (a, b, self.holder("c", "r/slots"), self.holder("d")):
            each.sync(need=5, want=20)
        a.spend(3)
        a.repeat(a.claim(need=2))
        a.sync()
        b.used, b.free = 90, 0
        b.sync()
        self.pass_leases(1.3)
        a.sync(is_last=True)
        a.used -= 1
        self.holder("e", "r/slots").sync(need=1)
        a.sync()
        self.ledger.add("r/x", 7, "once")
        self.define("r/x", 50)
        expect_equal(self.ledger.verify(), [], "where the journal differs")

    def test_journal_agrees_after_a_node_began_anew(self) -> None:
        self.define("r/x", 100)
        a = self.holder("a")
        a.sync(need=3)
        a.spend(3)
        a.sync()
        self.ledger.delete("r/x")
        expect_equal(self.ledger.verify(), [], "where the journal differs without the node")
        self.define("r/x", 100)
        self.holder("b").sync(need=2)
        expect_equal(self.ledger.verify(), [], "where the journal differs")

    def test_changed_balance_is_found(self) -> None:
        self.define("r/x", 100)
        self.define("r/y", 100)
        a = self.holder("a")
        a.sync(need=9)
        a.spend(4)
        a.sync()
        self.corrupt(self.ledger, "r/x")
        found = [(each.node, each.what, each.balance) for each in self.ledger.verify()]
        assert ("r/x", "used", 5) in found, f"a balance was changed, and verify() found {found}"
        expect_equal({node for node, _, _ in found}, {"r/x"}, "the nodes that differ")


class ThreadContract(Stage):
    """Several ledgers of one store, each in a thread of its own."""

    def race(self, work: Callable[[Ledger, int], None]) -> None:
        """Run it in threads, each with a ledger of its own; one at a time where they share it."""
        self.ledger.read()
        errors: list[BaseException] = []
        barrier = Barrier(THREADS)
        lock = Lock()

        def run(number: int) -> None:
            try:
                with self.second() as ledger:
                    barrier.wait(30)
                    if ledger is self.ledger:
                        with lock:
                            work(ledger, number)
                    else:
                        work(ledger, number)
            except BaseException as error:
                errors.append(error)
                barrier.abort()

        threads = [Thread(target=run, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        skipped = [error for error in errors if isinstance(error, SkipTest)]
        if skipped:
            raise skipped[0]
        assert not errors, f"threads failed: {errors!r}"

    def test_token_is_spent_once_by_many_threads(self) -> None:
        until = self.now() + 1e6
        won: list[int] = []

        def spend(ledger: Ledger, _number: int) -> None:
            won.extend(token for token in range(20) if ledger.spend(f"k-{token}", until))

        self.race(spend)
        expect_equal(sorted(won), list(range(20)), "tokens, once for each time they were spent")

    def test_units_are_granted_once_to_many_threads(self) -> None:
        self.define("r/x", 300)
        granted: list[int] = []

        def draw(ledger: Ledger, number: int) -> None:
            a = self.holder(f"h-{number}")
            a.ledger = ledger
            for _ in range(30):
                claim = a.claim(need=2)
                while True:
                    try:
                        [grant] = ledger.sync([claim])
                        break
                    except LedgerUnavailable:
                        continue
                a.take(grant)
                granted.append(grant.granted)
                a.spend(a.free)

        self.race(draw)
        expect_equal(sum(granted), 300, "granted of 300 to threads that wanted 480")
        state = self.state()
        expect_equal(state.used + state.out, 300, "used and held")
        expect_equal(self.ledger.verify(), [], "where the journal differs")

    def test_first_text_of_many_threads_is_kept(self) -> None:
        found: list[str] = []
        self.race(lambda ledger, number: found.append(ledger.remember("k", f"{number}", 1e6)))
        expect_equal(len(set(found)), 1, f"texts that were kept ({found})")

    def test_top_up_of_many_threads_counts_once_for_each_request(self) -> None:
        self.define("r/x", 10)

        def add(ledger: Ledger, _number: int) -> None:
            for request in range(5):
                ledger.add("r/x", 1, f"request-{request}")

        self.race(add)
        expect_equal(self.state().terms.value, 15, "value after 5 requests, each made 8 times")

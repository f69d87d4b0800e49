"""Where the suite plays: a ledger, the time, and what a user of the suite may override.

Not here: what is asked of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from unittest import SkipTest

from ...errors import ConfigurationError
from ...ledgers.protocol import Ledger
from ...ledgers.terms import Claim, Grant, NodeState, Terms
from .holders import Holder

START = 1_800_000_000.0
"""Seconds, on both clocks, when a test begins."""


class Stage:
    """What the suite needs of you: `make_ledger`, and what of the rest is not so by itself.

    Attributes:
        lease_seconds: how long leases last; make it short where time cannot be given.
        is_time_given: whether `advance` moves the ledger's time, and nothing else does. Where it
            only sleeps, what needs an exact time or a long one is skipped.
    """

    lease_seconds: float = 10.0
    is_time_given: bool = True

    def make_ledger(self, now: Callable[[], float], wall: Callable[[], float]) -> Ledger:
        """Make a ledger, not open yet, on a new and empty store; the suite opens and closes it.

        Args:
            now: seconds on the clock of leases, moved by `advance`.
            wall: seconds since the epoch, moved with it.
        """
        del now, wall
        raise ConfigurationError(
            f"{type(self).__name__}.make_ledger(now, wall) is not there: return a ledger from it"
        )

    def another(self, ledger: Ledger) -> Ledger:
        """Make a second ledger on the store of this one, as another process has it.

        Without it the same one is used twice.
        """
        return ledger

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass; sleep, where the ledger's time cannot be given."""
        self._time += seconds

    def corrupt(self, ledger: Ledger, node: str) -> None:
        """Add 1 to what the store says is used of a node, past the ledger.

        Without it the test that such a thing is found is skipped.
        """
        del ledger, node
        raise SkipTest(f"{type(self).__name__}.corrupt(ledger, node) is not there")

    _time: float = START
    _ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of this test, made when it is first asked for."""
        if self._ledger is None:
            self._time = START
            self._ledger = self.make_ledger(self.now, self.now)
            self._ledger.open()
        return self._ledger

    def now(self) -> float:
        """The time that `advance` moves."""
        return self._time

    def teardown_method(self) -> None:
        """Close what a test has opened."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            ledger.close()

    def begin_again(self) -> None:
        """Have a new ledger and the first time again, within one test."""
        self.teardown_method()

    @contextmanager
    def second(self) -> Generator[Ledger]:
        """Another ledger on the same store, open."""
        first = self.ledger
        ledger = self.another(first)
        if ledger is first:
            yield ledger
            return
        ledger.open()
        try:
            yield ledger
        finally:
            ledger.close()

    def need_given_time(self) -> None:
        """Skip the test where the ledger's time cannot be given."""
        if not self.is_time_given:
            raise SkipTest(f"{type(self).__name__} cannot be given the time")

    def define(self, node: str, kind_or_terms: Terms | int) -> NodeState:
        """Define a node: by its terms, or a capacity of so many units."""
        terms = kind_or_terms
        if isinstance(terms, int):
            terms = Terms("capacity", terms)
        return self.ledger.define(node, terms, f"definition of {node}")

    def holder(self, name: str, node: str = "r/x") -> Holder:
        """A process that has not claimed anything yet."""
        return Holder(self.ledger, node, name, int(self.lease_seconds * 1_000))

    def ask(self, claim: Claim) -> Grant:
        """Send one claim."""
        [grant] = self.ledger.sync([claim])
        return grant

    def state(self, node: str = "r/x") -> NodeState:
        """What the ledger says of a node."""
        found = [state for state in self.ledger.read(node) if state.node == node]
        assert len(found) == 1, f"read({node!r}) gave {found}, not one state of that node"
        return found[0]

    def expect(self, node: str = "r/x", **balances: int) -> None:
        """Compare what the ledger says of a node with numbers."""
        state = self.state(node)
        found = {name: getattr(state, name) for name in balances}
        assert found == balances, f"the ledger says {found} of {node}, not {balances}"

    def pass_leases(self, leases: float = 1.0) -> None:
        """Let so many times the length of a lease pass, and a moment."""
        self.advance(leases * self.lease_seconds + 0.01)


def expect_equal(found: object, expected: object, what: str) -> None:
    """Assert it, in words: assertions of this package are not rewritten."""
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


def expect_refusal(call: Callable[[], object], what: str) -> None:
    """Assert that a call raises ConfigurationError."""
    try:
        result = call()
    except ConfigurationError:
        return
    raise AssertionError(f"{what} gave {result!r}, and did not raise ConfigurationError")

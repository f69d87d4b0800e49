"""A hold: units taken from every payer before a call, that end exactly once.

The machine under `reserve`, `@budgeted` and `charge`. Not here: whether there is room
(`admission`), and what a report amounts to (`settlement`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from . import outcomes
from .accounts import acquire, book_later, release, waiting
from .admission.decisions import warn
from .admission.parking import serve
from .admission.waiters import Waiter
from .calls import Call
from .errors import AlreadySettled
from .events import Outcome
from .frames import Frame
from .ids import id_of, numbers
from .kernel.balances import worst_of
from .kernel.dims import from_units
from .kernel.nodes import Cell, Item
from .kernel.tree import correct, settle, settle_held, spend_keep
from .kernel.verdict import CONTINUE, Verdict
from .settlement import Reader, Report, Used, merge, read_quickly
from .tallies import Tally, debts
from .usage import Usage

State = Literal["held", "committed", "released", "assumed"]


def _nothing_known(_hold: Hold) -> None:
    """Stand in for `idempotency`, which knows about keys."""


key_settled: Callable[[Hold], object] = _nothing_known
"""Told of the end of a hold that has a key."""


class Hold:
    """Units held for one call; `close` ends it, once.

    Most holds need only what the constructor sets; the rest has defaults on the class.
    `implied` are dimensions held that the caller did not name. `told_late` says that a block
    will call `tell` when it is left, though the hold may end before. `key` is what it can be
    found by again, and `known_id` its id, where another process has made it.
    """

    booked: Sequence[int] | None = None
    implied: tuple[str, ...] = ()
    key: str | None = None
    known_id: str | None = None
    number = 0
    outcome: Outcome = "completed"
    priced = False
    record: Report | None = None
    span: Any = None
    started_ns: int | None = None
    state: State = "held"
    told_late = False
    usage: Usage | None = None
    verdict: Verdict = CONTINUE
    waited: Waiter | None = None

    def __init__(self, frame: Frame, call: Call, items: Sequence[Item], tally: Tally) -> None:
        self.frame = frame
        self.call = call
        self.items = items
        self.tally = tally

    def watch(self) -> None:
        """Note what is told of later; the units are held by now."""
        frame = self.frame
        if frame.has_warn:
            self.verdict = worst_of(self.items)
        self.started_ns = frame.now_ns()
        if frame.observer is not None:
            self.span = frame.observer.call_started(self)

    @property
    def id(self) -> str:
        return self.known_id or id_of(self.numbered())

    def duration_ns(self) -> int:
        """How long the call has run by now; 0 where nobody noted when it started."""
        return 0 if self.started_ns is None else self.frame.now_ns() - self.started_ns

    def numbered(self) -> int:
        """Its number, given when somebody first asks."""
        if not self.number:
            self.number = next(numbers)
        return self.number

    def units(self) -> list[int]:
        """What is booked (held, while it is open), aligned with the items."""
        held = [n for _dim, n, _payers in self.items]
        if self.booked is None:
            return held
        return [n if used < 0 else used for n, used in zip(held, self.booked, strict=True)]

    def amounts(self) -> dict[str, int | Decimal]:
        """What was held, as users see it."""
        return {dim: from_units(dim, n) for dim, n, _payers in self.items}

    def charged(self) -> dict[str, int | Decimal]:
        """What is booked, as users see it."""
        pairs = zip(self.items, self.units(), strict=True)
        return {item[0]: from_units(item[0], n) for item, n in pairs}

    def read(self, used: Used, amounts: Mapping[str, Any]) -> Report:
        """Turn a report into units; raises `InvalidAmount`."""
        if self.call.model is None:
            report = read_quickly(self.items, used, amounts)
            if report is not None:
                return report
        reader = self._reader()
        report = reader.read(used, amounts)
        if reader.usage is not None:
            self.usage = reader.usage
        return report

    def note(self, used: Used, amounts: Mapping[str, Any]) -> None:
        """Record usage so far: cumulative, the highest per dimension counts."""
        if self.state in ("committed", "released"):
            raise AlreadySettled(f"reservation {self.id} is {self.state}: nothing can be recorded")
        before = self.usage
        report = self.read(used, amounts)
        if before is not None and self.usage is not before and self.usage is not None:
            joined = before.highest(self.usage)
            reader = self._reader()
            report = merge(report, reader.price_usage(joined))
            self.usage = joined
        self.record = report if self.record is None else merge(self.record, report)

    def _reader(self) -> Reader:
        runtime = self.frame.runtime
        return Reader(self.items, self.call, runtime, priced=self.priced, implied=self.implied)

    def nothing(self) -> Report:
        """What a release books."""
        return [0] * len(self.items)

    def close(
        self,
        state: State,
        report: Report | None,
        outcome: Outcome = "completed",
        error: BaseException | None = None,
    ) -> bool:
        """Book `report` (None: what is held) and leave `held`; False if it had left before."""
        items = self.items
        crossed: list[Cell] | None = None
        before: dict[Cell, int] | None = None
        try:
            acquire()
            if self.state != "held":
                return False
            self.state = state
            if report is None:
                self.tally.count_held(items)
            else:
                self.booked = report
                if self.tally.count(items, report):
                    before = debts(items)
            if state == "assumed":
                crossed = settle(items, self.units(), assumed=True)
            elif report is None:
                settle_held(items)
            else:
                crossed = settle(items, report)
            if before is not None:
                self.frame.runtime.tallies.overdrawn(before)
            if self.frame.finishing:
                spend_keep(items, self.units(), self.frame.finishing)
        finally:
            release()
        if waiting:
            serve(items, self.frame.now_ns())
        self._closed(outcome, crossed, error)
        return True

    def _closed(
        self, outcome: Outcome, crossed: list[Cell] | None, error: BaseException | None
    ) -> None:
        """Tell of what has been booked. Without the lock."""
        if outcome != "completed":
            self.outcome = outcome
        if crossed:
            warn(crossed)
        if not self.told_late and self.is_watched():
            self.tell(error)
        if self.key is not None:
            key_settled(self)

    def settle(self, state: State, report: Report | None) -> State:
        """Settle by the caller's word: for the first time, or correcting what was assumed.

        Returns the state it ended in the first time, or by the correction.
        """
        if self.frame.runtime.expiring:
            self.frame.runtime.sweep()
        if self.close(state, report):
            return state
        self._settle_again(state, report)
        return self.state

    def _settle_again(self, state: State, report: Report | None) -> None:
        try:
            acquire()
            before = self.units()
            after = [n for _dim, n, _payers in self.items]
            if report is not None:
                pairs = zip(after, report, strict=True)
                after = [n if used < 0 else used for n, used in pairs]
            correcting = self.state == "assumed"
            if correcting:
                owed = debts(self.items)
                correct(self.items, before, after)
                self.frame.runtime.tallies.overdrawn(owed)
                self.state = state
                self.booked = after
                self.tally.correct(self.items, before, after)
        finally:
            release()
        if waiting:
            serve(self.items, self.frame.now_ns())
        if correcting:
            outcomes.tell(self, "corrected", None, before=before)
            if self.key is not None:
                key_settled(self)
        elif before != after:
            raise AlreadySettled(
                f"reservation {self.id} is {self.state} at {self.charged()} already: settle each "
                "reservation once"
            )

    def cut(self, error: BaseException, outcome: Outcome | None = None) -> None:
        """End it because its block did not: an error, a cancellation, an early close."""
        self.outcome = outcome or outcomes.outcome_of(error, self.frame)
        if self.state != "held":
            return
        if isinstance(error, GeneratorExit):
            ended = self.outcome
            book_later(lambda: self.close("assumed", self.record, ended, error))
        elif isinstance(error, Exception) and self._releases(error):
            self.close("released", self.nothing(), self.outcome, error)
        else:
            self.close("assumed", self.record, self.outcome, error)

    def cut_block(self, error: BaseException) -> None:
        """The same, and tell of it, as the block leaves it to be told."""
        if isinstance(error, GeneratorExit) and self.state == "held":
            self.told_late = False  # it may be booked later, and is told of then
        try:
            self.cut(error)
        finally:  # `on_error` may raise
            if self.told_late:
                self.tell(error)

    def _releases(self, error: Exception) -> bool:
        """Ask `on_error`; if that raises, the call is charged."""
        try:
            return self.call.releases(error)
        except BaseException:
            self.close("assumed", self.record, self.outcome, error)
            raise

    def leave(self) -> None:
        """End it because its block ended normally: what was recorded, else what is held."""
        if self.state == "held":
            self.close("assumed" if self.record is None else "committed", self.record)

    def expire(self) -> None:
        """End it because nobody did in time."""
        self.close("assumed", self.record)

    def is_watched(self) -> bool:
        """Whether anybody is to be told of its end."""
        runtime = self.frame.runtime
        return bool(self.span is not None or runtime.events.listeners or runtime.expiring)

    def tell(self, error: BaseException | None) -> None:
        """Tell of the end: event, span, metric. Without the lock."""
        runtime = self.frame.runtime
        if runtime.expiring:
            runtime.expiring.pop(self.number, None)
        if self.span is not None or runtime.events.listeners:
            outcomes.tell(self, self.outcome, error)

"""Memory ledgers, each wrong in one way: what the suite of ledgers must notice."""
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from budgetware.errors import ConfigurationError
from budgetware.ledgers import rules
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.rows import LeaseRow, NodeRow, Step
from budgetware.ledgers.sums import add_rows
from budgetware.ledgers.terms import (
    FINE,
    KEEP_SECONDS,
    Claim,
    Difference,
    Grant,
    NodeState,
    Terms,
    UsageRow,
    UsageSum,
)

Break = Callable[[pytest.MonkeyPatch], type[MemoryLedger]]
BROKEN: dict[str, Break] = {}


def breaks(made: type[MemoryLedger]) -> type[MemoryLedger]:
    """Add a ledger that is broken by its class."""
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in made.__name__)
    BROKEN[name[1:]] = lambda _: made
    return made


def patches(target: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a ledger that is broken by one function of the rules; it gets the right one first."""
    right = getattr(rules, target)

    def add(wrong: Callable[..., Any]) -> Callable[..., Any]:
        def apply(monkeypatch: pytest.MonkeyPatch) -> type[MemoryLedger]:
            def instead(*args: Any) -> Any:
                return wrong(right, *args)

            monkeypatch.setattr(rules, target, instead)
            return MemoryLedger

        BROKEN[wrong.__name__] = apply
        return wrong

    return add


Right = Callable[..., Any]


# Claims.


@breaks
class CountsReplaysTwice(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        row = self._leases.get(claim.node, {}).get(claim.holder)
        if row is not None and row.epoch == claim.epoch:
            claim = replace(claim, epoch=claim.epoch + 1, held=row.units)
        return super()._sync(claim)


@breaks
class AnswersReplaysAnew(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        row = self._leases.get(claim.node, {}).get(claim.holder)
        if row is not None and row.epoch == claim.epoch:
            row.epoch -= 1
        return super()._sync(claim)


@breaks
class TakesOldClaims(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        row = self._leases.get(claim.node, {}).get(claim.holder)
        if row is not None and row.epoch > claim.epoch:
            claim = replace(claim, epoch=row.epoch + 1)
        return super()._sync(claim)


@breaks
class ForgetsTombstones(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        grant = super()._sync(claim)
        leases = self._leases.get(claim.node, {})
        for name in [name for name, row in leases.items() if row.is_over]:
            del leases[name]
        return grant


@breaks
class ForgetsTombstonesOfNothing(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        leases = self._leases.get(claim.node, {})
        for name in [n for n, row in leases.items() if row.is_over and not row.stranded]:
            if name != claim.holder or claim.epoch == leases[name].epoch + 1:
                del leases[name]
        return super()._sync(claim)


@breaks
class GrantsDuringRecovery(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        if claim.node in self._nodes:
            self._nodes[claim.node].recover_us = 0
        return super()._sync(claim)


@breaks
class NeverRecovers(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        row = self._leases.get(claim.node, {}).get(claim.holder)
        if row is not None and claim.epoch > row.epoch:
            row.epoch = claim.epoch - 1
        grant = super()._sync(claim)
        if claim.node in self._nodes:
            self._nodes[claim.node].recover_us = 0
        return replace(grant, outcome="ok") if grant.outcome == "recovering" else grant


@breaks
class AnswersOnlyTheFirst(MemoryLedger):
    def sync(self, claims: Sequence[Claim]) -> list[Grant]:
        return super().sync(claims[:1])


@patches("_take_stock")
def adopts_lost_use_as_counted(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    if not row.epoch and claim.epoch > 1:
        row.counted = claim.used
    right(node, row, claim)


@patches("_take_stock")
def adopts_lost_leases_as_free(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    is_lost = claim.epoch > row.epoch + 1
    right(node, row, replace(claim, held=0) if is_lost else claim)


@patches("_take_stock")
def adds_use_up(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    right(node, row, replace(claim, used=row.counted + claim.used))


@patches("_take_stock")
def ignores_corrections(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    right(node, row, replace(claim, used=max(claim.used, row.counted)))


@patches("_take_stock")
def counts_overruns_once(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    most = row.counted + row.units - claim.held if row.epoch and not row.is_over else claim.used
    right(node, row, replace(claim, used=min(claim.used, max(row.counted, most))))


@patches("_take_stock")
def keeps_what_was_stranded(right: Right, node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    row.stranded = 0
    right(node, row, claim)


# Grants.


@patches("_grant")
def grants_beyond_the_value(
    right: Right, node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> int:
    granted = right(node, row, others, claim, now_us)
    more = claim.need - granted if 0 < granted < claim.need else 0
    row.units += more
    node.out += more
    return int(granted + more)


@patches("_grant")
def grants_in_spite_of_a_latch(
    right: Right, node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> int:
    latch, node.latch = node.latch, ""
    granted = right(node, row, others, claim, now_us)
    node.latch = latch
    return int(granted)


@patches("_grant")
def grants_all_as_stock(
    right: Right, node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> int:
    return int(right(node, row, others, replace(claim, need=max(claim.need, claim.want)), now_us))


@patches("_grant")
def grants_parts_to_waiters(
    right: Right, node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> int:
    return int(right(node, row, others, replace(claim, head=0), now_us))


@patches("_ahead")
def ignores_tickets(_right: Right, *_args: object) -> int:
    return 0


@patches("_stand_in_line")
def loses_the_place_in_line(
    right: Right, node: NodeRow, row: LeaseRow, claim: Claim, granted: int, now_us: int
) -> None:
    row.ticket_us = 0
    right(node, row, claim, granted, now_us)


@patches("_stand_in_line")
def never_leaves_the_line(
    right: Right, node: NodeRow, row: LeaseRow, claim: Claim, granted: int, now_us: int
) -> None:
    head, ticket_us = row.head, row.ticket_us
    right(node, row, claim, granted, now_us)
    if ticket_us and not row.ticket_us and not granted:
        row.head, row.ticket_us = head, ticket_us


# Leases that end.


@patches("_reap")
def frees_what_is_stranded(
    right: Right, node: NodeRow, others: Iterable[LeaseRow], now_us: int, step: Step
) -> None:
    right(node, others, now_us, step)
    for row in step.changed:
        node.stranded -= row.stranded
        row.stranded = 0


@patches("_reap")
def keeps_what_should_be_free(
    right: Right, node: NodeRow, others: Iterable[LeaseRow], now_us: int, step: Step
) -> None:
    terms, node.terms = node.terms, replace(node.terms, stranded="keep")
    right(node, others, now_us, step)
    node.terms = terms


@patches("_reap")
def never_ends_a_lease(_right: Right, *_args: object) -> None:
    return


@patches("_margin_us")
def frees_slots_without_a_margin(_right: Right, *_args: object) -> int:
    return 0


# Rates.


@patches("_part")
def gives_everybody_everything(
    _right: Right, node: NodeRow, row: LeaseRow, *_args: object
) -> tuple[int, int]:
    return row.demand * FINE, node.terms.burst


@patches("_fair")
def gives_the_first_all(_right: Right, total: int, _demands: list[int]) -> int:
    return total


@patches("refill")
def refills_what_holders_refill(right: Right, node: NodeRow, now_us: int) -> None:
    shares, node.shares = node.shares, 0
    right(node, now_us)
    node.shares = shares


@patches("refill")
def drops_the_rest_of_a_refill(right: Right, node: NodeRow, now_us: int) -> None:
    right(node, now_us)
    node.anchor_us = now_us


@patches("_clip")
def overfills_the_bucket(_right: Right, _node: NodeRow) -> None:
    return


@patches("_pour")
def takes_nothing_back(
    right: Right, node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> int:
    level_micro = node.level_micro
    units = int(right(node, row, others, claim, now_us))
    if units < 0:
        node.level_micro = level_micro
    return units


# Definitions and the rest.


@breaks
class ResetsOnRedefinition(MemoryLedger):
    def define(self, node: str, terms: Terms, definition: str, **how: Any) -> NodeState:
        before = self._nodes.get(node)
        revision = 0 if before is None else before.revision
        state = super().define(node, terms, definition, **how)
        if state.revision > revision:
            self._nodes[node].used = 0
        return super().define(node, terms, definition, **how)


@breaks
class DeclaresOverWhatWasChanged(MemoryLedger):
    def define(self, node: str, terms: Terms, definition: str, **how: Any) -> NodeState:
        return super().define(node, terms, definition, **{**how, "declared": None})


@breaks
class IgnoresRevisions(MemoryLedger):
    def define(self, node: str, terms: Terms, definition: str, **how: Any) -> NodeState:
        return super().define(node, terms, definition, **{**how, "expected_revision": None})

    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        super().delete(node)


@breaks
class IgnoresIdleness(MemoryLedger):
    def define(self, node: str, terms: Terms, definition: str, **how: Any) -> NodeState:
        return super().define(node, terms, definition, **{**how, "idle_seconds": None})


@breaks
class ChangesKinds(MemoryLedger):
    def define(self, node: str, terms: Terms, definition: str, **how: Any) -> NodeState:
        row = self._nodes.get(node)
        if row is not None:
            row.terms = replace(row.terms, kind=terms.kind)
        return super().define(node, terms, definition, **how)


@breaks
class DeletesWhatIsHeld(MemoryLedger):
    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        if node in self._nodes:
            self._nodes[node].out = 0
        super().delete(node, expected_revision=expected_revision)


@breaks
class BeginsAgainAtTheFirstRevision(MemoryLedger):
    def delete(self, node: str, *, expected_revision: int | None = None) -> None:
        super().delete(node, expected_revision=expected_revision)
        del self._nodes[node]


@breaks
class AddsEachTime(MemoryLedger):
    def add(self, node: str, units: int, request: str) -> NodeState:
        return super().add(node, units, f"{request}-{uuid4()}")


@breaks
class ReadsAnyCase(MemoryLedger):
    def read(self, prefix: str = "") -> list[NodeState]:
        states = super().read()
        return [state for state in states if state.node.lower().startswith(prefix.lower())]


@breaks
class LatchesForTheLastReason(MemoryLedger):
    def latch(self, node: str, reason: str) -> None:
        if node in self._nodes:
            self._nodes[node].latch = reason


@breaks
class SpendsTwice(MemoryLedger):
    def spend(self, token: str, expires: float) -> bool:
        super().spend(token, expires)
        return True


@breaks
class ForgetsTokens(MemoryLedger):
    def spend(self, token: str, expires: float) -> bool:
        return super().spend(token, min(expires, self._wall() + 30))


@breaks
class RemembersTheLast(MemoryLedger):
    def remember(self, key: str, text: str, seconds: float) -> str:
        self._texts.pop(key, None)
        return super().remember(key, text, seconds)


@breaks
class ReplacesWhatIsNotThere(MemoryLedger):
    def replace(self, key: str, text: str) -> None:
        self.remember(key, text, 1e6)
        super().replace(key, text)


@breaks
class RemembersForever(MemoryLedger):
    def remember(self, key: str, text: str, seconds: float) -> str:
        return super().remember(key, text, seconds + 1e9)


@breaks
class RecordsTwice(MemoryLedger):
    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        for row in rows:
            new = replace(row, holder=f"{row.holder}{self._events}")
            super().record([new], keep_seconds=keep_seconds)


@breaks
class AddsUpTwice(MemoryLedger):
    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        add_rows(rows, self._sums)
        super().record(
            [replace(row, sums=()) for row in rows], keep_seconds=keep_seconds
        )  # fmt: skip


@breaks
class KeepsAllUsage(MemoryLedger):
    def record(self, rows: Sequence[UsageRow], *, keep_seconds: float = KEEP_SECONDS) -> None:
        super().record(rows)


@breaks
class ForgetsSumsWithTheirEvents(MemoryLedger):
    def _drop(self, keep_seconds: float) -> None:
        before = len(self._usage)
        super()._drop(keep_seconds)
        if len(self._usage) < before:
            self._sums.clear()


@breaks
class CountsAllTimeAsAnHour(MemoryLedger):
    def sums(self, first: int, last: int) -> list[UsageSum]:
        return super().sums(0, last)


@breaks
class ReadsUsageFromTheStart(MemoryLedger):
    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        return super().usage(since, until)


@breaks
class ReadsUsageToTheEnd(MemoryLedger):
    def usage(self, since: float, until: float, *, after: int = 0) -> list[tuple[int, UsageRow]]:
        return super().usage(since, until + 1e-3, after=after)


@breaks
class VerifiesNothing(MemoryLedger):
    def verify(self) -> list[Difference]:
        return []


@breaks
class JournalsNothing(MemoryLedger):
    def _sync(self, claim: Claim) -> Grant:
        lines = len(self._journal)
        grant = super()._sync(claim)
        del self._journal[lines:]
        return grant


@breaks
class ShowsSecrets(MemoryLedger):
    address = "memory://user:password@here"


@breaks
class RefusesToClose(MemoryLedger):
    is_closed = False

    def close(self) -> None:
        if self.is_closed:
            raise ConfigurationError("it is closed")
        self.is_closed = True

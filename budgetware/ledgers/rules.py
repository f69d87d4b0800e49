"""How a ledger decides: plain functions of rows, a claim and the time.

Whoever has these rows in a transaction has a ledger; the script for Redis says the same. Every
claim sets what its holder has to what it says it has, and then adds the grant, so that a claim
that is repeated, or that comes after the store has lost some, ends in the same state.

    used + out + stranded <= value, but for what was used beyond what was held

A rate is divided: each holder has a part of the refill and of the bucket, the ledger has the rest,
and together they let through what one bucket would. Not here: storing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace

from ..errors import ConfigurationError
from .rows import JournalLine, LeaseRow, NodeRow, Step
from .terms import FINE, MAX_REAPED, MICRO, MOST, Claim, Grant, NodeState, Terms, title

LEAST_RETRY_US = 20_000
MOST_RETRY_US = 1_000_000


def sync(node: NodeRow, leases: Mapping[str, LeaseRow], claim: Claim, now_us: int) -> Step:
    """Answer a claim, and change the rows to that.

    Args:
        node: whose `is_deleted` is false.
        leases: those of the node that are not over, and the claiming holder's own.
    """
    row = leases.get(claim.holder)
    if row is not None and claim.epoch == row.epoch and row.answer is not None:
        return Step(row.answer)
    if row is not None and claim.epoch < row.epoch:
        return Step(Grant(claim.node, claim.epoch, "stale", revision=node.revision))
    ttl_us = claim.ttl_ms * 1_000
    if claim.epoch > (1 if row is None else row.epoch + 1):  # the store has lost what came between
        node.recover_us = max(node.recover_us, now_us + ttl_us)
    if row is None:
        row = LeaseRow(claim.holder)
    others = [other for other in leases.values() if other is not row and not other.is_over]
    refill(node, now_us)
    shares = node.shares
    step = Step(Grant(claim.node, claim.epoch, "ok"), [row])
    _reap(node, others, now_us, step)
    others = [other for other in others if not other.is_over]
    before = node.used, node.out, node.stranded
    _take_stock(node, row, claim)
    row.expires_us, row.ttl_us = now_us + ttl_us, ttl_us
    is_rate = node.terms.kind == "rate"
    row.is_over = claim.is_last and (is_rate or not claim.held)
    if is_rate:
        _divide(node, row, others, claim, now_us)
        granted = _pour(node, row, others, claim, now_us)
    else:
        granted = _grant(node, row, others, claim, now_us)
    _stand_in_line(node, row, claim, granted, now_us)
    if row.is_over:
        row.demand = 0
    if node.shares != shares:
        node.anchor_us = max(node.anchor_us, now_us)
    node.touched_us = now_us
    used, out, stranded = before
    changes = node.used - used, node.out - out, node.stranded - stranded
    if any(changes):
        step.journal.append(JournalLine(node.node, row.holder, claim.epoch, *changes))
    step.answer = row.answer = _answer(node, row, others, claim, granted, now_us)
    return step


def _take_stock(node: NodeRow, row: LeaseRow, claim: Claim) -> None:
    """Set what the holder used, and has, to what it says."""
    node.stranded -= row.stranded
    row.stranded = 0
    node.used += claim.used - row.counted
    row.counted = claim.used
    row.epoch = claim.epoch
    if node.terms.kind == "rate":
        node.shares += claim.share - row.share
        node.caps += claim.cap - row.cap
        row.share, row.cap, row.demand = claim.share, claim.cap, claim.demand
    else:
        node.out += claim.held - row.units
        row.units = claim.held


def _reap(node: NodeRow, others: Iterable[LeaseRow], now_us: int, step: Step) -> None:
    """End leases that have expired."""
    late = [row for row in others if now_us > row.expires_us + _margin_us(node, row)]
    for row in late[:MAX_REAPED]:
        units, stranded = row.units, 0
        if node.terms.kind == "capacity" and node.terms.stranded == "keep":
            stranded = units
        node.out -= units
        node.stranded += stranded
        node.shares -= row.share
        node.caps -= row.cap
        row.units = row.share = row.cap = row.demand = row.head = row.ticket_us = 0
        row.stranded = stranded
        row.is_over = True
        step.changed.append(row)
        if units:
            line = JournalLine(node.node, row.holder, row.epoch, 0, -units, stranded)
            step.journal.append(line)


def _margin_us(node: NodeRow, row: LeaseRow) -> int:
    """A slot may be in use a little longer than its lease lasts."""
    return row.ttl_us // 4 if node.terms.kind == "concurrency" else 0


def _ahead(row: LeaseRow, others: Iterable[LeaseRow]) -> int:
    """The units of those who stand in line before this holder."""
    place = (row.ticket_us, row.holder) if row.ticket_us else None
    return sum(
        other.head
        for other in others
        if other.ticket_us and (place is None or (other.ticket_us, other.holder) < place)
    )


def _grant(node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int) -> int:
    """How many units of a capacity or of slots a holder gets.

    What its callers wait for, if it is there; to have in stock, at most its part of half of the
    rest, so that leases shrink as the rest does.
    """
    if now_us < node.recover_us or node.latch or claim.is_last:
        return 0
    free = node.terms.value - node.used - node.out - node.stranded - _ahead(row, others)
    part = -(-free // (2 * (len(others) + 1)))
    units = max(0, min(free, max(claim.need, min(claim.want, part))))
    if claim.waits and units < claim.head:
        return 0
    row.units += units
    node.out += units
    return units


def _stand_in_line(node: NodeRow, row: LeaseRow, claim: Claim, granted: int, now_us: int) -> None:
    """Whoever waits, and has not got enough, keeps the place it had, or goes to the end.

    Of a rate, who has a share gets enough in time, for its part of the bucket is large enough.
    """
    has = granted
    if node.terms.kind == "rate":
        has = row.cap if row.share else claim.held + granted
    if claim.waits and has < claim.head and not claim.is_last:
        row.head = claim.head
        row.ticket_us = row.ticket_us or now_us
    else:
        row.head = row.ticket_us = 0


def refill(node: NodeRow, now_us: int) -> None:
    """Put into the ledger's own bucket what has come since, but for the shares of holders.

    The time that makes no whole millionth yet counts the next time: a slow rate is asked often.
    """
    terms = node.terms
    if terms.kind != "rate":
        return
    passed_us = max(0, now_us - node.anchor_us)
    fine = max(0, terms.value * FINE - node.shares)
    gained = passed_us * fine * MICRO // (terms.period_us * FINE)
    if fine:
        passed_us = -(-gained * terms.period_us * FINE // (fine * MICRO))
    node.level_micro += gained
    node.anchor_us += passed_us
    _clip(node)


def seen(node: NodeRow, holders: int, now_us: int) -> NodeState:
    """What others may know of it now; of a rate, what there is in its bucket, too."""
    state = node.state(holders)
    if node.terms.kind != "rate":
        return state
    then = copy(node)
    refill(then, now_us)
    return replace(state, spare=max(0, then.level_micro // MICRO), lent=node.caps)


def _clip(node: NodeRow) -> None:
    node.level_micro = min(node.level_micro, max(0, node.terms.burst - node.caps) * MICRO)


def _divide(
    node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int
) -> None:
    """Set a holder's part of the refill and of the bucket."""
    share, cap = row.share, row.cap
    if claim.is_last:
        share = cap = 0
    elif now_us >= node.recover_us:
        share, cap = _part(node, row, others, claim)
    node.shares += share - row.share
    node.caps += cap - row.cap
    row.share, row.cap = share, cap


def _part(node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim) -> tuple[int, int]:
    """Share and cap of a holder: max-min fair by demand, within what others have left for now.

    The share grows by half of what is left each time, so that who comes first does not take all.
    Whoever waits for more than its part of the bucket will hold has no share: what comes goes into
    the ledger's own bucket, for those in line, one after the other.
    """
    terms = node.terms
    all_of_it = terms.value * FINE
    free = max(0, all_of_it - (node.shares - row.share))
    due = _due(node, row, others)
    share = min(due, free)
    if share > row.share:
        share = min(share, row.share - (row.share - free) // 2)
    room = max(0, terms.burst - (node.caps - row.cap) - _ahead(row, others))
    part = min(room, terms.burst * due // all_of_it)
    head = claim.head if row.demand else 0
    if not part or (claim.waits and part < head):
        return 0, min(room, head)
    return share, min(room, max(1, head, terms.burst * share // all_of_it))


def _due(node: NodeRow, row: LeaseRow, others: list[LeaseRow]) -> int:
    """The share a holder has when all of them are balanced."""
    demands = [lease.demand * FINE for lease in (row, *others)]
    return min(row.demand * FINE, _fair(node.terms.value * FINE, demands))


def _fair(total: int, demands: list[int]) -> int:
    """The level at which demands above it and all of those below it add up to the total.

    Source: max-min fairness by water filling (Bertsekas and Gallager, Data Networks, 6.5.2).
    """
    level = total
    left, waiting = total, sorted(demand for demand in demands if demand)
    for at, demand in enumerate(waiting):
        level = left // (len(waiting) - at)
        if demand >= level:
            return level
        left -= demand
    return max(level, left)


def _pour(node: NodeRow, row: LeaseRow, others: list[LeaseRow], claim: Claim, now_us: int) -> int:
    """How many units go from the ledger's bucket into the holder's, or back."""
    units = row.cap - claim.held
    if units > 0 and not claim.is_last:
        is_shut = now_us < node.recover_us or node.latch or not row.demand
        units = (
            0 if is_shut else max(0, min(units, node.level_micro // MICRO - _ahead(row, others)))
        )
    if not row.share:  # nothing comes into its bucket by itself, so it needs no room for more
        node.caps += max(0, claim.held + units) - row.cap
        row.cap = max(0, claim.held + units)
    node.level_micro -= units * MICRO
    _clip(node)
    return units


def _answer(
    node: NodeRow,
    row: LeaseRow,
    others: list[LeaseRow],
    claim: Claim,
    granted: int,
    now_us: int,
) -> Grant:
    is_news = claim.revision != node.revision
    return Grant(
        claim.node,
        claim.epoch,
        "recovering" if now_us < node.recover_us else "ok",
        granted,
        row.share,
        row.cap,
        node.used,
        node.out,
        node.stranded,
        _retry_ms(node, row, others, claim, granted, now_us),
        is_wanted=any(other.ticket_us for other in others),
        latch=node.latch,
        revision=node.revision,
        terms=node.terms if is_news else None,
        definition=node.definition if is_news else "",
    )


def _retry_ms(
    node: NodeRow,
    row: LeaseRow,
    others: list[LeaseRow],
    claim: Claim,
    granted: int,
    now_us: int,
) -> int | None:
    """When asking again may give more."""
    if now_us < node.recover_us:
        return -(-(node.recover_us - now_us) // 1_000)
    retry_us = max(LEAST_RETRY_US, min(MOST_RETRY_US, row.ttl_us // 20))
    if node.terms.kind == "rate":
        due = _due(node, row, others)
        is_short = row.share < due and node.terms.burst * due >= node.terms.value * FINE
        if row.ticket_us:
            retry_us = _turn_us(node, row, others, claim.held + granted)
        return -(-retry_us // 1_000) if row.ticket_us or is_short else None
    if granted >= claim.need:
        return None
    if node.out == row.units:  # nobody else has any to give back
        retry_us = max(LEAST_RETRY_US, min(MOST_RETRY_US, row.ttl_us // 5))
    return retry_us // 1_000


def _turn_us(node: NodeRow, row: LeaseRow, others: list[LeaseRow], has: int) -> int:
    """When enough will have come for a holder in line, and for those before it."""
    fine = max(1, node.terms.value * FINE - node.shares)
    short_micro = (_ahead(row, others) + row.head - has) * MICRO - node.level_micro
    turn_us = -(-short_micro * node.terms.period_us * FINE // (fine * MICRO))
    return max(LEAST_RETRY_US, min(turn_us, row.ttl_us // 3))


def define(
    node: NodeRow | None,
    new: NodeRow,
    *,
    is_declared: bool,
    expected_revision: int | None,
    idle_us: int | None,
) -> NodeRow | None:
    """Return the row a definition comes to; None: nothing changes.

    Args:
        node: the row that is there, also of a deleted node.
        new: the definition, with `touched_us` as the time.
        is_declared: whether it is what a manifest says, and not a change by hand.
        idle_us: only add it, unless nobody has claimed anything of it for so long.
    """
    now_us = new.touched_us
    is_there = node is not None and not node.is_deleted
    if node is not None and idle_us is not None and now_us - node.touched_us > idle_us:
        is_there = False
    if expected_revision is not None:
        check_revision(node if is_there else None, new.node, expected_revision)
    if node is None or not is_there:
        new.revision = 1 if node is None else node.revision + 1
        new.anchor_us = now_us
        new.level_micro = new.terms.burst * MICRO
        return new
    if idle_us is not None or (is_declared and node.declared == new.declared):
        return None
    if node.terms.kind != new.terms.kind:
        raise ConfigurationError(
            f"{title(new.node)} is a {node.terms.kind} in the ledger and cannot become a "
            f"{new.terms.kind}: delete it there first, or define another one"
        )
    declared = new.declared if is_declared else node.declared
    if (node.terms, node.definition, node.declared) == (new.terms, new.definition, declared):
        return None
    refill(node, now_us)
    node.anchor_us = max(node.anchor_us, now_us)
    if node.terms.kind == "rate":  # what was used stays used
        node.level_micro += (new.terms.burst - node.terms.burst) * MICRO
    node.terms, node.definition, node.declared = new.terms, new.definition, declared
    node.revision += 1
    node.touched_us = now_us
    if node.terms.kind == "rate":
        _clip(node)
    return node


def check_revision(node: NodeRow | None, name: str, expected: int) -> None:
    """Raise unless the caller has seen the definition as it is."""
    revision = 0 if node is None else node.revision
    if revision != expected:
        raise ConfigurationError(
            f"{title(name)} is at revision {revision} in the ledger, not {expected}: read it "
            "again, and then change it"
        )


def added(terms: Terms, units: int) -> Terms:
    """The terms of a node with so many units more; raises `ConfigurationError` for a rate."""
    if terms.kind == "rate" or terms.value + units > MOST:
        raise ConfigurationError(
            f"a {terms.kind} of {terms.value} cannot be raised by {units}: define it anew"
        )
    return Terms(terms.kind, terms.value + units, terms.period_us, terms.burst, terms.stranded)

"""Asking for units: they are held at once, or the call is refused, or stands in line.

Not here: settling what is held (`holds`), and the line (`admission`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .accounts import acquire, drain, left_behind, release, waiting
from .admission.closely import look_closely
from .admission.decisions import look_at_deadlines, warn
from .admission.parking import serve, wait_async, wait_sync
from .admission.refusals import Refusal, refuse_async, refuse_sync
from .admission.waiters import Waiter
from .amounts import Price, check_amounts, with_price
from .calls import PLAIN, Call
from .errors import InvalidAmount, NoBudget
from .frames import Amounts, Frame
from .holds import Hold
from .kernel.balances import worst_of
from .kernel.nodes import Item, refresh
from .kernel.tree import settle, try_hold
from .kernel.verdict import Verdict
from .tallies import Tally, debts

Answer = Hold | Refusal | Waiter
"""What asking gives: the units, no, or a place in a line."""


def request_amounts(frame: Frame, call: Call, amounts: Amounts, *, may_wait: bool = True) -> Answer:
    """Request amounts that differ from call to call. Never waits itself."""
    if left_behind:
        drain()
    tally = frame.tally(call.operation)
    if call.model is None or not frame.limits_usd:
        return request(frame, call, frame.items_of(amounts), tally, may_wait=may_wait)
    amounts_priced = with_price(frame, call, amounts)
    items = frame.items(amounts_priced)
    priced = amounts_priced is not amounts
    return request(frame, call, items, tally, priced=priced, may_wait=may_wait)


def request(
    frame: Frame,
    call: Call,
    items: Sequence[Item],
    tally: Tally,
    *,
    priced: bool = False,
    may_wait: bool = True,
) -> Answer:
    """Hold `items` on all payers, or say who refuses, or stand in line. Never waits itself.

    `priced` says that the `usd` among them was not given with the call but follows from its
    model.
    """
    if not frame.chain:
        check_strict(frame)
    elif frame.deadline_ns and frame.now_ns() >= frame.deadline_ns:
        look_at_deadlines(frame)
    held = False
    if not frame.finishing and (frame.aim is None or not frame.is_hindered()):
        now_ns = frame.now_ns() if frame.rates else 0
        try:
            acquire()
            for cell in frame.rates:
                refresh(cell, now_ns)
            held = try_hold(items)
            if held:
                tally.admitted += 1
        finally:
            release()
    if not held:
        answer = look_closely(frame, items, call, tally, priced=priced, may_wait=may_wait)
        if answer is not None:
            return answer
    hold = Hold(frame, call, items, tally)
    if priced:
        hold.priced = True
    if frame.observer is not None or frame.runtime.events.listeners or frame.has_warn:
        hold.watch()
    return hold


async def admit_async(answer: Refusal | Waiter) -> Hold:
    """Wait for its turn, or raise what the refusal means. Checkpoint, in every case."""
    refusal = await wait_async(answer) if isinstance(answer, Waiter) else answer
    if refusal is not None:
        await refuse_async(refusal)
    assert isinstance(answer, Waiter)
    return _served(answer)


def admit_sync(answer: Refusal | Waiter) -> Hold:
    """The same for sync code, which blocks its thread."""
    refusal = wait_sync(answer) if isinstance(answer, Waiter) else answer
    if refusal is not None:
        refuse_sync(refusal)
    assert isinstance(answer, Waiter)
    return _served(answer)


def _served(waiter: Waiter) -> Hold:
    """The hold of a call that has waited."""
    frame, call = waiter.frame, waiter.call
    hold = Hold(frame, call, waiter.items, waiter.tally)
    hold.priced = waiter.priced
    dim = waiter.blamed.cell.dim if waiter.blamed is not None else ""
    if waiter.only_asked:
        _count_admitted(waiter.tally)
    else:
        hold.waited = waiter
        frame.runtime.tallies.refused("throttled", waiter.waited_for, dim, call.operation)
        frame.runtime.telemetry.throttled(waiter)
    if waiter.crossed:
        warn(waiter.crossed)
    if frame.observer is not None or frame.runtime.events.listeners or frame.has_warn:
        hold.watch()
    return hold


def _count_admitted(tally: Tally) -> None:
    try:
        acquire()
        tally.admitted += 1
    finally:
        release()


def check_strict(frame: Frame) -> None:
    """Outside any task nobody pays; a strict service does not allow that."""
    if frame.runtime.strict:
        raise NoBudget(
            "a reservation outside any task: put it inside `async with task_budget(...)`, or "
            "connect without strict=True"
        )


def book(frame: Frame, amounts: Mapping[str, Price]) -> Verdict:
    """Book what has already happened, refused by nobody; one event.

    Raises:
        InvalidAmount: nothing has changed.
    """
    checked = check_amounts(amounts)
    if not checked:
        raise InvalidAmount("charge() books nothing: name an amount, as in charge(tokens=800)")
    items = frame.items(checked)
    tally = frame.tally(PLAIN.operation)
    booking = Hold(frame, PLAIN, items, tally)
    try:
        acquire()
        owed = debts(items)
        unheld: list[Item] = [(dim, 0, payers) for dim, _n, payers in items]
        crossed = settle(unheld, [n for _dim, n in checked])
        booking.state = "committed"
        tally.count_held(items)
        frame.runtime.tallies.overdrawn(owed)
        verdict = worst_of(items)
    finally:
        release()
    if waiting:
        serve(items, frame.now_ns())
    if crossed:
        warn(crossed)
    booking.tell(None)
    return verdict

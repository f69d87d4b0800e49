"""The quick lane of `@budgeted`: calls of fixed amounts, whose plan is ready in their frame.

They hold and settle in two short critical sections; one that nobody watches has no object of its
own. Not here: which calls may take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .accounts import acquire, release, waiting
from .admission.decisions import warn
from .admission.parking import serve
from .calls import Call
from .frames import Plan, current
from .holds import Hold
from .kernel.tree import settle as settle_items
from .kernel.tree import settle_held, try_hold
from .settlement import Report, read_quickly
from .tallies import debts

if TYPE_CHECKING:
    from .sites import Site

NOTHING: dict[str, Any] = {}


def quick(key: object) -> Plan | None:
    """Hold the ready plan of a shape, or of a site; None: take the slow lane, nothing is held."""
    frame = current.get(None)
    if frame is None:
        return None
    plan = frame.quick.get(key)
    if plan is None or (plan.is_checked and not plan.is_current()):
        return None
    if frame.deadline_ns and frame.now_ns() >= frame.deadline_ns:
        return None
    try:
        acquire()
        if not try_hold(plan.items):
            return None
        plan.tally.admitted += 1
    finally:
        release()
    return plan


def book_held(plan: Plan) -> None:
    """Book what was held."""
    try:
        acquire()
        settle_held(plan.items)
        plan.tally.settled += 1
    finally:
        release()
    if waiting:
        serve(plan.items, plan.frame.now_ns())


def settle_plainly(plan: Plan, site: Site, result: Any) -> None:
    """Book what `settle` says, if that is plain; else as the slow lane does."""
    used: Any = None
    items = plan.items
    try:
        used = site.settle(result)  # type: ignore[misc]  # pyright: ignore[reportOptionalCall]
        report = read_quickly(items, used, NOTHING) if site.call.model is None else None
        if report is None and used is not None:
            report = hold_of(plan, site.call, None).read(used, NOTHING)
    except BaseException as error:
        hold_of(plan, site.call, None).close("assumed", None, "completed", error)
        raise
    if report is None:  # nothing is known of a call that may have been paid for
        hold_of(plan, site.call, None).close("assumed", None)
    else:
        _book(plan, report)


def _book(plan: Plan, report: Report) -> None:
    items = plan.items
    try:
        acquire()
        owed = debts(items) if plan.tally.count(items, report) else None
        crossed = settle_items(items, report)
        if owed is not None:
            plan.frame.runtime.tallies.overdrawn(owed)
    finally:
        release()
    if waiting:
        serve(items, plan.frame.now_ns())
    if crossed:
        warn(crossed)


def hold_of(plan: Plan, call: Call, started_ns: int | None) -> Hold:
    """The hold that the quick lane did without."""
    hold = Hold(plan.frame, call, plan.items, plan.tally)
    hold.started_ns = started_ns
    return hold


def observe(plan: Plan, call: Call) -> Hold:
    """The hold of a quick call that has a span, which becomes the current one."""
    hold = hold_of(plan, call, plan.frame.now_ns())
    assert plan.observer is not None
    hold.span = plan.observer.call_started(hold)
    if hold.span is not None:
        hold.span.attach()
    return hold


def observed_done(plan: Plan, site: Site, hold: Hold, result: Any) -> None:
    """Leave the span, book, and end it."""
    span = hold.span
    if span is not None:
        span.detach()
    if span is None or plan.events.listeners:
        site.done(hold, result, None)
        return
    if site.settle is None:
        book_held(plan)
    else:
        report = site.read(hold, result)
        if report is None:
            hold.close("assumed", None)
            return
        _book(plan, report)
        hold.booked = report
    span.ended(hold, "completed", None)


def observed_cut(hold: Hold, error: BaseException) -> None:
    """The same for a call that did not return."""
    if hold.span is not None:
        hold.span.detach()
    hold.cut(error)

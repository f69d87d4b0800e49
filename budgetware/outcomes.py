"""How calls and waits end, in words, and who is told: events and spans.

Not here: what is booked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from .accounts import book_later
from .calls import Call
from .events import Outcome, QuickEvent, UsageEvent, error_name, status_of
from .frames import Frame, Plan
from .ids import id_of, numbers
from .kernel.dims import from_units
from .kernel.nodes import Item, Node
from .loops import current_loop
from .termination import TerminateSignal
from .usage import Usage

if TYPE_CHECKING:
    from .admission.refusals import Refusal
    from .admission.waiters import Waiter
    from .holds import Hold


def outcome_of(error: BaseException, frame: Frame) -> Outcome:
    """Name the end of a call that was cut by `error`."""
    if isinstance(error, TerminateSignal):
        return "terminated"
    if isinstance(error, Exception):
        return "failed"
    if _is_cancellation(error) and any(_is_over(node, frame) for node in frame.chain):
        return "terminated"
    return "cancelled"


def _is_over(node: Node, frame: Frame) -> bool:
    """Whether a task was terminated, or is past its deadline and will be when its block is left."""
    due_ns = node.deadline_ns
    return node.latch is not None or (due_ns is not None and frame.now_ns() >= due_ns)


def _is_cancellation(error: BaseException) -> bool:
    return current_loop() is not None and isinstance(error, anyio.get_cancelled_exc_class())


def tell(
    hold: Hold,
    outcome: Outcome,
    error: BaseException | None,
    *,
    before: Sequence[int] | None = None,
) -> None:
    """Tell of a hold's end, or of its correction from what was booked `before`."""
    runtime = hold.frame.runtime
    span, hold.span = hold.span, None
    if span is not None:
        span.ended(hold, outcome, error)
    if not runtime.events.listeners:
        return
    charged = hold.units()
    if before is not None:
        charged = [new - old for new, old in zip(charged, before, strict=True)]
    duration_ns = hold.duration_ns()
    waited_ns = 0 if hold.waited is None or before is not None else hold.waited.waited_ns
    facts = (hold.frame, hold.call, hold.items, hold.numbered(), runtime.clock.time())
    how = (outcome, error, hold.usage, waited_ns)
    runtime.events.emit(Facts(*facts, duration_ns, charged, *how))


def tell_quick(plan: Plan, call: Call, started_ns: int) -> None:
    """Tell of a call of the quick lane that was charged what it held."""
    frame = plan.frame
    duration_ns = frame.now_ns() - started_ns
    facts = (_quick, plan, call, next(numbers), frame.runtime.clock.time(), duration_ns)
    event = QuickEvent(facts)
    for listener in plan.events.listeners:
        listener.put(event)


def _quick(plan: Plan, call: Call, number: int, timestamp: float, duration_ns: int) -> UsageEvent:
    facts = (plan.frame, call, plan.items, number, timestamp, duration_ns)
    return Facts(*facts, None, "completed", None, None)()


def tell_refusal(refusal: Refusal) -> None:
    """Tell of a call that did not run: one event, with nothing charged."""
    frame = refusal.frame
    runtime = frame.runtime
    runtime.telemetry.refused(refusal)
    if not runtime.events.listeners:
        return
    outcome: Outcome = "rejected" if refusal.decision == "rejected" else "terminated"
    facts = (frame, refusal.call, refusal.items, next(numbers), runtime.clock.time())
    nothing = [0] * len(refusal.items)
    waited_ns = refusal.waited_ns if refusal.waited_ns > 1 else 0  # at the least it is 1
    how = (outcome, refusal.error(), None, waited_ns)
    runtime.events.emit(Facts(*facts, 0, nothing, *how))


def wait_began(waiter: Waiter) -> int:
    """Now, for `tell_wait` and `tell_cut_wait`; 0: nobody asks when a wait began."""
    observer = waiter.frame.observer
    return 0 if observer is None else observer.wait_began()


def tell_wait(waiter: Waiter, began_ns: int) -> None:
    """Tell of a wait that is over; what became of the call is told of by itself."""
    refusal = waiter.refusal
    if refusal is not None and waiter.expires_ns is not None:
        if waiter.expires_ns <= waiter.since_ns:  # it was not to wait at all
            return
        ended_ns = waiter.since_ns + waiter.waited_ns
        refusal.timed_out = refusal.shortage is not None and ended_ns >= waiter.expires_ns
    observer = waiter.frame.observer
    if observer is not None and not waiter.only_asked:
        observer.waited(waiter, began_ns, "completed" if refusal is None else "rejected", None)


def tell_cut_wait(waiter: Waiter, began_ns: int, error: BaseException) -> None:
    """Tell of a call that was cut while it waited: one event, with nothing charged."""
    if isinstance(error, GeneratorExit):  # of a finalizer, maybe, in any critical section
        book_later(lambda: _tell_cut_wait(waiter, 0, error))
    else:
        _tell_cut_wait(waiter, began_ns, error)


def _tell_cut_wait(waiter: Waiter, began_ns: int, error: BaseException) -> None:
    frame, call = waiter.frame, waiter.call
    runtime = frame.runtime
    outcome, over = _outcome_of_cut(error, frame)
    if over is not None:
        dim = "millis" if over.latch is None else over.latch.dim or ""
        runtime.tallies.refused(outcome, over, dim, call.operation)
    if frame.observer is not None:
        frame.observer.waited(waiter, began_ns, outcome, error)
    if runtime.events.listeners:
        facts = (frame, call, waiter.items, next(numbers), runtime.clock.time())
        how = (outcome, error, None, waiter.waited_ns)
        runtime.events.emit(Facts(*facts, 0, [0] * len(waiter.items), *how))


def _outcome_of_cut(error: BaseException, frame: Frame) -> tuple[Outcome, Node | None]:
    """Name the end of a wait that was cut, and the task whose end it was."""
    if isinstance(error, Exception):
        return "failed", None
    for node in reversed(frame.chain):
        if node not in frame.finishing and _is_over(node, frame):
            return "terminated", node
    return "cancelled", None


class Facts:
    """What an event is made of, when it is read: one that nobody reads costs next to nothing.

    Attributes:
        charged: units by item; None: what was held.
    """

    __slots__ = (
        "call",
        "charged",
        "duration_ns",
        "error",
        "frame",
        "items",
        "number",
        "outcome",
        "timestamp",
        "usage",
        "waited_ns",
    )

    def __init__(
        self,
        frame: Frame,
        call: Call,
        items: Sequence[Item],
        number: int,
        timestamp: float,
        duration_ns: int,
        charged: Sequence[int] | None,
        outcome: Outcome,
        error: BaseException | None,
        usage: Usage | None,
        waited_ns: int = 0,
    ) -> None:
        self.frame = frame
        self.call = call
        self.items = items
        self.number = number
        self.timestamp = timestamp
        self.duration_ns = duration_ns
        self.charged = charged
        self.outcome: Outcome = outcome
        self.error = error
        self.usage = usage
        self.waited_ns = waited_ns

    def __call__(self) -> UsageEvent:
        frame, call, items = self.frame, self.call, self.items
        reserved = {dim: from_units(dim, n) for dim, n, _payers in items}
        if self.charged is None:
            charged = dict(reserved)
        else:
            pairs = zip(items, self.charged, strict=True)
            charged = {item[0]: from_units(item[0], n) for item, n in pairs}
        return UsageEvent(
            self.timestamp,
            id_of(self.number),
            None if frame.principal is None else frame.principal.name,
            frame.path,
            call.kind,
            call.name,
            call.model,
            call.provider,
            None,
            self.usage,
            reserved,
            charged,
            self.duration_ns / 1e6,
            self.waited_ns / 1e6,
            status_of(self.outcome, self.error),
            self.outcome,
            error_name(self.error),
        )

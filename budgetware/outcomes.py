"""How calls end, in words, and who is told: events and spans. Not here: what is booked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from .events import Outcome, UsageEvent, status_of
from .frames import Frame
from .ids import new_id
from .kernel.dims import from_units
from .loops import current_loop
from .termination import TerminateSignal

if TYPE_CHECKING:
    from .admission import Refusal
    from .holds import Hold


def outcome_of(error: BaseException, frame: Frame) -> Outcome:
    """Name the end of a call that was cut by `error`."""
    if isinstance(error, TerminateSignal):
        return "terminated"
    if isinstance(error, Exception):
        return "failed"
    if any(node.latch is not None for node in frame.chain) and _is_cancellation(error):
        return "terminated"
    return "cancelled"


def _is_cancellation(error: BaseException) -> bool:
    return current_loop() is not None and isinstance(error, anyio.get_cancelled_exc_class())


def error_name(error: BaseException | None) -> str | None:
    """The qualified name of an exception's type, a group of one unwrapped; never its text."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if error is None:
        return None
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else _qualified(kind)


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


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
    runtime.events.emit(_event(hold, charged, outcome, error))


def _event(
    hold: Hold, charged: Sequence[int], outcome: Outcome, error: BaseException | None
) -> UsageEvent:
    frame, call = hold.frame, hold.call
    now_ns = frame.now_ns()
    return UsageEvent(
        frame.runtime.clock.time(),
        hold.id,
        frame.principal,
        frame.path,
        call.kind,
        call.name,
        call.model,
        call.provider,
        None,
        None if hold.record is None else hold.record.usage,
        hold.amounts(),
        {item[0]: from_units(item[0], n) for item, n in zip(hold.items, charged, strict=True)},
        (now_ns - (hold.started_ns or now_ns)) / 1e6,
        0.0,
        status_of(outcome, error),
        outcome,
        error_name(error),
    )


def tell_refusal(refusal: Refusal) -> None:
    """Tell of a call that did not run: one event, with nothing charged."""
    frame, call = refusal.frame, refusal.call
    runtime = frame.runtime
    runtime.telemetry.refused(refusal)
    if not runtime.events.listeners:
        return
    outcome: Outcome = "rejected" if refusal.decision == "rejected" else "terminated"
    runtime.events.emit(
        UsageEvent(
            runtime.clock.time(),
            new_id(),
            frame.principal,
            frame.path,
            call.kind,
            call.name,
            call.model,
            call.provider,
            None,
            None,
            {dim: from_units(dim, n) for dim, n, _payers in refusal.items},
            {dim: from_units(dim, 0) for dim, _n, _payers in refusal.items},
            0.0,
            0.0,
            status_of(outcome, None),
            outcome,
            error_name(refusal.error()),
        )
    )

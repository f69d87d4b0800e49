"""How spans start: for the calls, waits, refusals and tasks of one frame.

Not here: how those of calls and tasks end.
"""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, Tracer, get_current_span

from ..kernel.balances import shared
from . import counts, names
from .facts import Facts, leaf_cells, of_place
from .genai import inference_data
from .logs import tell_of_failure
from .spans import CallSpan, CallTimer, Remark, TaskSpan, error_type_of
from .values import Attributes, bounded
from .verdicts import of_admission, of_refusal, of_wait, refusal_type

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
    from ..admission.waiters import Waiter
    from ..calls import Call
    from ..frames import Frame
    from ..holds import Hold
    from ..tasks import TaskBudget
    from .metrics import Instruments

MAX_FACTS = 256


class Observer:
    """Watches one frame; made once per task, so that it may remember what it learnt of calls."""

    __slots__ = ("_duration", "_facts", "_genai_usage", "_tracer", "_wait_span_ns", "_waits")

    def __init__(
        self,
        tracer: Tracer | None,
        instruments: Instruments | None,
        *,
        genai_usage: bool,
        wait_span_ns: int,
    ) -> None:
        self._tracer = tracer
        self._duration = None if instruments is None else instruments.duration
        self._waits = None if instruments is None else instruments.waits
        self._genai_usage = genai_usage
        self._wait_span_ns = wait_span_ns
        self._facts: dict[Call, Facts] = {}

    def call_started(self, hold: Hold) -> CallSpan | None:
        """A call was admitted; its units are held."""
        try:
            facts = self._facts.get(hold.call) or self._learn(hold.frame, hold.call)
            if facts.items is not hold.items:
                facts.hold(hold.items, hold.frame)
            if self._tracer is None:
                return CallTimer(facts, self._duration, INVALID_SPAN)
            attributes = facts.attributes.copy()
            for key, cell, kept in facts.left:  # no lock: it may be a moment old
                left = cell.free + cell.returned - kept
                if cell.lease is not None:
                    left = shared(cell)[-1] - kept
                attributes[key] = left if left > 0 else 0
            if hold.waited is not None:
                attributes |= of_admission(hold.waited)
            if hold.call.kind is None:
                return self._remark(facts, attributes)
            span = self._tracer.start_span(facts.name, None, facts.kind, attributes)
            return CallSpan(
                facts, self._duration, span, inference_data() if facts.has_usage else None
            )
        except Exception:
            tell_of_failure()
            return None

    def _remark(self, facts: Facts, attributes: Attributes) -> Remark:
        span = get_current_span()
        if span.is_recording():
            span.set_attributes(attributes)
        return Remark(facts, self._duration, span)

    def _learn(self, frame: Frame, call: Call) -> Facts:
        if len(self._facts) >= MAX_FACTS:
            self._facts.clear()
        facts = self._facts[call] = Facts(frame, call, genai_usage=self._genai_usage)
        return facts

    def refused(self, refusal: Refusal) -> None:
        """A call did not run: its span, ended at once. Without a kind: a remark."""
        if self._tracer is None:
            return
        call = refusal.call
        try:
            facts = self._facts.get(call) or self._learn(refusal.frame, call)
            attributes = facts.said | of_refusal(refusal)
            for key, cell, kept in leaf_cells(refusal.items, refusal.frame):
                free = cell.free + cell.returned if cell.lease is None else shared(cell)[-1]
                attributes[key] = max(0, free - kept)
            if call.kind is None:
                span = get_current_span()
                if span.is_recording():
                    span.set_attributes(attributes)
                return
            attributes[names.ERROR_TYPE] = refusal_type(refusal)
            span = self._tracer.start_span(facts.name, None, facts.kind, attributes)
            span.set_status(StatusCode.ERROR)
            span.end()
        except Exception:
            tell_of_failure()

    def wait_began(self) -> int:
        """Now, as spans count time; 0: none would be made of the wait."""
        return 0 if self._tracer is None else time_ns()

    def waited(
        self, waiter: Waiter, began_ns: int, outcome: str, error: BaseException | None
    ) -> None:
        """A wait is over: its span, if it was long, and its share of the histogram.

        How long it was is what the service's clock says; the span is where the wall clock was.
        """
        ended_ns = time_ns()
        try:
            if waiter.blamed is None:  # nobody was in its way
                return
            cell = waiter.blamed.cell
            if self._waits is not None:
                labels = counts.waited(waiter.frame.runtime.tallies, cell.node, cell.dim)
                self._waits.record(waiter.waited_ns / 1e9, labels)
            if self._tracer is None or not began_ns or waiter.waited_ns < self._wait_span_ns:
                return
            name = f"{names.WAIT_SPAN} {waiter.frame.runtime.tallies.shown(cell.node)}"
            attributes = of_place(waiter.frame) | of_wait(waiter, cell)
            refusal = waiter.refusal if outcome == names.REJECTED else None
            kind = error_type_of(outcome, error) if refusal is None else refusal_type(refusal)
            if kind is not None:
                attributes[names.ERROR_TYPE] = kind
            span = self._tracer.start_span(
                name, None, SpanKind.INTERNAL, attributes, start_time=began_ns
            )
            if kind is not None:
                span.set_status(StatusCode.ERROR)
            span.end(max(began_ns, ended_ns))
        except Exception:
            tell_of_failure()

    def task_started(self, task: TaskBudget) -> TaskSpan | None:
        """A task was entered."""
        if self._tracer is None:
            return None
        try:
            attributes = of_place(task.frame) | _limits(task)
            return TaskSpan(self._tracer.start_span(names.TASK_SPAN, attributes=attributes))
        except Exception:
            tell_of_failure()
            return None


def _limits(task: TaskBudget) -> Attributes:
    limits: Attributes = {}
    for dim, cell in task.node.cells.items():
        if cell.limit is not None:
            limits[names.LIMIT[dim]] = bounded(cell.limit)
    if task.node.deadline_ns is not None:
        limit_ns = task.node.deadline_ns - task.started_ns
        limits[names.LIMIT["millis"]] = limit_ns // 1_000_000
    return limits

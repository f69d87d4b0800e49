"""How spans start: for the calls, refusals and tasks of one frame. Not here: how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import Histogram
from opentelemetry.trace import INVALID_SPAN, StatusCode, Tracer, get_current_span

from . import names
from .facts import Facts, leaf_cells, of_place, policy_of
from .genai import inference_data
from .logs import tell_of_failure
from .spans import CallSpan, CallTimer, Remark, TaskSpan
from .values import Attributes, bounded

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
    from ..calls import Call
    from ..frames import Frame
    from ..holds import Hold
    from ..tasks import TaskBudget

MAX_FACTS = 256


class Observer:
    """Watches one frame; made once per task, so that it may remember what it learnt of calls."""

    __slots__ = ("_duration", "_facts", "_genai_usage", "_tracer")

    def __init__(
        self, tracer: Tracer | None, duration: Histogram | None, *, genai_usage: bool
    ) -> None:
        self._tracer = tracer
        self._duration = duration
        self._genai_usage = genai_usage
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
                attributes[key] = left if left > 0 else 0
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
            attributes = facts.said | _of_refusal(refusal)
            if call.kind is None:
                span = get_current_span()
                if span.is_recording():
                    span.set_attributes(attributes)
                return
            attributes[names.ERROR_TYPE] = f"budgetware.{refusal.decision}"
            span = self._tracer.start_span(facts.name, None, facts.kind, attributes)
            span.set_status(StatusCode.ERROR)
            span.end()
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


def _of_refusal(refusal: Refusal) -> Attributes:
    """Who refused, for want of what, and what the leaf had left."""
    attributes: Attributes = {
        names.DECISION: refusal.decision,
        names.DENIED_BUDGET: refusal.node.name,
        names.POLICY: policy_of(refusal.node, refusal.call) or "reject",
    }
    if refusal.dim:
        attributes[names.DENIED_DIM] = names.unit_dim(refusal.dim)
    for key, cell, kept in leaf_cells(refusal.items, refusal.frame):
        attributes[key] = max(0, cell.free + cell.returned - kept)
    return attributes


def _limits(task: TaskBudget) -> Attributes:
    limits: Attributes = {}
    for dim, cell in task.node.cells.items():
        if cell.limit is not None:
            limits[names.LIMIT[dim]] = bounded(cell.limit)
    if task.node.deadline_ns is not None:
        limit_ns = task.node.deadline_ns - task.started_ns
        limits[names.LIMIT["millis"]] = limit_ns // 1_000_000
    return limits

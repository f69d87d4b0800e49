"""Spans of calls and tasks that have started: made current and left by hand, ended with little.

There are no tokens: a block that is left in another context than it was entered in leaves that
one alone. Whatever an SDK raises changes nothing. Not here: how spans start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.metrics import Histogram
from opentelemetry.trace import INVALID_SPAN, Span, StatusCode, set_span_in_context

from ..events import error_name
from . import names
from .facts import Facts
from .genai import reported_attributes, usage_attributes
from .logs import tell_of_failure
from .values import Attributes, bounded, clean

if TYPE_CHECKING:
    from ..holds import Hold
    from ..tasks import TaskBudget

_SPAN_KEY = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""One copy of the context less per call than `set_span_in_context` makes."""
_ERRORS = frozenset({"failed", "broken", "rejected", "terminated"})


class CallSpan:
    """The span of one call, and its share of the histogram.

    `reported` is where an official instrumentor leaves what the provider said.
    """

    __slots__ = ("_context", "_duration", "_facts", "_previous", "_reported", "_span")

    _previous: Context

    def __init__(
        self, facts: Facts, duration: Histogram | None, span: Span, reported: Any = None
    ) -> None:
        self._context: Context | None = None
        self._facts = facts
        self._duration = duration
        self._span = span
        self._reported = reported

    def attach(self) -> None:
        """Make it the current span, for a step or a block."""
        self._previous = previous = get_current()
        values = {**previous, _SPAN_KEY: self._span}
        if self._reported is not None:
            values[names.INFERENCE_CONTEXT] = self._reported
        self._context = context = Context(values)
        attach(context)

    def detach(self) -> None:
        """The opposite; does nothing where another one is current."""
        if get_current() is self._context:
            attach(self._previous)

    def ended(self, hold: Hold, outcome: str, error: BaseException | None) -> None:
        """The call is over and booked."""
        error_type = None if outcome == "completed" else error_type_of(outcome, error)
        try:
            duration = self._duration
            if duration is not None:
                labels = self._facts.labels
                if error_type is not None:
                    labels = labels | {names.ERROR_TYPE: error_type}
                duration.record(hold.duration_ns() / 1e9, labels, self._context)
            self._write(hold, error_type)
        except Exception:
            tell_of_failure()

    def _write(self, hold: Hold, error_type: str | None) -> None:
        span = self._span
        if error_type is not None and span.is_recording():
            span.set_status(StatusCode.ERROR)
            span.set_attributes(self._late(hold) | {names.ERROR_TYPE: error_type})
        elif hold.booked is not None or self._facts.has_late:
            late = self._late(hold)
            if late:
                span.set_attributes(late)
        span.end()

    def _late(self, hold: Hold) -> Attributes:
        late = _charged(hold)
        return late | self._usage(hold) if self._facts.has_usage else late

    def _usage(self, hold: Hold) -> Attributes:
        if hold.usage is not None:
            usage = usage_attributes(hold.usage, has_output=hold.call.kind == "llm")
        else:
            usage = {} if self._reported is None else reported_attributes(self._reported)
        if hold.call.provider is not None:
            usage.pop(names.PROVIDER, None)
        return usage


class CallTimer(CallSpan):
    """A call without a span: only its share of the histogram."""

    __slots__ = ()

    def attach(self) -> None: ...

    def detach(self) -> None: ...

    def _write(self, hold: Hold, error_type: str | None) -> None: ...


class Remark(CallTimer):
    """A call without a span of its own: its attributes go on the one it found."""

    __slots__ = ()

    def _write(self, hold: Hold, error_type: str | None) -> None:  # noqa: ARG002
        late = _charged(hold)
        if late and self._span.is_recording():
            self._span.set_attributes(late)


class TaskSpan:
    """The span of a task: current in its block, or in each step of its generator."""

    __slots__ = ("_context", "_previous", "_span")

    _context: Context
    _previous: Context

    def __init__(self, span: Span) -> None:
        self._span = span

    def attach(self) -> None:
        """Make it the current span."""
        self._previous = get_current()
        self._context = set_span_in_context(self._span, self._previous)
        attach(self._context)

    def detach(self) -> None:
        """The opposite; does nothing where another one is current."""
        if get_current() is self._context:
            attach(self._previous)

    def ended(self, task: TaskBudget, outcome: str, error: BaseException | None) -> None:
        """The task has ended; calls of other tasks and threads may still settle."""
        span = self._span
        try:
            if span.is_recording():
                late: Attributes = {names.OUTCOME: outcome}
                for dim, cell in task.node.cells.copy().items():
                    late[names.USED[dim]] = bounded(cell.peak if cell.level else cell.spent)
                if task.ended_ns is not None:
                    used_ns = task.ended_ns - task.started_ns
                    late[names.USED["millis"]] = used_ns // 1_000_000
                error_type = error_type_of(outcome, error)
                if error_type is not None:
                    late[names.ERROR_TYPE] = error_type
                    span.set_status(StatusCode.ERROR)
                span.set_attributes(late)
            span.end()
        except Exception:
            tell_of_failure()


def error_type_of(outcome: str, error: BaseException | None) -> str | None:
    """What `error.type` says; None where the end was no error, as with a cancellation."""
    if outcome not in _ERRORS:
        return None
    if outcome == "terminated" or error is None:
        return f"budgetware.{outcome}"
    return clean(error_name(error) or "")


def _charged(hold: Hold) -> Attributes:
    """What was charged where that is not what was held, and what it cost."""
    late: Attributes = {}
    booked = hold.booked
    for i, (dim, held, _payers) in enumerate(hold.items):
        used = -1 if booked is None else booked[i]
        if 0 <= used != held:
            late[names.CHARGED[dim]] = used
        if dim == "usd":
            told = used >= 0 and hold.usage is None and not hold.priced
            late[names.COST_AMOUNT] = (held if used < 0 else used) / 1e6
            late[names.COST_CURRENCY] = "USD"
            late[names.COST_SOURCE] = "provider" if told else "local"
    return late

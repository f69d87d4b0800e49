"""Log records of waits, refusals and ends, each kind at most once per budget and second.

Not here: handlers; a program that wants to see these configures its own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from . import names
from .facts import of_place
from .values import Attributes, clean
from .verdicts import of_admission, of_refusal, of_wait

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
    from ..admission.waiters import Waiter
    from ..calls import Call
    from ..tasks import TaskBudget

SECOND_NS = 1_000_000_000
MAX_REMEMBERED = 1_024

logger = logging.getLogger(names.SCOPE)
_failures: set[str] = set()


def tell_of_failure() -> None:
    """Log the exception being handled, the first of a process; telemetry changes nothing."""
    if not _failures:
        _failures.add("told")
        text = "telemetry failed; calls and budgets are not affected"
        with suppress(Exception):  # it may have been a filter of this log that failed
            logger.error(text, exc_info=sys.exception())


class Logs:
    """The log of one service."""

    def __init__(self) -> None:
        self._last_ns: dict[tuple[str, str], int] = {}

    def refused(self, refusal: Refusal) -> None:
        """A call was refused."""
        terminated = refusal.decision == names.TERMINATED
        level = logging.ERROR if terminated else logging.WARNING
        name = names.LOG_TERMINATED if terminated else names.LOG_REJECTED
        if not self._is_due(level, name, refusal.node.id, refusal.frame.now_ns):
            return
        attributes = of_place(refusal.frame) | of_refusal(refusal) | _of_call(refusal.call)
        _log(level, name, str(refusal.error()), attributes)

    def throttled(self, waiter: Waiter) -> None:
        """A call was admitted after a wait."""
        if waiter.blamed is None:
            return
        cell, frame = waiter.blamed.cell, waiter.frame
        node = cell.node
        if not self._is_due(logging.INFO, names.LOG_THROTTLED, node.id, frame.now_ns):
            return
        attributes = of_place(frame) | of_wait(waiter, cell) | of_admission(waiter)
        attributes |= _of_call(waiter.call)
        text = f"waited {waiter.waited_ns / 1e9:.3f} s for {node.kind} {node.name!r}"
        _log(logging.INFO, names.LOG_THROTTLED, text, attributes)

    def terminated(self, task: TaskBudget, error: BaseException) -> None:
        """A task was terminated, by whatever."""
        node, frame = task.node, task.frame
        if not self._is_due(logging.ERROR, names.LOG_TERMINATED, node.id, frame.now_ns):
            return
        attributes = of_place(frame)
        attributes[names.DENIED_BUDGET] = node.name
        if node.latch.dim:
            attributes[names.DENIED_DIM] = names.unit_dim(node.latch.dim)
        _log(logging.ERROR, names.LOG_TERMINATED, str(error), attributes)

    def _is_due(self, level: int, name: str, budget_id: str, now: Callable[[], int]) -> bool:
        if not logger.isEnabledFor(level):
            return False
        now_ns = now()
        last_ns = self._last_ns.get((name, budget_id))
        if last_ns is not None and now_ns - last_ns < SECOND_NS:
            return False
        if len(self._last_ns) >= MAX_REMEMBERED:
            self._forget(now_ns)
        self._last_ns[name, budget_id] = now_ns
        return True

    def _forget(self, now_ns: int) -> None:
        """Drop what is older than a second, or all of it."""
        recent = {k: ns for k, ns in self._last_ns.copy().items() if now_ns - ns < SECOND_NS}
        self._last_ns = recent if len(recent) < MAX_REMEMBERED else {}


def _of_call(call: Call) -> Attributes:
    attributes: Attributes = {names.OPERATION: call.operation}
    if call.name is not None and call.kind == "tool":
        attributes[names.TOOL_NAME] = call.name
    return attributes


def _log(level: int, name: str, text: str, attributes: Attributes) -> None:
    try:
        logger.log(level, "%s: %s", name, clean(text), extra=attributes)
    except Exception:  # handlers keep theirs to themselves, filters do not
        tell_of_failure()

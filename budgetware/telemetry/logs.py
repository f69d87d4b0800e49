"""Log records of refusals and ends, each kind at most once per budget and second.

Not here: handlers; a program that wants to see these configures its own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import names
from .facts import of_place, policy_of
from .values import Attributes, clean

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
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
        attributes = of_place(refusal.frame)
        attributes[names.DECISION] = refusal.decision
        attributes[names.DENIED_BUDGET] = refusal.node.name
        attributes[names.POLICY] = policy_of(refusal.node, refusal.call) or "reject"
        attributes[names.OPERATION] = refusal.call.operation
        if refusal.dim:
            attributes[names.DENIED_DIM] = names.unit_dim(refusal.dim)
        if refusal.call.name is not None and refusal.call.kind == "tool":
            attributes[names.TOOL_NAME] = refusal.call.name
        _log(level, name, str(refusal.error()), attributes)

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


def _log(level: int, name: str, text: str, attributes: Attributes) -> None:
    logger.log(level, "%s: %s", name, clean(text), extra=attributes)

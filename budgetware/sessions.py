"""Task budgets as sessions: their beginnings and ends, where usage is recorded. Not here: tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .statements import elapsed_ns

if TYPE_CHECKING:
    from .tasks import TaskBudget

SESSIONS = "sessions"
"""The counter of task budgets."""


def started(task: TaskBudget) -> None:
    """Count a task that was entered."""
    _count(task, {"started": 1})


def ended(task: TaskBudget, outcome: str) -> None:
    """Count a task that was left, and how long it lasted."""
    word = "completed" if outcome == "completed" else "failed"
    _count(task, {word: 1, "duration_us": elapsed_ns(task) // 1_000})


def _count(task: TaskBudget, counts: dict[str, int]) -> None:
    frame = task.frame
    records = frame.runtime.records
    if records is not None:
        principal = None if frame.principal is None else frame.principal.name
        records.count(principal, frame.path, SESSIONS, counts)

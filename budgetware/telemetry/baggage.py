"""Baggage, by choice: lets services further down know which task asked. Advisory, never trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context

from . import names
from .values import clean

if TYPE_CHECKING:
    from ..tasks import TaskBudget


def set_baggage(budget: TaskBudget, context: Context | None = None) -> Context:
    """Return a context (by default the current one) that carries the id and path of a task.

    Attach it, or inject it into the headers of one request:
    `inject(headers, context=set_baggage(budget))`. Whoever receives the request can read them.
    """
    from opentelemetry import baggage

    context = baggage.set_baggage(names.BUDGET_ID, budget.id, context)
    return baggage.set_baggage(names.BUDGET_PATH, clean(budget.path), context)

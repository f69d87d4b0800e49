"""Budgets for agents: reserve a call's cost before it runs, settle to what it really cost.

See `task_budget`, `budgeted` and `reserve`; errors are in `budgetware.errors`.
"""

from typing import TYPE_CHECKING

from .bindings import principal
from .budgets import current_budget, task_budget
from .charges import charge
from .connecting import connect
from .decorators import budgeted
from .errors import BudgetExceeded, BudgetTerminated, BudgetwareError, QuotaExceeded
from .events import UsageEvent
from .kernel.budget import Budget, Limit
from .kernel.dims import Dim
from .kernel.verdict import Verdict
from .nowait import reserve_nowait
from .policies import Reject, Terminate, Throttle
from .quota_tokens import QuotaToken
from .quotas import Capacity, Concurrency, Rate, Resource
from .reservations import Reservation, reserve
from .service import QuotaService
from .tasks import TaskBudget
from .usage import Usage

if TYPE_CHECKING:
    from .reports import UsageReport

__all__ = [
    "Budget",
    "BudgetExceeded",
    "BudgetTerminated",
    "BudgetwareError",
    "Capacity",
    "Concurrency",
    "Dim",
    "Limit",
    "QuotaExceeded",
    "QuotaService",
    "QuotaToken",
    "Rate",
    "Reject",
    "Reservation",
    "Resource",
    "TaskBudget",
    "Terminate",
    "Throttle",
    "Usage",
    "UsageEvent",
    "UsageReport",
    "Verdict",
    "budgeted",
    "charge",
    "connect",
    "current_budget",
    "principal",
    "reserve",
    "reserve_nowait",
    "task_budget",
]


def __getattr__(name: str) -> object:
    """Import what most programs have no use for when it is asked for."""
    if name == "UsageReport":
        from .reports import UsageReport

        return UsageReport
    raise AttributeError(f"module 'budgetware' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})

"""Budgets for agents: reserve a call's cost before it runs, settle to what it really cost.

See `task_budget`, `budgeted` and `reserve`; errors are in `budgetware.errors`.
"""

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
from .policies import Reject, Terminate, Throttle
from .quota_tokens import QuotaToken
from .quotas import Capacity, Concurrency, Rate, Resource
from .reservations import Reservation, reserve, reserve_nowait
from .service import QuotaService
from .tasks import TaskBudget
from .usage import Usage

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

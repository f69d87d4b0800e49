"""Events folded over a window, and what somebody has left now.

A report is a fold of facts: it takes no part in any verdict.
"""

from .resources import QuotaUsage, ResourceUsage
from .tallies import Compute, Sessions, UsageTally, UsageTotals
from .usage import UsageBucket, UsageGroup, UsageReport

__all__ = [
    "Compute",
    "QuotaUsage",
    "ResourceUsage",
    "Sessions",
    "UsageBucket",
    "UsageGroup",
    "UsageReport",
    "UsageTally",
    "UsageTotals",
]

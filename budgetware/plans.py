"""What `task_budget` was given, checked; filled up from a template of the manifest.

Not here: the task itself (`tasks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .errors import ConfigurationError
from .kernel.verdict import Verdict
from .limits import NO_LIMITS, LimitValue, TaskLimits
from .policies import DEFAULT, Policy
from .runtime import Runtime

if TYPE_CHECKING:
    from .tasks import TaskBudget

Unpriced = Literal["error", "allow"]
OnWarn = Callable[["TaskBudget", Verdict], object]


class HasLimits(Protocol):
    """A template of a manifest."""

    @property
    def limits(self) -> Mapping[str, LimitValue]:
        """As `task_budget` takes them."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """`policy`, `warn_at`, `carve`, `keep` and `unpriced`, as far as given."""
        ...


@dataclass(slots=True)
class TaskPlan:
    """What `task_budget` was given, checked; shared by all calls of a decorated function."""

    limits: TaskLimits
    name: str | None = None
    policy: Policy = DEFAULT
    principal: str | None = None
    warn_share: Decimal | None = None
    on_warn: OnWarn | None = None
    carve: bool = False
    unpriced: Unpriced = "error"
    runtime: Runtime | None = None
    shared: bool = False
    override: Callable[[TaskPlan, HasLimits], TaskPlan] | None = None
    given: tuple[Any, ...] = ()
    lacks: str | None = None
    found: tuple[HasLimits, TaskPlan] | None = None

    def within(self, runtime: Runtime) -> TaskPlan:
        """This plan, filled up from the template of its name, if the service has one."""
        template = runtime.templates.get(self.name) if self.name is not None else None
        if template is not None and self.override is not None:
            if self.found is None or self.found[0] is not template:
                self.found = (template, self.override(self, template))
            return self.found[1]
        if self.limits is NO_LIMITS:
            raise ConfigurationError(
                f"task_budget({self.name!r}) {self.lacks}, and there is no template "
                f"[budgets.{self.name}] in a manifest: name a limit, as in tokens=50_000, or "
                "connect a manifest that has it"
            )
        return self

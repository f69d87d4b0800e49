"""The task of one request to a server. Not here: what a request is, or a refusal of one."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from budgetware import QuotaService, Reject, TaskBudget, Terminate, Throttle, task_budget
from budgetware.borders import outside_tasks
from budgetware.errors import soft_termination

Policy = Throttle | Reject | Terminate | str | None

_NO_LIMIT: Final = {"calls": 2**53 - 1}
"""A task limits something: this is as many as can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTasks:
    """How the tasks of requests are made.

    what: they are called, where they have no name.
    limits: of each request. Without them, and with a name, those of the template of that name.
    """

    what: str

    limits: Mapping[str, Any] | None = None
    name: str | None = None
    policy: Policy = None
    service: QuotaService | None = None

    def __post_init__(self) -> None:
        self.task(None)

    def task(self, principal: str | None) -> TaskBudget:
        """Make the task of one request; it is to be entered inside `border`.

        Raises:
            ConfigurationError: the name of the principal is not valid.
        """
        limits = self.limits or ({} if self.name is not None else _NO_LIMIT)
        options: dict[str, Any] = {"policy": self.policy, "principal": principal}
        return task_budget(self.name or self.what, service=self.service, **options, **limits)

    @contextmanager
    def border(self) -> Generator[None]:
        """Keep a request apart from what its sender runs in, and its end from the server's loop."""
        with outside_tasks(self.service), soft_termination():
            yield

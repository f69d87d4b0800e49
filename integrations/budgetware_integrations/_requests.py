"""The task of one request to a server, and which error of budgets it ended with.

Not here: what a request is, or a refusal of one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from budgetware import (
    BudgetwareError,
    QuotaService,
    Reject,
    TaskBudget,
    Terminate,
    Throttle,
    task_budget,
)
from budgetware.borders import outside_tasks
from budgetware.errors import ConfigurationError, soft_termination

from ._options import checked_limits

Policy = Throttle | Reject | Terminate | str | None

_NO_LIMIT: Final = {"calls": 2**53 - 1}
"""A task limits something: this is as many as can be counted."""
_SCOPE_KEY: Final = "budgetware_integrations.request"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The request of HTTP that is served, as its ASGI scope tells servers inside of it.

    budget: its task.
    settings: of the middlewares that hold for it.
    """

    budget: TaskBudget
    settings: tuple[object, ...]


def http_request(scope: object) -> HttpRequest | None:
    """The request that a scope is of, where one holds for it already."""
    if not isinstance(scope, Mapping):
        return None
    found = cast("Mapping[str, object]", scope).get(_SCOPE_KEY)
    return found if isinstance(found, HttpRequest) else None


@contextmanager
def marked(scope: MutableMapping[str, Any], request: HttpRequest) -> Generator[None]:
    """Tell servers inside this block what the scope is of."""
    outer = scope.get(_SCOPE_KEY)
    scope[_SCOPE_KEY] = request
    try:
        yield
    finally:
        if outer is None:
            scope.pop(_SCOPE_KEY, None)
        else:
            scope[_SCOPE_KEY] = outer


def budget_cause(error: BaseException) -> BudgetwareError | None:
    """The error of budgets that one is, is a group of, or was raised from.

    Not one that was merely being handled: what goes wrong there is a fault of the program.
    """
    queue: list[BaseException | None] = [error]
    seen: set[int] = set()
    while queue:
        found = queue.pop(0)
        if found is None or id(found) in seen:
            continue
        if isinstance(found, BudgetwareError):
            return found
        seen.add(id(found))
        if isinstance(found, BaseExceptionGroup):
            queue.extend(found.exceptions)
        queue.append(found.__cause__)
    return None


def check_holding(max_wait: object, on_error: object, *, takes_callables: bool) -> None:
    """Raise `ConfigurationError` unless requests can be held so."""
    if max_wait is not None:
        Throttle(max_wait=cast("Any", max_wait))  # raises where it cannot be
    if on_error not in ("charge", "release") and not (takes_callables and callable(on_error)):
        also = ", or a callable of the exception" if takes_callables else ""
        raise ConfigurationError(f"on_error={on_error!r}: give 'charge' or 'release'{also}")


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
        checked_limits(self.limits or None)
        self.task(None)

    def task(self, principal: str | None) -> TaskBudget:
        """Make the task of one request; it is to be entered inside `border`.

        Raises:
            ConfigurationError: the name of the principal is not valid.
        """
        limits = self.limits or ({} if self.name is not None else _NO_LIMIT)
        options: dict[str, Any] = {"policy": self.policy, "principal": principal}
        return task_budget(self.name or self.what, service=self.service, **options, **limits)

    def around(self, scope: object) -> TaskBudget | None:
        """The task of the request of HTTP that carries one; None: it has none of this service."""
        request = http_request(scope)
        if request is None:
            return None
        is_ours = self.service is None or request.budget.frame.runtime is self.service.runtime
        return request.budget if is_ours else None

    @contextmanager
    def border(self, *, is_inside: bool = False) -> Generator[None]:
        """Keep a request apart from what its sender runs in, and its end from the server's loop.

        Args:
            is_inside: what it runs in is a request already, of which it is a part.
        """
        with soft_termination():
            if is_inside:
                yield
                return
            with outside_tasks(self.service):
                yield

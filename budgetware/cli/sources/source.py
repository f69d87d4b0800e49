"""What a command may ask, wherever it looks. Not here: the two that answer."""

from dataclasses import dataclass
from typing import Any, Protocol

from budgetware.quotas import PrincipalDefinition, Resource
from budgetware.reports import UsageReport
from budgetware.reports.usage import Bucket


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage is asked for; times in seconds since the epoch.

    Attributes:
        since, until: None: the last seven days, now.
        principal: it and all below it; None: everybody.
        by: what it is grouped by.
    """

    since: float | None = None
    until: float | None = None
    principal: str | None = None
    by: tuple[str, ...] = ()
    bucket: Bucket = "day"


class Source(Protocol):
    """A ledger, or a server that has one. Blocks.

    Each method raises `BudgetwareError` or `Failure`; tables are the JSON of HTTP.
    """

    @property
    def shown(self) -> str:
        """Where it is, for people: without passwords."""
        ...

    def principal(self, name: str) -> PrincipalDefinition | None:
        """What is defined of a principal; None: it is unknown."""
        ...

    def put_principal(self, definition: PrincipalDefinition) -> None:
        """Add a principal, or replace what is defined of it."""
        ...

    def resource_usage(self, principal: str) -> dict[str, Any] | None:
        """The facts of a principal and its quotas; None: it is unknown."""
        ...

    def resources(self) -> list[dict[str, Any]]:
        """All resources, by name."""
        ...

    def resource(self, name: str) -> dict[str, Any]:
        """One resource."""
        ...

    def define(self, resource: Resource) -> dict[str, Any]:
        """Add a resource."""
        ...

    def update(self, name: str, changes: dict[str, Any], expected: int | None) -> dict[str, Any]:
        """Change a resource; `changes` as of `QuotaService.update`."""
        ...

    def delete(self, name: str, expected: int | None) -> None:
        """Take a resource out."""
        ...

    def report(self, question: Question) -> UsageReport:
        """Usage over a window."""
        ...

    def overview(self, window_seconds: float) -> dict[str, Any]:
        """What goes on now, and in the last seconds."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...

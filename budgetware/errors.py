"""Every error budgetware raises, as one tree. Not here: what decides to raise them.

BudgetwareError(RuntimeError)
├── ConfigurationError(ValueError)      the program or a file is wrong; nothing has changed
│   ├── ManifestError                   .file .line
│   ├── UnknownResource
│   ├── UnknownPrice
│   └── InvalidAmount
├── BudgetExceeded                      a call was refused; an agent may read it and go on
│   └── QuotaExceeded                   .resource
├── BudgetTerminated                    a task was ended by its budget
├── ReservationError
│   ├── AlreadySettled
│   └── IdempotencyConflict
├── QuotaTokenError
│   ├── TokenConsumed
│   ├── TokenInvalid
│   └── ResourceMismatch
├── LedgerUnavailable
├── NoBudget
└── BlockingInEventLoop
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernel.balances import Snapshot

__all__ = [
    "AlreadySettled",
    "BlockingInEventLoop",
    "BudgetExceeded",
    "BudgetTerminated",
    "BudgetwareError",
    "ConfigurationError",
    "IdempotencyConflict",
    "InvalidAmount",
    "LedgerUnavailable",
    "ManifestError",
    "NoBudget",
    "QuotaExceeded",
    "QuotaTokenError",
    "ReservationError",
    "ResourceMismatch",
    "TokenConsumed",
    "TokenInvalid",
    "UnknownPrice",
    "UnknownResource",
    "budget_error",
    "soft_termination",
]

Amount = int | Decimal


def _rebuild(cls: type[BudgetwareError], args: tuple[Any, ...], state: dict[str, Any]) -> object:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class BudgetwareError(RuntimeError):
    """The root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class ConfigurationError(BudgetwareError, ValueError):
    """A program or a file asks for something that cannot be; nothing has changed."""


class ManifestError(ConfigurationError):
    """A manifest is wrong: `file` and, where known, `line` (1-based) say where."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


class UnknownResource(ConfigurationError):
    """No resource of that name is defined."""


class UnknownPrice(ConfigurationError):
    """A budget limits `usd` and the model named by the call has no price."""


class InvalidAmount(ConfigurationError):
    """An amount, a limit or the name of a dimension cannot be."""


class BudgetExceeded(BudgetwareError):
    """A reservation was refused, and nothing was charged.

    Attributes:
        budget: name of the budget that was short; `budget_id` tells two of one name apart.
        dim: the dimension that was short.
        requested: what was asked for (`usd` in dollars, else a count).
        available: what was left for this call, never below 0.
        limit: the limit of that budget, or None.
        retry_after: seconds until it could be granted, or None when time alone does not help.
    """

    def __init__(
        self,
        *,
        budget: str,
        dim: str,
        requested: Amount,
        available: Amount,
        limit: Amount | None = None,
        retry_after: float | None = None,
        budget_id: str = "",
    ) -> None:
        super().__init__()
        self.budget = budget
        self.budget_id = budget_id
        self.dim = dim
        self.requested = requested
        self.available = available
        self.limit = limit
        self.retry_after = retry_after

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _whose(self) -> str:
        return f"budget {self.budget!r}"

    def __str__(self) -> str:
        of = "" if self.limit is None else f" of {self.limit}"
        text = (
            f"{self._whose()} has {self.available}{of} {self._units_word()} left, "
            f"{self.requested} requested: "
        )
        if self.retry_after is not None:
            return text + f"retry after {self._shown_wait()}, or ask for less"
        return text + self._advice()

    def _shown_wait(self) -> str:
        seconds = self.retry_after or 0.0
        return f"{seconds:,.0f} s" if seconds >= 1_000 else f"{seconds:.3g} s"

    def _units_word(self) -> str:
        return self.dim

    def _advice(self) -> str:
        if self.available > 0:
            return "ask for less, finish with what is left, or top_up the budget"
        return "finish without this call, or top_up the budget"


class QuotaExceeded(BudgetExceeded):
    """A shared quota had not enough, or not in time.

    Attributes:
        resource: its name; that of the principal, or of the task, where theirs was short.
        waited_seconds: how long the call waited for it in vain.
        is_paused: it may have enough, but grants nothing for now, because of `pause()`.
    """

    def __init__(
        self,
        *,
        resource: str,
        whose: str = "resource",
        waited_seconds: float = 0.0,
        units: str | None = None,
        comes_back: bool = False,
        is_paused: bool = False,
        **fields: Any,
    ) -> None:
        super().__init__(**fields)
        self.resource = resource
        self.waited_seconds = waited_seconds
        self.is_paused = is_paused
        self._what = whose
        self._units = units
        self._comes_back = comes_back

    def _whose(self) -> str:
        whose = {
            "task": f"task {self.resource!r}",
            "token": f"the allowance of a token of {self.resource!r}",
            "principal": f"principal {self.resource!r}",
        }.get(self._what, f"resource {self.resource!r}")
        if self.waited_seconds < 1e-6:
            return whose
        return f"after a wait of {self.waited_seconds:.3g} s {whose}"

    def __str__(self) -> str:
        if self.is_paused and self.retry_after is not None:
            return f"{self._whose()} is paused: retry after {self._shown_wait()}"
        return super().__str__()

    def _units_word(self) -> str:
        return self._units or self.dim

    def _advice(self) -> str:
        if self.limit is not None and self.requested > self.limit:
            return "it never has as many: ask for less, or have its limit raised"
        if self.available >= self.requested:
            return "others wait for it already: try again later, or wait with them"
        if self._comes_back:
            return "try again when a call that holds some of it has ended"
        return "ask for less, or have its limit raised" if self.available > 0 else "do without it"


class BudgetTerminated(BudgetwareError):
    """A task was ended by its budget.

    Raised once from the owner's block, and by any later reservation under that budget.

    Attributes:
        budget: name of the budget; `budget_id` tells two of one name apart.
        dim: the dimension that ran out (`millis` for the deadline), or None.
        reason: one sentence.
        snapshot: the balances when the block ended (at the latch, when raised inside it).
    """

    def __init__(
        self,
        *,
        budget: str,
        dim: str | None,
        reason: str,
        snapshot: Snapshot | None = None,
        budget_id: str = "",
    ) -> None:
        super().__init__()
        self.budget = budget
        self.budget_id = budget_id
        self.dim = dim
        self.reason = reason
        self.snapshot = snapshot

    def __str__(self) -> str:
        return f"task {self.budget!r} was terminated: {self.reason}"


class ReservationError(BudgetwareError):
    """A reservation was used in a way its state does not allow."""


class AlreadySettled(ReservationError):
    """A reservation was settled a second time with other numbers; the first stands."""


class IdempotencyConflict(ReservationError):
    """An idempotency key came again with other amounts."""


class QuotaTokenError(BudgetwareError):
    """A quota token was used in a way its state does not allow."""


class TokenConsumed(QuotaTokenError):
    """The token was merged, exported or closed, or its text was imported before."""


class TokenInvalid(QuotaTokenError):
    """The text is not a token that this service accepts."""


class ResourceMismatch(QuotaTokenError):
    """A token does not fit: it is of another resource, or counts something else."""


class LedgerUnavailable(BudgetwareError):
    """The ledger did not answer in time; nothing was granted."""


class NoBudget(BudgetwareError):
    """There is no task that could pay: none is current (strict mode), or it has ended."""


class BlockingInEventLoop(BudgetwareError):
    """Sync code asked to wait on a thread that runs an event loop."""


def budget_error(exc: BaseException | None) -> BudgetwareError | None:
    """Find the budgetware error in an exception's group, cause or context.

    Frameworks wrap what a tool raises; this sees through the wrapping. The nearest one wins.
    """
    queue = [exc] if exc is not None else []
    seen: set[int] = set()
    while queue:
        current = queue.pop(0)
        if isinstance(current, BudgetwareError):
            return current
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, BaseExceptionGroup):
            queue.extend(current.exceptions)
        queue.extend(e for e in (current.__cause__, current.__context__) if e is not None)
    return None


soft: ContextVar[bool] = ContextVar("budgetware_soft_termination", default=False)


@contextmanager
def soft_termination() -> Generator[None]:
    """Keep refusals after a termination ordinary exceptions inside this block.

    For adapters of servers and of frameworks whose loop dies of, or spins on, a BaseException:
    wrap each request or tool call in it. The task is ended all the same, by its own scope.
    """
    token = soft.set(True)
    try:
        yield
    finally:
        soft.reset(token)

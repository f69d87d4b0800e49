"""Retries by tenacity, each attempt its own reservation, and parts to compose with its own.

tenacity is imported at first use. Not here: how long to wait and when to stop, which are
tenacity's `wait_*` and `stop_*`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .errors import (
    BudgetExceeded,
    BudgetTerminated,
    BudgetwareError,
    ConfigurationError,
    budget_error,
)
from .frames import current

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState
    from tenacity import Retrying as SyncRetrying
    from tenacity.retry import retry_base
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    Retrying = AsyncRetrying | SyncRetrying
else:
    Retrying = Any


class _Stranger(RuntimeError, ValueError):
    """Of the built-in kinds a budgetware error is, and none of its own."""


def retried(fn: Callable[..., Any], retrying: object, *, is_async: bool) -> Callable[..., Any]:
    """Run `fn` under tenacity.

    Cancellations are never tried again, and a `BudgetwareError` only where the predicate names
    it: where it would not retry any RuntimeError as well.

    Raises:
        ConfigurationError: not tenacity's, or sync retrying on an async function.
    """
    import tenacity

    wanted = tenacity.AsyncRetrying if is_async else tenacity.Retrying
    if not isinstance(retrying, wanted):
        raise ConfigurationError(
            f"retry={type(retrying).__name__}: give tenacity's {wanted.__name__}(...) here"
        )
    guarded: Any = retrying.copy(retry=_guard(retrying.retry))
    if is_async:

        @wraps(fn)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            return await guarded.copy()(fn, *args, **kwargs)

        return run_async

    @wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        return guarded.copy()(fn, *args, **kwargs)

    return run


def _guard(predicate: Any) -> Callable[[RetryCallState], Any]:
    from inspect import iscoroutinefunction

    if iscoroutinefunction(predicate) or iscoroutinefunction(type(predicate).__call__):

        async def guard_async(state: RetryCallState) -> bool:
            if not _may_retry(state):
                return False
            again = bool(await predicate(state))
            if again and _is_ours(state):
                return not await predicate(_with_stranger(state))
            return again

        return guard_async

    def guard(state: RetryCallState) -> bool:
        if not _may_retry(state):
            return False
        again = bool(predicate(state))
        if again and _is_ours(state):
            return not predicate(_with_stranger(state))
        return again

    return guard


def _error_of(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _may_retry(state: RetryCallState) -> bool:
    error = _error_of(state)
    return error is None or isinstance(error, Exception)


def _is_ours(state: RetryCallState) -> bool:
    return isinstance(_error_of(state), BudgetwareError)


def _with_stranger(state: RetryCallState) -> RetryCallState:
    from tenacity import RetryCallState as State

    twin = State(state.retry_object, state.fn, state.args, state.kwargs)
    twin.attempt_number = state.attempt_number
    error = _Stranger("would this be retried too?")
    twin.set_exception((_Stranger, error, None))
    return twin


def stop_when_exhausted() -> stop_base:
    """Stop when waiting cannot help.

    That is: the call was refused with no `retry_after`, or its task was terminated or has debt.
    Compose: `stop_when_exhausted() | stop_after_attempt(5)`.
    """
    return _parts().Stop()  # type: ignore[no-any-return]


def wait_for_quota() -> wait_base:
    """Wait the `retry_after` of a refusal, in seconds; for any other error, 0.

    Compose: `wait_for_quota() + wait_random_exponential()`.
    """
    return _parts().Wait()  # type: ignore[no-any-return]


def retry_unless_denied() -> retry_base:
    """Retry any `Exception`, but not one that carries a budgetware error, however wrapped."""
    return _parts().Retry()  # type: ignore[no-any-return]


def _is_exhausted(state: RetryCallState) -> bool:
    error = budget_error(_error_of(state))
    if isinstance(error, BudgetExceeded):
        return error.retry_after is None
    if isinstance(error, BudgetTerminated):
        return True
    frame = current.get(None)
    return frame is not None and any(node.owner.verdict.is_exhausted for node in frame.chain)


def _quota_seconds(state: RetryCallState) -> float:
    error = budget_error(_error_of(state))
    return (error.retry_after or 0.0) if isinstance(error, BudgetExceeded) else 0.0


def _is_not_denied(state: RetryCallState) -> bool:
    error = _error_of(state)
    return isinstance(error, Exception) and budget_error(error) is None


@cache
def _parts() -> SimpleNamespace:
    """The classes, made when tenacity is first needed."""
    from tenacity.retry import retry_base
    from tenacity.stop import stop_base
    from tenacity.wait import wait_base

    class Stop(stop_base):
        def __call__(self, retry_state: RetryCallState) -> bool:
            return _is_exhausted(retry_state)

    class Wait(wait_base):
        def __call__(self, retry_state: RetryCallState) -> float:
            return _quota_seconds(retry_state)

    class Retry(retry_base):
        def __call__(self, retry_state: RetryCallState) -> bool:
            return _is_not_denied(retry_state)

    return SimpleNamespace(Stop=Stop, Wait=Wait, Retry=Retry)

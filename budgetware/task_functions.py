"""`@task_budget(...)` on functions: each call, or each run of a generator, is a task of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError
from .generators import drive, drive_async
from .kernel.dims import NAME
from .streams import TaskStream

if TYPE_CHECKING:
    from .tasks import TaskBudget


def decorate_task(fresh: Callable[[str], TaskBudget], fn: Any) -> Any:
    """Wrap a function; `fresh(name)` makes the task of one call."""
    if isinstance(fn, staticmethod | classmethod):
        return type(fn)(decorate_task(fresh, fn.__func__))
    if not callable(fn):
        raise ConfigurationError(f"@task_budget on a {type(fn).__name__}: give a function")
    name = getattr(fn, "__name__", type(fn).__name__).strip("<>")
    if not NAME.fullmatch(name):
        name = "task"
    if inspect.isasyncgenfunction(fn):
        return drive_async(fn, lambda _args, _kwargs: TaskStream(fresh(name)))
    if inspect.isgeneratorfunction(fn):
        return drive(fn, lambda _args, _kwargs: TaskStream(fresh(name)))
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
        return _async_function(fresh, fn, name)

    @wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        with fresh(name):
            return fn(*args, **kwargs)

    return run


def _async_function(
    fresh: Callable[[str], TaskBudget], fn: Callable[..., Any], name: str
) -> Callable[..., Any]:
    @wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> Any:
        async with fresh(name):
            return await fn(*args, **kwargs)

    return run

"""Functions as tasks, under `@task_budget(...)`, and functions carried into one, by `wrap`.

Not here: functions as calls (`decorators`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from .errors import ConfigurationError
from .frames import Frame, current
from .generators import drive, drive_async
from .kernel.dims import NAME
from .scopes import restore
from .streams import TaskStream
from .termination import shown_outside

if TYPE_CHECKING:
    from .tasks import TaskBudget


P = ParamSpec("P")
R = TypeVar("R")


def decorate_task(fresh: Callable[[str], TaskBudget], fn: Any) -> Any:
    """Wrap a function; `fresh(name)` makes the task of one call."""
    if type(fn) in (staticmethod, classmethod):
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


def carry(frame: Frame, fn: Callable[P, R]) -> Callable[P, R]:
    """Make `fn` run in `frame`, wherever it is called."""
    if inspect.iscoroutinefunction(fn):

        async def carried_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            token = current.set(frame)
            try:
                with shown_outside():
                    return await fn(*args, **kwargs)
            finally:
                restore(token)

        return cast("Callable[P, R]", wraps(fn)(carried_async))

    @wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = current.set(frame)
        try:
            with shown_outside():
                return fn(*args, **kwargs)
        finally:
            restore(token)

    return carried

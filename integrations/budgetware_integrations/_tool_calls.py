"""One call of a tool, as frameworks' hooks run it. Not here: what a refusal is to each of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    BudgetwareError,
    budgeted,
    current_budget,
    reserve,
)
from budgetware.errors import ConfigurationError, soft_termination

T = TypeVar("T")

Amounts: TypeAlias = Mapping[str, Any]
ToolAmounts: TypeAlias = Amounts | Callable[[str, Any], Amounts | None] | None
"""What a call of a tool holds: amounts by dimension, for all tools; a callable of the name and the
arguments of a tool, which answers None where it costs nothing; or None, for none of them does."""

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._:@-]")

ONE_CALL: Amounts = {"calls": 1}

Refused = (BudgetExceeded, BudgetTerminated)
"""What a model is told of in the framework's own way; all else is an error of the program."""


def charges_itself(function: object) -> bool:
    """Say whether a tool is a `@budgeted` function, or wraps one: then nobody else holds for it."""
    while function is not None:
        if getattr(function, "__budgeted__", False):
            return True
        function = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
    return False


def checked_tools(tools: Any) -> ToolAmounts:
    """Return what calls of tools hold, or raise.

    Raises:
        ConfigurationError: it is neither amounts by dimension, nor a callable, nor None.
        InvalidAmount: an amount cannot be, or a dimension is not known.
    """
    if isinstance(tools, Mapping):
        for dim in cast("Mapping[object, object]", tools):
            if not isinstance(dim, str):
                raise ConfigurationError(f"tools={tools!r}: name dimensions, as in {{'calls': 1}}")
        if tools:
            budgeted(**cast("Amounts", tools))(lambda: None)
    elif tools is not None and not callable(tools):
        raise ConfigurationError(
            f"tools={tools!r}: give amounts such as {{'calls': 1}}, a callable of the name and the "
            "arguments of a tool, or None"
        )
    return cast("ToolAmounts", tools)


def amounts_of(
    tools: ToolAmounts, name: str, arguments: object, function: object = None
) -> Amounts:
    """What this call holds; nothing where the tool is `@budgeted`."""
    if tools is None or (function is not None and charges_itself(function)):
        return {}
    if callable(tools):
        return tools(name, arguments) or {}
    return tools


async def run_tool(
    amounts: Amounts,
    name: str,
    call: Callable[[], Awaitable[T]],
    *,
    free: tuple[type[BaseException], ...] = (),
) -> T:
    """Hold `amounts`, run the tool, settle; raises as `reserve` does. A failed call is charged.

    Args:
        amounts: to hold; none: it is run without.
        name: of the tool.
        call: runs it.
        free: what a tool raises that has not run yet, as one that waits for an approval.
    """
    if not amounts:
        return await call()
    held = reserve(kind="tool", name=call_name(name), on_error=_outcome(free), **amounts)
    async with held as reservation:
        result = await call()
        reservation.commit()
    return result


def run_tool_sync(
    amounts: Amounts,
    name: str,
    call: Callable[[], T],
    *,
    free: tuple[type[BaseException], ...] = (),
) -> T:
    """Do the same in sync code."""
    if not amounts:
        return call()
    held = reserve(kind="tool", name=call_name(name), on_error=_outcome(free), **amounts)
    with held as reservation:
        result = call()
        reservation.commit()
    return result


def call_name(name: object) -> str:
    """The name of a tool as reservations have it; models and clients may send any."""
    return _NOT_IN_NAMES.sub("_", str(name)[:128]) or "tool"


def _outcome(
    free: tuple[type[BaseException], ...],
) -> Callable[[Exception], Literal["charge", "release"]]:
    return lambda error: "release" if isinstance(error, free) else "charge"


def ends_run(error: BaseException) -> bool:
    """Say whether a refusal ends the code that runs here, not only a task inside the tool."""
    budget = current_budget()
    if not isinstance(error, BudgetTerminated) or budget is None:
        return False
    try:
        with soft_termination():
            budget.checkpoint()
    except BudgetTerminated:
        return True
    except BudgetwareError:
        return False
    return False


def refusal_text(error: BaseException) -> str:
    """What a model reads in place of a tool's result."""
    return f"Refused by the budget: {error}"


def is_async(function: object) -> bool:
    """Say whether calling it gives something to await."""
    return inspect.iscoroutinefunction(inspect.unwrap(cast("Callable[..., Any]", function)))

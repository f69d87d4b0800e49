"""What budgets are in the `_meta` of MCP: what may be spent, what was, and what was refused.

In a request, `io.budgetware/budget` is what it may cost, as in
`{"limits": {"tokens": 5000, "usd": "0.05"}}`. In a result it is what it did cost, as in
`{"charged": {"calls": 1, "tokens": 310}}`; of a call that was refused there is `"refused"`, too,
with `type`, `message`, `dim`, `remaining` and `retry_after`. Either may have an exported quota
token, under `budgetware/token`; see `budgetware.propagation`.

Whatever comes from the other side may be wrong, or hostile. Not here: what is done with it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from budgetware import BudgetExceeded, BudgetTerminated, BudgetwareError, Dim, TaskBudget
from budgetware.errors import InvalidAmount, LedgerUnavailable

BUDGET_KEY: Final = "io.budgetware/budget"

_NEVER_RAN: Final = frozenset({-32700, -32600, -32602})
"""Errors of JSON-RPC for requests that cannot be. Not that of a method that is not there: clients
ask for the list of tools after a call, and servers need not have one."""
_LEVELS: Final = frozenset({Dim.MEMORY, Dim.MILLIS})
_LEDGER_SECONDS: Final = 1.0
"""After how long to try again where the ledger did not answer."""
_MOST_LIMITS: Final = 32
_MOST: Final = 2**53 - 1
_DOLLARS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def limits_meta(amounts: Mapping[str, Any]) -> dict[str, Any]:
    """What a client sends: the most that this call may spend on the other side."""
    return {"limits": {dim: _plain(amount) for dim, amount in amounts.items()}}


def read_limits(meta: object, known: Collection[str]) -> dict[str, Any]:
    """Read what a client allows a call to spend; nothing where it says nothing.

    Args:
        meta: of the request.
        known: dimensions that the server counts, besides the built-in ones.

    Raises:
        InvalidAmount: it is not what a client of ours sends.
    """
    sent = _of(meta)
    if sent is None:
        return {}
    if not isinstance(sent, Mapping):
        raise InvalidAmount(f"_meta {BUDGET_KEY!r}: give an object with limits by dimension")
    limits: object = cast("Mapping[object, object]", sent).get("limits", {})
    if not isinstance(limits, Mapping) or len(limits) > _MOST_LIMITS:
        raise InvalidAmount(f"_meta {BUDGET_KEY!r}: limits are an object of at most {_MOST_LIMITS}")
    pairs = cast("Mapping[object, object]", limits)
    return {_dim(dim, known): _limit(str(dim), value) for dim, value in pairs.items()}


def _dim(dim: object, known: Collection[str]) -> str:
    if not isinstance(dim, str) or (dim not in known and dim not in tuple(Dim)):
        raise InvalidAmount(f"_meta limits: unknown dimension {str(dim)[:64]!r} on this server")
    return str(dim)


def _limit(dim: str, value: object) -> object:
    amount = _amount(dim, value)
    if not amount:
        shape = "dollars as '0.05'" if dim == "usd" else "an int"
        raise InvalidAmount(f"_meta limits: {dim} is not {shape}, above 0 and below 2**53")
    return amount


def report(budget: TaskBudget) -> dict[str, Any]:
    """What a server says was charged for a call; what it does not name was not charged."""
    dims = budget.snapshot().dims
    spent = {dim: balance.spent for dim, balance in dims.items() if dim not in _LEVELS}
    return {dim: _plain(n) for dim, n in spent.items() if n}


def refused_meta(error: BudgetwareError) -> dict[str, Any]:
    """A refusal for programs."""
    facts: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, BudgetExceeded):
        facts |= {
            "budget": error.budget,
            "dim": error.dim,
            "requested": _plain(error.requested),
            "remaining": _plain(error.available),
            "limit": _plain(error.limit),
            "retry_after": error.retry_after,
        }
    elif isinstance(error, LedgerUnavailable):
        facts["retry_after"] = _LEDGER_SECONDS
    elif isinstance(error, BudgetTerminated):
        facts |= {"budget": error.budget, "dim": error.dim, "retry_after": None}
    return facts


def read_refused(meta: object) -> object:
    """What a result says was refused further inside; None: nothing was."""
    return _get(_of(meta), "refused")


def read_charged(meta: object, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a server says was charged; where it says nothing, or what cannot be, is left out.

    Args:
        meta: of the result.
        allowed: the most by dimension; others are left out, too.
    """
    charged = _get(_of(meta), "charged")
    if not isinstance(charged, Mapping):
        return {}
    named = cast("Mapping[str, object]", charged)
    found: dict[str, Any] = {}
    for dim, most in allowed.items():
        used = _amount(dim, named[dim]) if dim in named else 0
        if used is not None and used <= (Decimal(str(most)) if dim == "usd" else most):
            found[dim] = used
    return found


def is_asked(meta: object) -> bool:
    """Say whether a request, or a result, tells of budgets at all."""
    return _of(meta) is not None


def never_ran(error: Exception) -> bool:
    """Say whether an error of the protocol means that no tool has run."""
    return getattr(getattr(error, "error", None), "code", None) in _NEVER_RAN


def _of(meta: object) -> object:
    return _get(meta, BUDGET_KEY)


def _get(holder: object, key: str) -> object:
    return cast("Mapping[str, object]", holder).get(key) if isinstance(holder, Mapping) else None


def _amount(dim: str, value: object) -> Any:
    """An amount as it is sent, 0 or more; None: it is none."""
    if dim == "usd":
        is_price = isinstance(value, str) and _DOLLARS.fullmatch(value)
        return Decimal(str(value)) if is_price else None
    return value if type(value) is int and 0 <= value <= _MOST else None


def _plain(amount: Any) -> Any:
    """As JSON has it: dollars are a text."""
    return amount if amount is None or type(amount) is int else str(amount)

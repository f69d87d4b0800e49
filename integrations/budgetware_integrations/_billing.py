"""Whether a call that failed may have been paid for. Not here: what is booked then."""

from __future__ import annotations

from typing import Final

from budgetware import BudgetwareError

BILLED_STATUSES: Final = frozenset({408, 499, 504, 524})
"""Somebody stopped waiting; the model may have answered."""
_NEVER_SENT: Final = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "ProxyError",
    "ConnectionRefusedError", "gaierror", "ClientConnectorError", "ClientConnectorDNSError",
})  # fmt: skip
_MOST_CAUSES: Final = 20


def is_free(error: BaseException) -> bool:
    """Say whether what failed with `error` was surely not billed.

    It was not where nothing was sent, or where the provider answered with a status of an error;
    what was cut off, timed out or answered in part may have been.
    """
    current: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if current is None:
            return False
        status = status_of(current)
        if status is not None:
            return status >= 400 and status not in BILLED_STATUSES
        if isinstance(current, BudgetwareError) or type(current).__name__ in _NEVER_SENT:
            return True
        current = current.__cause__ or current.__context__
    return False


def outcome_of_error(error: Exception) -> str:
    """Answer `on_error` of a reservation: what a failure of its call books."""
    return "release" if is_free(error) else "charge"


def status_of(error: BaseException) -> int | None:
    """The HTTP status an error of any SDK carries; None where it has none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
                return value
    return None

"""Whether a call that failed may have been paid for. Not here: what is booked then."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, Literal, cast

from budgetware import BudgetwareError

from ._signals import pause_seconds

BILLED_STATUSES: Final = frozenset({408, 499, 504, 524})
"""Somebody stopped waiting; the model may have answered."""
_NEVER_SENT: Final = frozenset({
    "ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError",
    "ProxyError", "ConnectionRefusedError", "gaierror", "ClientConnectorError",
    "ClientConnectorDNSError",
})  # fmt: skip
_CUT_OFF: Final = frozenset({"ClientPayloadError"})
"""An answer that broke off, whatever status its causes seem to have."""
_MOST_CAUSES: Final = 20


def is_free(error: BaseException) -> bool:
    """Say whether what failed with `error` was surely not billed.

    It was not where nothing was sent, or where the provider answered with a status of an error;
    what was cut off, timed out or answered in part may have been.
    """
    for current in _evidence(error):
        if type(current).__name__ in _CUT_OFF:
            return False
        status = status_of(current)
        if status is not None:
            return status >= 400 and status not in BILLED_STATUSES
        if isinstance(current, BudgetwareError) or type(current).__name__ in _NEVER_SENT:
            return True
    return False


def _evidence(error: BaseException) -> list[BaseException]:
    """The error and its causes; without LiteLLM's, and those made of them, where it knew of none.

    LiteLLM gives each failure a status, 500 where there was none, and others copy that.
    """
    causes = list(_causes(error))
    translated = [n for n, cause in enumerate(causes) if type(cause).__module__[:7] == "litellm"]
    if translated and (status_of(causes[translated[0]]) or 500) >= 500:
        return causes[translated[-1] + 1 :]
    return causes


def _causes(error: BaseException) -> Generator[BaseException]:
    current: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def outcome_of_error(error: Exception) -> Literal["charge", "release"]:
    """Answer `on_error` of a reservation: what a failure of its call books."""
    return "release" if is_free(error) else "charge"


class Billing:
    """What a failure of one call books, as `on_error` of its reservation.

    It holds no call: whoever holds a reservation would keep it from being collected.
    """

    __slots__ = ("_has_left", "_is_answered", "_is_owed", "_may_be_owed", "is_sent")

    def __init__(self) -> None:
        self.is_sent = True
        """False, where it is known that nothing went out: then every failure is free."""
        self._has_left = False
        self._is_answered = True
        self._is_owed = False
        self._may_be_owed = False

    def sending(self) -> None:
        """Note that an attempt goes out. An earlier one without an answer may be billed."""
        if not self._is_answered:
            self._may_be_owed = True
            self._is_owed = self._is_owed or self._has_left
        self._has_left = self._is_answered = False
        self.is_sent = True

    def left(self) -> None:
        """Note that what is asked in this attempt was sent: a connection was there."""
        self._has_left = True

    def answered(self, status: int) -> None:
        """Note the answer to an attempt."""
        self._is_answered = True
        self._is_owed = self._is_owed or status in BILLED_STATUSES

    def failed(self, error: BaseException) -> None:
        """Note how an attempt failed, where that is known of each."""
        self._is_answered = True
        self._is_owed = self._is_owed or not is_free(error)

    def __call__(self, error: Exception) -> Literal["charge", "release"]:
        if not self.is_sent:
            return "release"
        # An attempt that may be owed may have failed as the last one did, unless that was answered.
        if self._is_owed or (self._may_be_owed and self._is_answered):
            return "charge"
        return outcome_of_error(error)


class StreamError(Exception):
    """A provider told of an error in the stream of its answer; it may have been billed."""


def pause_of_error(error: BaseException) -> float:
    """How long the provider wants no more calls, by the response that an error carries."""
    for current in _causes(error):
        status = status_of(current)
        headers = getattr(getattr(current, "response", None), "headers", None)
        if status is not None and isinstance(headers, Mapping):
            return pause_seconds(status, cast("Mapping[str, str]", headers))
    return 0.0


def status_of(error: BaseException) -> int | None:
    """The HTTP status an error of any SDK carries; None where it has none."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
                return value
    return None

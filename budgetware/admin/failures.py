"""What cannot be done, as HTTP says it. Not here: what decides that it cannot."""

from __future__ import annotations

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..errors import (
    BudgetExceeded,
    BudgetTerminated,
    BudgetwareError,
    InvalidAmount,
    LedgerUnavailable,
    UnknownResource,
    budget_error,
)
from .answers import json_response

_LEDGER_SECONDS = 1.0
_LEAVING_SECONDS = 1.0


class Failure(Exception):
    """An answer that is no success.

    Attributes:
        status: of HTTP.
        kind: the `type` of its error.
        field: which part of what was sent is wrong, as in `limit.value`.
        headers: that go with it.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        field: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.field = field
        self.headers = headers or {}

    def response(self) -> Response:
        """As an answer."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        return json_response({"error": error}, self.status, self.headers)


def bad_request(message: str, field: str | None = None) -> Failure:
    """What was sent cannot be."""
    return Failure(400, "BadRequest", message, field=field)


def not_found(kind: str, message: str) -> Failure:
    """There is no such thing, or none that this key may know of."""
    return Failure(404, kind, message)


def conflict(message: str, field: str | None = None) -> Failure:
    """It cannot be done as things are."""
    return Failure(409, "Conflict", message, field=field)


def forbidden(message: str) -> Failure:
    """This key may not."""
    return Failure(403, "Forbidden", message)


def server_leaving() -> Failure:
    """The server ends before it can answer."""
    headers = {"Connection": "close", **retry_header(_LEAVING_SECONDS)}
    return Failure(503, "ServerLeaving", "the server is about to end: ask again", headers=headers)


def service_closed() -> Failure:
    """There is a server, but no service any more."""
    return Failure(503, "ServiceClosed", "the service is closed")


def retry_header(seconds: float | None) -> dict[str, str]:
    """`Retry-After` in whole seconds, rounded up; none where time alone does not help."""
    if seconds is None or not math.isfinite(seconds):
        return {}
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def failure_of(error: BudgetwareError) -> Failure:
    """What an error of the service is to who asked for an operation."""
    kind, message = type(error).__name__, str(error)
    match error:
        case BudgetExceeded():
            return Failure(429, kind, message, headers=retry_header(error.retry_after))
        case LedgerUnavailable():
            return Failure(503, kind, message, headers=retry_header(_LEDGER_SECONDS))
        case UnknownResource():
            return Failure(404, kind, message)
        case InvalidAmount():
            return Failure(400, kind, message)
        case _:  # what was sent has been looked at: it is the state that does not allow it
            return Failure(409, kind, message)


def budget_response(error: BaseException) -> Response:
    """Make the answer of one's own route where a budget said no: 429, or 503 without a ledger.

    Sees through groups, causes and contexts. `Retry-After` is in whole seconds, rounded up, and
    left out where time alone does not help.

        @app.exception_handler(BudgetExceeded)
        async def refused(request, error):
            return budget_response(error)

    Raises:
        BaseException: `error` itself, where nothing of budgets is in it that a client could mend.
    """
    found = budget_error(error)
    if isinstance(found, BudgetTerminated):
        return Failure(429, type(found).__name__, str(found)).response()
    if isinstance(found, BudgetExceeded | LedgerUnavailable):
        return failure_of(found).response()
    raise error


async def server_failed(_request: Request, _error: Exception) -> Response:
    """What is shown of an error of ours; the server's log has the rest."""
    return Failure(500, "InternalError", "the server failed; its log says how").response()

"""Operations: a method on a path, who may ask for it, and how its answer comes to be.

One table of them makes the routes and the OpenAPI document, so that these agree. Not here: the
operations themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import BudgetwareError
from .answers import json_response
from .bodies import read_json
from .failures import Failure, failure_of, server_failed, service_closed
from .keys import Caller
from .queries import Query, read_query

if TYPE_CHECKING:
    from .face import Face

Access = Literal["open", "read", "write"]
Schema = Mapping[str, Any]

_log = logging.getLogger("budgetware")


@dataclass(slots=True)
class Call:
    """One request, checked: who asks, and with what."""

    face: Face
    request: Request
    caller: Caller
    query: Query
    body: dict[str, Any]

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers."""

    document: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def response(self) -> Response:
        """As HTTP has it."""
        if self.document is None:
            return Response(status_code=self.status, headers=self.headers)
        return json_response(self.document, self.status, self.headers)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path.

    Attributes:
        run: makes the answer; called in a worker thread, as the service may block.
        serve: makes it on the event loop instead, and may be any ASGI application.
        access: whether it takes a key, and which.
        query, headers: parameters by name, each with its schema; `query` None: any, not looked at.
        body: the schema of its body; None: it takes none.
        answers: schema by status, of the answers that are no errors.
        errors: the statuses that it alone may answer.
    """

    method: str
    path: str
    name: str
    summary: str
    run: Callable[[Call], Answer] | None = None
    serve: Callable[[Call], Awaitable[ASGIApp]] | None = None
    access: Access = "read"
    query: Mapping[str, Schema] | None = field(default_factory=dict[str, Schema])
    headers: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    body: Schema | None = None
    is_body_needed: bool = True
    answers: Mapping[int, Schema] = field(default_factory=dict[int, Schema])
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    answer_headers: tuple[str, ...] = ()


class Door:
    """The ASGI application of one path: chooses the operation, and lets in who may ask for it."""

    def __init__(self, face: Face, operations: Iterable[Operation]) -> None:
        self._face = face
        self._by_method = {operation.method: operation for operation in operations}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        try:
            call, operation = await self._let_in(request)
            if operation.serve is not None:
                return await operation.serve(call)
            return await self._face.worker.run(_run, operation, call)
        except Failure as failure:
            return failure.response()
        except BudgetwareError as error:
            return failure_of(error).response()
        except Exception as error:
            _log.exception("HTTP: %s %s failed", request.method, self._shown(request))
            return await server_failed(request, error)

    def _shown(self, request: Request) -> str:
        """The path as the table has it: a name in it may be anything."""
        operation = self._by_method.get(request.method)
        return "?" if operation is None else operation.path

    async def _let_in(self, request: Request) -> tuple[Call, Operation]:
        operation = self._by_method.get(request.method)
        if operation is None:
            allow = ", ".join(sorted(self._by_method))
            message = f"this path takes {allow}"
            raise Failure(405, "MethodNotAllowed", message, headers={"Allow": allow})
        caller = self._face.door_keeper.caller(request, operation.access)
        if operation.access != "open" and self._face.service.is_closed:
            raise service_closed()
        query = read_query(request, operation.query)
        body: dict[str, Any] = {}
        if operation.body is not None:
            body = await read_json(request, is_optional=not operation.is_body_needed)
        return Call(self._face, request, caller, query, body), operation


def _run(operation: Operation, call: Call) -> Response:
    assert operation.run is not None
    return operation.run(call).response()

"""`app`: from a service and keys to an ASGI application. Not here: what its operations do."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from os import PathLike

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ..service import QuotaService
from .answers import json_response
from .face import Face
from .failures import not_found, server_failed
from .gate import Gate
from .keys import Key, Keys, find_keys
from .openapi import document
from .operations import Call, Door, Operation
from .table import operations


def app(
    service: QuotaService,
    *,
    keys: Keys | Iterable[Key] | str | PathLike[str] | None = None,
    allow_hosts: Iterable[str] | None = None,
    page: bool = True,
) -> Starlette:
    """Make the application of a service that is open: to serve, or to mount in one's own.

    Args:
        keys: who may ask, or a file of them; by default the file that `BUDGETWARE_ADMIN_KEYS`
            names. Without any, only this machine itself is served, and may do everything.
        allow_hosts: names by which it may be asked for, besides `localhost` and the address that
            the connection was made to; `["*"]` where something else looks at the Host header.
        page: whether `/` shows the live page.

    Raises:
        ConfigurationError: a key or a host is not what it should be.
    """
    face = Face(service, find_keys(keys))
    table = list(operations())
    if page and _has_page():
        table.append(
            Operation("GET", "/", "page", "The live page", serve=_page, access="open", query=None)
        )
    described = document(table, has_keys=face.door_keeper.has_keys)

    async def openapi(call: Call) -> ASGIApp:
        root = call.request.scope.get("root_path", "")
        return json_response({**described, "servers": [{"url": root or "/"}]})

    table.append(
        Operation(
            "GET", "/openapi.json", "openapi", "This API", serve=openapi, access="open"
        )
    )  # fmt: skip
    made = Starlette(
        routes=list(_routes(face, table)),
        middleware=[Middleware(Gate, hosts=allow_hosts)],
        exception_handlers={404: _no_route, Exception: server_failed},
    )
    made.router.redirect_slashes = False
    made.state.face = face
    made.middleware_stack = made.build_middleware_stack()  # a host that is none is told now
    return made


def _routes(face: Face, table: Iterable[Operation]) -> Iterable[Route]:
    by_path: dict[str, list[Operation]] = {}
    for operation in table:
        by_path.setdefault(operation.path, []).append(operation)
    for path, found in by_path.items():
        yield Route(path, Door(face, found))


async def _no_route(_request: Request, _error: Exception) -> Response:
    return not_found("NotFound", "there is nothing at this path").response()


def _has_page() -> bool:
    return importlib.util.find_spec(f"{__package__}.page") is not None


async def _page(_call: Call) -> ASGIApp:
    from . import page

    return HTMLResponse(page.html(), headers={"Content-Security-Policy": page.policy()})

"""The OpenAPI document: what the table of operations says, for programs. Not here: the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .bodies import MOST_BYTES
from .operations import Operation
from .queries import NAME_SCHEMA
from .schemas import COMPONENTS, ERROR

_ERRORS = {
    400: "What was sent is wrong; `field` says where",
    401: "There is no key, or it is none",
    403: "The key may not do this, or not see that principal",
    404: "There is no such thing",
    405: "The path takes other methods",
    408: "The body has not come in time",
    409: "It cannot be done as things are: another revision, or it is there already",
    413: f"The body has more than {MOST_BYTES} bytes",
    415: "The body is no JSON",
    429: "There is not enough of a budget, or there are too many requests",
    503: "The ledger does not answer, the service is closed, or there are too many clients",
}
_HEADERS = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_DESCRIPTION = (
    "Budgets for agents: what runs, what is left, and what was used. Amounts are whole numbers, "
    "dollars are texts, times are RFC 3339 in UTC; but the timestamp of an event is in seconds "
    "since the epoch."
)


def document(table: Iterable[Operation], *, has_keys: bool) -> dict[str, Any]:
    """The document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        if operation.answers:
            described = _operation(operation, has_keys=has_keys)
            paths.setdefault(operation.path, {})[operation.method.lower()] = described
    components: dict[str, Any] = {"schemas": COMPONENTS}
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "budgetware", "version": _version(), "description": _DESCRIPTION},
        "paths": paths,
        "components": components,
    }


def _version() -> str:
    try:
        return version("budgetware")
    except PackageNotFoundError:
        return "0"


def _operation(operation: Operation, *, has_keys: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *_in_path(operation.path),
            *_parameters("query", operation.query or {}),
            *_parameters("header", operation.headers),
        ],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.is_body_needed,
            "content": {"application/json": {"schema": operation.body}},
        }
    if has_keys and operation.access != "open":
        described["security"] = [{"key": []}]
    return described


def _in_path(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    schema = NAME_SCHEMA
    return [{"name": n, "in": "path", "required": True, "schema": schema} for n in names]


def _parameters(place: str, given: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_parameter(place, name, schema) for name, schema in given.items()]


def _parameter(place: str, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    described = {"name": name, "in": place, "required": False, "schema": schema}
    if schema.get("type") == "array":
        return {**described, "style": "form", "explode": False}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    found = {str(status): _success(operation, status) for status in operation.answers}
    for status in sorted(_statuses(operation)):
        described: dict[str, Any] = {
            "description": _ERRORS[status],
            "content": {"application/json": {"schema": ERROR}},
        }
        if status in _HEADERS:
            described["headers"] = _headers(_HEADERS[status])
        found[str(status)] = described
    return found


def _success(operation: Operation, status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"description": operation.summary}
    if status != 204:
        schema = operation.answers[status]
        described["content"] = {operation.media: {"schema": schema}}
    if operation.answer_headers:
        described["headers"] = _headers(operation.answer_headers)
    return described


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}} for name in names}


def _statuses(operation: Operation) -> set[int]:
    """The errors that an operation may answer, and those that every one of its kind may."""
    found = {400, 405, 413, *operation.errors}
    if operation.access != "open":
        found |= {401, 409}
    if operation.access == "write":
        found.add(403)
    if operation.body is not None:
        found |= {408, 415}
    return found

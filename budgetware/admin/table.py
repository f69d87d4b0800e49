"""The table of operations: what the routes and the OpenAPI document are made of.

Not here: what they do.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import principals, resources, tasks, usage
from .event_stream import MEDIA, events
from .operations import Operation
from .queries import NAME_SCHEMA, TIME_SCHEMA, number_schema
from .schemas import (
    EVENTS,
    HEALTH,
    NEW_RESOURCE,
    OVERVIEW,
    PRINCIPAL,
    PRINCIPALS,
    QUOTAS,
    QUOTAS_CHANGE,
    REPORT,
    RESOURCE,
    RESOURCE_CHANGE,
    RESOURCE_USAGE,
    RESOURCES,
    REVISION,
    TASK,
    TASKS,
    TERMINATION,
    TEXT,
    TOP_UP,
)

_API = "/api/sys"
_BY = ("principal", "model", "provider", "kind", "name", "task", "outcome", "day", "hour")
_REVISION = {"expected_revision": number_schema(description="the revision as it was read")}
_AFTER = number_schema(description="only events with a higher number")


def operations() -> Iterator[Operation]:
    """Every operation but the page and the document."""
    yield Operation(
        "GET", "/healthz", "health", "Whether the service and its ledger answer",
        run=usage.health, access="open", answers={200: HEALTH}, errors=(503,),
    )  # fmt: skip
    yield from _usage()
    yield from _principals()
    yield from _resources()
    yield from _tasks()


def _usage() -> Iterator[Operation]:
    yield Operation(
        "GET", "/usage", "report", "The usage of the key's principal over a window",
        run=usage.report, answers={200: REPORT}, errors=(403, 404, 503),
        query={
            "since": TIME_SCHEMA,
            "until": TIME_SCHEMA,
            "by": {"type": "array", "items": {"enum": list(_BY)}, "uniqueItems": True,
                   "minItems": 1},
            "bucket": {"type": "string", "enum": ["day", "hour"]},
            "principal": NAME_SCHEMA,
        },
    )  # fmt: skip
    yield Operation(
        "GET", f"{_API}/overview", "overview", "What runs, and what is left",
        serve=usage.overview, answers={200: OVERVIEW}, errors=(503,),
        answer_headers=(usage.ACCESS_HEADER,),
    )  # fmt: skip
    yield Operation(
        "GET", f"{_API}/events", "list_events", "Recorded calls, the newest last",
        run=usage.list_events, answers={200: EVENTS}, errors=(403, 404, 503),
        query={
            "after": _AFTER,
            "limit": number_schema(least=1, most=usage.MOST_EVENTS),
            "principal": NAME_SCHEMA,
        },
    )  # fmt: skip
    yield Operation(
        "GET", "/events", "events", "Recorded calls as they come (Server-Sent Events)",
        serve=events, answers={200: TEXT}, errors=(403, 503), media=MEDIA,
        query={"after": _AFTER, "principal": NAME_SCHEMA}, headers={"Last-Event-ID": _AFTER},
    )  # fmt: skip


def _principals() -> Iterator[Operation]:
    path = f"{_API}/principals"
    yield Operation(
        "GET", path, "list_principals", "All principals that the key may see",
        run=principals.list_principals, answers={200: PRINCIPALS}, errors=(503,),
    )  # fmt: skip
    for end, name, summary, run, schema in (
        ("", "show_principal", "One principal", principals.show_principal, PRINCIPAL),
        ("/usage", "show_usage", "What it uses now", principals.show_usage, RESOURCE_USAGE),
        ("/quotas", "show_quotas", "Its quotas", principals.show_quotas, QUOTAS),
    ):
        yield Operation(
            "GET", f"{path}/{{id}}{end}", name, summary,
            run=run, answers={200: schema}, errors=(403, 404, 503),
        )  # fmt: skip
    yield Operation(
        "PUT", f"{path}/{{id}}/quotas", "put_quotas", "Set its quotas; adds one that is not known",
        run=principals.put_quotas, access="write", body=QUOTAS_CHANGE,
        answers={200: QUOTAS, 201: QUOTAS}, errors=(409, 503),
    )  # fmt: skip


def _resources() -> Iterator[Operation]:
    path, one = f"{_API}/resources", f"{_API}/resources/{{name}}"
    yield Operation(
        "GET", path, "list_resources", "All resources",
        run=resources.list_resources, answers={200: RESOURCES}, errors=(403, 503),
    )  # fmt: skip
    yield Operation(
        "POST", path, "define_resource", "Add a resource",
        run=resources.define_resource, access="write", body=NEW_RESOURCE,
        answers={201: RESOURCE}, errors=(409, 503), answer_headers=("ETag", "Location"),
    )  # fmt: skip
    yield Operation(
        "GET", one, "show_resource", "One resource",
        run=resources.show_resource, answers={200: RESOURCE}, errors=(403, 404, 503),
        answer_headers=("ETag",),
    )  # fmt: skip
    yield Operation(
        "PUT", one, "update_resource", "Change a resource, in effect at once",
        run=resources.update_resource, access="write", body=RESOURCE_CHANGE,
        answers={200: RESOURCE}, errors=(404, 409, 503), answer_headers=("ETag",),
        query=_REVISION, headers={"If-Match": {"type": "string"}},
    )  # fmt: skip
    yield Operation(
        "DELETE", one, "delete_resource", "Take a resource out",
        run=resources.delete_resource, access="write", body=REVISION, is_body_needed=False,
        answers={204: {}}, errors=(404, 409, 503),
        query=_REVISION, headers={"If-Match": {"type": "string"}},
    )  # fmt: skip


def _tasks() -> Iterator[Operation]:
    path, one = f"{_API}/tasks", f"{_API}/tasks/{{id}}"
    yield Operation(
        "GET", path, "list_tasks", "Tasks that run, parents before children",
        run=tasks.list_tasks, answers={200: TASKS}, errors=(503,),
    )  # fmt: skip
    yield Operation(
        "GET", one, "show_task", "One task",
        run=tasks.show_task, answers={200: TASK}, errors=(404, 503),
    )  # fmt: skip
    yield Operation(
        "POST", f"{one}/terminate", "terminate_task", "End a task",
        run=tasks.terminate_task, access="write", body=TERMINATION,
        answers={200: TASK}, errors=(404, 409, 503),
    )  # fmt: skip
    yield Operation(
        "POST", f"{one}/top_up", "top_up_task", "Raise limits of a task, once per request id",
        run=tasks.top_up_task, access="write", body=TOP_UP,
        answers={200: TASK}, errors=(404, 409, 429, 503),
    )  # fmt: skip

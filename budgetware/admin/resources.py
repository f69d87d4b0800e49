"""Operations on resources. Each answer carries the revision as its ETag.

Not here: what a definition may be (`definitions`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError, InvalidAmount, UnknownResource
from ..quotas import Resource
from ..service import QuotaService
from ..views import ResourceView
from .bodies import only
from .definitions import new_resource, resource_changes
from .failures import Failure, bad_request, conflict, not_found
from .operations import Answer, Call
from .queries import MOST_NUMBER

_ETAG = re.compile(r'"([0-9]{1,16})"')


def list_resources(call: Call) -> Answer:
    """All of them, by name."""
    service = _service(call)
    return Answer({"resources": [view.to_dict() for view in service.resources()]})


def show_resource(call: Call) -> Answer:
    """One of them, as it stands."""
    return _answer(_find(_service(call), call.path("name")))


def define_resource(call: Call) -> Answer:
    """Add one."""
    service = _service(call)
    resource = new_resource(call.body)
    with call.face.resources_lock:
        try:
            view = service.define(resource)
        except ConfigurationError as error:
            raise _undefined(service, resource, error) from None
    return _answer(view, 201, {"Location": _path_of(call, view.name)})


def _undefined(service: QuotaService, resource: Resource, error: ConfigurationError) -> Failure:
    """Why it was not added; another process may have added it a moment ago."""
    if isinstance(error, UnknownResource):
        return bad_request(str(error), "parent")
    if isinstance(error, InvalidAmount):
        return bad_request(str(error), "limit")
    service.refresh()
    if _is_known(service, resource.name):
        return conflict(f"resource {resource.name!r} is there already", "name")
    return bad_request(str(error), "name" if resource.parent is None else "parent")


def _path_of(call: Call, name: str) -> str:
    """Where it is, also under a prefix."""
    root: str = call.request.scope.get("root_path", "")
    return quote(f"{root}/api/sys/resources/{name}", safe="/:@")


def update_resource(call: Call) -> Answer:
    """Change one, in effect at once."""
    service = _service(call)
    view = _find(service, call.path("name"))
    change = resource_changes(call.body, view.definition)
    revision = _expected(call, change.revision)
    try:
        view = service.update(view.name, expected_revision=revision, **change.changes)
    except InvalidAmount as error:
        raise bad_request(str(error), "limit") from None
    except ConfigurationError as error:
        raise _conflict(service, call.path("name"), error) from None
    return _answer(view)


def delete_resource(call: Call) -> Answer:
    """Take one out."""
    service = _service(call)
    only(call.body, ("expected_revision",))
    name = _find(service, call.path("name")).name
    try:
        service.delete(name, expected_revision=_expected(call, call.body.get("expected_revision")))
    except ConfigurationError as error:
        raise _conflict(service, name, error) from None
    return Answer(None, 204)


def _service(call: Call) -> QuotaService:
    """The service, for keys that may see what all share."""
    call.face.door_keeper.check_sees_all(call.caller)
    return call.face.refreshed()


def _find(service: QuotaService, name: str) -> ResourceView:
    try:
        return service.resource(name)
    except UnknownResource as error:
        raise not_found("UnknownResource", str(error)) from None


def _is_known(service: QuotaService, name: str) -> bool:
    return any(view.name == name for view in service.resources())


def _conflict(service: QuotaService, name: str, error: ConfigurationError) -> Failure:
    """It is another one by now, or none."""
    if isinstance(error, UnknownResource) or not _is_known(service, name):
        return not_found("UnknownResource", str(error))
    return conflict(str(error))


def _answer(
    view: ResourceView, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    tagged = {"ETag": f'"{view.revision}"', **(headers or {})}
    return Answer(view.to_dict(), status, tagged)


def _expected(call: Call, in_body: object) -> int | None:
    """The revision that was read, from the body, the query or `If-Match`; None: any."""
    given: dict[str, int] = {}
    if in_body is not None:
        given["expected_revision"] = _revision(in_body)
    in_query = call.query.number("expected_revision")
    if in_query is not None:
        given["expected_revision (query)"] = in_query
    tags = call.request.headers.getlist("if-match")
    if tags and tags != ["*"]:
        given["If-Match"] = _tagged(tags)
    if len(set(given.values())) > 1:
        raise bad_request(f"{' and '.join(given)} are not the same", "expected_revision")
    return next(iter(given.values()), None)


def _revision(value: Any) -> int:
    if type(value) is int and 0 <= value <= MOST_NUMBER:
        return value
    raise bad_request(f"give a whole number of 0 to {MOST_NUMBER}", "expected_revision")


def _tagged(tags: list[str]) -> int:
    found = _ETAG.fullmatch(tags[0]) if len(tags) == 1 and tags[0].isascii() else None
    if found is None:
        raise bad_request('give the ETag of an answer, as "3"', "If-Match")
    return int(found[1])

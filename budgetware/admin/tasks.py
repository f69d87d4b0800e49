"""Operations on tasks that run. Not here: tasks (`budgetware.tasks`)."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

from ..errors import InvalidAmount
from ..foreign_tasks import PREFIX, ForeignTask
from ..formats import visible
from ..limits import top_up
from ..tasks import TaskBudget
from .bodies import only, text
from .definitions import amounts
from .failures import Failure, bad_request, conflict, not_found
from .operations import Answer, Call
from .top_ups import KEPT_SECONDS

MOST_REASON = 256
MOST_ID = 128


def list_tasks(call: Call) -> Answer:
    """All that the key may see, parents before children."""
    return Answer({"tasks": _seen(call)})


def show_task(call: Call) -> Answer:
    """One of them, as it stands."""
    return Answer(_find(call))


def terminate_task(call: Call) -> Answer:
    """End it: its block is cancelled, and its later calls are refused."""
    only(call.body, ("reason",), ("reason",))
    reason = text(call.body, "reason", most=MOST_REASON)
    before = _find(call)
    _own(call, before).terminate(reason)
    ended = {**before, "latched": before["latched"] or visible(reason), "verdict": "exhausted"}
    return Answer(_shown(call, before, ended))


def top_up_task(call: Call) -> Answer:
    """Raise its limits, once for each request id."""
    only(call.body, ("amounts", "request_id"), ("amounts", "request_id"))
    request_id = text(call.body, "request_id", most=MOST_ID)
    more = amounts(call.body["amounts"])
    view = _look(call)
    name = f"{PREFIX}{view['name']}" if view and view["is_shared"] else call.path("id")
    asked = {"task": name, "amounts": {dim: _canonical(value) for dim, value in more.items()}}
    whose = f"{call.caller.principal or ''}/{request_id}"
    return Answer(call.face.top_ups.once(whose, asked, lambda: _top_up(call, more, whose, asked)))


def _top_up(call: Call, more: dict[str, Any], whose: str, asked: object) -> dict[str, Any]:
    before = _find(call)
    task = _own(call, before)
    request = _request(call, whose, asked) if before["is_shared"] else None
    try:
        if isinstance(task, ForeignTask):
            task.raise_limits(more, request or whose)
        else:
            top_up(task, more, request)
    except InvalidAmount as error:
        raise bad_request(str(error), "amounts") from None
    return _shown(call, before)


def _request(call: Call, whose: str, asked: object) -> str:
    """Of a shared task: how the ledger knows the request, from whichever server it comes."""
    text = json.dumps(asked, sort_keys=True)
    key = f"top_up/{sha256(whose.encode()).hexdigest()}"
    runtime = call.face.service.runtime
    if runtime.call_ledger(lambda ledger: ledger.remember(key, text, KEPT_SECONDS)) != text:
        raise conflict("this id came with another top-up before", "request_id")
    return key


def _canonical(value: object) -> object:
    return str(value.normalize()) if isinstance(value, Decimal) else value


def _seen(call: Call) -> list[dict[str, Any]]:
    sight = call.face.door_keeper.sight(call.caller)
    views = [view.to_dict() for view in call.face.refreshed().tasks()]
    return [view for view in views if sight.sees(view["principal"])]


def _find(call: Call) -> dict[str, Any]:
    """The task of the path; one outside of the key's tree is not told from none there."""
    view = _look(call)
    if view is None:
        raise _unknown(call.path("id"))
    return view


def _look(call: Call) -> dict[str, Any] | None:
    return next((view for view in _seen(call) if view["id"] == call.path("id")), None)


def _own(call: Call, view: dict[str, Any]) -> TaskBudget | ForeignTask:
    """The task itself, which may be a shared one that runs in other processes."""
    task = call.face.service.task(view["id"])
    if task is None:
        raise _unknown(view["id"])
    return task


def _shown(
    call: Call, before: dict[str, Any], ended: dict[str, Any] | None = None
) -> dict[str, Any]:
    """As it stands now, or what is known of it where it has ended."""
    found = next((view for view in _seen(call) if view["id"] == before["id"]), None)
    return found or ended or before


def _unknown(name: str) -> Failure:
    return not_found("UnknownTask", f"no task {name[:128]!r} runs here")

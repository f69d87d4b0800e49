"""Operations on tasks that run. Not here: tasks (`budgetware.tasks`)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ..errors import InvalidAmount
from ..foreign_tasks import ForeignTask
from ..tasks import TaskBudget
from .bodies import only, text
from .definitions import amounts
from .failures import Failure, bad_request, not_found
from .operations import Answer, Call

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
    return Answer(_shown(call, before))


def top_up_task(call: Call) -> Answer:
    """Raise its limits, once for each request id."""
    only(call.body, ("amounts", "request_id"), ("amounts", "request_id"))
    request_id = text(call.body, "request_id", most=MOST_ID)
    more = amounts(call.body["amounts"])
    name = call.path("id")
    asked = {"task": name, "amounts": {dim: _canonical(value) for dim, value in more.items()}}
    whose = f"{call.caller.principal or ''}/{request_id}"
    return Answer(call.face.top_ups.once(whose, asked, lambda: _top_up(call, more)))


def _top_up(call: Call, more: dict[str, Any]) -> dict[str, Any]:
    before = _find(call)
    task = _own(call, before)
    try:
        task.top_up(**more)
    except InvalidAmount as error:
        raise bad_request(str(error), "amounts") from None
    return _shown(call, before)


def _canonical(value: object) -> object:
    return str(value.normalize()) if isinstance(value, Decimal) else value


def _seen(call: Call) -> list[dict[str, Any]]:
    sight = call.face.door_keeper.sight(call.caller)
    views = [view.to_dict() for view in call.face.refreshed().tasks()]
    return [view for view in views if sight.sees(view["principal"])]


def _find(call: Call) -> dict[str, Any]:
    """The task of the path; one outside of the key's tree is not told from none there."""
    name = call.path("id")
    for view in _seen(call):
        if view["id"] == name:
            return view
    raise _unknown(name)


def _own(call: Call, view: dict[str, Any]) -> TaskBudget | ForeignTask:
    """The task itself, which may be a shared one that runs in other processes."""
    task = call.face.service.task(view["id"])
    if task is None:
        raise _unknown(view["id"])
    return task


def _shown(call: Call, before: dict[str, Any]) -> dict[str, Any]:
    """As it stands now, or stood before it ended."""
    return next((view for view in _seen(call) if view["id"] == before["id"]), before)


def _unknown(name: str) -> Failure:
    return not_found("UnknownTask", f"no task {name[:128]!r} runs here")

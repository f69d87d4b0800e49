"""Operations on what was used: reports, recorded events, the overview, health.

Not here: how they come to be (`budgetware.reports`).
"""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp

from ..errors import BudgetwareError, InvalidAmount, LedgerUnavailable
from ..ledgers.addresses import MEMORY
from ..service import QuotaService
from .answers import json_response
from .face import HEALTH_SECONDS, Face
from .failures import bad_request, failure_of, not_found, service_closed
from .operations import Answer, Call
from .sight import Sight

MOST_EVENTS = 1_000
DEFAULT_EVENTS = 100
_MOST_PAGES = 20
ACCESS_HEADER = "Budgetware-Access"


def report(call: Call) -> Answer:
    """The usage of the key's principal, or of one that it may see."""
    query, caller = call.query, call.caller
    service = call.face.refreshed()
    principal = query.text("principal") or caller.principal
    _sight(call, service)
    try:
        found = service.report(
            principal,
            since=query.time("since"),
            until=query.time("until"),
            by=query.texts("by"),
            bucket="hour" if query.text("bucket") == "hour" else "day",
        )
    except InvalidAmount as error:
        raise bad_request(str(error), "since") from None
    return Answer(found.to_dict())


def _sight(call: Call, service: QuotaService) -> Sight:
    """What of the principal that was asked for may be seen; that of the key may yet have to come.

    Raises:
        Failure: 403, or 404 where there is no such principal.
    """
    principal = call.query.text("principal")
    sight = call.face.door_keeper.sight(call.caller, principal)
    if principal not in (None, call.caller.principal) and service.principal(principal) is None:
        raise not_found("UnknownPrincipal", f"no principal {principal!r} is known")
    return sight


def list_events(call: Call) -> Answer:
    """Recorded events, newest last: those after a number, else the newest."""
    query = call.query
    limit = query.number("limit") or DEFAULT_EVENTS
    service = call.face.refreshed()
    sight = _sight(call, service)
    after = query.number("after")
    if after is None:
        events, reached = _newest(service, sight, limit)
    else:
        events, reached = _events_after(service, sight, after, limit)
    return Answer({"events": events, "last_event": reached})


def _newest(service: QuotaService, sight: Sight, most: int) -> tuple[list[dict[str, Any]], int]:
    """The same of the newest: others are among them, so it looks further back until there are."""
    last, width = service.last_recorded(), most
    while True:
        after = max(0, last - width)
        events, reached = _events_after(service, sight, after, width + most)
        if len(events) >= most or not after or width >= _MOST_PAGES * MOST_EVENTS:
            return events[-most:], reached
        width *= 4


def _events_after(
    service: QuotaService, sight: Sight, after: int, most: int
) -> tuple[list[dict[str, Any]], int]:
    """At most so many that may be seen, and the number of the one that was looked at last."""
    events: list[dict[str, Any]] = []
    last = service.last_recorded()
    for _ in range(_MOST_PAGES):
        page = service.recorded(after=after, limit=MOST_EVENTS)
        for number, event in page:
            after = number
            if sight.sees(event["principal"]):
                events.append({"id": number, **event})
            if len(events) == most:
                return events, after
        if len(page) < MOST_EVENTS:
            return events, max(after, last)  # other things have numbers, too
    return events, after


async def overview(call: Call) -> ASGIApp:
    """What runs, and what is left: all of it that the key may see."""
    found = await call.face.overview()
    if call.caller.principal is not None:
        found = _part_of(found, call)
    access = "write" if call.caller.can_write else "read"
    return json_response(found, headers={ACCESS_HEADER: access})


def _part_of(found: dict[str, Any], call: Call) -> dict[str, Any]:
    """Without what is others'."""
    sees = call.face.door_keeper.sight(call.caller).sees
    by = [row for row in found["activity"]["by"] if sees(row["principal"])]
    seconds = found["window_seconds"] or 1
    activity = {
        "calls_per_second": sum(row["calls"] for row in by) / seconds,
        "refused_per_second": sum(row["refused"] for row in by) / seconds,
        "throttled": 0,
        "by": by,
    }
    tasks = [task for task in found["tasks"] if sees(task["principal"])]
    known = [row for row in found["principals"] if sees(row["name"])]
    return {**found, "tasks": tasks, "resources": [], "principals": known, "activity": activity}


def health(call: Call) -> Answer:
    """Whether the ledger answers; asked for once a second at most."""
    face = call.face
    if face.service.is_closed:
        raise service_closed()
    ledger = ledger_shown(face.service)
    if not face.health.is_fresh(HEALTH_SECONDS):
        at = time.monotonic()
        face.health.keep(_trouble(face), at)
    if face.health.value is not None:
        raise failure_of(face.health.value)
    return Answer({"status": "ok", "ledger": ledger})


def _trouble(face: Face) -> LedgerUnavailable | None:
    """What is wrong with the ledger; says no more to who has no key."""
    shared = face.service.runtime.shared
    try:
        if shared is not None:
            shared.call(lambda ledger: ledger.last_usage())
    except BudgetwareError:
        return LedgerUnavailable("the ledger does not answer")
    return None


def ledger_shown(service: QuotaService) -> str:
    """Where the ledger is, without user and password."""
    shared = service.runtime.shared
    return MEMORY if shared is None else shared.courier.ledger.address

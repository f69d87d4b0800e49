"""Operations on principals. Not here: who may see which (`door_keeper`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import ConfigurationError, InvalidAmount
from ..kernel.dims import NAME
from ..policies import Policy, policy_name
from ..quotas import Resource
from ..service import QuotaService
from ..views import PrincipalView, limit_dict
from .definitions import QuotaChange, quota_change
from .failures import bad_request, conflict, forbidden, not_found
from .operations import Answer, Call


def list_principals(call: Call) -> Answer:
    """All that the key may see, by name."""
    views = call.face.refreshed().principals()
    sight = call.face.door_keeper.sight(call.caller)
    seen = [view for view in views if sight.sees(view.name)]
    return Answer({"principals": [view.to_dict() for view in seen]})


def show_principal(call: Call) -> Answer:
    """One of them, with what was charged to it."""
    return Answer(_find(call).to_dict())


def show_usage(call: Call) -> Answer:
    """What it uses, and what of its quotas is left."""
    name = _find(call).name
    usage = call.face.service.resource_usage(name)
    if usage is None:
        raise _unknown(name)
    return Answer(usage.to_dict())


def show_quotas(call: Call) -> Answer:
    """Its quotas."""
    return Answer(_quotas(_find(call)))


def put_quotas(call: Call) -> Answer:
    """Set its quotas, in effect at once; one that is not known is added."""
    name = call.path("id")
    if NAME.fullmatch(name) is None:
        raise bad_request("that is no name: use 1 to 128 of A-Z a-z 0-9 . _ : @ -", "id")
    change = quota_change(name, call.body)
    service = call.face.refreshed()
    with call.face.principals_lock:
        known = service.principal(name)
        _check_allowed(call, name, known, change)
        view = _define(service, name, known, change)
    return Answer(_quotas(view), 201 if known is None else 200)


def _check_allowed(call: Call, name: str, known: PrincipalView | None, change: QuotaChange) -> None:
    if call.caller.principal is not None:
        _check_below(call, name, known)
    if call.caller.principal is not None and _becomes_exempt(call.face.service, known, change):
        raise forbidden("only a key for all principals may make one exempt")
    if known is not None and change.parent not in (None, known.parent):
        raise bad_request("it cannot change", "parent")
    above = None if known is not None else change.parent
    if above is not None and call.face.service.principal(above) is None:
        raise bad_request("no such principal is defined; define it first", "parent")


def _check_below(call: Call, name: str, known: PrincipalView | None) -> None:
    """A key of a principal sets limits to those below it: not to itself, nor does it add any."""
    own = call.caller.principal
    sight = call.face.door_keeper.sight(call.caller)
    if known is None or name == own or not sight.sees(name):
        raise forbidden(
            f"this key changes quotas of principals below {own!r} alone, and adds none: that "
            "needs a key for all principals"
        )


def _becomes_exempt(
    service: QuotaService, known: PrincipalView | None, change: QuotaChange
) -> bool:
    """Whether a principal that is refused by quotas would not be any more."""
    if not change.has_exempt or (known is not None and known.exempt):
        return False
    if change.exempt is not None or known is None or known.parent is None:
        return bool(change.exempt)
    above = service.principal(known.parent)
    return above is not None and above.exempt


def _define(
    service: QuotaService, name: str, known: PrincipalView | None, change: QuotaChange
) -> PrincipalView:
    """What is not given stays as it is."""
    before = None if known is None else known.definition
    quotas: Mapping[str, Resource] = {} if before is None else before.quotas
    exempt = None if before is None else before.exempt
    try:
        return service.define_principal(
            name,
            parent=change.parent,
            quotas=quotas if change.quotas is None else change.quotas,
            exempt=change.exempt if change.has_exempt else exempt,
        )
    except InvalidAmount as error:
        raise bad_request(str(error), "quotas") from None
    except ConfigurationError as error:
        raise conflict(str(error), "quotas") from None


def _find(call: Call) -> PrincipalView:
    """The principal of the path."""
    name = call.path("id")
    if NAME.fullmatch(name) is None:
        raise _unknown(name)
    service = call.face.refreshed()
    call.face.door_keeper.sight(call.caller, name)
    view = service.principal(name)
    if view is None:
        raise _unknown(name)
    return view


def _unknown(name: str) -> Exception:
    return not_found("UnknownPrincipal", f"no principal {name[:128]!r} is known")


def _quotas(view: PrincipalView) -> dict[str, Any]:
    """What is defined of it, as it can be put again; `is_exempt` is what is enforced."""
    definition = view.definition
    quotas = {dim: _quota(quota) for dim, quota in definition.quotas.items()}
    return {
        "principal": view.name,
        "parent": view.parent,
        "exempt": definition.exempt,
        "is_exempt": view.exempt,
        "quotas": quotas,
    }


def _quota(quota: Resource) -> dict[str, Any]:
    waits = {} if quota.max_wait is None else {"max_wait": quota.max_wait}
    return {**limit_dict(quota.limit), "enforcement": _policy(quota.policy), **waits}


def _policy(policy: Policy) -> str | dict[str, Any]:
    """A policy by its name, where that says it all."""
    name = policy_name(policy)
    given = {
        field.name: getattr(policy, field.name)
        for field in fields(policy)
        if getattr(policy, field.name) != field.default
    }
    return {"type": name, **given} if given else name

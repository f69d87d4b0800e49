"""A ledger that is opened from here. Not here: asking a server (`remote`)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from budgetware import QuotaService, connect
from budgetware.errors import ConfigurationError
from budgetware.ledgers.addresses import MEMORY, ledger_at
from budgetware.manifest import Manifest, read_manifest, shown_file
from budgetware.quotas import PrincipalDefinition, Resource
from budgetware.reports import UsageReport
from budgetware.views import put_on

from ..failures import MISUSED, Failure, complain
from ..places import Place
from .source import Question

if TYPE_CHECKING:
    from . import Purpose

_SQLITE = "sqlite:///"


class LocalSource:
    """A service of this process that makes no calls; see `Source`."""

    def __init__(self, service: QuotaService, shown: str) -> None:
        self._service = service
        self.shown = shown

    def principal(self, name: str) -> PrincipalDefinition | None:
        view = self._service.principal(name)
        return None if view is None else view.definition

    def put_principal(self, definition: PrincipalDefinition) -> None:
        self._service.define_principal(
            definition.name,
            parent=definition.parent,
            quotas=definition.quotas,
            exempt=definition.exempt,
        )

    def resource_usage(self, principal: str) -> dict[str, Any] | None:
        usage = self._service.resource_usage(principal)
        return None if usage is None else usage.to_dict()

    def resources(self) -> list[dict[str, Any]]:
        return [view.to_dict() for view in self._service.resources()]

    def resource(self, name: str) -> dict[str, Any]:
        return self._service.resource(name).to_dict()

    def define(self, resource: Resource) -> dict[str, Any]:
        return self._service.define(resource).to_dict()

    def update(self, name: str, changes: dict[str, Any], expected: int | None) -> dict[str, Any]:
        view = self._service.update(name, expected_revision=expected, **changes)
        return view.to_dict()

    def delete(self, name: str, expected: int | None) -> None:
        self._service.delete(name, expected_revision=expected)

    def report(self, question: Question) -> UsageReport:
        return self._service.report(
            question.principal,
            since=question.since,
            until=question.until,
            by=question.by,
            bucket=question.bucket,
        )

    def overview(self, window_seconds: float) -> dict[str, Any]:
        return self._service.overview(window_seconds=window_seconds)

    def close(self) -> None:
        self._service.close()


def open_local(place: Place, purpose: "Purpose") -> LocalSource:
    """Open the ledger of a place, as it is there: a manifest overrides nothing in it.

    What a manifest defines and the ledger does not know yet is shown as it will be; before a
    change it is put into force, as the next program would do.
    """
    manifest = Manifest() if place.manifest is None else read_manifest(place.manifest)
    address = place.ledger or manifest.ledger
    _check(address, place)
    is_missing = purpose == "read" and _is_missing(address)
    if is_missing:
        if place.manifest is None:
            raise Failure(
                f"there is no file {_path(address)!r}: give the ledger that your program opens",
                MISUSED,
            )
        complain(f"note: there is no {address} yet; this is what {place.manifest} will define")
    service = _service(MEMORY if is_missing else address, manifest)
    service.__enter__()
    try:
        _take_in(service, manifest, purpose)
    except BaseException:
        service.close()
        raise
    shown = replace(manifest, ledger=address).ledger_shown
    return LocalSource(service, shown)


def _check(address: str, place: Place) -> None:
    """Raise unless it is a ledger that another process can look into."""
    if address == MEMORY:
        whose = "it" if place.manifest is None else shown_file(str(place.manifest))
        advice = (
            'give --ledger "sqlite:///…"'
            if place.manifest is None
            else (f'have {whose} say ledger = "sqlite:///budgetware.db"')
        )
        raise Failure(
            "memory:// is the memory of each process, and nothing to look into from here: "
            f"{advice}, or ask a running server with --url",
            MISUSED,
        )
    try:
        ledger_at(address)
    except ConfigurationError as error:
        raise Failure(str(error), MISUSED) from None


def _path(address: str) -> str:
    return address.removeprefix(_SQLITE)


def _is_missing(address: str) -> bool:
    return address.startswith(_SQLITE) and not Path(_path(address)).exists()


def _service(address: str, manifest: Manifest) -> QuotaService:
    durability = manifest.durability
    if durability is None and not address.startswith((MEMORY, _SQLITE)):
        durability = "none"  # what the server has to keep is for the programs to ask
    if address == MEMORY:
        durability = None
    return connect(ledger=address, durability=durability)


def _take_in(service: QuotaService, manifest: Manifest, purpose: "Purpose") -> None:
    """Add what the manifest defines and the ledger does not know."""
    known = {view.name for view in service.resources()}
    principals = {view.name for view in service.principals()}
    added = replace(
        manifest,
        resources=tuple(r for r in manifest.resources if r.name not in known),
        principals=tuple(p for p in manifest.principals if p.name not in principals),
    )
    if purpose == "change":
        put_on(service.runtime, added)
        return
    for resource in added.resources:  # into this process, not into the ledger
        service.runtime.resources.define(resource)
    for principal in added.principals:
        service.runtime.principals.define(principal)

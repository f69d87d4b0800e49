"""A running server, asked over HTTP. Not here: what it answers (`budgetware.admin`)."""

import importlib.util
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from urllib.parse import quote, urlsplit

from budgetware.errors import BudgetwareError, ConfigurationError
from budgetware.formats import visible
from budgetware.kernel.dims import declare
from budgetware.policies import Policy, Reject, Terminate, Throttle, policy_name
from budgetware.quotas import (
    Capacity,
    Concurrency,
    PrincipalDefinition,
    QuotaLimit,
    Rate,
    Resource,
)
from budgetware.reports import UsageReport
from budgetware.reports.times import stamp

from ..failures import FAILED, MISUSED, Failure
from ..places import KEY_VARIABLE
from .source import Question

SECONDS = 30.0
_SHOWN = 300
_MISUSES = (400, 405, 413, 415, 422)
_KINDS: dict[str, Any] = {"rate": Rate, "capacity": Capacity, "concurrency": Concurrency}
_POLICIES: dict[str, Any] = {"throttle": Throttle, "reject": Reject, "terminate": Terminate}
_OVERVIEW = {"at", "tasks", "resources", "principals", "activity"}
_FIELDS = ("dim", "parent", "unit", "units", "max_wait")


class RemoteSource:
    """A server; see `Source`."""

    def __init__(self, url: str, client: Any) -> None:
        self.shown = url
        self._client = client

    def principal(self, name: str) -> PrincipalDefinition | None:
        table = self._find("GET", f"/api/sys/principals/{_part(name)}/quotas")
        if table is None:
            return None
        given: Mapping[str, Any] = table.get("quotas") or {}
        try:
            quotas = {dim: _quota(name, dim, each) for dim, each in given.items()}
            return PrincipalDefinition(name, table.get("parent"), quotas, table.get("exempt"))
        except (BudgetwareError, TypeError, ValueError, KeyError) as error:
            raise self._odd(error) from None

    def put_principal(self, definition: PrincipalDefinition) -> None:
        quotas = {
            dim: {**_limit_json(each.limit), "enforcement": _policy_json(each.policy)}
            for dim, each in definition.quotas.items()
        }
        self._ask(
            "PUT",
            f"/api/sys/principals/{_part(definition.name)}/quotas",
            json={"parent": definition.parent, "exempt": definition.exempt, "quotas": quotas},
        )

    def resource_usage(self, principal: str) -> dict[str, Any] | None:
        return self._find("GET", f"/api/sys/principals/{_part(principal)}/usage")

    def resources(self) -> list[dict[str, Any]]:
        listed: Any = self._table("GET", "/api/sys/resources").get("resources")
        if not isinstance(listed, list):
            raise self._odd("no list of resources")
        return cast("list[dict[str, Any]]", listed)

    def resource(self, name: str) -> dict[str, Any]:
        return self._table("GET", f"/api/sys/resources/{_part(name)}")

    def define(self, resource: Resource) -> dict[str, Any]:
        given = {name: getattr(resource, name) for name in _FIELDS}
        body = {
            "name": resource.name,
            "limit": _limit_json(resource.limit),
            "enforcement": _policy_json(resource.policy),
            **{name: value for name, value in given.items() if value is not None},
        }
        return self._table("POST", "/api/sys/resources", json=body)

    def update(self, name: str, changes: dict[str, Any], expected: int | None) -> dict[str, Any]:
        body = dict(changes)
        if "limit" in body:
            body["limit"] = _limit_json(body["limit"])
        if expected is not None:
            body["expected_revision"] = expected
        return self._table("PUT", f"/api/sys/resources/{_part(name)}", json=body)

    def delete(self, name: str, expected: int | None) -> None:
        params = {} if expected is None else {"expected_revision": str(expected)}
        self._ask("DELETE", f"/api/sys/resources/{_part(name)}", params=params)

    def report(self, question: Question) -> UsageReport:
        params = {
            "since": _moment(question.since),
            "until": _moment(question.until),
            "by": ",".join(question.by) or None,
            "bucket": question.bucket,
            "principal": question.principal,
        }
        given = {name: value for name, value in params.items() if value is not None}
        table = self._table("GET", "/usage", params=given)
        try:
            return UsageReport.from_dict(table)
        except (ConfigurationError, TypeError, ValueError, KeyError) as error:
            raise self._odd(error) from None

    def overview(self, window_seconds: float) -> dict[str, Any]:  # noqa: ARG002 - it has its own
        table = self._table("GET", "/api/sys/overview")
        if not table.keys() >= _OVERVIEW:
            raise self._odd("no overview")
        return table

    def close(self) -> None:
        self._client.close()

    def _table(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        found = self._ask(method, path, **sent)
        if not isinstance(found, dict):
            raise self._odd("no JSON object")
        return cast("dict[str, Any]", found)

    def _find(self, method: str, path: str) -> dict[str, Any] | None:
        """The object there; None: it is unknown."""
        try:
            return self._table(method, path)
        except NotFound:
            return None

    def _ask(self, method: str, path: str, **sent: Any) -> Any:
        import httpx

        try:
            answer = self._client.request(method, path, **sent)
        except httpx.TimeoutException:
            raise Failure(f"{self.shown} did not answer in {SECONDS:g} s: try again") from None
        except httpx.HTTPError as error:
            raise Failure(
                f"cannot reach {self.shown} ({error}): start it with budgetware serve, or give "
                "another --url"
            ) from None
        if not answer.is_success:
            raise self._failure(answer)
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise self._odd(error) from None

    def _failure(self, answer: Any) -> Failure:
        """What an answer that is no success says, and what to do about it."""
        status: int = answer.status_code
        kind, message = _said(answer)
        if status == 401:
            return Failure(
                f"{self.shown} wants a key that it knows: give it in {KEY_VARIABLE} or --key-file"
            )
        if status == 403:
            return Failure(f"{self.shown} refuses that to this key: {message or 'ask its owner'}")
        if answer.is_redirect:
            return Failure(f"{self.shown} is elsewhere now ({status}): give its own --url", MISUSED)
        if not kind:
            return Failure(
                f"{self.shown} answered {status}, and not as budgetware does: check --url"
            )
        if status == 404:
            return NotFound(message)
        return Failure(message, MISUSED if status in _MISUSES else FAILED)

    def _odd(self, why: object) -> Failure:
        return Failure(
            f"{self.shown} answered what this version cannot read ({visible(str(why))[:_SHOWN]}): "
            "check --url, or use the version of the server"
        )


class NotFound(Failure):
    """The server knows no such thing."""


def open_remote(url: str, key: str | None) -> RemoteSource:
    """Prepare to ask a server; nothing is sent yet."""
    if importlib.util.find_spec("httpx") is None:
        raise Failure('--url needs: pip install "budgetware[cli]"', MISUSED)
    import httpx

    if not _is_address(url):
        raise Failure(
            "--url is no address of a server: give one such as http://127.0.0.1:8470, the key "
            "apart",
            MISUSED,
        )
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=SECONDS)
    except (ValueError, httpx.InvalidURL) as error:
        raise Failure(f"--url: {error}", MISUSED) from None
    return RemoteSource(url, client)


def _is_address(url: str) -> bool:
    """Whether it is that of a server, with nothing in it that would be shown or lost."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_right and url.isprintable() and not (parts.query or parts.fragment or "@" in url)


def _said(answer: Any) -> tuple[str, str]:
    """The kind and the message of an error; empty where it is none of ours."""
    try:
        error = answer.json()["error"]
        kind, message, where = error["type"], error["message"], error.get("field")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""
    prefix = f"{where}: " if where else ""
    return str(kind), f"{prefix}{message}"[:_SHOWN]


def _part(name: str) -> str:
    """A name as a part of a path; dots alone would be taken for directions."""
    return name.replace(".", "%2E") if not name.strip(".") else quote(name, safe="")


def _moment(at: float | None) -> str | None:
    return None if at is None else stamp(datetime.fromtimestamp(at, UTC))


def _limit_json(limit: QuotaLimit) -> dict[str, Any]:
    table = {"type": type(limit).__name__.lower(), "value": limit.value}
    if isinstance(limit, Rate):
        table |= {"period": limit.period} | ({} if limit.max is None else {"max": limit.max})
    return {k: str(v) if isinstance(v, Decimal) else v for k, v in table.items()}


def _policy_json(policy: Policy) -> Any:
    """A policy by its name, where that says it all."""
    name = policy_name(policy)
    if _POLICIES[name]() == policy:
        return name
    given = {field: getattr(policy, field) for field in policy.__dataclass_fields__}
    return {"type": name, **{k: v for k, v in given.items() if v is not None}}


def _quota(name: str, dim: str, table: Mapping[str, Any]) -> Resource:
    """A quota from its JSON."""
    fields = {key: table[key] for key in ("value", "period", "max") if table.get(key) is not None}
    if dim == "usd":
        fields |= {key: Decimal(str(fields[key])) for key in ("value", "max") if key in fields}
    policy: Any = table.get("enforcement") or "reject"
    if isinstance(policy, dict):
        given = cast("dict[str, Any]", dict(policy))  # pyright: ignore[reportUnknownArgumentType]
        policy = _POLICIES[given.pop("type")](**given)
    return Resource(name, _KINDS[table["type"]](**fields), policy, dim=declare(dim))

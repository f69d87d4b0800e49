"""The OpenAPI document says the truth: Schemathesis asks for everything in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from budgetware import (
    BudgetTerminated,
    Capacity,
    Concurrency,
    Rate,
    Resource,
    admin,
    connect,
    principal,
    reserve_nowait,
    task_budget,
)
from budgetware.admin.answers import json_text
from budgetware.admin.openapi import document
from budgetware.admin.table import operations
from tests.admin.desk import KEYS, SECRETS, asking, served

schemathesis: Any = import_module("schemathesis")  # its types are generic in what it does not say
checks: Any = import_module("schemathesis.specs.openapi.checks")
modes: Any = import_module("schemathesis.generation").GenerationMode
CHECKS: list[Any] = [
    import_module("schemathesis.checks").not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]
EXAMPLES = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
    database=None,
)


@dataclass
class Place:
    """A service in which there is something of everything."""

    url: str
    session: requests.Session
    task: str
    task_to_end: str

    def one_of(self, name: str, label: str) -> str:
        """What is there, for a parameter of an operation."""
        if name == "name":
            return "tokens"
        if label.endswith("/terminate"):
            return self.task_to_end
        return self.task if "/tasks/" in label else "alice"


@contextmanager
def furnished() -> Generator[Place]:
    with connect() as service:
        service.define(Resource("pages", Capacity(100), "reject"))
        service.define(Resource("tokens", Rate(90_000, "minute", 100), dim="tokens"))
        service.define(Resource("slots", Concurrency(4), max_wait=1.5))
        service.define_principal("team", exempt=True)
        quotas: Any = {"tokens": Rate(1_000, 90.5), "usd": Capacity("1.5"), "calls": Concurrency(2)}
        service.define_principal("alice", parent="team", quotas=quotas)
        service.count("bundle_builds", principal="alice", requested=1)
        with (
            task_budget("org", tokens=10_000, usd=1, seconds=600) as task,
            suppress(BudgetTerminated),
            task_budget("to-end", tokens=5) as other,
        ):
            with principal("alice"):
                reserve_nowait(tokens=1, usd="0.1").commit()
                reserve_nowait("pages", 3)
            with served(admin.app(service, keys=KEYS)) as url, requests.Session() as session:
                SCHEMA.config.update(base_url=url)
                yield Place(url, session, task.id, other.id)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with furnished() as made:
        yield made


def described() -> Any:
    """The document, but for the stream, which has no end."""
    whole = document(operations(), has_keys=True)
    return schemathesis.openapi.from_dict(json.loads(json_text(whole))).exclude(path="/events")


SCHEMA = described()
FOUND: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]
OPERATIONS: dict[str, Any] = {found.label: found for found in FOUND}
each_operation = pytest.mark.parametrize("label", OPERATIONS)
WRONGABLE = [
    label
    for label, found in OPERATIONS.items()
    if found.definition.raw["parameters"] or "requestBody" in found.definition.raw
]
WAYS: list[tuple[str, Any]] = [
    *((label, modes.POSITIVE) for label in OPERATIONS),
    *((label, modes.NEGATIVE) for label in WRONGABLE),
]


def asked(label: str, mode: Any, ask: Callable[[Any], None]) -> None:
    """Ask for an operation in many ways: as the document has it, or not."""
    decorate: Any = given(OPERATIONS[label].as_strategy(generation_mode=mode))
    examples: Any = EXAMPLES(decorate(ask))
    examples()


@pytest.mark.parametrize(
    ("label", "mode"), WAYS, ids=lambda part: str(getattr(part, "value", part))
)
def test_every_answer_is_one_that_was_told_of(place: Place, label: str, mode: Any) -> None:
    def ask(case: Any) -> None:
        case.call_and_validate(
            base_url=place.url,
            session=place.session,
            headers=authorization("ops"),
            checks=[*CHECKS, checks.ignored_auth],
        )

    asked(label, mode, ask)


@each_operation
def test_so_is_every_answer_about_what_is_there(place: Place, label: str) -> None:
    def ask(case: Any) -> None:
        parts: dict[str, str] = case.path_parameters or {}
        for name in parts:
            parts[name] = place.one_of(name, label)
        case.call_and_validate(
            base_url=place.url, session=place.session, headers=authorization("ops"), checks=CHECKS
        )

    if not label.startswith("DELETE"):
        asked(label, modes.POSITIVE, ask)


@each_operation
def test_a_key_to_read_never_writes(place: Place, label: str) -> None:
    def ask(case: Any) -> None:
        answer = case.call(base_url=place.url, session=place.session, headers=authorization("eyes"))
        assert answer.status_code == 403

    if not label.startswith("GET"):
        asked(label, modes.POSITIVE, ask)


def authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[key]}"}


async def test_the_document_tells_of_every_operation(app: Any) -> None:
    async with asking(app, None) as client:
        document = (await client.get("/openapi.json")).json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert operations == {
        "GET /healthz",
        "GET /usage",
        "GET /events",
        "GET /api/sys/overview",
        "GET /api/sys/events",
        "GET /api/sys/principals",
        "GET /api/sys/principals/{id}",
        "GET /api/sys/principals/{id}/usage",
        "GET /api/sys/principals/{id}/quotas",
        "PUT /api/sys/principals/{id}/quotas",
        "GET /api/sys/resources",
        "POST /api/sys/resources",
        "GET /api/sys/resources/{name}",
        "PUT /api/sys/resources/{name}",
        "DELETE /api/sys/resources/{name}",
        "GET /api/sys/tasks",
        "GET /api/sys/tasks/{id}",
        "POST /api/sys/tasks/{id}/terminate",
        "POST /api/sys/tasks/{id}/top_up",
    }
    assert document["openapi"].startswith("3.1")


async def test_without_keys_the_document_asks_for_none(open_app: Any) -> None:
    async with asking(open_app, None) as client:
        document = (await client.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
    assert "security" not in document["paths"]["/usage"]["get"]


async def test_the_document_says_which_time_is_no_text(app: Any) -> None:
    async with asking(app, None) as client:
        document = (await client.get("/openapi.json")).json()
    timestamp = document["components"]["schemas"]["Event"]["properties"]["timestamp"]
    assert timestamp["type"] == "number"
    assert "seconds since the epoch" in timestamp["description"]
    assert "timestamp of an event" in document["info"]["description"]


async def test_the_document_tells_of_the_headers_of_answers(app: Any) -> None:
    async with asking(app, None) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    for operation in [each for methods in paths.values() for each in methods.values()]:
        for status in {"429", "503"} & set(operation["responses"]):
            assert "Retry-After" in operation["responses"][status]["headers"]
    assert "429" in paths["/api/sys/tasks/{id}/top_up"]["post"]["responses"]
    assert "Location" in paths["/api/sys/resources"]["post"]["responses"]["201"]["headers"]

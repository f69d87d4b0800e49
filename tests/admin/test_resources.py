"""Resources over HTTP: defined, changed by their revision, deleted."""

from __future__ import annotations

from typing import Any

import pytest

from budgetware import Capacity, QuotaExceeded, QuotaService, Rate, Reject, reserve_nowait
from tests.admin.desk import asking

PAGES = "/api/sys/resources/pages"
RATE: Any = {"type": "rate", "value": 50, "period": "minute", "max": 60}


def with_body(how: dict[str, Any]) -> dict[str, Any]:
    """How something is asked, with a change to make if it has none."""
    return {"json": {"unit": "leaf"}, **how}


async def test_a_resource_is_defined_and_in_force(app: Any, service: QuotaService) -> None:
    body = {"name": "new", "limit": {"type": "capacity", "value": 5}, "enforcement": "reject"}
    async with asking(app) as client:
        answer = await client.post("/api/sys/resources", json=body)
        shown = await client.get("/api/sys/resources/new")
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    assert answer.headers["Location"] == "/api/sys/resources/new"
    assert answer.json() == shown.json() == service.resource("new").to_dict()
    with pytest.raises(QuotaExceeded):
        reserve_nowait("new", 6)


async def test_every_part_of_a_definition_can_be_given(app: Any, service: QuotaService) -> None:
    body = {
        "name": "money",
        "limit": {"type": "rate", "value": "2.50", "period": 1.5, "max": 5},
        "enforcement": {"type": "reject", "patience": 7},
        "dim": "usd",
        "parent": None,
        "max_wait": "30s",
        "unit": "dollar",
        "units": "dollars",
        "per_call": True,
        "max_lease": "0.5",
        "stranded": "free",
        "on_ledger_error": "reject",
    }
    async with asking(app) as client:
        answer = await client.post("/api/sys/resources", json=body)
    assert answer.status_code == 201
    found = service.resource("money").definition
    assert (found.enforcement, found.max_wait, found.per_call) == (Reject(patience=7), 30.0, True)


async def test_what_is_there_already_is_not_defined_again(app: Any) -> None:
    body = {"name": "pages", "limit": {"type": "capacity", "value": 5}}
    async with asking(app) as client:
        answer = await client.post("/api/sys/resources", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (409, "name")


async def test_a_change_keeps_what_is_not_given(app: Any, service: QuotaService) -> None:
    reserve_nowait("pages", 30).commit()
    async with asking(app) as client:
        answer = await client.put(PAGES, json={"limit": {"type": "capacity", "value": 20}})
    document = answer.json()
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert (document["unit"], document["enforcement"]) == ("page", "reject")
    assert document["balance"]["overrun"] == 10
    assert service.resource("pages").limit == Capacity(20)


async def test_everything_that_may_change_changes(app: Any, service: QuotaService) -> None:
    body = {
        "name": "tokens",
        "dim": "tokens",
        "parent": None,
        "limit": RATE,
        "enforcement": {"type": "reject", "patience": 3},
        "max_wait": None,
        "unit": "token",
        "units": "tokens",
    }
    async with asking(app) as client:
        answer = await client.put("/api/sys/resources/tokens", json=body)
    found = service.resource("tokens").definition
    assert answer.status_code == 200
    assert (found.limit, found.max_wait, found.units) == (Rate(50, "minute", 60), None, "tokens")
    assert found.enforcement == Reject(patience=3)


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"headers": {"If-Match": '"1"'}}, 200),
        ({"headers": {"If-Match": "*"}}, 200),
        ({"headers": {"If-Match": '"2"'}}, 409),
        ({"headers": {"If-Match": "1"}}, 400),
        ({"headers": {"If-Match": 'W/"1"'}}, 400),
        ({"headers": {"If-Match": '"1", "2"'}}, 400),
        ({"params": {"expected_revision": 1}}, 200),
        ({"params": {"expected_revision": 2}}, 409),
        ({"json": {"unit": "leaf", "expected_revision": 1}}, 200),
        ({"json": {"unit": "leaf", "expected_revision": 2}}, 409),
        ({"json": {"unit": "leaf", "expected_revision": "1"}}, 400),
        ({"json": {"unit": "leaf", "expected_revision": True}}, 400),
        ({"headers": {"If-Match": '"1"'}, "params": {"expected_revision": 2}}, 400),
    ],
)
async def test_a_change_is_made_at_the_revision_that_was_read(
    app: Any, service: QuotaService, how: dict[str, Any], status: int
) -> None:
    async with asking(app) as client:
        answer = await client.request("PUT", PAGES, **with_body(how))
    assert answer.status_code == status
    assert service.resource("pages").revision == (2 if status == 200 else 1)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, None),
        ({"name": "other", "unit": "x"}, 400, "name"),
        ({"dim": "tokens", "unit": "x"}, 400, "dim"),
        ({"parent": "tokens", "unit": "x"}, 400, "parent"),
        ({"limit": RATE}, 409, None),
        ({"limit": None}, 400, "limit"),
        ({"limit": "5"}, 400, "limit"),
        ({"limit": {"type": "capacity", "value": 0}}, 400, "limit.value"),
        ({"limit": {"type": "capacity", "value": 5, "period": "day"}}, 400, "limit.period"),
        ({"enforcement": {"type": "reject", "max_wait": 5}}, 400, "enforcement.max_wait"),
        ({"revision": 1, "unit": "x"}, 400, "revision"),
        ({"units": ""}, 400, "units"),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    app: Any, service: QuotaService, body: Any, status: int, field: str | None
) -> None:
    async with asking(app) as client:
        answer = await client.put(PAGES, json=body)
    assert (answer.status_code, answer.json()["error"].get("field")) == (status, field)
    assert service.resource("pages").revision == 1


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({}, 204),
        ({"headers": {"If-Match": '"1"'}}, 204),
        ({"params": {"expected_revision": 1}}, 204),
        ({"json": {"expected_revision": 1}}, 204),
        ({"json": {"expected_revision": 5}}, 409),
        ({"params": {"expected_revision": 5}}, 409),
        ({"json": {"revision": 1}}, 400),
        ({"params": {"revision": 1}}, 400),
        ({"content": b"x"}, 415),
    ],
)
async def test_a_resource_is_deleted_at_the_revision_that_was_read(
    app: Any, service: QuotaService, how: dict[str, Any], status: int
) -> None:
    async with asking(app) as client:
        answer = await client.request("DELETE", PAGES, **how)
        shown = await client.get(PAGES)
    assert answer.status_code == status
    assert shown.status_code == (404 if status == 204 else 200)


async def test_what_is_in_use_is_not_deleted(app: Any, service: QuotaService) -> None:
    reservation = reserve_nowait("pages", 1)
    async with asking(app) as client:
        assert (await client.delete(PAGES)).status_code == 409
        reservation.release()
        assert (await client.delete(PAGES)).status_code == 204


@pytest.mark.parametrize("name", ["nothing", "%00", "a%20b", "<b>", "x" * 500])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_resource_is_404(app: Any, method: str, name: str) -> None:
    body = {"unit": "x"} if method == "PUT" else None
    async with asking(app) as client:
        answer = await client.request(method, f"/api/sys/resources/{name}", json=body)
    assert answer.status_code == 404


async def test_head_is_get_without_its_body(app: Any) -> None:
    async with asking(app) as client:
        answer = await client.head(PAGES)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')

"""Principals over HTTP: what they use and have left, and their quotas."""

from __future__ import annotations

from typing import Any

import pytest

from budgetware import Capacity, QuotaExceeded, QuotaService, principal, reserve_nowait
from tests.admin.desk import asking

DAY = {"type": "rate", "value": 1_000, "period": "day"}


async def test_usage_has_the_fields_that_are_known_for_it(app: Any) -> None:
    with principal("alice"):
        reserve_nowait(tokens=40).commit()
        open_one = reserve_nowait(tokens=2)
    async with asking(app) as client:
        answer = await client.get("/api/sys/principals/alice/usage")
    open_one.release()
    assert answer.json() == {
        "principal": "alice",
        "cpu_fuel_consumed_total": 0,
        "cpu_fuel_per_sec_limit": None,
        "exempt": False,
        "memory_bytes_limit_per_instance": None,
        "memory_bytes_current_total": 0,
        "memory_bytes_peak_total": 0,
        "quotas": {
            "tokens": {
                "type": "rate",
                "limit": 1_000,
                "used": 40,
                "reserved": 2,
                "remaining": 958,
                "window": "day",
            }
        },
    }


@pytest.mark.parametrize("end", ["", "/usage", "/quotas"])
@pytest.mark.parametrize("name", ["nobody", "a%20b", "%1b", "<script>", "x" * 200])
async def test_an_unknown_principal_is_404_and_never_zeros(app: Any, name: str, end: str) -> None:
    async with asking(app) as client:
        answer = await client.get(f"/api/sys/principals/{name}{end}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "UnknownPrincipal"


async def test_quotas_are_shown_as_they_are_put(app: Any) -> None:
    quotas = {
        "tokens": {**DAY, "max": 50, "enforcement": {"type": "throttle", "max_wait": 5.0}},
        "usd": {"type": "capacity", "value": "12.500000", "enforcement": "reject"},
        "calls": {
            "type": "concurrency",
            "value": 3,
            "enforcement": "throttle",
            "max_wait": 2.5,
        },
    }
    async with asking(app) as client:
        put = await client.put("/api/sys/principals/alice/quotas", json={"quotas": quotas})
        shown = await client.get("/api/sys/principals/alice/quotas")
    assert put.status_code == 200
    assert put.json() == shown.json()
    assert shown.json() == {
        "principal": "alice",
        "parent": "team",
        "exempt": None,
        "is_exempt": False,
        "quotas": quotas,
    }


async def test_what_was_shown_can_be_put_again(app: Any) -> None:
    path = "/api/sys/principals/alice/quotas"
    async with asking(app) as client:
        await client.put(path, json={"quotas": {"tokens": {**DAY, "period": 90.5}}})
        shown = (await client.get(path)).json()
        again = await client.put(path, json=shown)
    assert (again.status_code, again.json()) == (200, shown)


async def test_a_quota_is_in_force_at_once(app: Any) -> None:
    body = {"quotas": {"tokens": {"type": "capacity", "value": 5}}}
    async with asking(app) as client:
        await client.put("/api/sys/principals/bob/quotas", json=body)
    with principal("bob"), pytest.raises(QuotaExceeded):
        reserve_nowait(tokens=6)


async def test_a_principal_is_added(app: Any, service: QuotaService) -> None:
    body: Any = {"principal": "carol", "parent": "team", "exempt": True, "quotas": {}}
    async with asking(app) as client:
        first = await client.put("/api/sys/principals/carol/quotas", json=body)
        again = await client.put("/api/sys/principals/carol/quotas", json=body)
    view = service.principal("carol")
    assert (first.status_code, again.status_code) == (201, 200)
    assert view is not None
    assert (view.parent, view.exempt) == ("team", True)


async def test_what_is_not_given_stays(app: Any, service: QuotaService) -> None:
    path = "/api/sys/principals/alice/quotas"
    async with asking(app) as client:
        await client.put(path, json={"exempt": False})
        await client.put(path, json={"quotas": {"calls": {"type": "capacity", "value": 5}}})
        view = service.principal("alice")
        assert view is not None
        assert (view.definition.exempt, view.quotas) == (False, {"calls": Capacity(5)})
        await client.put(path, json={"exempt": None})
    view = service.principal("alice")
    assert view is not None
    assert (view.definition.exempt, view.quotas) == (None, {"calls": Capacity(5)})


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "quotas"),
        ({"quotas": None}, 400, "quotas"),
        ({"quotas": []}, 400, "quotas"),
        ({"quotas": {"tokens": 5}}, 400, "quotas.tokens"),
        ({"quotas": {"tokens": None}}, 400, "quotas.tokens"),
        ({"quotas": {"Tokens!": DAY}}, 400, "quotas.Tokens!"),
        ({"quotas": {"tokens": {**DAY, "value": -1}}}, 400, "quotas.tokens.value"),
        ({"quotas": {"tokens": {**DAY, "period": None}}}, 400, "quotas.tokens.period"),
        ({"quotas": {"tokens": {**DAY, "other": 1}}}, 400, "quotas.tokens.other"),
        ({"quotas": {"millis": DAY}}, 400, "quotas.millis"),
        ({"quotas": {}, "exempt": "yes"}, 400, "exempt"),
        ({"quotas": {}, "is_exempt": 1}, 400, "is_exempt"),
        ({"quotas": {}, "exempt": 1}, 400, "exempt"),
        ({"quotas": {}, "principal": "bob"}, 400, "principal"),
        ({"quotas": {}, "parent": "bob"}, 400, "parent"),
        ({"quotas": {}, "parent": "a b"}, 400, "parent"),
        ({"quotas": {}, "limit": 5}, 400, "limit"),
        ({"quotas": {"tokens": {"type": "capacity", "value": 5}}}, 409, "quotas"),
    ],
)
async def test_quotas_that_cannot_be_change_nothing(
    app: Any, service: QuotaService, body: Any, status: int, field: str
) -> None:
    async with asking(app) as client:
        before = (await client.get("/api/sys/principals/alice")).json()
        answer = await client.put("/api/sys/principals/alice/quotas", json=body)
        after = (await client.get("/api/sys/principals/alice")).json()
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert before == after


async def test_a_parent_that_is_not_there_is_refused(app: Any, service: QuotaService) -> None:
    body: Any = {"quotas": {}, "parent": "nobody"}
    async with asking(app) as client:
        answer = await client.put("/api/sys/principals/carol/quotas", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "parent")
    assert service.principal("carol") is None


async def test_a_name_that_cannot_be_is_not_added(app: Any, service: QuotaService) -> None:
    async with asking(app) as client:
        answer = await client.put("/api/sys/principals/a%20b/quotas", json={"quotas": {}})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "id")
    assert len(service.principals()) == 3

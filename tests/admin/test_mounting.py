"""The application inside another one, and budgets of one's own routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Capacity,
    QuotaService,
    Rate,
    Resource,
    admin,
    connect,
    reserve,
    task_budget,
)
from budgetware.admin import budget_response
from budgetware.errors import InvalidAmount, LedgerUnavailable
from tests.admin.desk import KEYS, asking, listening, served


async def draw(request: Request) -> Response:
    async with reserve(request.path_params["name"], 60, policy="reject"):
        return JSONResponse({"drawn": 60})


async def refused(_request: Request, error: Exception) -> Response:
    return budget_response(error)


@pytest.fixture
def host(service: QuotaService) -> Starlette:
    service.define(Resource("minute", Rate(100, "minute"), "reject"))
    service.define(Resource("once", Capacity(100), "reject"))
    return Starlette(
        routes=[
            Route("/draw/{name}", draw),
            Mount("/budgets", app=admin.app(service, keys=KEYS)),
        ],
        exception_handlers={BudgetExceeded: refused},
    )


async def test_it_can_be_mounted_under_a_prefix(host: Starlette) -> None:
    async with asking(host) as client:
        usage = await client.get("/budgets/api/sys/principals/alice/usage")
        document = (await client.get("/budgets/openapi.json")).json()
        page = await client.get("/budgets/")
        nothing = await client.get("/budgets/nowhere")
        body = {"name": "new", "limit": {"type": "capacity", "value": 5}}
        added = await client.post("/budgets/api/sys/resources", json=body)
        outside = await client.get("/api/sys/resources")
    assert usage.json()["principal"] == "alice"
    assert document["servers"] == [{"url": "/budgets"}]
    assert page.headers["Content-Type"].startswith("text/html")
    assert (nothing.status_code, nothing.json()["error"]["type"]) == (404, "NotFound")
    assert added.headers["Location"] == "/budgets/api/sys/resources/new"
    assert outside.status_code == 404
    assert "Content-Security-Policy" not in outside.headers


async def test_it_works_behind_a_proxy_that_has_a_prefix(service: QuotaService) -> None:
    app = admin.app(service, keys=KEYS)
    async with asking(app, root_path="/prefix") as client:
        assert (await client.get("/prefix/usage")).status_code == 200
        document = (await client.get("/prefix/openapi.json")).json()
    assert document["servers"] == [{"url": "/prefix"}]


async def test_it_can_be_mounted_in_fastapi(service: QuotaService) -> None:
    host = FastAPI()
    host.mount("/budgets", admin.app(service, keys=KEYS))

    async def mine() -> dict[str, int]:
        async with reserve("pages", 101):
            return {"drawn": 101}

    host.add_api_route("/mine", mine)
    host.add_exception_handler(BudgetExceeded, refused)
    async with asking(host) as client:
        shown = await client.get("/budgets/api/sys/resources/pages")
        refusal = await client.get("/mine")
    assert shown.json()["name"] == "pages"
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (429, "QuotaExceeded")


def test_events_come_through_where_it_is_mounted(host: Starlette) -> None:
    with served(host) as url, listening(f"{url}/budgets", key="eyes") as events:
        assert httpx.get(f"{url}/draw/once").status_code == 200
        assert '"charged"' in events.of("usage", 1)[0]["data"]


async def test_a_refusal_of_ones_own_route_is_429(host: Starlette) -> None:
    async with asking(host, None) as client:
        granted = [(await client.get(f"/draw/{name}")).status_code for name in ("minute", "once")]
        later = await client.get("/draw/minute")
        never = await client.get("/draw/once")
    assert granted == [200, 200]
    assert (later.status_code, later.headers["Retry-After"]) == (429, "12")
    assert later.json()["error"]["type"] == "QuotaExceeded"
    assert never.status_code == 429
    assert "Retry-After" not in never.headers


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2")])
def test_retry_after_is_rounded_up(seconds: float, shown: str) -> None:
    error = BudgetExceeded(budget="b", dim="tokens", requested=1, available=0, retry_after=seconds)
    assert budget_response(error).headers["Retry-After"] == shown


def test_a_termination_is_429_and_a_lost_ledger_503() -> None:
    ended = budget_response(BudgetTerminated(budget="b", dim="tokens", reason="so"))
    away = budget_response(LedgerUnavailable("away"))
    assert (ended.status_code, "Retry-After" in ended.headers) == (429, False)
    assert (away.status_code, away.headers["Retry-After"]) == (503, "1")


async def test_it_sees_through_what_frameworks_wrap_around_it() -> None:
    wrapped: Any = None
    try:
        try:
            async with (
                task_budget("small", tokens=5, policy="terminate"),
                reserve(tokens=6),
            ):
                pass
        except BudgetTerminated as error:
            raise ExceptionGroup("tools failed", [ValueError("x"), error]) from None
    except ExceptionGroup as group:
        wrapped = group
    assert budget_response(wrapped).status_code == 429


@pytest.mark.parametrize("error", [ValueError("x"), InvalidAmount("tokens=-1")])
def test_what_is_not_of_budgets_stays_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        budget_response(error)


@pytest.mark.parametrize("path", ["/healthz", "/usage", "/api/sys/overview", "/api/sys/resources"])
@pytest.mark.parametrize("ledger", ["memory://", "sqlite"])
async def test_an_application_outlives_its_service_as_503(
    tmp_path: Path, path: str, ledger: str
) -> None:
    address = f"sqlite:///{tmp_path}/b.db" if ledger == "sqlite" else ledger
    async with connect(ledger=address) as service:
        app = admin.app(service, keys=KEYS)
        async with asking(app) as client:
            assert (await client.get(path)).status_code == 200
    async with asking(app) as client:
        answer = await client.get(path)
        page = await client.get("/")
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ServiceClosed")
    assert page.status_code == 200

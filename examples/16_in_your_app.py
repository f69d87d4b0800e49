"""The HTTP API and the live page in your own app, and 429 where a budget says no.

`budgetware serve` is a server of its own; `budgetware.admin.app(service)` is one to mount, under a
prefix: a read key looks, a write key changes, one with a principal sees only what is that one's.

It prints:

    200 None "42"
    200 None "42"
    429 1800 {"error":{"type":"QuotaExceede
    alice {'calls': 2} 1
"""

from secrets import token_urlsafe

import anyio
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from budgetware import BudgetExceeded, QuotaService, Rate, budgeted, connect, principal
from budgetware.admin import Key, app, budget_response

ALICE = Key("alice", token_urlsafe(32), "read", principal="alice")


@budgeted(calls=1)
async def answer() -> str:
    return "42"


async def ask(request: Request) -> Response:
    try:
        with principal(request.headers["user"]):
            return JSONResponse(await answer())
    except BudgetExceeded as refused:
        return budget_response(refused)


def your_app(service: QuotaService) -> Starlette:
    return Starlette(routes=[Route("/ask", ask), Mount("/budgets", app(service, keys=[ALICE]))])


async def main() -> None:
    async with connect() as service:
        service.define_principal("alice", quotas={"calls": Rate(2, "hour")})
        transport = httpx.ASGITransport(your_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for _ in range(3):
                found = await client.get("/ask", headers={"user": "alice"})
                print(found.status_code, found.headers.get("retry-after"), found.text[:30])
            alice = {"authorization": f"Bearer {ALICE.secret}"}
            report = (await client.get("/budgets/usage", headers=alice)).json()
            print(report["api_key_name"], report["usage"]["charged"], report["usage"]["refused"])


if __name__ == "__main__":
    anyio.run(main)

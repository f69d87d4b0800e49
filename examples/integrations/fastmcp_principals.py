"""A FastMCP server whose callers have quotas: each pays for the tools they call.

A caller is known by a token that the server checks; here, by the name that its client gives.

It prints:

    alice: 4
    alice: 9
    alice: Refused by the budget: principal 'alice' has 0 of 2 calls left, 1 requested
    alice may try again in 30 minutes
    bob: 16
"""

import anyio
from fastmcp import Client, FastMCP
from fastmcp.server.middleware import MiddlewareContext
from mcp_types import Implementation, TextContent

from budgetware import Rate, connect
from budgetware_integrations.fastmcp import BUDGET_KEY, BudgetMiddleware


def caller(context: MiddlewareContext) -> str | None:
    session = context.fastmcp_context and context.fastmcp_context.session
    return session.client_params.client_info.name if session and session.client_params else None


server = FastMCP("squares")
server.add_middleware(BudgetMiddleware(principal=caller, limits={"seconds": 10}))


@server.tool
async def square(n: int) -> int:
    """Multiply a number by itself."""
    return n * n


async def call(name: str, n: int) -> None:
    info = Implementation(name=name, version="1")
    async with Client(server, client_info=info) as client:
        result = await client.call_tool("square", {"n": n}, raise_on_error=False)
    assert isinstance(result.content[0], TextContent)
    print(f"{name}: {result.content[0].text.partition(': do without')[0].partition(': retry')[0]}")
    refused = (result.meta or {})[BUDGET_KEY].get("refused")
    if refused:
        print(f"{name} may try again in {refused['retry_after'] / 60:.0f} minutes")


async def main() -> None:
    async with connect() as service:
        for name in ("alice", "bob"):
            service.define_principal(name, quotas={"calls": Rate(2, "hour")})
        for name, n in (("alice", 2), ("alice", 3), ("alice", 5), ("bob", 4)):
            await call(name, n)


if __name__ == "__main__":
    anyio.run(main)

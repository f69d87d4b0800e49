"""An MCP server with budgets: in the test's process, or by stdio or HTTP in one of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from budgetware import BudgetExceeded, QuotaService, Rate, Resource, budgeted, connect, reserve
from budgetware_integrations.mcp import guard

KEYS = {"k1": b"0123456789abcdef0123456789abcdef"}
AUDIENCE = "mcp-tools"


class Tools:
    """What the tools did, and when they go on."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.cancelled: list[str] = []
        self.go_on = anyio.Event()


def server(tools: Tools | None = None) -> MCPServer[Any]:
    known = tools or Tools()
    made: MCPServer[Any] = MCPServer("tools")

    @made.tool()
    async def hello(name: str = "you") -> str:
        """Greet."""
        known.ran.append(name)
        return f"hello {name}"

    @made.tool()
    async def think(tokens: int, held: int | None = None) -> int:
        """Use tokens."""
        async with reserve(tokens=held or tokens) as reservation:
            known.ran.append("think")
            reservation.commit(tokens)
        return tokens

    @made.tool()
    async def pay(usd: str) -> str:
        """Use dollars."""
        async with reserve(usd=usd):
            return usd

    @made.tool()
    @budgeted(calls=2)
    async def paid() -> str:
        """Hold for itself."""
        return "paid"

    _add_bad_ones(made, known)
    return made


def _add_bad_ones(made: MCPServer[Any], known: Tools) -> None:
    @made.tool()
    async def stubborn() -> str:
        """Take no for no answer."""
        for _ in range(50):
            known.ran.append("turn")
            try:
                async with reserve(tokens=4):
                    pass
            except Exception:
                continue
        return "went on for ever"

    @made.tool()
    async def says() -> str:
        """Say it in words of its own."""
        try:
            async with reserve(tokens=1_000):
                return "had enough"
        except BudgetExceeded as error:
            raise ToolError("my own words") from error

    @made.tool()
    async def wait() -> str:
        """Wait."""
        known.ran.append("wait")
        try:
            await known.go_on.wait()
        except BaseException:
            known.cancelled.append("wait")
            raise
        return "waited"

    @made.tool()
    async def fail() -> str:
        """Fail."""
        known.ran.append("fail")
        raise ValueError("a secret")


def guarded(tools: Tools | None = None, **options: Any) -> MCPServer[Any]:
    return guard(server(tools), **options)


def define(service: QuotaService) -> None:
    """The resource that quota tokens are of, in client and server."""
    if not service.resources():
        service.define(Resource("shared", Rate(100_000, "hour"), dim="tokens"))


async def serve(arguments: Sequence[str]) -> None:
    """Serve by stdio, with a ledger that others share."""
    place = Path(arguments[0]).as_posix()
    async with connect(ledger=f"sqlite:///{place}", token_keys=KEYS) as service:
        define(service)
        made = guarded(service=service, audience=AUDIENCE, limits={"tokens": 10_000})
        await made.run_stdio_async()


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1:])

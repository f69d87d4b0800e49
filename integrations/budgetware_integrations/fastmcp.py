"""Budgets for FastMCP: servers hold for the calls they get, clients for theirs.

A server:

    from fastmcp import FastMCP
    from fastmcp.server.dependencies import get_access_token
    from budgetware_integrations.fastmcp import BudgetMiddleware

    server = FastMCP("search")
    server.add_middleware(
        BudgetMiddleware(
            principal=lambda context: get_access_token().client_id,
            limits={"tokens": 20_000, "seconds": 60},
        )
    )

and a client:

    from fastmcp import Client
    from budgetware_integrations.fastmcp import wrap

    async with wrap(Client("https://search.example/mcp"), delegate={"tokens": 5_000}) as client:
        async with task_budget("research", tokens=50_000, calls=40):
            result = await client.call_tool("search", {"query": "rivers"})

What is held, lent and settled, and what a refusal is, `budgetware_integrations.mcp` says: both
speak the same `_meta`, so either end may be of the other SDK. Of FastMCP's own:

- `principal` is a callable of its `MiddlewareContext`: there are `get_access_token()` and
  `get_http_headers()` in `fastmcp.server.dependencies`.
- A client's refusal is a result with `is_error` from `call_tool_mcp`; from `call_tool` it is a
  `ToolError`, as any such result is, unless `raise_on_error=False`.
- Middlewares outside see errors of tools raised, as without. Only where a client of ours asks for a
  report are they turned into the result that FastMCP would make of them.
- A server that is mounted in another one and has this middleware, too, holds on its own, inside
  the call of the other. One that is added twice to one server holds once.
- A proxy of a wrapped client holds for what it passes on, in the task that calls it; served to
  other processes, that is none, unless it has this middleware as well.

Tools that run as background tasks are held until they are queued.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, Unpack

from ._mcp_calling import Calling, ClientOptions, TokenPart
from ._mcp_meta import BUDGET_KEY, is_asked
from ._mcp_serving import Served, ServerOptions, Serving, Told, ToolCall, Way, note_refusal
from ._requests import budget_cause
from ._requirements import require
from ._subclasses import is_subclassed, subclass
from ._tool_calls import refusal_text

require("fastmcp", "4.0", "5")

from fastmcp import Client, FastMCP  # noqa: E402
from fastmcp.exceptions import (  # noqa: E402
    DisabledError,
    FastMCPError,
    NotFoundError,
)
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext  # noqa: E402
from fastmcp.tools.base import InputRequiredToolResult, ToolResult  # noqa: E402
from mcp_types import CallToolRequestParams, CallToolResult, TextContent  # noqa: E402

from .mcp import hold_sessions, refused_result  # noqa: E402

__all__ = ["BUDGET_KEY", "BudgetMiddleware", "TokenPart", "wrap"]

C = TypeVar("C", bound=Client[Any])

_WITHHELD: Final = "Error calling tool "
"""How a text of FastMCP begins, for an error that the tool did not mean to be read."""


class BudgetMiddleware(Middleware):
    """Hold for each call of a tool: `server.add_middleware(BudgetMiddleware(...))`.

    Args:
        **options: `tools`, `principal`, `limits`, `name`, `policy`, `max_wait`, `on_error`,
            `service`, `audience`; see `budgetware_integrations.mcp`, and `task_budget`.
    """

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        self._serving = Serving(**options)

    async def on_call_tool(
        self,
        context: MiddlewareContext[CallToolRequestParams],
        call_next: CallNext[CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Hold, run the tool, settle; a refusal is a result with `is_error`."""
        message, around = context.message, context.fastmcp_context
        if self._serving.holds(message):
            return await call_next(context)
        request = None if around is None else around.request_context
        meta = None if request is None else request.meta
        function = None if around is None else await _function(around.fastmcp, message.name)
        call = ToolCall(
            message.name,
            message.arguments,
            meta,
            context,
            key=request,
            message=message,
            http=getattr(getattr(request, "request", None), "scope", None),
            function=function,
        )
        return _result(await self._serving.serve(call, lambda: call_next(context), _WAY))


def wrap(client: C, **options: Unpack[ClientOptions]) -> C:
    """Make a client hold for the tools it calls; returns the same client. Twice is once.

    Its copies by `new()` are wrapped, too.

    Args:
        client: of FastMCP.
        **options: `tools`, `delegate`, `token`, `raises`, `policy`, `max_wait`; see
            `budgetware_integrations.mcp`.
    """
    if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a Client of fastmcp")
    calling = Calling(**options)
    if is_subclassed(client):
        return client
    subclass(client, {"call_tool_mcp": lambda original: _call_tool_mcp(original, calling)})
    hold_sessions(client, calling)
    return client


def _call_tool_mcp(original: Any, calling: Calling) -> Any:
    async def call_tool_mcp(
        self: Any,
        name: str,
        arguments: dict[str, Any],
        progress_handler: Any = None,
        timeout: Any = None,  # noqa: ASYNC109 - it is FastMCP's own
        meta: dict[str, Any] | None = None,
    ) -> Any:
        async def send(sent: Any) -> Any:
            return await original(self, name, arguments, progress_handler, timeout, sent)

        return await calling.call(self, name, arguments, meta, send, refused_result)

    return call_tool_mcp


async def _function(server: FastMCP[Any], name: str) -> object:
    """What a tool is, which may be `@budgeted`; None: it is none of this process."""
    try:
        return getattr(await server.get_tool(name), "fn", None)
    except (*_NOT_THERE, FastMCPError):
        return None


def _answer(error: Exception, call: ToolCall) -> ToolResult | None:
    """What FastMCP makes of an error, where it is of budgets, or its client asks what it cost."""
    found = budget_cause(error)
    if isinstance(found, Told):
        note_refusal(found)
        is_withheld = not isinstance(error, FastMCPError) or str(error).startswith(_WITHHELD)
        return _text_result(refusal_text(found) if is_withheld else str(error))
    if not is_asked(call.meta):
        return None
    if isinstance(error, _NOT_THERE):
        return _text_result(f"Unknown tool: {call.name!r}")
    return _text_result(str(error)) if isinstance(error, FastMCPError) else None


def _text_result(text: str) -> ToolResult:
    return ToolResult(content=[TextContent(type="text", text=text)], is_error=True)


_NOT_THERE: Final = (DisabledError, NotFoundError)
_WAY: Final[Way[ToolResult]] = Way(lambda result: result.is_error, _answer, _NOT_THERE)


def _result(served: Served[ToolResult]) -> ToolResult:
    """What goes out: the result as it is, and what was charged in its `_meta`."""
    if served.refusal is not None:
        result = _text_result(refusal_text(served.refusal))
    else:
        assert served.result is not None
        result = served.result
    if isinstance(result, InputRequiredToolResult):
        return result
    meta = {**(result.meta or {}), **served.meta(result.meta)}
    raw = result.to_mcp_result()
    if isinstance(raw, CallToolResult) and result.to_mcp_result() is raw:  # a proxy's, kept as is
        return ToolResult.from_mcp_result(raw.model_copy(update={"meta": meta}))
    return result.model_copy(update={"meta": meta})

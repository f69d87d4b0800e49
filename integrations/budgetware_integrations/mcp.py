"""Budgets for MCP, by its Python SDK: servers hold for the calls they get, clients for theirs.

A server, of any transport:

    from mcp.server.mcpserver import MCPServer
    from budgetware_integrations.mcp import guard

    server = guard(
        MCPServer("search"),
        principal=lambda context: get_access_token().client_id,
        limits={"tokens": 20_000, "seconds": 60},
    )

and a client:

    from mcp import Client
    from budgetware_integrations.mcp import wrap

    async with wrap(Client("https://search.example/mcp"), delegate={"tokens": 5_000}) as client:
        async with task_budget("research", tokens=50_000, calls=40):
            result = await client.call_tool("search", {"query": "rivers"})

**What a server holds.** `tools={"calls": 1}` for each call of a tool, or what a callable of the
tool's name and arguments answers; nothing where the tool is `@budgeted` and holds for itself
(with `guard` on an `MCPServer`). The quotas of the `principal` pay, and the task of the call: each
call has one, with `limits` where they are given, so a call that is terminated ends nobody else's.
What the tool itself reserves pays from the same. A call is no part of a task in which the server
was started, nor of its client's, even in one process. Served by HTTP behind the `BudgetMiddleware`
of `budgetware_integrations.asgi`, it is a part of the task of its request, whose principal and
limits stay. A quota token that a client sends is taken, drawn on and returned; one that cannot be
taken, as by a service without keys, is refused.

**What a client holds.** The same `tools`, in the caller's task, and what it lets the server spend:
`delegate`. That goes along in `_meta`; the server holds the call to it, whatever its own limits,
which it can only tighten; it reports in the result's `_meta` what it charged, and the client
settles to that. Where no report comes, or one of more than was lent, what is held stands. With
`token=TokenPart(...)` a part of a quota token goes along, too, which the server takes once, draws
on, and returns. As many calls at once have one as the token has weight for; the next is refused.
What of a part's allowance does not come back, as of a call that is cancelled after the server took
it, counts as spent; its weight comes back at once. A session of a wrapped client holds as well.

**What a refusal is.** A result with `is_error`, a text that a model can read, and in
`_meta["io.budgetware/budget"]["refused"]` the facts for programs: `type`, `dim`, `remaining`,
`retry_after`. A termination is one, too; a client's own task that is terminated raises, and so do
all of a client's refusals under `raises=True`. A ledger that does not answer is one. What a client
sends that cannot be, such as a negative limit or a forged token, is refused in the same way, before
the tool runs.

**What a failure costs.** A tool that raises is charged, since it may have spent; not so with
`on_error="release"`. A client releases where no tool can have run.

Limits: a refusal inside a tool of `MCPServer` reaches the model by its text; other errors of tools
are as the SDK shows them. A call that asks its client for input is charged each round. Prompts and
resources are not held: use `reserve` in them. What a server asks of a client's model is paid by the
task that wraps the callback, as `Client(..., sampling_callback=budget.wrap(answer))`.

Errors: those of the SDK, and those of `reserve` where something is wrong with the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar, Unpack, cast

from budgetware import BudgetwareError

from ._mcp_calling import Calling, ClientOptions, TokenPart
from ._mcp_meta import BUDGET_KEY, refused_meta
from ._mcp_serving import Served, ServerOptions, Serving, Told, ToolCall, Way, note_refusal
from ._requests import budget_cause
from ._requirements import require
from ._subclasses import is_subclassed, subclass
from ._tool_calls import refusal_text

require("mcp", "2.0", "3")

from mcp import Client, ClientSession  # noqa: E402
from mcp.server import Server  # noqa: E402
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext  # noqa: E402
from mcp.server.mcpserver import MCPServer  # noqa: E402
from mcp.server.mcpserver.exceptions import ToolError  # noqa: E402
from mcp_types import CallToolResult, TextContent  # noqa: E402

__all__ = ["BUDGET_KEY", "BudgetMiddleware", "TokenPart", "guard", "refused_result", "wrap"]

S = TypeVar("S", bound="MCPServer[Any] | Server[Any]")
C = TypeVar("C", bound=Client | ClientSession)


class BudgetMiddleware:
    """Hold for each call of a tool: one of the `middleware` of a server.

    `guard` puts one into a server, and lets refusals inside tools be read, too.

    Args:
        **options: of `guard`.
    """

    def __init__(self, **options: Unpack[ServerOptions]) -> None:
        self._serving = Serving(**options)
        self.function_of: Callable[[str], object] = lambda _name: None

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        params = ctx.params
        if ctx.method != "tools/call" or not isinstance(params, Mapping):
            return await call_next(ctx)
        if self._serving.holds(params):
            return await call_next(ctx)
        name = str(params.get("name"))
        call = ToolCall(
            name,
            params.get("arguments"),
            params.get("_meta"),
            ctx,
            key=params,
            message=params,
            http=getattr(ctx.request, "scope", None),
            function=self.function_of(name),
        )
        served = await self._serving.serve(call, lambda: call_next(ctx), _WAY)
        return _result(served)


def guard(server: S, **options: Unpack[ServerOptions]) -> S:
    """Make a server hold for the calls of its tools; returns the same server. Twice is once.

    Args:
        server: an `MCPServer`, or a low-level `Server`.
        **options: `tools`, `principal`, `limits`, `name`, `policy`, `max_wait`, `on_error`,
            `service`, `audience`; see the top of this module, and `task_budget`. `principal` is a
            callable of the SDK's `ServerRequestContext`.
    """
    if not isinstance(server, MCPServer | Server):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"guard({type(server).__name__}): give an MCPServer or a Server")
    if any(isinstance(known, BudgetMiddleware) for known in server.middleware):
        return server
    middleware = BudgetMiddleware(**options)
    if isinstance(server, MCPServer):
        middleware.function_of = _functions_of(server)
        _show_refusals(server)
    server.middleware.append(middleware)
    return server


def wrap(client: C, **options: Unpack[ClientOptions]) -> C:
    """Make a client hold for the tools it calls; returns the same client. Twice is once.

    Args:
        client: a `Client`, or a `ClientSession` such as frameworks have.
        **options: `tools`, `delegate`, `token`, `raises`, `policy`, `max_wait`; see the top of
            this module.
    """
    if not isinstance(client, Client | ClientSession):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"wrap({type(client).__name__}): give a Client or a ClientSession")
    calling = Calling(**options)
    if is_subclassed(client):
        return client
    made = subclass(client, {"call_tool": lambda original: _call_tool(original, calling)})
    if isinstance(made, Client):
        hold_sessions(made, calling)
    return made


def hold_sessions(client: object, calling: Calling) -> None:
    """Have the session of a wrapped client hold as well, for whoever calls tools by that."""
    kind: Any = type(client)
    original = kind.session

    def session(self: Any) -> Any:
        """The session of the client."""
        found = original.fget(self)
        return subclass(found, {"call_tool": lambda method: _call_tool(method, calling)})

    kind.session = property(session)


def _call_tool(original: Any, calling: Calling) -> Any:
    async def call_tool(
        self: Any, name: str, arguments: Any = None, *args: Any, meta: Any = None, **how: Any
    ) -> Any:
        async def send(sent: Any) -> Any:
            return await original(self, name, arguments, *args, meta=sent, **how)

        return await calling.call(self, name, arguments, meta, send, refused_result)

    return call_tool


def refused_result(error: BudgetwareError) -> CallToolResult:
    """Make the result of a call that was refused."""
    return _refused(error, {BUDGET_KEY: {"charged": {}, "refused": refused_meta(error)}})


def _refused(error: BudgetwareError, meta: dict[str, Any]) -> CallToolResult:
    content = TextContent(type="text", text=refusal_text(error))
    return CallToolResult(content=[content], is_error=True, _meta=meta)


def _is_error(result: object) -> bool:
    if isinstance(result, Mapping):
        return cast("Mapping[str, Any]", result).get("isError") is True
    return getattr(result, "is_error", False) is True


_WAY: Final[Way[Any]] = Way(_is_error)


def _result(served: Served[Any]) -> HandlerResult:
    """What goes out: the result as it is, and what was charged in its `_meta`."""
    if served.refusal is not None:
        return _refused(served.refusal, served.meta())
    result = served.result
    if isinstance(result, dict):
        wire = cast("dict[str, Any]", result)
        inner = wire.get("_meta") or {}
        return {**wire, "_meta": {**inner, **served.meta(inner)}}
    if isinstance(result, CallToolResult):  # of a middleware inside this one
        meta = {**(result.meta or {}), **served.meta(result.meta)}
        return result.model_copy(update={"meta": meta})
    return cast("HandlerResult", result)


def _functions_of(server: MCPServer[Any]) -> Callable[[str], object]:
    """What the tools of a server are, of which some may be `@budgeted`."""
    tools = getattr(server, "_tool_manager", None)

    def function_of(name: str) -> object:
        return getattr(tools.get_tool(name), "fn", None) if tools is not None else None

    return function_of


def _show_refusals(server: MCPServer[Any]) -> None:
    """Have a refusal inside a tool told to the model; of other errors the SDK tells nothing."""
    original = server.call_tool

    @wraps(original)
    async def call_tool(*args: Any, **how: Any) -> Any:
        try:
            return await original(*args, **how)
        except ToolError as error:
            found = budget_cause(error)
            if not isinstance(found, Told):
                raise
            note_refusal(found)
            if type(error.__cause__) is ToolError:  # in words of its own
                raise
            raise ToolError(refusal_text(found)) from error

    server.call_tool = call_tool  # type: ignore[method-assign]

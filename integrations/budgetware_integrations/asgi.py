"""Budgets for ASGI apps (Starlette, FastAPI and any other): each request holds before it runs.

    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    from budgetware import connect
    from budgetware_integrations.asgi import BudgetMiddleware

    @asynccontextmanager
    async def lifespan(app):
        async with connect("budgetware.toml"):
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(BudgetMiddleware, principal="x-user", limits={"tokens": 20_000})

**What is held.** `amounts={"calls": 1}` for each request, or what a callable of the ASGI scope
answers (None: nothing). Calls of models and tools inside are `calls`, too: name a dimension of your
own, as `amounts={"requests": 1}`, to count requests alone. The quotas of the principal pay, and the
task of the request: each has one, with `limits` where they are given, and what the handler reserves
pays from the same. A dimension that `amounts` names is known by that; those that only a callable
answers, limits or quotas have to name. It is settled when the last byte of the answer is sent,
before background tasks run. `request_reservation()` is that reservation: what the handler `record`s
on it is charged in place of what was held. A request that fails, or whose client goes away, is
charged what was recorded, else what was held.

**On whose behalf.** `principal` names a header, or is a callable of the scope. A request without
the header runs for `anonymous`; one whose name cannot be is answered with 400. Headers come from
whoever sends them: let a proxy set this one, or verify a token in a callable, which may be async;
its None is nobody. A service knows 10,000 principals that nobody has defined; the next new one is
answered with 400, a defined one never is. So have names come from who can prove them.

**What a refusal is.** 429 with `Retry-After` where time helps, and a body of JSON as of
`budgetware.admin.budget_response`: for the request itself, and for a `BudgetExceeded` that leaves
the handler, or that an error was raised `from`. A task that is terminated, or past its deadline, is
429, too, whatever the handler made of that, unless it answers with an error itself. A ledger that
does not answer is 503. Other errors are the app's. Once
the answer has started, nothing can be taken back: the error goes on to the server, which cuts the
connection, so that the client sees that something is missing. A websocket is one task and one
reservation for as long as it is open; it is refused with 429 where the server can, else with 403,
and closed with code 1013 where a budget says no later.

**Where to put it.** By `add_middleware`, the last one added is the outermost. Handlers of the app
for `BudgetExceeded` come first; wrapped around a whole Starlette app (`BudgetMiddleware(app)`) it
would come after the handler of 500, which has answered by then. Twice with the same arguments is
once; one with others holds inside the task of the one around it. So do tools of an MCP server that
is served behind it and has its own `guard` or `BudgetMiddleware`: principal and limits of the
request stay.

Limits: background tasks are part of the request's task; a deadline that passes while they run ends
them after the answer, and is logged as a warning. A client that leaves before an answer that is no
stream has a handler that runs on, so servers say; a thread runs to its end.

Errors: those of the app. Of this module: none, but for what is wrong with its arguments.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Literal, cast

from budgetware import (
    BudgetTerminated,
    BudgetwareError,
    Dim,
    QuotaService,
    Reservation,
    TaskBudget,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError, soft_termination

from ._requests import (
    HttpRequest,
    Policy,
    RequestTasks,
    budget_cause,
    check_holding,
    http_request,
    marked,
)
from ._requirements import require
from ._tool_calls import checked_tools

require("starlette", "0.47", "2", extra="admin")

from starlette.responses import JSONResponse, Response  # noqa: E402

from budgetware.admin import budget_response  # noqa: E402

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Amounts = Mapping[str, Any]

__all__ = ["BudgetMiddleware", "request_reservation"]

_TRY_AGAIN_LATER: Final = 1013
_MOST_REASON_BYTES: Final = 123
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_log = logging.getLogger("budgetware.integrations")
_reservation: ContextVar[Reservation | None] = ContextVar("budgetware_request", default=None)


def request_reservation() -> Reservation | None:
    """The reservation of the request that this code runs for; None where it holds nothing.

    `record(...)` on it what the request has used so far; its end is settled to that.
    """
    return _reservation.get()


class BudgetMiddleware:
    """Hold for each request: `app.add_middleware(BudgetMiddleware, ...)`.

    Args:
        app: what comes next.
        amounts: what a request holds, or a callable of its scope that answers that, or None.
        limits: of each request, as of `task_budget`.
        principal: the name of a header, or a callable of the scope.
        anonymous: who a request without that header runs for; None: nobody, whom no quota refuses.
        name: of the tasks of requests; without `limits`, of the template that has them.
        policy: of these tasks.
        max_wait: the longest wait of a request that is throttled, in seconds or as `"30s"`.
        on_error: `"release"`, or a callable of the exception: a request that fails costs nothing.
        service: whose budgets and principals; by default the one that `connect()` has opened.

    Raises:
        ConfigurationError, TypeError: an argument cannot be.
    """

    def __init__(
        self,
        app: App,
        *,
        amounts: Amounts | Callable[[Scope], Amounts | None] | None = {"calls": 1},  # noqa: B006
        limits: Mapping[str, Any] | None = None,
        principal: str | Callable[[Scope], str | Awaitable[str | None] | None] | None = None,
        anonymous: str | None = "anonymous",
        name: str | None = None,
        policy: Policy = None,
        max_wait: float | str | None = None,
        on_error: Literal["charge", "release"]
        | Callable[[Exception], Literal["charge", "release"]] = "charge",
        service: QuotaService | None = None,
    ) -> None:
        _check_principal(principal)
        check_holding(max_wait, on_error, takes_callables=True)
        self.app = app
        self._tasks = RequestTasks(
            what="request", limits=limits, name=name, policy=policy, service=service
        )
        self._tasks.task(anonymous)
        self._amounts: Any = _checked_amounts(amounts)
        self._principal = principal
        self._anonymous = anonymous
        self._options: dict[str, Any] = {"max_wait": max_wait, "on_error": on_error}
        self._settings = (self._tasks, amounts, principal, anonymous, max_wait, on_error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; what is no request, such as the lifespan, is passed on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        outer = http_request(scope)
        if outer is not None and self._settings in outer.settings:
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        with self._tasks.border(is_inside=self._tasks.around(scope) is not None):
            try:
                await self._serve(exchange)
            except Exception as error:
                if not await exchange.refuse(error):
                    raise

    async def _serve(self, exchange: Exchange) -> None:
        try:
            task = self._tasks.task(await self._who(exchange.scope))
        except ConfigurationError as error:
            raise BadRequest(str(error)) from None
        async with task as exchange.budget:
            amounts = self._held(exchange.scope)
            if not amounts:
                await self._run(exchange)
                return
            async with reserve(**self._options, **amounts) as reservation:
                exchange.reservation = reservation
                await self._run(exchange)
                exchange.left()

    def _held(self, scope: Any) -> dict[str, Any]:
        amounts: Any = self._amounts(scope) if callable(self._amounts) else self._amounts
        return amounts or {}

    async def _run(self, exchange: Exchange) -> None:
        assert exchange.budget is not None
        scope, outer = exchange.scope, http_request(exchange.scope)
        settings = (self._settings, *(() if outer is None else outer.settings))
        token = _reservation.set(exchange.reservation or _reservation.get())
        try:
            with marked(scope, HttpRequest(exchange.budget, settings)):
                await self.app(scope, exchange.receive, exchange.sent)
        finally:
            _reservation.reset(token)

    async def _who(self, scope: Scope) -> str | None:
        if self._principal is None:
            return None
        if isinstance(self._principal, str):
            return _header(scope, self._principal.lower().encode("latin-1")) or self._anonymous
        found = self._principal(scope)
        return await found if inspect.isawaitable(found) else found


class BadRequest(Exception):
    """What was sent cannot be."""


class Exchange:
    """One request and what was answered so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.reservation: Reservation | None = None
        self.budget: TaskBudget | None = None
        self._send = send
        self._has_started = False
        self._is_complete = False

    @property
    def _is_websocket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    async def sent(self, message: Message) -> None:
        """Pass on a message of the app; settle after the last one."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            self._check(message)
            self._has_started = True
        await self._send(message)
        is_last = kind == "http.response.body" and not message.get("more_body", False)
        if is_last or kind in ("http.response.pathsend", "websocket.close"):
            self._is_complete = True
            self._settle()

    def _check(self, message: Message) -> None:
        """Raise where the task is over, and the app is about to answer as if it were not."""
        if self.budget is not None and message.get("status", 200) < 400:
            with soft_termination():
                if self.budget.is_terminated:
                    self.budget.checkpoint()

    def _settle(self) -> None:
        if self.reservation is not None and self.reservation.state == "held":
            self.reservation.commit()

    def left(self) -> None:
        """Settle after the app has returned: its client has left it, if the answer is not whole."""
        if self.reservation is None or self.reservation.state != "held":
            return
        if self._is_complete or self._is_websocket:
            self._settle()
        else:
            self.reservation.cut(GeneratorExit())

    async def refuse(self, error: Exception) -> bool:
        """Answer what a budget said no to; False where it is another error, or comes too late."""
        if self._is_complete and isinstance(error, BudgetTerminated):
            _log.warning("after the answer: %s", error)
            return True
        if self._is_complete or (self._has_started and not self._is_websocket):
            return False
        response = self._response(error)
        if response is None:
            return False
        if self._is_websocket and (self._has_started or not self._can_deny()):
            await self._close(budget_cause(error) or error)
        else:
            await response(self.scope, self.receive, self._send)
        return True

    @staticmethod
    def _response(error: Exception) -> Response | None:
        if isinstance(error, BadRequest):
            return JSONResponse({"error": {"type": "BadRequest", "message": str(error)}}, 400)
        found = budget_cause(error)
        if found is None:
            return None
        try:
            return budget_response(found)
        except BudgetwareError as other:  # a fault of the program
            if other is found:
                return None
            raise

    def _can_deny(self) -> bool:
        extensions: object = self.scope.get("extensions")
        return isinstance(extensions, Mapping) and "websocket.http.response" in extensions

    async def _close(self, error: Exception) -> None:
        reason = str(error).encode()[:_MOST_REASON_BYTES].decode(errors="ignore")
        message = {"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": reason}
        with suppress(OSError):  # the client has gone
            await self._send(message)


def _header(scope: Scope, name: bytes) -> str | None:
    """The value of a header; None: it is not there, or empty."""
    headers = cast("list[tuple[bytes, bytes]]", scope.get("headers") or [])
    values = {value.strip() for key, value in headers if key.lower() == name}
    if len(values) > 1:
        raise BadRequest(f"there are several headers {name.decode('latin-1')}")
    return values.pop().decode("latin-1") or None if values else None


def _check_principal(principal: object) -> None:
    if not (principal is None or isinstance(principal, str) or callable(principal)):
        raise TypeError(f"principal={principal!r}: name a header, or give a callable")
    if isinstance(principal, str) and not _HEADER_NAME.fullmatch(principal):
        raise ConfigurationError(f"principal={principal!r}: that is no name of a header")


def _checked_amounts(amounts: Any) -> Any:
    """Return what requests hold, or raise; a dimension that is named here is known from now on."""
    if amounts is None or callable(amounts):
        return amounts
    if not isinstance(amounts, Mapping):
        raise ConfigurationError(
            f"amounts={amounts!r}: give amounts such as {{'calls': 1}}, a callable of the scope, "
            "or None"
        )
    named = cast("Mapping[str, Any]", amounts)
    if not all(isinstance(dim, str) for dim in named):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"amounts={amounts!r}: name dimensions, as in {{'calls': 1}}")
    own = [dim for dim in named if dim not in tuple(Dim)]
    if own:
        declared: dict[str, Any] = dict.fromkeys(own, 1)
        task_budget("amounts", **declared)
    checked_tools(named)
    return amounts

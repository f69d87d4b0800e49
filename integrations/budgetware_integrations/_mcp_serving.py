"""A call of a tool at an MCP server, from what its client allows to what it was charged.

Not here: how a server is hooked into (`mcp`, `fastmcp`), and what budgets are in `_meta`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar

from anyio import to_thread

from budgetware import (
    BudgetExceeded,
    BudgetwareError,
    QuotaService,
    QuotaToken,
    Reservation,
    TaskBudget,
    reserve,
    task_budget,
)
from budgetware.errors import ConfigurationError, LedgerUnavailable, QuotaTokenError
from budgetware.propagation import extract_meta, inject_meta, take

from ._mcp_meta import BUDGET_KEY, never_ran, read_limits, read_refused, refused_meta, report
from ._requests import Policy, RequestTasks, budget_cause, check_holding
from ._tool_calls import (
    ONE_CALL,
    Amounts,
    Refused,
    ToolAmounts,
    amounts_of,
    call_name,
    checked_tools,
)

T = TypeVar("T")
Asker = Callable[[Any], "str | Awaitable[str | None] | None"]

_RETURNS_IN: Final = "10m"
"""How long a client may take to fetch what its token has left."""

Told = (*Refused, LedgerUnavailable)
"""What a client is told of, where a tool raises it."""

_log = logging.getLogger("budgetware.integrations")


class ServerOptions(TypedDict, total=False):
    """Keywords of the middleware of servers.

    tools: what a call of a tool holds; by default `{"calls": 1}`.
    principal: on whose behalf a call runs: a callable of the hook's context, sync or async, that
        answers a name, or None for nobody. Never take it from what a client merely says.
    limits: of each call, as of `task_budget`.
    name: of the tasks of calls; without `limits`, of the template that has them.
    policy: of these tasks.
    max_wait: the longest wait of a call that is throttled, in seconds or as `"30s"`.
    on_error: `"release"`: a call that fails, or whose result says `isError`, costs nothing.
    service: whose budgets, principals, resources and keys of quota tokens; by default the one that
        is current.
    audience: what quota tokens for this server are made out to.
    """

    tools: ToolAmounts
    principal: Asker | None
    limits: Mapping[str, Any] | None
    name: str | None
    policy: Policy
    max_wait: float | str | None
    on_error: Literal["charge", "release"]
    service: QuotaService | None
    audience: str | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One request.

    of: the hook's context.
    key: the same for all hooks that it passes, those of servers inside the server, too.
    message: the same for all hooks of one server.
    http: the ASGI scope of the request of HTTP that it came by.
    function: that the tool is, where that is known.
    """

    name: str
    arguments: Any
    meta: object
    of: object
    key: object = None
    message: object = None
    http: object = None
    function: object = None


@dataclass(frozen=True, slots=True)
class Way(Generic[T]):
    """What results and errors are to an SDK.

    is_error: says whether a result tells of a failure.
    answer: makes a result of an error that tools raise; None: it goes on.
    free: errors that mean that no tool has run.
    """

    is_error: Callable[[T], bool]
    answer: Callable[[Exception, ToolCall], T | None] = lambda _error, _call: None
    free: tuple[type[Exception], ...] = ()


@dataclass(slots=True)
class Served(Generic[T]):
    """How a call ended: with a result or a refusal; `meta` is for the result of either."""

    result: T | None = None
    refusal: BudgetwareError | None = None
    inside: BudgetwareError | None = None
    has_begun: bool = False
    call: ToolCall | None = None
    by: object = None
    token: str | None = None
    budget: TaskBudget | None = None

    def meta(self, inner: object = None) -> dict[str, Any]:
        """What goes into `_meta`; `inner`: what a server inside this one has put there."""
        told: dict[str, Any] = {"charged": {} if self.budget is None else report(self.budget)}
        refusal = self.refusal or self.inside
        if refusal is not None:
            told["refused"] = refused_meta(refusal)
        elif refused := read_refused(inner):
            told["refused"] = refused
        meta: dict[str, Any] = {BUDGET_KEY: told}
        if self.token is not None:
            inject_meta(meta, self.token)
        return meta


_current: ContextVar[Served[Any] | None] = ContextVar("budgetware_mcp_call", default=None)


def note_refusal(error: BudgetwareError) -> None:
    """Tell the call that runs here that something in its tool was refused."""
    served = _current.get()
    if served is not None:
        served.inside = error


class Serving:
    """How a server's calls are held; see `ServerOptions`."""

    def __init__(
        self,
        *,
        tools: ToolAmounts = ONE_CALL,
        principal: Asker | None = None,
        limits: Mapping[str, Any] | None = None,
        name: str | None = None,
        policy: Policy = None,
        max_wait: float | str | None = None,
        on_error: Literal["charge", "release"] = "charge",
        service: QuotaService | None = None,
        audience: str | None = None,
    ) -> None:
        if principal is not None and not callable(principal):
            raise TypeError(f"principal={principal!r}: give a callable of the request's context")
        given: Any = audience
        if given is not None and (not isinstance(given, str) or not given):
            raise ConfigurationError(f"audience={given!r}: give a name or an address, or None")
        check_holding(max_wait, on_error, takes_callables=False)
        self._tasks = RequestTasks(
            what="tool-call", limits=limits, name=name, policy=policy, service=service
        )
        self._tools = checked_tools(tools)
        self._principal = principal
        self._max_wait = max_wait
        self._releases = on_error == "release"
        self._audience = audience
        own = () if tools is None or callable(tools) else tools
        self._known = frozenset((*(limits or ()), *own))

    def holds(self, message: object) -> bool:
        """Say whether it holds for this call already: it was added twice."""
        outer = _current.get()
        if outer is None or outer.by is not self or outer.call is None:
            return False
        return outer.call.message is message

    async def serve(
        self, call: ToolCall, run: Callable[[], Awaitable[T]], way: Way[T]
    ) -> Served[T]:
        """Run a call under its budgets; raises what `run` raises, as far as `way` has no answer."""
        outer = _current.get()
        around = None if outer is None or outer.call is None else outer.call.key
        is_nested = around is not None and around is call.key
        request = None if is_nested else self._tasks.around(call.http)
        serve = self._serve if request is None else request.wrap(self._serve)
        served: Served[T] = Served(call=call, by=self)
        marked = _current.set(served)
        try:
            with self._tasks.border(is_inside=is_nested or request is not None):
                await serve(call, run, way, served)
        except Exception as error:
            served.refusal = _refusal(error, has_begun=served.has_begun)
            served.result = None if served.refusal is not None else way.answer(error, call)
            if served.refusal is served.result is None:
                raise
        finally:
            _current.reset(marked)
        return served

    async def _serve(
        self,
        call: ToolCall,
        run: Callable[[], Awaitable[T]],
        way: Way[T],
        served: Served[T],
    ) -> None:
        asked = read_limits(call.meta, self._known)
        amounts = amounts_of(self._tools, call.name, call.arguments, call.function)
        task = self._tasks.task(await self._who(call))
        async with task as served.budget, self._carried(call.meta, asked, served):
            if not amounts:
                served.has_begun = True
                served.result = await run()
                return
            async with self._reserve(call.name, way, amounts) as held:
                served.has_begun = True
                served.result = await run()
                if self._releases and way.is_error(served.result):
                    held.release()
                else:
                    held.commit()

    def _reserve(self, name: str, way: Way[Any], amounts: Amounts) -> Reservation:
        def outcome(error: Exception) -> Literal["charge", "release"]:
            is_free = self._releases or isinstance(error, way.free) or never_ran(error)
            return "release" if is_free else "charge"

        how: dict[str, Any] = {"max_wait": self._max_wait, "on_error": outcome}
        return reserve(kind="tool", name=call_name(name), **how, **amounts)

    async def _who(self, call: ToolCall) -> str | None:
        found = None if self._principal is None else self._principal(call.of)
        return await found if inspect.isawaitable(found) else found

    @asynccontextmanager
    async def _carried(
        self, meta: object, asked: Mapping[str, Any], served: Served[Any]
    ) -> AsyncGenerator[None]:
        """Run the block under what the client allows: its limits, and its token."""
        token = await self._token(meta)
        try:
            with nullcontext() if token is None else token:
                if not asked:
                    yield
                else:
                    async with task_budget("caller", **asked):
                        yield
        finally:
            served.token = _given_back(token)

    async def _token(self, meta: object) -> QuotaToken | None:
        text = extract_meta(meta)
        if text is None:
            return None
        return await to_thread.run_sync(partial(take, text, audience=self._audience))


def _refusal(error: Exception, *, has_begun: bool) -> BudgetwareError | None:
    """What the client is told of; None: it is no matter of budgets.

    Before the tool runs, everything of ours is: what the client sent may be the reason.
    """
    if isinstance(error, BudgetwareError) and not has_begun:
        if not isinstance(error, Told):
            _log.warning("a call of a tool was not run: %s", error)
        return error
    is_wrapped = isinstance(error, ExceptionGroup)
    found = budget_cause(error) if is_wrapped else error
    return found if isinstance(found, Told) else None


def _given_back(token: QuotaToken | None) -> str | None:
    """What a token has left, as a text for whoever sent it; None: nothing is."""
    if token is None:
        return None
    try:
        return token.export(expires_in=_RETURNS_IN)
    except (QuotaTokenError, BudgetExceeded):
        token.close()
        return None

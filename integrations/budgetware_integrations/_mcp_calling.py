"""A call of a tool by an MCP client: what it holds here, what it lends, and what it settles to.

Not here: how a client is hooked into (`mcp`, `fastmcp`), and what budgets are in `_meta`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypedDict, TypeVar

import anyio
from anyio import to_thread

from budgetware import BudgetExceeded, BudgetwareError, QuotaService, QuotaToken, reserve
from budgetware.errors import QuotaTokenError, TokenConsumed
from budgetware.propagation import extract_meta, inject_meta

from ._billing import is_free
from ._mcp_meta import BUDGET_KEY, limits_meta, never_ran, read_charged
from ._options import CallSettings
from ._requests import Policy
from ._tool_calls import ONE_CALL, Amounts, ToolAmounts, amounts_of, call_name, checked_tools

T = TypeVar("T")
Meta = Mapping[str, Any] | None

_LONGEST_RETURN_SECONDS: Final = 5.0

_log = logging.getLogger("budgetware.integrations")
_outer: ContextVar[object] = ContextVar("budgetware_mcp_client", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPart:
    """A part of a quota token that goes with each call, and comes back with what it has left.

    The server takes it where it shares the ledger and the keys of `service`; from any other it is
    taken back.

    Args:
        token: what parts are split off.
        service: it belongs to.
        expected_use: the weight of a part.
        allowance: the most that one call may draw.
        expires_in: seconds, or `"5m"`: the longest a call may take to get there.
        audience: whom it is made out to.
    """

    token: QuotaToken
    service: QuotaService
    expected_use: Any = 1
    allowance: Any
    expires_in: float | str = "5m"
    audience: str | None = None

    def put(self, meta: dict[str, Any]) -> None:
        """Split one off, and put it into the `_meta` of a request."""
        try:
            part = self.token.split(self.expected_use, allowance=self.allowance)
        except TokenConsumed:
            raise
        except QuotaTokenError as error:
            raise NoPart(str(error)) from None
        try:
            inject_meta(meta, part, expires_in=self.expires_in, audience=self.audience)
        except BudgetwareError:
            self.token.merge(part)
            raise

    async def take_back(self, sent: Meta, received: object) -> None:
        """Merge what comes back; where nothing does, try to take what was sent.

        Where that fails, too, the server has it, and may spend all of its allowance: that counts
        as spent. The weight of the part says who goes first, and is no amount: it is given back.
        """
        with anyio.move_on_after(_LONGEST_RETURN_SECONDS, shield=True):
            for found in (_returned(received), extract_meta(sent)):
                if found is not None and await to_thread.run_sync(self._merge, found):
                    return
        self._restore_weight()

    def _restore_weight(self) -> None:
        weight = QuotaToken(self.token.resource, self.expected_use, service=self.service)
        try:
            self.token.merge(weight)
        except BudgetwareError as error:
            weight.close()
            _log.warning("the weight of a part of a quota token was not given back: %s", error)

    def _merge(self, text: str) -> bool:
        try:
            part = self.service.import_token(text, audience=self.audience)
        except BudgetwareError:  # the server has it, or it is late
            return False
        try:
            self.token.merge(part)
        except BudgetwareError as error:
            part.close()
            _log.warning("what came back of a quota token was not merged: %s", error)
            return False
        return True


class NoPart(QuotaTokenError):
    """A token has no part for one more call now."""


def _returned(received: object) -> str | None:
    """The token in the `_meta` of a result; None: there is none that could be one."""
    try:
        return extract_meta(received if isinstance(received, Mapping) else None)
    except BudgetwareError as error:
        _log.warning("what came back of a quota token is none: %s", error)
        return None


class ClientOptions(TypedDict, total=False):
    """Keywords of the wrappers of clients.

    tools: what a call of a tool holds, and is charged; by default `{"calls": 1}`.
    delegate: what the server may spend on a call besides, in the same forms: held, sent as its
        limits, and settled to what it reports. Nothing by default.
    token: a part of a quota token that goes with each call.
    raises: have refusals raise, in place of a result with `is_error`.
    policy: stricter than the payers' own, as of `reserve`.
    max_wait: the longest wait of a call that is throttled, in seconds or as `"30s"`.
    """

    tools: ToolAmounts
    delegate: ToolAmounts
    token: TokenPart | None
    raises: bool
    policy: Policy
    max_wait: float | str | None


class Calling:
    """How a client's calls are held; see `ClientOptions`."""

    def __init__(
        self,
        *,
        tools: ToolAmounts = ONE_CALL,
        delegate: ToolAmounts = None,
        token: TokenPart | None = None,
        raises: bool = False,
        policy: Policy = None,
        max_wait: float | str | None = None,
    ) -> None:
        if token is not None and not isinstance(token, TokenPart):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"token={token!r}: give a TokenPart")
        CallSettings(policy=policy, max_wait=max_wait)  # raises where they cannot be
        self._tools = checked_tools(tools)
        self._delegate = checked_tools(delegate)
        self._token = token
        self._raises = raises
        self._options: dict[str, Any] = {"policy": policy, "max_wait": max_wait}

    async def call(
        self,
        client: object,
        name: str,
        arguments: Any,
        meta: Meta,
        send: Callable[[Any], Awaitable[T]],
        refuse: Callable[[BudgetwareError], T],
    ) -> T:
        """Hold, send with what the server may spend, and settle.

        Args:
            client: whose call it is; a session passes the calls of a client around it.
            name, arguments, meta: of the call.
            send: does it, with the `_meta` it is given.
            refuse: makes the result of a call that is not sent.
        """
        around = _outer.get()
        if around is not None and getattr(around, "session", None) is client:
            marked = _outer.set(None)
            try:
                return await send(meta)
            finally:
                _outer.reset(marked)
        own = amounts_of(self._tools, name, arguments)
        lent = amounts_of(self._delegate, name, arguments)
        marked = _outer.set(client)
        try:
            return await self._hold(own, lent, name, meta, send)
        except (BudgetExceeded, NoPart) as error:
            if self._raises:
                raise
            return refuse(error)
        finally:
            _outer.reset(marked)

    async def _hold(
        self,
        own: Amounts,
        lent: Amounts,
        name: str,
        meta: Meta,
        send: Callable[[Any], Awaitable[T]],
    ) -> T:
        amounts = _sum(own, lent)
        if not amounts:
            return await self._send(meta, lent, send)
        tool = call_name(name)
        async with reserve(
            kind="tool", name=tool, on_error=_outcome, **self._options, **amounts
        ) as held:
            result = await self._send(meta, lent, send)
            charged = read_charged(getattr(result, "meta", None), lent)
            if charged or not lent:
                held.commit({dim: _plus(own.get(dim, 0), n) for dim, n in charged.items()} or None)
            return result

    async def _send(self, meta: Meta, lent: Amounts, send: Callable[[Any], Awaitable[T]]) -> T:
        if not lent and self._token is None:
            return await send(meta)
        sent = dict(meta or {})
        if lent:
            sent[BUDGET_KEY] = limits_meta(lent)
        if self._token is None:
            return await send(sent)
        self._token.put(sent)
        meta_back: object = None
        try:
            result = await send(sent)
            meta_back = getattr(result, "meta", None)
        finally:
            await self._token.take_back(sent, meta_back)
        return result


def _outcome(error: Exception) -> Literal["charge", "release"]:
    """What a failure of a call books: nothing, where no tool can have run."""
    is_unsent = isinstance(error, NoPart)
    return "release" if is_unsent or never_ran(error) or is_free(error) else "charge"


def _sum(one: Amounts, other: Amounts) -> dict[str, Any]:
    """Both, by dimension."""
    shared = {dim: _plus(one[dim], other[dim]) for dim in one if dim in other}
    return {**one, **other, **shared}


def _plus(one: Any, other: Any) -> Any:
    """Their sum: of ints, or of dollars as they may be given."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return Decimal(str(one)) + Decimal(str(other))

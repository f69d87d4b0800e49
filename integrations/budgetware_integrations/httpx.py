"""Budgets for any HTTP API: transports of httpx and httpx2 that charge calls and bytes.

    import httpx
    from budgetware import task_budget
    from budgetware_integrations.httpx import wrap

    client = wrap(httpx.AsyncClient())

    async with task_budget("crawl", calls=200, bytes=50_000_000):
        await client.get("https://example.com/page")

`wrap` takes a client of httpx or of httpx2, sync or async, and returns the same one: its proxies,
TLS and HTTP/2 stay. Where a client is made by others, give them a transport: `transport()` and
`async_transport()`, over one of your own (`inner`) or a plain one, of `module="httpx2"` where both
are installed. One client or transport holds once, however often it is wrapped.

**What is held.** For each request `amounts`, by default `calls=1`; and `bytes`: the body that is
sent (1 MiB where it has no length, as of a generator), and `max_response_bytes` (1 MiB) for the
answer. Redirects, and what a client sends again,
are requests of their own. A callable chooses by request, say by its host or path; None passes it
unheld:

    def amounts(request):
        if request.url.host != "api.example.com":
            return None
        return {"calls": 1, "custom0": 5 if request.url.path == "/search" else 1}

**What is settled.** `bytes` become those of the two bodies as they passed, still compressed,
without headers: when the answer was read to its end, or closed early. A longer answer than was
held is charged in full. Other amounts stay as held, whatever the status. A connection that was
never made charges nothing; a timeout, a cancellation, a break do, since the server may have
worked. A 429, 503 or 529 with `retry-after` pauses the resources that the request draws on.

**When there is not enough**, the request raises `BudgetExceeded` (or waits, or ends the task, by
the policy) and nothing is sent; the waiting is outside the client's timeouts, so give `max_wait`.
Some SDKs swallow what a transport raises, or try it again: for those `refusal="response"` answers
with a 429 of its own, with `retry-after` where waiting helps and `x-should-retry: false`.

Requests of a client that another adapter holds for, such as `budgetware_integrations.openai`, are
part of its calls: nothing is held for them here. Websockets and other upgrades are charged as the
request that opens them.

Errors: those of the client, and those of `reserve`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack

from budgetware.errors import ConfigurationError

from ._http import AsyncHolding, HttpModule, RequestAmounts, SyncHolding, make_transports
from ._requirements import require

if TYPE_CHECKING:
    from budgetware import Reject, Terminate, Throttle

if find_spec("httpx2") is None:
    require("httpx", "0.27", "1")

__all__ = ["HttpOptions", "async_transport", "transport", "wrap"]

C = TypeVar("C")

_MODULES: tuple[HttpModule, ...] = ("httpx", "httpx2")


class HttpOptions(TypedDict, total=False):
    """Keywords of what is here.

    amounts: what each request holds besides `bytes`, or a callable of the request.
    max_response_bytes: what is held for the body of an answer.
    name: of the calls, in events; by default the host.
    policy: stricter than the payers' own, as of `reserve`.
    max_wait: the longest wait for a throttled resource, in seconds or as `"30s"`.
    refusal: `"raise"`, or `"response"` for a 429 in place of the error.
    """

    amounts: RequestAmounts
    max_response_bytes: int
    name: str | None
    policy: Throttle | Reject | Terminate | str | None
    max_wait: float | str | None
    refusal: Literal["raise", "response"]


def wrap(client: C, **options: Unpack[HttpOptions]) -> C:
    """Make a client hold for its requests, through proxies too; returns the same client.

    Args:
        client: of httpx or httpx2, sync or async.
        **options: `amounts`, `max_response_bytes`, `name`, `policy`, `max_wait`, `refusal`; see
            `HttpOptions`.

    Raises:
        ConfigurationError: an option that there is not, or that cannot be.
        TypeError: it is no client of httpx or httpx2.
    """
    module = _module_of(client)
    changed: Any = client
    if module is None or not hasattr(changed, "_transport"):
        raise TypeError(f"wrap({type(client).__name__}): give a client of httpx or httpx2")
    made = make_transports(module)[hasattr(client, "__aenter__")]
    changed._transport = _over(changed._transport, made, options)
    changed._mounts = {
        pattern: None if inner is None else _over(inner, made, options)
        for pattern, inner in changed._mounts.items()
    }
    return client


def transport(
    inner: Any = None, *, module: HttpModule | None = None, **options: Unpack[HttpOptions]
) -> Any:
    """Make a transport for sync clients.

    Args:
        inner: what sends the requests; by default `HTTPTransport()`.
        module: whose transport it is; by default that of `inner`, else the one installed, httpx
            where both are.
        **options: `amounts`, `max_response_bytes`, `name`, `policy`, `max_wait`, `refusal`.
    """
    _check_inner(inner, module, "handle_request")
    made = make_transports(module or _module_of(inner) or _installed())[0]
    return _over(inner, made, options)


def async_transport(
    inner: Any = None, *, module: HttpModule | None = None, **options: Unpack[HttpOptions]
) -> Any:
    """Make a transport for async clients, over `AsyncHTTPTransport()` by default."""
    _check_inner(inner, module, "handle_async_request")
    made = make_transports(module or _module_of(inner) or _installed())[1]
    return _over(inner, made, options)


def _check_inner(inner: object, module: object, method: str) -> None:
    if module is not None and module not in _MODULES:
        raise ConfigurationError(f"module={module!r}: give 'httpx' or 'httpx2'")
    if inner is None:
        return
    kind = type(inner).__name__
    if not callable(getattr(inner, method, None)):
        which = "a sync" if method == "handle_request" else "an async"
        raise ConfigurationError(f"inner={kind}: give {which} transport, with `{method}`")
    own = _module_of(inner)
    if module is not None and own is not None and own != module:
        raise ConfigurationError(f"inner={kind}: it is of {own}, and module={module!r}")


def _over(inner: Any, made: type[Any], options: HttpOptions) -> Any:
    unknown = sorted(set(options) - set(HttpOptions.__annotations__))
    if unknown:
        there = ", ".join(HttpOptions.__annotations__)
        raise ConfigurationError(f"unknown option {unknown[0]!r}: there are {there}")
    return inner if isinstance(inner, SyncHolding | AsyncHolding) else made(inner, **options)


def _module_of(thing: object) -> HttpModule | None:
    """Which of the two a client or transport is of, by its classes."""
    roots = {kind.__module__.partition(".")[0] for kind in type(thing).__mro__}
    return next((module for module in _MODULES if module in roots), None)


def _installed() -> HttpModule:
    return next(module for module in _MODULES if find_spec(module) is not None)

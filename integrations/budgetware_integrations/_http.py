"""Transports that hold for each request, for httpx and httpx2 alike: neither is imported here.

Not here: what users call (`httpx`).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from budgetware import BudgetExceeded, Reservation, budgeted, reserve
from budgetware.errors import ConfigurationError, soft_termination

from ._billing import outcome_of_error
from ._model_calls import LONGEST_CALL, current_call
from ._requirements import require
from ._signals import pause_seconds
from ._tool_calls import ONE_CALL, Refused

if TYPE_CHECKING:
    from budgetware import Reject, Terminate, Throttle

HttpModule = Literal["httpx", "httpx2"]
RequestAmounts: TypeAlias = Mapping[str, Any] | Callable[[Any], Mapping[str, Any] | None]
"""What a request holds: amounts by dimension, for all of them; or a callable of the request, which
answers None where it costs nothing. Without `bytes` among them, those are estimated."""

MAX_RESPONSE_BYTES: Final = 1 << 20
UNKNOWN_BODY_BYTES: Final = 1 << 20
"""What is held for a body that is sent without its length, as of a generator."""
_VERSIONS: Final = {"httpx": ("0.27", "1"), "httpx2": ("2.0", "3")}
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """How the requests of a transport are held."""

    amounts: RequestAmounts = field(default_factory=lambda: ONE_CALL)
    max_response_bytes: int = MAX_RESPONSE_BYTES
    name: str | None = None
    policy: Throttle | Reject | Terminate | str | None = None
    max_wait: float | str | None = None
    refusal: Literal["raise", "response"] = "raise"

    def __post_init__(self) -> None:
        most: object = self.max_response_bytes
        if type(most) is not int or most < 0:
            raise ConfigurationError(f"max_response_bytes={most!r}: give an int of 0 or more")
        if self.refusal not in ("raise", "response"):
            raise ConfigurationError(f"refusal={self.refusal!r}: give 'raise' or 'response'")
        if not callable(self.amounts):
            _check_amounts(self.amounts)
        once: dict[str, Any] = {"bytes": 1} | ({} if callable(self.amounts) else {**self.amounts})
        budgeted(name=self.name, policy=self.policy, max_wait=self.max_wait, **once)(lambda: None)

    def exchange(self, request: Any) -> Exchange | None:
        """The exchange that a request begins; None where it holds nothing."""
        if current_call() is not None:
            return None
        given = self.amounts(request) if callable(self.amounts) else self.amounts
        if given is None:
            return None
        sent = _length(request.headers)
        body = UNKNOWN_BODY_BYTES if "transfer-encoding" in request.headers else sent or 0
        amounts: dict[str, Any] = {"bytes": body + self.max_response_bytes, **given}
        name = self.name or request.url.raw_host.decode("ascii", "replace")[:128]
        reservation = reserve(
            name=name or None,
            policy=self.policy,
            max_wait=self.max_wait,
            on_error=outcome_of_error,
            expires_in=LONGEST_CALL,
            **amounts,
        )
        return Exchange(reservation, sent)


def _check_amounts(amounts: object) -> None:
    is_mapping = isinstance(amounts, Mapping)
    if not is_mapping or not all(isinstance(dim, str) for dim in cast("Any", amounts)):
        raise ConfigurationError(
            f"amounts={amounts!r}: give a mapping such as {{'calls': 1}}, or a callable of the "
            "request that returns one, or None for a request that costs nothing"
        )


class Exchange:
    """One request and its answer: held before it is sent, settled to the bytes of both bodies."""

    __slots__ = ("_expected", "_reservation", "passed", "sent")

    def __init__(self, reservation: Reservation, sent: int | None) -> None:
        self._reservation: Reservation | None = reservation
        self._expected = math.inf
        self.sent = sent
        """Bytes of the request; None where only sending it will tell."""
        self.passed = sent or 0

    async def start(self) -> None:
        assert self._reservation is not None
        await self._reservation

    def start_sync(self) -> None:
        assert self._reservation is not None
        self._reservation.wait()

    def hear(self, request: Any, response: Any) -> None:
        """Take in the head of an answer."""
        seconds = pause_seconds(response.status_code, response.headers)
        if seconds > 0 and self._reservation is not None:
            self._reservation.pause(seconds)
        length = _length(response.headers)
        if request.method == "HEAD" or response.status_code in _BODILESS:
            length = 0
        if length is not None:
            self._expected = self.passed + length
        if response.is_closed:  # it was read already, as answers of mocks and caches are
            self.passed += response.num_bytes_downloaded or length or 0
            self.end()

    def leave(self) -> None:
        """End it where the answer is closed: early, unless all of it had come."""
        self.end(GeneratorExit() if self.passed < self._expected else None)

    def end(self, error: BaseException | None = None, *, broken: bool = False) -> None:
        """Settle to what went through; an error may say that nothing did. Once."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        if error is None:
            reservation.commit(bytes=self.passed)
        else:
            reservation.record(bytes=self.passed)
            reservation.cut(error, broken=broken)


def refusal_response(http: Any, error: Exception) -> Any:
    """An answer in place of an error, which clients do not send again."""
    word = "budget_exceeded" if isinstance(error, BudgetExceeded) else "budget_terminated"
    after = getattr(error, "retry_after", None)
    headers = {"x-should-retry": "false"}
    if after is not None:
        headers["retry-after"] = str(math.ceil(after))
    body = {"error": {"message": str(error), "type": word, "code": word}}
    return http.Response(429, headers=headers, json=body)


def _length(headers: Any) -> int | None:
    """The bytes of a body by its headers; None where they do not say."""
    if "transfer-encoding" in headers:
        return None
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


class SyncHolding:
    """The sync transport, but for its base class."""

    _http: Any
    _stream: Any

    def __init__(self, inner: Any = None, **settings: Any) -> None:
        self.settings = RequestSettings(**settings)
        self.inner = self._http.HTTPTransport() if inner is None else inner

    def handle_request(self, request: Any) -> Any:
        """Hold, send, settle when the answer has been read; raises as `reserve` does."""
        exchange = self.settings.exchange(request)
        if exchange is None:
            return self.inner.handle_request(request)
        try:
            self._start(exchange)
        except Refused as error:
            if self.settings.refusal == "raise":
                raise
            return refusal_response(self._http, error)
        body = request.stream
        if exchange.sent is None and hasattr(body, "__iter__"):
            request.stream = self._stream(body, _Sent(exchange))
        try:
            response = self.inner.handle_request(request)
        except BaseException as error:
            exchange.end(error)
            raise
        finally:
            request.stream = body
        exchange.hear(request, response)
        if not response.is_closed:
            response.stream = self._stream(response.stream, _Received(exchange))
        return response

    def _start(self, exchange: Exchange) -> None:
        if self.settings.refusal == "raise":
            exchange.start_sync()
        else:
            with soft_termination():
                exchange.start_sync()

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.inner.__exit__(kind, error, trace)


class AsyncHolding:
    """The async transport, but for its base class."""

    _http: Any
    _stream: Any

    def __init__(self, inner: Any = None, **settings: Any) -> None:
        self.settings = RequestSettings(**settings)
        self.inner = self._http.AsyncHTTPTransport() if inner is None else inner

    async def handle_async_request(self, request: Any) -> Any:
        """Hold, send, settle when the answer has been read; raises as `reserve` does."""
        exchange = self.settings.exchange(request)
        if exchange is None:
            return await self.inner.handle_async_request(request)
        try:
            await self._start(exchange)
        except Refused as error:
            if self.settings.refusal == "raise":
                raise
            return refusal_response(self._http, error)
        body = request.stream
        if exchange.sent is None and hasattr(body, "__aiter__"):
            request.stream = self._stream(body, _Sent(exchange))
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException as error:
            exchange.end(error)
            raise
        finally:
            request.stream = body
        exchange.hear(request, response)
        if not response.is_closed:
            response.stream = self._stream(response.stream, _Received(exchange))
        return response

    async def _start(self, exchange: Exchange) -> None:
        if self.settings.refusal == "raise":
            await exchange.start()
        else:
            with soft_termination():
                await exchange.start()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> Any:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.inner.__aexit__(kind, error, trace)


class _Sent:
    """What a request's body does to its exchange."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def end(self, error: BaseException | None = None) -> None:
        """Nothing: the answer ends it."""

    def leave(self) -> None:
        """Nothing, either."""


class _Received(_Sent):
    """What an answer's body does to its exchange: it ends it."""

    __slots__ = ()

    def end(self, error: BaseException | None = None) -> None:
        self.exchange.end(error, broken=isinstance(error, Exception))

    def leave(self) -> None:
        self.exchange.leave()


class _SyncCounted:
    """A body whose bytes are counted as they pass."""

    def __init__(self, stream: Any, side: _Sent) -> None:
        self._stream, self._side = stream, side

    def __iter__(self) -> Iterator[bytes]:
        side = self._side
        try:
            for chunk in self._stream:
                side.exchange.passed += len(chunk)
                yield chunk
        except BaseException as error:
            side.end(error)
            raise
        side.end()

    def close(self) -> None:
        self._side.leave()
        self._stream.close()


class _AsyncCounted:
    def __init__(self, stream: Any, side: _Sent) -> None:
        self._stream, self._side = stream, side

    async def __aiter__(self) -> AsyncIterator[bytes]:
        side = self._side
        try:
            async for chunk in self._stream:
                side.exchange.passed += len(chunk)
                yield chunk
        except BaseException as error:
            side.end(error)
            raise
        side.end()

    async def aclose(self) -> None:
        self._side.leave()
        await self._stream.aclose()


@cache
def make_transports(module: HttpModule) -> tuple[type[Any], type[Any]]:
    """The sync and the async transport over one of the two modules, which look at base classes.

    Raises:
        MissingFramework: the module is not installed.
    """
    require(module, *_VERSIONS[module])
    http: Any = import_module(module)
    names = {"_http": http, "__module__": __name__}
    sync_body = type("CountedStream", (_SyncCounted, http.SyncByteStream), {})
    async_body = type("AsyncCountedStream", (_AsyncCounted, http.AsyncByteStream), {})
    return (
        type("BudgetTransport", (SyncHolding, http.BaseTransport), names | {"_stream": sync_body}),
        type(
            "AsyncBudgetTransport",
            (AsyncHolding, http.AsyncBaseTransport),
            names | {"_stream": async_body},
        ),
    )

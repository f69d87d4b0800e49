"""The connection of one client that reads events. Not here: where they come from (`stream`)."""

from __future__ import annotations

import re

import anyio
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import BudgetwareError
from .failures import bad_request
from .operations import Call
from .queries import MOST_NUMBER
from .stream import AWAY_SECONDS, Broadcast, Client, Gap

BEAT_SECONDS = 15.0
STALL_SECONDS = 60.0
LEAVE_SECONDS = 0.5
MEDIA = "text/event-stream"
_HEADERS = {"Content-Type": f"{MEDIA}; charset=utf-8", "X-Accel-Buffering": "no"}
_HELLO = b"retry: 2000\n: events follow\n\n"
_BEAT = b": still here\n\n"
_NUMBER = re.compile(r"[0-9]{1,16}")


async def events(call: Call) -> ASGIApp:
    """Recorded events as they come, after a number or from now on."""
    sight = call.face.door_keeper.sight(call.caller, call.query.text("principal"))
    after = _after(call)
    if call.request.method == "HEAD":
        return Response(headers=_HEADERS)
    broadcast = call.face.broadcast()
    key = call.caller.key
    broadcast.join(key)
    try:
        client, lost = await call.face.worker.look(broadcast.begin, sight, after)
    except BaseException:
        broadcast.leave(key)
        raise
    hello = _HELLO
    if lost:
        hello += Gap(lost if sight.is_all else None).text()
    return EventStream(broadcast, client, hello, key)


def _after(call: Call) -> int | None:
    """`Last-Event-ID`, which a browser sends when it comes again, or the parameter."""
    given = call.request.headers.get("last-event-id")
    if not given:
        return call.query.number("after")
    if _NUMBER.fullmatch(given) is None or not given.isascii() or int(given) > MOST_NUMBER:
        raise bad_request("give the id of an event", "Last-Event-ID")
    return int(given)


class EventStream:
    """An answer that ends when the client goes, reads nothing for long, or the service ends."""

    def __init__(self, broadcast: Broadcast, client: Client, hello: bytes, key: str | None) -> None:
        self._broadcast = broadcast
        self._client = client
        self._hello = hello
        self._key = key

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until then."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                tasks.start_soon(self._until_closed, tasks.cancel_scope)
                tasks.start_soon(self._broadcast.pump)
                await self._send_all(send)
                tasks.cancel_scope.cancel()
        finally:
            self._broadcast.leave(self._key, self._client)
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            await _send(send, b"", is_last=True)

    async def _until_closed(self, scope: anyio.CancelScope) -> None:
        await self._broadcast.closed()
        scope.cancel()

    async def _send_all(self, send: Send) -> None:
        """Send; ends where the client takes nothing."""
        headers = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        is_taken = await _send(send, self._hello)
        while is_taken:
            is_taken = await _send(send, await self._next())

    async def _next(self) -> bytes:
        """What comes next: what it has missed, then what the pump hands to it."""
        while self._client not in self._broadcast.clients:
            try:
                texts = await self._broadcast.page(self._client)
            except BudgetwareError:  # the ledger is away: it is asked again
                await anyio.sleep(AWAY_SECONDS)
                return _BEAT
            if texts:
                return b"".join(texts)
        return await self._client.take(BEAT_SECONDS) or _BEAT


async def _send(send: Send, body: bytes, *, is_last: bool = False) -> bool:
    """Whether the client took it in time."""
    try:
        with anyio.move_on_after(STALL_SECONDS) as waiting:
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})
    except OSError:  # it is gone
        return False
    return not waiting.cancelled_caught


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

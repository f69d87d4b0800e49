"""What tests of the HTTP face ask with: keys, a client without a socket, a server with one."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Thread
from typing import Any

import httpx
import uvicorn

from budgetware.admin import Key
from budgetware.admin.serving import listen

SECRETS = {
    name: f"{name}-{'0123456789abcdef' * 2}" for name in ("ops", "eyes", "team-ops", "team-eyes")
}
KEYS = (
    Key("ops", SECRETS["ops"], "write"),
    Key("eyes", SECRETS["eyes"]),
    Key("team-ops", SECRETS["team-ops"], "write", "team"),
    Key("team-eyes", SECRETS["team-eyes"], "read", "team"),
)
URL = "http://localhost"
DEADLINE_SECONDS = 20.0


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[key]}"}


@asynccontextmanager
async def asking(
    app: Any, key: str | None = "ops", *, url: str = URL, **options: Any
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the application in this process."""
    headers = bearer(key) if key else {}
    transport = httpx.ASGITransport(app, **options)
    async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
        yield client


def until(is_so: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for something; fails after so long."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.005)


@contextmanager
def served(app: Any) -> Generator[str]:
    """The application behind a real socket; gives its URL."""
    taken = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app, lifespan="off", log_level="critical", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Events:
    """One reader of the stream: what came, in its order."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines: Iterator[str] = response.iter_lines()

    def next(self) -> dict[str, str]:
        """The next event, or a comment as `{"": …}`."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        raise EOFError

    def of(self, kind: str, count: int) -> list[dict[str, str]]:
        """The next so many events of a kind."""
        found: list[dict[str, str]] = []
        while len(found) < count:
            event = self.next()
            if event.get("event") == kind:
                found.append(event)
        return found


@contextmanager
def listening(
    url: str,
    *,
    after: int | None = None,
    key: str | None = None,
    params: dict[str, Any] | None = None,
) -> Generator[Events]:
    """A client that has joined the stream."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    headers |= bearer(key) if key else {}
    with (
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client,
        client.stream("GET", "/events", params=params, headers=headers) as response,
    ):
        assert response.status_code == 200
        events = Events(response)
        assert "retry" in events.next()
        yield events


def raw(url: str, request: bytes) -> socket.socket:
    """A connection that has sent these bytes."""
    host, port = url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)), timeout=DEADLINE_SECONDS)
    opened.sendall(request)
    return opened

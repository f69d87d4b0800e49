"""A real server of a service, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from budgetware import QuotaService
from budgetware.admin import Key, app

WRITER = "w" * 40
READER = "r" * 40
ALICE = "a" * 40
KEYS = (
    Key("writer", WRITER, "write"),
    Key("reader", READER, "read"),
    Key("alice", ALICE, "read", "alice"),
)


@contextmanager
def serving(service: QuotaService, *, has_keys: bool = True) -> Generator[str]:
    """Serve it; gives its URL."""
    keys = KEYS if has_keys else None
    config = uvicorn.Config(
        app(service, keys=keys, page=False), log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)

"""Serving the application with uvicorn, in a process of its own.

Not here: the command line, nor the application.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from uvicorn import Server

_BACKLOG = 2_048
_LEAVE_SECONDS = 1
_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked for, not bound
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]+|[0-9]+)){0,3}")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def is_local(host: str) -> bool:
    """Whether an address can be reached from this machine alone; a name may mean any."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(address_of(host)).is_loopback
    except ValueError:
        return False


def address_of(host: str) -> str:
    """A host as it is bound: `[::1]` is `::1`, and `127.1` is `127.0.0.1`; a name is itself."""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    if _NUMBERS.fullmatch(host) is None:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return host


def listen(host: str, port: int) -> socket.socket:
    """Take an address; port 0 is any that is free.

    Raises:
        ConfigurationError: it cannot be had.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            address_of(host), port, type=socket.SOCK_STREAM
        )[0]
        # By its protocol asyncio knows that small answers are to be sent at once.
        taken = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            return _bound(taken, address)
        except BaseException:
            taken.close()
            raise
    except (OSError, UnicodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "that is no address"
        raise ConfigurationError(
            f"cannot listen on {host[:253]!r}, port {port}: {why}; give another --host or --port"
        ) from None


def _bound(taken: socket.socket, address: Any) -> socket.socket:
    if os.name == "posix":
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if taken.family == socket.AF_INET6:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    taken.bind(address)
    taken.listen(_BACKLOG)
    return taken


def url_of(taken: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    address: tuple[str, int] = taken.getsockname()[:2]
    host, port = _ALL.get(address[0], address[0]), address[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(app: ASGIApp, taken: socket.socket, *, access_log: bool = False) -> None:
    """Serve until SIGINT or SIGTERM: open streams end, what is being answered has a second."""
    from uvicorn import Config, Server

    config = Config(
        app,
        access_log=access_log,
        lifespan="off",
        log_level="info" if access_log else "warning",
        proxy_headers=False,  # who is behind a proxy must not look like this machine
        server_header=False,
        timeout_graceful_shutdown=_LEAVE_SECONDS,
        ws="none",
    )
    server = Server(config)
    with _signals(server):
        server.run(sockets=[taken])


@contextmanager
def _signals(server: Server) -> Generator[None]:
    """Leave at once before it serves; uvicorn sends what it caught again when it has ended."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        if not server.should_exit:
            raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

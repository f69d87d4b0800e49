"""What every request passes, and every answer carries. Pure ASGI.

Not here: keys, which are a matter of each operation (`door_keeper`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigurationError
from .bodies import MOST_BYTES, too_large
from .failures import Failure

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY_HOST = "*"
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Gate:
    """An ASGI middleware: wrong hosts and large bodies stop here; answers get their headers.

    A page that a browser was lured to cannot ask for anything: its `Host` is another one.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = None) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {_host_of(host) for host in hosts or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        failure = self._refused(scope)
        app = self._app if failure is None else failure.response()
        await app(scope, receive, send_on)

    def _refused(self, scope: Scope) -> Failure | None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return Failure(400, "BadRequest", "Content-Length is no number")
        if len(length) > 12 or int(length) > MOST_BYTES:
            return too_large()
        if ANY_HOST in self._hosts or self._is_known(headers.getlist("host"), scope):
            return None
        return Failure(
            400, "UnknownHost", "this is no host that is served here; allow it by its name"
        )

    def _is_known(self, given: list[str], scope: Scope) -> bool:
        found = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if found is None:
            return False
        return found[1] in self._hosts or found[1] == _address_of(scope)


def _address_of(scope: Scope) -> str | None:
    """The address that the connection was made to, as a Host header writes it."""
    server = scope.get("server")
    try:
        address = ip_address(str(server[0])) if server else None
    except ValueError:
        return None
    if address is None:
        return None
    return str(address) if address.version == 4 else f"[{address}]"


def _host_of(given: object) -> str:
    """An allowed host as the Host header writes it, without port."""
    text = given.lower() if isinstance(given, str) else ""
    if text == ANY_HOST:
        return text
    if ":" in text and not text.startswith("["):
        text = f"[{text}]"
    if _HOST.fullmatch(text) is None:
        raise ConfigurationError(
            f"allow_hosts: {str(given)[:60]!r} is no host: give names or addresses without port, "
            "as in ['budget.example.org'], or '*' where something else checks the Host header"
        )
    return text

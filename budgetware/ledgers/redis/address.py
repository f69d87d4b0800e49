"""Where a server is, read from a URL. Not here: connecting (`connection`).

No message repeats the URL, since a password is part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...errors import ConfigurationError

SCHEMES = {
    "redis": False,
    "valkey": False,
    "redis+cluster": False,
    "valkey+cluster": False,
    "rediss": True,
    "valkeys": True,
    "rediss+cluster": True,
    "valkeys+cluster": True,
    "unix": False,
}
PORT = 6_379
NAMESPACE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Attributes:
        path: of a Unix socket, instead of host and port.
        namespace: what the keys of the service begin with.
        is_cluster: whether it must be a cluster; one is recognised also without.
        tls: options of redis-py's `SSLConnection`.
    """

    scheme: str
    host: str = "localhost"
    port: int = PORT
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    namespace: str = "budgetware"
    is_cluster: bool = False
    tls: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __str__(self) -> str:
        if self.path:
            return f"{self.scheme}://{self.path}"
        return f"{self.scheme}://{self.host}:{self.port}/{self.db}"

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is spoken."""
        return SCHEMES[self.scheme]


def _flag(text: str) -> bool:
    return text.lower() not in {"0", "false", "no"}


TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": str,
    "ssl_check_hostname": _flag,
}


def parse(url: str) -> Address:
    """Read a URL such as `redis://user:password@host:6379/0?namespace=shop`.

    Raises:
        ConfigurationError: it is not one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong("its host or port cannot be read; quote special characters") from None
    if parts.scheme not in SCHEMES:
        raise _wrong("the scheme is one of " + ", ".join(SCHEMES))
    if parts.fragment:
        raise _wrong("write # as %23")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    namespace = options.pop("namespace", "budgetware")
    if not NAMESPACE.fullmatch(namespace):
        raise _wrong("a namespace is 1 to 64 letters, digits and . _ : -")
    is_cluster = parts.scheme.endswith("+cluster") | _flag(options.pop("cluster", "no"))
    db = _db(parts, options)
    if is_cluster and db:
        raise _wrong("a cluster has only database 0")
    return Address(
        parts.scheme,
        parts.hostname or "localhost",
        port or PORT,
        unquote(parts.path) if parts.scheme == "unix" else "",
        db,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        namespace,
        is_cluster,
        _tls(options, is_encrypted=SCHEMES[parts.scheme]),
    )


def _wrong(why: str) -> ConfigurationError:
    return ConfigurationError(f"the URL of the ledger is wrong: {why}")


def _db(parts: SplitResult, options: dict[str, str]) -> int:
    text = options.pop("db", "")
    if not text and parts.scheme != "unix":
        text = parts.path.strip("/")
    if not re.fullmatch(r"[0-9]{0,6}", text):
        raise _wrong("the database is a number")
    return int(text or 0)


def _tls(options: dict[str, str], *, is_encrypted: bool) -> dict[str, Any]:
    known = list(TLS_OPTIONS) if is_encrypted else []
    unknown = len(set(options) - set(known))
    if unknown:
        names = ", ".join(["namespace", "cluster", "db", *known])
        raise _wrong(f"its parameters may be {names}, and {unknown} of them are others")
    return {name: TLS_OPTIONS[name](text) for name, text in options.items()}

"""The line to the server: one connection, in a cluster to the node that has the keys.

All keys of a service are in one slot, so one connection is enough for a cluster, too. redis-py
connects, logs in and reads; when to try again is decided here, and only once: every step may be
sent twice and counts once. Not here: what is sent (`ledger`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from ...errors import ConfigurationError, LedgerUnavailable
from .address import Address
from .failures import code_of, failure
from .scripts import command

MAX_REDIRECTS = 3
MAX_KNOWN = 16
LEAVE = {"READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"}
"""After these another server may be the right one."""

Place = tuple[str, int]


def client() -> ModuleType:
    """redis-py, imported when it is needed."""
    try:
        return import_module("redis.connection")
    except ImportError as missing:
        raise ConfigurationError(
            'a ledger in Redis needs redis-py: pip install "budgetware[redis]"'
        ) from missing


def section(text: bytes) -> dict[str, str]:
    """Read what `INFO` says."""
    lines = [line.partition(":") for line in text.decode("utf-8", "replace").splitlines()]
    return {name: value.strip() for name, colon, value in lines if colon}


class Connection:
    """A connection that is made when something is sent, and dropped after every doubt."""

    def __init__(self, address: Address, tag: bytes, timeout_seconds: float) -> None:
        self._address = address
        self._tag = tag
        self._timeout_seconds = timeout_seconds
        self._client = client()
        self._exceptions = import_module("redis.exceptions")
        self._retry: Any = import_module("redis.retry").Retry
        self._backoff: Any = import_module("redis.backoff").NoBackoff
        self._slot_of: Callable[[bytes], int] = import_module("redis.crc").key_slot
        self._wire: Any = None
        self._at: Place | None = None
        self._known: list[Place] = []
        self.server: dict[str, str] = {}
        self.has_worked = False

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as it knows."""
        return self._wire is not None

    def drop(self) -> None:
        """Disconnect; the next exchange connects again."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.disconnect()

    def exchange(self, packet: bytes, count: int = 1) -> list[Any]:
        """Send commands, and return their replies; what the server refused is an exception.

        Raises:
            LedgerUnavailable: nobody knows whether it was taken.
        """
        is_last_try = not self.is_open
        while True:
            self._connect()
            try:
                replies = self._exchange(packet, count)
            except BaseException as error:
                self.drop()
                if not isinstance(error, (OSError, ValueError, self._exceptions.RedisError)):
                    raise
                if is_last_try or not self._was_closed(error):
                    raise self.failure(error) from error
            else:
                moved = next((reply for reply in replies if code_of_reply(reply) == "MOVED"), None)
                if moved is None or is_last_try:
                    return self._checked(replies)
                self._follow(str(moved))
            is_last_try = True

    def _exchange(self, packet: bytes, count: int) -> list[Any]:
        self._wire.send_packed_command([packet], check_health=False)
        return [self._read() for _ in range(count)]

    def _read(self) -> Any:
        try:
            return self._wire.read_response(disable_decoding=True)
        except self._exceptions.ResponseError as refusal:
            return refusal

    def _was_closed(self, error: BaseException) -> bool:
        """Whether an idle connection had ended, rather than the server being slow, or refusing."""
        return isinstance(error, self._exceptions.ConnectionError) and not code_of(error)

    def _checked(self, replies: list[Any]) -> list[Any]:
        if any(code_of_reply(reply) in LEAVE for reply in replies):
            self.drop()
        return replies

    def failure(self, error: BaseException) -> Exception:
        """What to raise instead of this error."""
        return failure(
            error, self._address, self._address.password, is_first=not self.has_worked
        )  # fmt: skip

    def _follow(self, moved: str) -> None:
        """Connect to where the slot is: `MOVED 3999 host:6381`, or without the first word."""
        self.drop()
        host, _, port = moved.rsplit(" ", 1)[-1].rpartition(":")
        here = self._at or (self._address.host, self._address.port)
        self._at = (host or here[0], int(port)) if port.isdigit() else None

    def _connect(self) -> None:
        """Connect, in a cluster to the node that has the keys."""
        if self.is_open:
            return
        deadline = time.monotonic() + self._timeout_seconds
        problem: BaseException | None = None
        for place in self._places():
            if problem is not None and time.monotonic() > deadline:
                break
            try:
                self._reach(place)
            except ConfigurationError:
                self.drop()
                raise
            except (OSError, ValueError, LookupError, self._exceptions.RedisError) as error:
                self.drop()
                problem = error
            else:
                return
        self._at = None
        assert problem is not None
        raise self.failure(problem) from problem

    def _places(self) -> list[Place]:
        start = (self._address.host, self._address.port)
        return list(dict.fromkeys([*([self._at] if self._at else []), start, *self._known]))

    def _reach(self, place: Place) -> None:
        for _ in range(MAX_REDIRECTS):
            self._wire = self._make(place)
            self._wire.connect()
            (reply,) = self._exchange(command(b"INFO", b"server"), 1)
            if isinstance(reply, Exception):
                raise reply
            self.server = section(reply)
            owner = self._owner(place) if self._is_cluster() else place
            if owner == place:
                self._at = place
                return
            self.drop()
            place = owner
        raise self._exceptions.ConnectionError("the nodes of the cluster disagree who has the keys")

    def _is_cluster(self) -> bool:
        mode = self.server.get("redis_mode", self.server.get("server_mode"))
        if self._address.is_cluster and mode != "cluster":
            raise ConfigurationError(f"{self._address} is not a cluster")
        return mode == "cluster"

    def _owner(self, place: Place) -> Place:
        """Where the node is that has the slot of the keys; this place, if it has it."""
        packet = command(b"CLUSTER", b"MYID") + command(b"CLUSTER", b"SLOTS")
        myself, slots = self._exchange(packet, 2)
        if not isinstance(myself, bytes) or not isinstance(slots, list):
            raise slots if isinstance(slots, Exception) else ValueError("no answer to CLUSTER")
        found = cast("list[list[Any]]", slots)
        nodes: list[tuple[range, bytes, Place]] = []
        for first, last, master, *_ in found:
            host = str(master[0] or b"", "utf-8") or place[0]
            nodes.append((range(first, last + 1), master[2], (host, int(master[1]))))
        self._known = [where for _, _, where in nodes][:MAX_KNOWN]
        slot = self._slot_of(self._tag)
        for slots_of_it, name, where in nodes:
            if slot in slots_of_it:
                return place if name == myself else where
        raise self._exceptions.ConnectionError(f"CLUSTERDOWN no node has slot {slot}")

    def _make(self, place: Place) -> Any:
        address = self._address
        options: dict[str, Any] = {
            "db": address.db,
            "username": address.username,
            "password": address.password,
            "socket_timeout": self._timeout_seconds,
            "socket_connect_timeout": self._timeout_seconds,
            "retry": self._retry(self._backoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,  # no messages between the replies
        }
        if address.path:
            return self._client.UnixDomainSocketConnection(path=address.path, **options)
        options |= {"host": place[0], "port": place[1], **address.tls}
        kind = self._client.SSLConnection if address.is_encrypted else self._client.Connection
        return kind(**options)

    def misfit(self, what: str) -> LedgerUnavailable:
        """Drop the connection, since a reply does not belong to what was asked."""
        self.drop()
        return LedgerUnavailable(f"the ledger at {self._address} did not take it: {what}")


def code_of_reply(reply: object) -> str:
    """What the server refused it with; `""`: it did not."""
    return code_of(reply) if isinstance(reply, Exception) else ""

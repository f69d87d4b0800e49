"""Whether a server keeps what it was told: what is asked of it when a ledger opens and closes.

Not here: what a server that has lost something does, which is `guard` in `common.lua`.
"""

from __future__ import annotations

from typing import Any

from ...errors import ConfigurationError, LedgerUnavailable
from .connection import Connection, section
from .scripts import command

WORDS = (None, "normal", "full", "none")


def checked(durability: str | None) -> str:
    """One of the words, None being `"normal"`."""
    if durability not in WORDS:
        raise ConfigurationError(f'durability is "normal", "full" or "none", not {durability!r}')
    return durability or "normal"


def check(connection: Connection, durability: str, where: str, timeout_seconds: float) -> bytes:
    """See that the server keeps what it must; return the command to wait for that, or none.

    Raises:
        ConfigurationError: it does not.
    """
    packet = command(b"INFO", b"persistence") + command(b"INFO", b"memory")
    persistence, memory = connection.exchange(packet, 2)
    for name, reply in (("persistence", persistence), ("memory", memory)):
        if isinstance(reply, Exception):
            raise connection.failure(reply) from reply
        if name.encode() not in bytes(reply[:40]).lower():  # "# Persistence"
            raise connection.misfit("the reply belongs to another request")
    if durability == "none":
        return b""
    evicts = section(memory).get("maxmemory_policy", "")
    if evicts.startswith("allkeys") and section(memory).get("maxmemory") != "0":
        raise ConfigurationError(
            f"the ledger at {where} throws balances away when its memory is full ({evicts}): set "
            'its maxmemory-policy to noeviction, or accept that with durability="none"'
        )
    if section(persistence).get("aof_enabled") != "1":
        raise ConfigurationError(
            f"the ledger at {where} would lose balances when it is restarted: set its appendonly "
            'to yes, or accept that with durability="none"'
        )
    return _full(connection, where, timeout_seconds) if durability == "full" else b""


def _full(connection: Connection, where: str, timeout_seconds: float) -> bytes:
    (setting,) = connection.exchange(command(b"CONFIG", b"GET", b"appendfsync"))
    if isinstance(setting, list) and setting[1:] == [b"always"]:
        return b""
    (reply,) = connection.exchange(command(b"WAITAOF", b"0", b"0", b"1"))
    if isinstance(reply, list):
        return wait(timeout_seconds)
    raise ConfigurationError(
        f'durability="full" asks of the ledger at {where} that its appendfsync is always, or that '
        "it knows WAITAOF (Redis 7.2 and Valkey do)"
    )


def wait(timeout_seconds: float) -> bytes:
    """The command that waits until the steps of this connection are on the server's disk."""
    return command(b"WAITAOF", b"1", b"0", b"%d" % max(1, int(timeout_seconds * 900)))


def confirm(connection: Connection, reply: Any) -> None:
    """See that it waited long enough."""
    if not isinstance(reply, list):
        raise connection.misfit("it cannot tell whether it is on its disk")
    if reply[0] < 1:
        raise LedgerUnavailable("the ledger did not have it on its disk in time")


def flush(connection: Connection, timeout_seconds: float) -> None:
    """Wait for the disk if that is possible; what was answered holds without it, too."""
    try:
        connection.exchange(wait(timeout_seconds))
    except LedgerUnavailable:
        return

"""From the address of a ledger to the ledger. Not here: opening it."""

from __future__ import annotations

import re
from typing import cast

from ..errors import ConfigurationError
from ..kernel.dims import show
from .protocol import Ledger

MEMORY = "memory://"
SCHEMES = (MEMORY, "sqlite:///", "redis://", "rediss://", "valkey://")
DURABILITIES = ("normal", "full", "none")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:/{0,3}")
_WORD = re.compile(r"[A-Za-z0-9_./-]{1,60}")


def ledger_at(address: object, durability: str | None = None) -> Ledger | None:
    """Return the ledger of an address, not opened yet; None for the memory of this process.

    One that is a ledger already is returned as it is.

    Raises:
        ConfigurationError: it is no address of a ledger, or has no such durability. The message
            repeats no more of the address than its scheme, as the rest may hold a password.
    """
    if durability not in (None, *DURABILITIES):
        raise ConfigurationError(f"durability={str(durability)[:40]!r}: give one of {DURABILITIES}")
    if address == MEMORY:
        return None
    if all(callable(getattr(address, name, None)) for name in ("open", "define", "sync", "close")):
        return cast("Ledger", address)
    if not isinstance(address, str):
        raise ConfigurationError(f"ledger={show(address)}: give its address, or a Ledger")
    if not address.startswith(SCHEMES) or not address.isprintable() or len(address) > 2_048:
        known = ", ".join(SCHEMES)
        raise ConfigurationError(
            f"ledger={_shown(address)}: this is no address of a ledger: give one that begins with "
            f"{known}"
        )
    if address.startswith(MEMORY):
        raise ConfigurationError("the memory of this process is memory://, and takes no more")
    if address.startswith("sqlite:"):
        from .sqlite import SqliteLedger

        if durability == "none":
            raise ConfigurationError(
                "durability='none' is for Redis: SQLite has 'normal' and 'full'"
            )
        return SqliteLedger(
            _path_of(address), durability="full" if durability == "full" else "normal"
        )
    from .redis import RedisLedger

    return RedisLedger(address, durability=durability)


def _shown(address: str) -> str:
    """What may be shown of what is no address: its scheme, or a word that can be no more."""
    if _WORD.fullmatch(address):
        return repr(address)
    scheme = _SCHEME.match(address)
    return "…" if scheme is None else f"{scheme[0]}…"


def _path_of(address: str) -> str:
    """`sqlite:///file` is a file here, `sqlite:////tmp/file` one from the root."""
    path = address.removeprefix("sqlite:///")
    if not path or "?" in path or "#" in path:
        raise ConfigurationError(
            "a SQLite ledger is a file and takes no parameters: write sqlite:///budgetware.db, or "
            "sqlite:////var/lib/agents/budgetware.db for one from the root"
        )
    return path

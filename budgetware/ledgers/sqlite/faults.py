"""What an error of SQLite means to those who use a ledger. Not here: what is done about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...errors import BudgetwareError, ConfigurationError, LedgerUnavailable

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_AWAY = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_UNFIT = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
Fault = sqlite3.Error | OverflowError | UnicodeEncodeError


def _code(error: Fault) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of the bits are details


def is_busy(error: Fault) -> bool:
    """Say whether another connection had a lock, which passes."""
    return _code(error) in _BUSY


def is_lasting(error: Fault) -> bool:
    """Say whether the connection is no good any more."""
    return _code(error) not in {0, sqlite3.SQLITE_FULL, *_BUSY, *_UNFIT}


def locked(path: Path, timeout_seconds: float) -> LedgerUnavailable:
    """The error of a ledger whose lock others had all the time."""
    return LedgerUnavailable(
        f"the ledger {path} was locked by others for {timeout_seconds:g} seconds: try again, and "
        "see whether a process or a tool keeps a transaction open"
    )


def gone(path: Path) -> LedgerUnavailable:
    """The error of a ledger whose file has vanished."""
    return LedgerUnavailable(
        f"the ledger {path} was moved or deleted while it was in use: put it back, then try again"
    )


def typed(error: Fault, path: Path) -> BudgetwareError:
    """The error of the tree that says what to do about it; `ConfigurationError`: not by waiting."""
    code, said = _code(error), str(error)
    if code == sqlite3.SQLITE_FULL:
        return LedgerUnavailable(
            f"the ledger {path} has no room for more ({said}): free some space, then try again"
        )
    if code in _AWAY:
        return LedgerUnavailable(
            f"the ledger {path} cannot be read or written now ({said}): see to its disk and "
            "directory, then try again"
        )
    if code in _FORBIDDEN:
        return ConfigurationError(
            f"the ledger {path} may not be written ({said}): make it and its directory writable "
            "for this process"
        )
    if not code or code in _UNFIT:
        return ConfigurationError(
            f"the ledger {path} cannot keep what it was given ({said}): pass ints and text"
        )
    return ConfigurationError(
        f"the ledger {path} is damaged, or no ledger at all ({said}): put a copy of it back, or "
        "name another file"
    )

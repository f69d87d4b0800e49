"""The file of a ledger: made for its owner alone, checked before it is touched, and opened.

Not here: what is done with it once it is open (`database`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection

from ...errors import ConfigurationError, LedgerUnavailable
from . import boot, schema
from .faults import gone

_OLDEST_SQLITE = (3, 37)
"""The first with STRICT tables."""


def make(path: Path) -> None:
    """Make an empty file that only its owner may read, unless there is one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        return
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"the ledger {path} cannot be made, for {path.parent} is no directory: make it, or "
            "name a file elsewhere"
        ) from error
    except PermissionError as error:
        raise ConfigurationError(
            f"the ledger {path} cannot be made ({error.strerror}): make {path.parent} writable "
            "for this process, or name a file elsewhere"
        ) from error
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger {path} cannot be made now ({error.strerror}): see to the disk, then try "
            "again"
        ) from error
    os.close(descriptor)


def identity(path: Path) -> tuple[int, int]:
    """What tells a file from another one of the same name."""
    try:
        found = path.stat()
    except OSError as error:
        raise gone(path) from error
    return found.st_dev, found.st_ino


def connect(path: Path, *, synchronous: str, now_us: Callable[[], int]) -> Connection:
    """Open a file that is there: check it, and make or migrate what is in it.

    Raises:
        ConfigurationError: it is not fit for a ledger; nothing in it has changed.
        sqlite3.Error: as it comes.
    """
    _check_access(path)
    # Whatever may not be opened must not be: that alone leaves files beside it. An immutable one
    # is only read, without a lock. Nor must it be read by other means than SQLite, for closing
    # a file lets go of all locks that the process has on it.
    try:
        with closing(_open(path, "mode=ro&immutable=1")) as reader:
            _check_version(path, reader)
    except sqlite3.DatabaseError as error:
        # Without a lock it may look torn while others write it; with one that is seen below.
        if error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT:
            raise
    connection = _open(path, "mode=rw")
    try:
        _prepare(path, connection, synchronous, now_us)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path, parameters: str) -> Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?{parameters}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,  # made in one thread, closed in another: never used by two at once
    )


def _check_access(path: Path) -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version} is too old for a ledger: use a Python with SQLite "
            "3.37 or newer"
        )
    if not path.is_file():
        raise ConfigurationError(f"the ledger {path} is not a file: name a file")
    if path.stat().st_size == 1:  # which SQLite takes for none, and writes over
        raise _foreign(path)
    is_effective = os.access in os.supports_effective_ids
    for what, mode in ((path, os.R_OK | os.W_OK), (path.parent, os.W_OK | os.X_OK)):
        if not os.access(what, mode, effective_ids=is_effective):
            raise ConfigurationError(
                f"the ledger {path} cannot be used, for {what} may not be written: make it "
                "writable for this process, or name a file elsewhere"
            )


def _check_version(path: Path, connection: Connection) -> None:
    mark: int = connection.execute("PRAGMA application_id").fetchone()[0]
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if mark not in {0, schema.APPLICATION_ID} or (found and not mark):
        raise _foreign(path)
    if found > schema.version():
        raise ConfigurationError(
            f"the ledger {path} is of version {found}, and this program knows {schema.version()}: "
            "upgrade budgetware, or name another file"
        )


def _foreign(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} is the database of another program: name another file for the ledger"
    )


def _is_current(connection: Connection, now_us: int) -> bool:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found == schema.version() and boot.is_known(connection, now_us)


def _prepare(
    path: Path, connection: Connection, synchronous: str, now_us: Callable[[], int]
) -> None:
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # Once more, now that what others have written lately is read, too.
    connection.execute("BEGIN")
    _check_version(path, connection)
    mark: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if not mark and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise _foreign(path)
    connection.execute("COMMIT")
    mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigurationError(
            f"the ledger {path} cannot be shared, for its file system has no shared memory "
            f"(journal mode {mode!r}): name a file on a local disk"
        )
    if _is_current(connection, now_us()):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_version(path, connection)
        schema.migrate(connection)
        now = now_us()  # by now nobody else can write a later one
        if not boot.is_known(connection, now):
            boot.note(connection, now)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    # Into the file itself, where a program that is older looks for the version first.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

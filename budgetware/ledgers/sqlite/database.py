"""Transactions on the file: each is taken as a whole or not at all, and may be tried again.

The lock of a database is for forks, and not for threads: a connection that goes through a fork
makes SQLite believe, in the child, that the child has locks which only the parent has, and then
what the child writes can be lost. So connections are closed before a fork, and made anew after
it. Not here: what is read and written (`ledger`).
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from threading import RLock
from time import sleep
from typing import TypeVar
from weakref import WeakSet

from ...errors import ConfigurationError
from . import faults, file
from .backoff import pauses

T = TypeVar("T")

CHECKPOINT_PAGES = 2_000
"""So many pages of the log come together before they go into the file, which waits for a disk."""


class Database:
    """The file of one ledger, open or not.

    Args:
        path: absolute.
        synchronous: what SQLite is to wait for: `"NORMAL"` or `"FULL"`.
        now_us: the clock of leases.
    """

    def __init__(
        self, path: Path, *, synchronous: str, timeout_seconds: float, now_us: Callable[[], int]
    ) -> None:
        self.path = path
        self._synchronous = synchronous
        self._timeout_seconds = timeout_seconds
        self._now_us = now_us
        self._lock = RLock()
        self._connection: Connection | None = None
        self._identity = (0, 0)
        self._process = 0
        self._is_open = False
        self._is_in_use = False

    def open(self) -> None:
        """Open the file, which is made where there is none."""
        if self._is_open:
            return
        with _opening:
            file.make(self.path)
            _databases.add(self)
            self._is_open = True
            try:
                self.read(_nothing)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the file; the last one to do so empties its log."""
        with self._lock:
            self._is_open = False
            self._disconnect()

    def write(self, step: Callable[[Connection], T]) -> T:
        """Do what is all one change, with nobody else writing meanwhile.

        Args:
            step: called again where others had a lock, so it must change nothing else.
        """
        return self._run("BEGIN IMMEDIATE", step)

    def read(self, step: Callable[[Connection], T]) -> T:
        """Read what was true at one time."""
        return self._run("BEGIN", step)

    def _run(self, begin: str, step: Callable[[Connection], T]) -> T:
        waits = None
        while True:
            try:
                with self._lock:
                    self._is_in_use = True
                    try:
                        return self._attempt(begin, step)
                    finally:
                        self._is_in_use = False
            except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                if not faults.is_busy(error):
                    raise faults.typed(error, self.path) from error
                waits = waits or pauses(self._timeout_seconds)
                pause = next(waits, None)
                if pause is None:
                    raise faults.locked(self.path, self._timeout_seconds) from error
            sleep(pause)

    def _attempt(self, begin: str, step: Callable[[Connection], T]) -> T:
        connection = self._connected()
        try:
            connection.execute(begin)
            result = step(connection)
            self._check_process(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._clean_up(connection, error)
            raise
        return result

    def _clean_up(self, connection: Connection, error: BaseException) -> None:
        """Take back what was not committed. If it is not clear that this works, begin anew."""
        if self._process != os.getpid():
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect()
        if isinstance(error, sqlite3.Error) and faults.is_lasting(error):
            self._disconnect()

    def _connected(self) -> Connection:
        """The connection to the file that has the name now, unless that has no file."""
        if not self._is_open:
            raise ConfigurationError(f"the ledger {self.path} is not open: open() it first")
        if self._connection is not None:
            self._check_process(self._connection)
        try:
            identity = file.identity(self.path)
        except BaseException:
            self._disconnect()
            raise
        if self._connection is None or identity != self._identity:
            self._disconnect()
            connection = file.connect(self.path, synchronous=self._synchronous, now_us=self._now_us)
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            self._connection, self._identity = connection, identity
            self._process = os.getpid()
        return self._connection

    def _check_process(self, connection: Connection) -> None:
        """Refuse a connection that has come here through a fork."""
        if self._process != os.getpid():
            _keep(connection)
            raise ConfigurationError(
                f"the ledger {self.path} was in use while this process was forked off: fork "
                "before connect(), or start processes by spawn"
            )

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._process != os.getpid():
            _keep(connection)
        else:
            with suppress(sqlite3.Error):
                connection.close()

    def before_fork(self) -> None:
        """Have no connection while the process forks, unless it forks in the middle of a call."""
        self._lock.acquire()
        if not self._is_in_use:
            self._disconnect()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child, each with a connection of its own."""
        self._lock.release()


def _nothing(_connection: Connection) -> None:
    """Only connect."""


def _keep(connection: Connection) -> None:
    """Never have a connection closed: in a child that would undo what the parent is writing."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


_databases = WeakSet[Database]()
_opening = RLock()
_held: list[Database] = []


def _before_fork() -> None:
    _opening.acquire()
    for database in list(_databases):
        _held.append(database)
        database.before_fork()


def _after_fork() -> None:
    while _held:
        _held.pop().after_fork()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )

"""A lock file: who holds it is alive. Not here: what it stands for (`letter_files`)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigurationError

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


def check_platform() -> None:
    """Raise unless there are such locks here."""
    if find_spec("fcntl") is None:
        raise ConfigurationError(
            "outbox=… needs locks of files that end with their process, which this platform has "
            "not: leave it out"
        )


class FileLock:
    """One lock, taken or not; it ends with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it, unless another process, or another one here, has it; raises `OSError`."""
        import fcntl

        while self._descriptor is None:
            descriptor = os.open(self._path, _FLAGS, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            if _is_at(descriptor, self._path):
                self._descriptor = descriptor
                _held.add(self)
            else:  # whoever had it before has removed the file
                os.close(descriptor)
        return True

    def remove(self) -> None:
        """Remove the file, and let go; only who has it may do so."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Let others have it."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file that is open is still the one with that name."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


_held: set[FileLock] = set()


def _in_child() -> None:
    """What the parent holds must end with the parent."""
    for lock in list(_held):
        lock.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

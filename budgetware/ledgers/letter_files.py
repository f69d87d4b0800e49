"""The directory where processes leave their letters: a file for each, and one of usage events.

Whoever lives has the lock beside its letter; a letter that nobody has locked is of the dead. Not
here: what letters say (`letters`), and taking them up (`outbox`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..errors import ConfigurationError
from .file_lock import FileLock
from .letters import Letter, Unreadable, read_letter, read_row, row_text
from .terms import UsageRow

MAX_LETTERS = 1_000
"""So many letters are kept in one directory."""
MAX_LETTER_BYTES = 64 * 2**20
MAX_ROWS_BYTES = 256 * 2**20
_BATCH = 1_000
_STEM = re.compile(r"[0-9a-f]{24}")
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_OTHERS_MAY_WRITE = 0o022


def make_directory(path: Path) -> None:
    """Make it, for its owner alone, unless it is there.

    Raises:
        ConfigurationError: it cannot be made or written to, or others may write to it.
    """
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.stat()
        os.listdir(path)  # noqa: PTH208 - raises at once
    except OSError as error:
        raise ConfigurationError(
            f"outbox={str(path)!r} is no directory that this process may use ({error.strerror}): "
            "name one, whose parent is there"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_MAY_WRITE:
        raise ConfigurationError(
            f"outbox={str(path)!r} must belong to the user of this process, and nobody else may "
            "write to it, for what is in it is booked: chmod 700, or name another one"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigurationError(f"outbox={str(path)!r} cannot be written to: chmod 700")


def stems(path: Path) -> list[str]:
    """The names of holders that have, or had, something there."""
    names = (Path(name) for name in os.listdir(path))  # noqa: PTH208 - names will do
    found = {name.stem for name in names if name.suffix in (".json", ".lock")}
    return sorted(stem for stem in found if _STEM.fullmatch(stem))


class LetterFile:
    """The letter of one holder, and its usage events."""

    def __init__(self, directory: Path, stem: str) -> None:
        self._directory = directory
        self._stem = stem
        self.lock = FileLock(self.path(".lock"))
        self._size = 0

    def path(self, suffix: str) -> Path:
        """One of its files."""
        return self._directory / (self._stem + suffix)

    def write(self, letter: Letter) -> None:
        """Replace the letter, as a whole; raises `OSError`."""
        text = letter.text().encode()
        if len(text) > MAX_LETTER_BYTES:
            raise OSError(0, f"it has more than {MAX_LETTER_BYTES} bytes")
        draft = self.path(".tmp")
        try:
            _write(draft, 0, text)
            draft.replace(self.path(".json"))
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        self._settle()

    def append(self, rows: Sequence[UsageRow]) -> None:
        """Add usage events, all of them or none; raises `OSError`."""
        text = "".join(map(row_text, rows)).encode()
        if self._size + len(text) > MAX_ROWS_BYTES:
            raise OSError(0, f"its usage events have more than {MAX_ROWS_BYTES} bytes")
        _write(self.path(".rows"), self._size, text)
        if not self._size:
            self._settle()
        self._size += len(text)

    def _settle(self) -> None:
        """Have the names of files outlive a loss of power."""
        descriptor = os.open(self._directory, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> Letter | None:
        """Read the letter; None: there is none. Raises `OSError`, `Unreadable`."""
        try:
            with self.path(".json").open("rb") as opened:
                text = opened.read(MAX_LETTER_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(text) > MAX_LETTER_BYTES:
            raise Unreadable(f"it has more than {MAX_LETTER_BYTES} bytes")
        return read_letter(text)

    def rows(self) -> Iterator[list[UsageRow]]:
        """Read the usage events, in batches; the last one may have been cut off by a death."""
        try:
            opened = self.path(".rows").open("rb")
        except FileNotFoundError:
            return
        with opened:
            lines = iter(lambda: opened.readline(MAX_LETTER_BYTES), b"")
            while batch := list(islice(lines, _BATCH)):
                yield [read_row(line) for line in batch if line.endswith(b"\n")]

    def clear(self) -> None:
        """Remove letter and events; raises `OSError`."""
        self._size = 0
        for suffix in (".rows", ".json", ".tmp"):  # without a letter nobody looks for events
            self.path(suffix).unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Have nobody take it up again; raises `OSError`."""
        for suffix in (".rows", ".json"):
            with suppress(FileNotFoundError):
                self.path(suffix).replace(self.path(suffix + ".broken"))


def _write(path: Path, at: int, text: bytes) -> None:
    """Write there, in place of all that comes after, and have it outlive a loss of power."""
    descriptor = os.open(path, _FLAGS, 0o600)
    with os.fdopen(descriptor, "r+b") as opened:
        opened.truncate(at)
        opened.seek(at)
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())

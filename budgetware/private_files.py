"""Files of secrets, read only where nobody but their owner may use them.

Not here: what is in them.
"""

from __future__ import annotations

import os
import stat

from .errors import ConfigurationError

MOST_FILE_BYTES = 1 << 16


def read_private(path: str, what: str) -> bytes:
    """Return what is in a small file that nobody but its owner may read or write.

    Args:
        what: the setting that named it, for messages.

    Raises:
        ConfigurationError: it cannot be read, is too large, or others may use it.
    """
    try:
        return _read(path, what)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise ConfigurationError(f"{what}: {path}: {reason}") from None


def _read(path: str, what: str) -> bytes:
    # Without waiting, should it be a pipe.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(number, "rb") as file:  # noqa: PTH123 - what was opened is what is looked at
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{what}: {path} is no file")
        if os.name == "posix" and status.st_mode & 0o077:
            raise ConfigurationError(
                f"{what}: others than its owner may use {path} "
                f"(mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 it"
            )
        content = file.read(MOST_FILE_BYTES + 1)
    if len(content) > MOST_FILE_BYTES:
        raise ConfigurationError(f"{what}: {path} has more than {MOST_FILE_BYTES} bytes")
    return content

"""The keyboard, read without waiting for Enter; the terminal is as it was afterwards.

Not here: what keys do (`state`).
"""

import os
import select
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

NAMED = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left",
    b"\x1bOA": "up", b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left",
    b"\x1b[5~": "page_up", b"\x1b[6~": "page_down", b"\x1b[H": "home", b"\x1b[F": "end",
    b"\x1bOH": "home", b"\x1bOF": "end", b"\x1b[1~": "home", b"\x1b[4~": "end",
    b"\x1b[Z": "back_tab", b"\t": "tab", b"\x1b": "escape",
}  # fmt: skip
_ESCAPE = 0x1B
SCANNED = {"H": "up", "P": "down", "K": "left", "M": "right", "I": "page_up", "Q": "page_down",
           "G": "home", "O": "end"}  # fmt: skip
_REST_SECONDS = 0.05
_POLL_SECONDS = 0.02


class Keyboard(Protocol):
    """Who is asked for keys."""

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys, at most so long; return their names, or the characters they are."""
        ...


def decode(pressed: bytes, *, is_all: bool = True) -> tuple[list[str], bytes]:
    """Read keys from what a terminal sends; return them, and what may yet become one.

    Args:
        is_all: nothing follows: a lone escape is a key.
    """
    keys: list[str] = []
    while pressed:
        size = _size(pressed)
        if size > len(pressed) or (pressed == b"\x1b" and not is_all):
            if not is_all:
                return keys, pressed
            size = len(pressed)
        keys.append(_name(pressed[:size]))
        pressed = pressed[size:]
    return [key for key in keys if key], b""


def _size(pressed: bytes) -> int:
    """How many bytes the first key has; more than there are where it is not complete."""
    if pressed[0] != _ESCAPE:
        lead = pressed[0]
        return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if len(pressed) == 1 or pressed[1:2] not in (b"[", b"O"):
        return 1
    if pressed[1:2] == b"O":
        return 3
    for place, byte in enumerate(pressed[2:], 3):
        if 0x40 <= byte <= 0x7E:
            return place
    return len(pressed) + 1


def _name(pressed: bytes) -> str:
    if pressed in NAMED:
        return NAMED[pressed]
    found = pressed.decode(errors="replace")
    return found if found.isprintable() else ""


class Terminal:
    """A terminal of POSIX."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = b""

    def wait(self, seconds: float) -> list[str]:
        pressed = self._read(seconds)
        keys, self._rest = decode(self._rest + pressed, is_all=False)
        if self._rest:  # an escape alone, or the beginning of a sequence
            more = self._read(_REST_SECONDS)
            also, self._rest = decode(self._rest + more, is_all=not more)
            keys += also
        return keys

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return b""
        pressed = os.read(self._fd, 1_024)
        if not pressed:
            raise EOFError
        return pressed


if sys.platform == "win32":
    import msvcrt

    class _Console:
        """The console of Windows."""

        def wait(self, seconds: float) -> list[str]:
            until = time.monotonic() + seconds
            while not msvcrt.kbhit():
                if time.monotonic() >= until:
                    return []
                time.sleep(_POLL_SECONDS)
            key = msvcrt.getwch()
            if key in ("\x00", "\xe0"):
                key = SCANNED.get(msvcrt.getwch(), "")
            if key == "\x03":
                raise KeyboardInterrupt
            return [key] if key else []

    @contextmanager
    def keyboard() -> Generator[Keyboard]:
        """Read keys of the console."""
        yield _Console()

else:
    import termios
    import tty

    @contextmanager
    def keyboard() -> Generator[Keyboard]:
        """Read keys of standard input, which is a terminal, as they are pressed.

        Ctrl-C stays what it is.
        """
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
        try:
            tty.setcbreak(fd)
            yield Terminal(fd)
        finally:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)

"""A pseudo-terminal with a program in it: what its screen shows, and keys pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyte

SECONDS = 30.0
_OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """What a person sees and presses."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int, columns: int, lines: int) -> None:
        self.process = process
        self.sent = b""
        self._fd = fd
        self._screen: Any = pyte.Screen(columns, lines)
        self._stream: Any = pyte.ByteStream(self._screen)
        self._resized(columns, lines)

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        return [str(line).rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(self.lines)

    @property
    def modes(self) -> Any:
        """How the terminal treats keys."""
        return termios.tcgetattr(self._fd)[3]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            os.write(self._fd, key.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window."""
        self._screen.resize(lines, columns)
        self._resized(columns, lines)

    def _resized(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def see(self, *texts: str, without: str = "\0") -> None:
        """Wait until all of these are on the screen."""
        deadline = time.monotonic() + SECONDS
        while not all(text in self.text for text in texts) or without in self.text:
            assert time.monotonic() < deadline, f"{texts} never came; last:\n{self.text}"
            assert self._read() or self.process.poll() is None, f"it has ended:\n{self.text}"

    def end(self) -> int:
        """Wait until the program has ended; return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
            self._read()
        while self._read():
            pass
        return int(self.process.wait())

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], 0.05)[0]:
            return False
        try:
            sent = os.read(self._fd, 65_536)
        except OSError:  # nobody has it open any more
            return False
        self.sent += sent
        self._stream.feed(sent)
        return bool(sent)


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], *, columns: int = 80, lines: int = 24
) -> Generator[Terminal]:
    """Run a program in a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN_TERMINAL, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color", **environment},
        start_new_session=True,
    )
    try:
        yield Terminal(process, ours, columns, lines)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(theirs)
        os.close(ours)

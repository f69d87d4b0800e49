"""Programs for children to run, and looking at what processes there are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import anyio

_PATIENCE_SECONDS = 20.0

SPIN = "while True: pass"
FLOOD = "import os\nwhile True: os.write(1, b'x' * 65536)"
SLEEP = "import time; time.sleep(1000)"
TELL = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(1000)"
"""It writes its process id into a file, and sleeps."""


def python(program: str, *args: str) -> list[str]:
    """The command that runs a program, without what sites add to Python."""
    return [sys.executable, "-I", "-S", "-c", program, *args]


def is_alive(pid: int) -> bool:
    """Whether it runs; whoever is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children() -> set[int]:
    """Those whose parent is this process, dead ones included."""
    threads = Path("/proc/self/task").glob("*/children")
    return {int(pid) for thread in threads for pid in thread.read_text().split()}


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so, but not for ever."""
    end = monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < end, "it never came to that"
        await anyio.sleep(0.005)


async def pid_in(path: Path) -> int:
    """The process id that a child writes into a file, once it is there."""
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())  # noqa: ASYNC240 - a line

"""Appointing the warden: the one process that starts all children of this one.

It is started at the first run, and again when it has gone, or when what children inherit from it
has changed here: user and groups, limits, cores, priority. A change of the umask, of the control
group or of a namespace is not seen. It ends with this process. Not here: what it does (`warden`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from ..errors import ConfigurationError

_PROGRAM = str(Path(__file__).with_name("warden.py"))
Marks = tuple[object, ...]


class _Warden:
    """The process, and the socket on which it is asked for children."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.desk, theirs = socket.socketpair()
        if not sys.executable:
            raise ConfigurationError("process.run: sys.executable names no Python to run")
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", "-B", _PROGRAM, str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )

    def ask(self, fds: Sequence[int]) -> None:
        """Have a child started; raises `OSError` if the process has gone."""
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))]
        self.desk.sendmsg([b"."], passed, getattr(socket, "MSG_NOSIGNAL", 0))

    def close(self) -> None:
        """Let it go; children that it has started have copies of it to care for them."""
        self.desk.close()
        self.process.wait()

    def forget(self) -> None:
        """Leave it to the process that this one was forked off."""
        self.desk.close()
        self.process.returncode = 0


_lock = Lock()
_wardens: list[_Warden] = []
"""The one there is, if any."""


def ask(fds: Sequence[int]) -> None:
    """Have a child started that these belong to: control, page, and its three streams.

    Raises:
        OSError: no process can be started.
        ConfigurationError: this Python cannot start another.
    """
    marks = _marks()
    with _lock:
        if _wardens and _wardens[0].marks == marks:
            with contextlib.suppress(OSError):  # it has gone
                _wardens[0].ask(fds)
                return
        _dismiss()
        _wardens.append(_Warden(marks))
        _wardens[0].ask(fds)


def _marks() -> Marks:
    """What children get from the warden that may have changed here since it was started."""
    import resource

    kinds = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
    whose = os.getuid(), os.geteuid(), os.getgid(), os.getegid(), *os.getgroups()
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else None
    limits = [resource.getrlimit(kind) for kind in kinds]
    return whose, limits, cores, os.getpriority(os.PRIO_PROCESS, 0)


def _dismiss() -> None:
    while _wardens:
        _wardens.pop().close()


def _in_child() -> None:
    """This process was forked off one that has a warden: it gets one of its own."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = Lock()
    while _wardens:
        _wardens.pop().forget()


atexit.register(_dismiss)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

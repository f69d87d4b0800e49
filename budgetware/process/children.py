"""One child as its host sees it: what it writes, what its warden reports, and how to end it.

Nothing here waits, but `wait_blocking`. Not here: who waits how (`waits`).
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import socket
import sys
import tempfile
from contextlib import ExitStack
from typing import IO, Any, cast

from .appointing import ask
from .orders import Order
from .results import ProcessLimit, ProcessResult, ran_out_of_memory

_CHUNK_BYTES = 1 << 16
_PATIENCE_SECONDS = 10.0


class Source:
    """Something to read until its end."""

    def __init__(self, fd: int, child: Child | None = None) -> None:
        self.fd = fd
        self.data = bytearray()
        self.is_over = False
        self._child = child

    def step(self) -> bool:
        """Read some of what is there now; whether that was the end."""
        self._read()
        return self.is_over

    def rest(self) -> None:
        """Read all that is there now."""
        while self._read():
            continue

    def _read(self) -> bool:
        """Read once; whether there may be more now."""
        if self.is_over:
            return False
        try:
            chunk = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        self.is_over = not chunk
        self.data += chunk if self._child is None else self._child.allowed(chunk)
        return not self.is_over


class Child:
    """A child under a warden, which was asked to start it; close it when all is done."""

    def __init__(self, order: Order, *, cpu_micros: int | None, memory: int | None) -> None:
        self._left_bytes = order.output_bytes
        self._has_ceiling = memory is not None
        self.is_truncated = False
        page = {
            "args": order.args,
            "env": order.env,
            "cwd": order.cwd,
            "cpu_micros": cpu_micros,
            "memory": memory,
            "wall_seconds": order.wall_seconds,
        }
        with ExitStack() as given, ExitStack() as kept:
            self._line, theirs = socket.socketpair()
            kept.enter_context(self._line)
            given.enter_context(theirs)
            fds = [theirs.fileno(), _sheet(marshal.dumps(page), given)]
            fds.append(_sheet(order.input or b"", given))
            self.outlets: list[Source] = []
            for _ in range(2):
                reader, writer = os.pipe()
                kept.callback(os.close, reader)
                given.callback(os.close, writer)
                os.set_blocking(reader, False)
                self.outlets.append(Source(reader, self))
                fds.append(writer)
            self._line.setblocking(False)  # noqa: FBT003
            self.line = Source(self._line.fileno())
            ask(fds)
            self._kept = kept.pop_all()

    def allowed(self, chunk: bytes) -> bytes:
        """As much of it as may still be kept; ends the child if that is not all."""
        if len(chunk) > self._left_bytes:
            chunk = chunk[: self._left_bytes]
            self.is_truncated = True
            self.kill()
        self._left_bytes -= len(chunk)
        return chunk

    def kill(self) -> None:
        """Have it ended with all that descends from it; the report follows."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)

    def wait_blocking(self) -> None:
        """Wait for the report where nothing can be awaited; that takes as long as a kill."""
        poll = select.poll()
        poll.register(self.line.fd, select.POLLIN)
        while not self.line.step() and poll.poll(_PATIENCE_SECONDS * 1000):
            continue

    @property
    def report(self) -> dict[str, Any] | None:
        """What its warden says; None: it was killed itself."""
        if not self.line.data:
            return None
        return cast("dict[str, Any]", marshal.loads(self.line.data))  # noqa: S302 - of our own

    def failure(self) -> OSError | None:
        """Why it could not be started, if so: then nothing ran."""
        found = (self.report or {}).get("failure")
        if found is None:
            return None
        number, subject = found
        return OSError(number, os.strerror(number), os.fsdecode(subject))

    def result(self) -> ProcessResult:
        """What came of it, once the report is there.

        Raises:
            ChildProcessError: nobody knows.
        """
        report = self.report
        if report is None:
            raise ChildProcessError("the process that watched the child was killed, so it was, too")
        for outlet in self.outlets:  # nobody writes any more
            outlet.rest()
        stdout, stderr = (bytes(outlet.data) for outlet in self.outlets)
        limit: ProcessLimit | None = report["limit"] or ("output" if self.is_truncated else None)
        if limit is None and self._has_ceiling and ran_out_of_memory(report["returncode"], stderr):
            limit = "memory"
        return ProcessResult(
            returncode=report["returncode"],
            stdout=stdout,
            stderr=stderr,
            cpu_micros=report["cpu_micros"],
            peak_memory_bytes=report["peak_memory_bytes"],
            duration_ms=report["duration_ns"] // 1_000_000,
            limit=limit,
            is_truncated=self.is_truncated,
        )

    def close(self) -> None:
        """Give back what it took here."""
        self._kept.close()


def _sheet(data: bytes, stack: ExitStack) -> int:
    """A file of its own that holds `data`, to be read by another process from its beginning."""
    sheet: IO[bytes]
    if sys.platform == "linux":
        sheet = open(os.memfd_create("budgetware"), "w+b")  # noqa: PTH123, SIM115 - not a path
    else:
        sheet = tempfile.TemporaryFile()  # noqa: SIM115
    stack.enter_context(sheet)
    sheet.write(data)
    sheet.seek(0)
    return sheet.fileno()

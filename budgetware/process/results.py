"""What came of a child process. Not here: what it was allowed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ProcessLimit = Literal["cpu", "memory", "output", "wall"]
_OUT_OF_MEMORY = (b"MemoryError", b"Cannot allocate memory", b"bad_alloc", b"OutOfMemoryError")


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a child process ended, what it wrote, and what it used.

    Attributes:
        returncode: its exit status; minus the number of the signal that ended it.
        stdout, stderr: what it wrote, up to `output_bytes` of both together.
        cpu_micros: CPU time, user and system, of it and of all that descended from it.
        peak_memory_bytes: the most that any one of them held in memory at once. Below some
            9 MiB it is not told apart.
        duration_ms: from its start to its end.
        limit: the limit it came to: `"cpu"`, `"memory"`, `"output"`, `"wall"`; None: to none. That
            memory was refused to a program shows in its last words only, so it may be None there.
        is_truncated: it wrote more than `output_bytes`; the rest is lost.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    cpu_micros: int
    peak_memory_bytes: int
    duration_ms: int
    limit: ProcessLimit | None = None
    is_truncated: bool = False


def ran_out_of_memory(returncode: int, stderr: bytes) -> bool:
    """Whether a program that had a ceiling seems to have failed at it, by its last words."""
    return returncode != 0 and any(words in stderr[-4096:] for words in _OUT_OF_MEMORY)

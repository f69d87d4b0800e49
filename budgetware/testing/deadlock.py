"""What is said of a run in which every task waits for ever."""

from __future__ import annotations


def deadlock() -> RuntimeError:
    """Return the error to raise; both loops say the same."""
    return RuntimeError(
        "every task waits, and nothing is left that could wake one: no timer, no worker thread, "
        "no I/O. Look for an event that is never set, a stream that is never closed, or a "
        "reservation that never ends"
    )

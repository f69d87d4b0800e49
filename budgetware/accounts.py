"""The one lock of the process, and bookings left by finalizers. Not here: what is booked.

Every move of the tree runs between `acquire()` and `release()`, as

    try:
        acquire()
        ...            # plain code: no await, no user's code, no I/O
    finally:
        release()

`acquire` stands inside `try`, so an interrupt right after it cannot leave the lock held; the
lock is re-entrant, so releasing one that was never acquired raises instead of freeing another
thread's.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import RLock

_lock = RLock()
acquire = _lock.acquire
release = _lock.release
_owned: Callable[[], bool] = _lock._is_owned  # type: ignore[attr-defined]

left_behind: deque[Callable[[], object]] = deque()
"""Bookings of collected reservations. A finalizer may run inside the critical section of its own
thread, so it only appends here; the next close look or snapshot books them."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]


def drain() -> None:
    """Book what finalizers left behind. Call it without the lock held."""
    while left_behind:
        try:
            book = left_behind.popleft()
        except IndexError:
            return
        book()


def book_later(book: Callable[[], object]) -> None:
    """Book from a finalizer or a closing generator: now if that is safe, else soon."""
    left_behind.append(book)
    if not _owned():
        drain()

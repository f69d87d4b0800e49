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
from typing import Any

_lock = RLock()
acquire = _lock.acquire
release = _lock.release

left_behind: deque[Callable[[], object]] = deque()
"""Bookings of collected reservations. A finalizer may run inside the critical section of its own
thread, so it only appends here; the next close look or snapshot books them."""

waiting: dict[Any, None] = {}
"""Who waits for room, in any service; whoever gives room back looks here first."""

_free_in_child: Any = getattr(_lock, "_at_fork_reinit", None)
if hasattr(os, "register_at_fork") and _free_in_child is not None:
    # A child has no half-done move of another thread, and nobody but it holds the lock.
    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=_free_in_child)


def drain() -> None:
    """Book what finalizers left behind. Call it without the lock held."""
    while left_behind:
        try:
            book = left_behind.popleft()
        except IndexError:
            return
        book()


rousers: list[Callable[[], object]] = []
"""What wakes somebody who waits, to book what was left behind; it may be what he waits for."""


def book_later(book: Callable[[], object]) -> None:
    """Book from where a finalizer may run: soon, when somebody next looks closely or reads."""
    left_behind.append(book)
    if waiting:
        for rouse in rousers:
            rouse()

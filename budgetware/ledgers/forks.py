"""Processes that fork with an open service: what was leased is the parent's, and stays so.

The child has no thread that goes to the ledger, so nothing may be granted there that nobody would
ever book. Not here: the lock of outboxes (`file_lock`), and connections (the ledgers).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

from ..errors import LedgerUnavailable
from .leases import Lease

FORKED = (
    "this process was forked off one that had opened the service, and whose leases are its own: "
    "connect() in the child"
)


class Left(Protocol):
    """What is told in a child that it has come there by a fork."""

    def abandon(self) -> None:
        """Go on without what is the parent's."""
        ...


told = WeakSet[Left]()
"""Who is told of forks."""


def abandon(leases: Iterable[Lease]) -> None:
    """Have nothing granted of these, ever. In a child, which has one thread and no lock yet."""
    error = LedgerUnavailable(FORKED)
    for lease in leases:
        lease.is_closed = lease.is_abandoned = True
        lease.error = error
        lease.on_error = "lease"
        lease.cell.spares_exempt = False
        lease.lapse()


def _in_child() -> None:
    for each in list(told):
        each.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

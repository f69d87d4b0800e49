"""What commands read and change: a ledger from here, or a server that has one.

Not here: what is printed of it.
"""

from typing import Literal

from ..places import Place
from .source import Source

Purpose = Literal["read", "change"]

__all__ = ["Purpose", "Source", "open_source"]


def open_source(place: Place, purpose: Purpose) -> Source:
    """Open what a command asks; close it again, best with `closing`.

    To `"read"` makes nothing: no file, no definition.

    Raises:
        Failure, BudgetwareError: it cannot be opened; the message says what to do.
    """
    if place.url is not None:
        from .remote import open_remote

        return open_remote(place.url, place.key)
    from .local import open_local

    return open_local(place, purpose)

"""Ids: a random prefix for the process and a number. Not here: names."""

from __future__ import annotations

import itertools
import os

_prefix = os.urandom(6).hex()
numbers = itertools.count(1)


def id_of(number: int) -> str:
    """The id that stands for a number of this process; unique beyond it, too."""
    return f"{_prefix}-{number:x}"


def new_id() -> str:
    """A fresh id."""
    return id_of(next(numbers))


def _in_child() -> None:
    global _prefix  # noqa: PLW0603
    _prefix = os.urandom(6).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

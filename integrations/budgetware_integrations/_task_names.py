"""Names of tasks, made of what agents are called. Not here: which names may be (`budgetware`)."""

from __future__ import annotations

import re
from typing import Final

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9._:@-]+")
_MOST_CHARACTERS: Final = 128


def task_name(text: str | None, otherwise: str = "agent") -> str:
    """Return a name that a task may have: what cannot be in one becomes a dash."""
    return _NOT_ALLOWED.sub("-", text or "")[:_MOST_CHARACTERS].strip("-") or otherwise

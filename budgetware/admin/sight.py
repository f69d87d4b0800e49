"""Which principals somebody may see: all, or one and those below it. Not here: who asks."""

from __future__ import annotations

from dataclasses import dataclass

from ..principals import Principals

_MOST_PARENTS = 10_000


@dataclass(frozen=True, slots=True)
class Sight:
    """What may be seen.

    Attributes:
        root: the principal at the top; None: everything.
    """

    root: str | None
    known: Principals

    @property
    def is_all(self) -> bool:
        """Whether nothing is hidden, nor what is nobody's."""
        return self.root is None

    def sees(self, principal: str | None) -> bool:
        """Whether a principal is the one at the top, or below it."""
        if self.root is None:
            return True
        for _ in range(_MOST_PARENTS):
            if principal is None or principal == self.root:
                return principal is not None
            found = self.known.find(principal)
            principal = None if found is None else found.definition.parent
        return False

"""The answer of a budget to a charge. Not here: what to do about it, which is a policy's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

_SEVERITY: Final = {"continue": 0, "warn": 1, "exhausted": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Tell how a budget stands after a charge.

    Attributes:
        name: `continue`; `warn`: above the warn threshold; `exhausted`: above the limit.
        dim: the dimension that caused it; None when it is `continue`.
    """

    name: Literal["continue", "warn", "exhausted"]
    dim: str | None = None

    @property
    def is_continuing(self) -> bool:
        """Whether there was room: true for `continue` and for `warn`."""
        return self.name != "exhausted"

    @property
    def is_exhausted(self) -> bool:
        """Whether the limit was passed; reaching it exactly does not pass it."""
        return self.name == "exhausted"

    def worst(self, other: Verdict) -> Verdict:
        """Return the more severe of the two; of equals, this one."""
        return other if _SEVERITY[other.name] > _SEVERITY[self.name] else self


CONTINUE: Final = Verdict("continue")

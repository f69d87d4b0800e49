"""What a program under a budget has used, and what ended it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgetware.formats import amount_text, duration_text
from budgetware.termination import Latch

TERMINATED = 3
"""The exit code of a program that was ended by its budget."""
UNLIMITED = 10**12
"""Calls, where no limit was given: a task has one at least."""


@dataclass(frozen=True, slots=True)
class ScriptReceipt:
    """How a program ended, and what it used.

    Attributes:
        latch: what ended its task; None: nothing did.
        refused: how many of its calls were refused.
        forked: how many processes it forked off whose calls were not counted.
        task: the balances, as JSON.
    """

    name: str
    own_code: int
    latch: Latch | None
    refused: int
    duration_ms: int
    task: dict[str, Any]
    forked: int = 0

    @property
    def code(self) -> int:
        """The exit code: the program's own, unless its budget has ended it."""
        return self.own_code if self.latch is None else TERMINATED

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "command": self.name,
            "exit_code": self.code,
            "stopped_by": None if self.latch is None else self.latch.dim or "terminated",
            "reason": None if self.latch is None else self.latch.reason,
            "refused": self.refused,
            "forked": self.forked,
            "duration_ms": self.duration_ms,
            "task": {**self.task, "dims": {dim: _row(row) for dim, row in self._dims.items()}},
        }

    def line(self) -> str:
        """One line for people."""
        parts = [*self._paid(), f"{duration_text(self.duration_ms / 1e3)} in all"]
        if self.refused:
            parts.insert(-1, f"{self.refused:,} refused")
        if self.forked:
            parts.insert(-1, f"{self.forked:,} forked off and not counted")
        how = f"exit {self.code}"
        if self.latch is not None:
            how += f", ended by its budget: {self.latch.reason}"
        return f"{self.name}: {how}; {', '.join(parts)}"

    @property
    def _dims(self) -> Mapping[str, Mapping[str, Any]]:
        dims: Mapping[str, Mapping[str, Any]] = self.task["dims"]
        return dims

    def _paid(self) -> list[str]:
        shown: list[str] = []
        for dim, row in self._dims.items():
            spent, limit = amount_text(dim, row["spent"]), _limit(row)
            if dim == "millis":
                continue
            if limit is not None:
                shown.append(f"{dim} {spent} of {amount_text(dim, limit)}")
            elif row["spent"]:
                shown.append(f"{dim} {spent}")
        return shown or ["no calls"]


def _limit(row: Mapping[str, Any]) -> Any:
    return None if row["limit"] == UNLIMITED else row["limit"]


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row) if _limit(row) is not None else {**row, "limit": None, "remaining": None}

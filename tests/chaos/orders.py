"""What a worker is told when it is started: plain data, as one argument of its command line.

Nothing here imports the library, for a worker may have to change the clock before that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

LEASE_SECONDS = 0.5
TARGET = "quota"
NODE = f"r/{TARGET}"


@dataclass(frozen=True)
class Orders:
    """What to draw on, and how.

    Attributes:
        name: of this life of a worker, never used again.
        ledger: the address.
        kind: of the resource; or the name of a shared task of so many calls, `"task…"`.
        value: what there is of it.
        seed: for what is drawn, and for how long.
        draws: how many calls at a time are made without being asked; 0: only on demand.
        most: the most units of one call.
        busy_seconds: the longest time that a call takes.
        step_seconds: how far the wall clock is off.
        drawn_before_step: calls after which that begins; 0: before the library is imported.
        is_ordinary: it may not write what its owner may not, which root may otherwise.
    """

    name: str
    ledger: str
    value: int = 1_000
    kind: str = "capacity"
    seed: int = 0
    draws: int = 0
    most: int = 5
    busy_seconds: float = 0.01
    per_call: bool = False
    max_lease: int | None = None
    stranded: str = "keep"
    period_seconds: float = 3_600.0
    on_ledger_error: str = "lease"
    outbox: str | None = None
    lease_seconds: float = LEASE_SECONDS
    step_seconds: float = 0.0
    drawn_before_step: int = 0
    is_ordinary: bool = False

    @property
    def node(self) -> str:
        """Its key in the ledger."""
        return f"t/{self.kind}/calls" if self.is_task else NODE

    @property
    def is_task(self) -> bool:
        """Whether it draws on a shared task."""
        return self.kind.startswith("task")

    def text(self) -> str:
        return json.dumps(asdict(self))


def read_orders(text: str) -> Orders:
    return Orders(**json.loads(text))

"""Shared tasks that run in other processes: what can be done to them from here, by the ledger.

Not here: those that run here (`tasks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import InvalidAmount, NoBudget
from .ids import new_id
from .kernel.dims import known_dim, show, to_units
from .ledgers.terms import NodeState
from .shared_nodes import TASK, SharedNodes

if TYPE_CHECKING:
    from .ledgers.protocol import Ledger
    from .runtime import Runtime

PREFIX = "shared:"
"""What the ids of such tasks begin with; the name follows."""


class ForeignTask:
    """A shared task of the ledger. Everything it does blocks on that.

    Attributes:
        id, name: `shared:` and the name; it has no other id outside its processes.
    """

    def __init__(self, name: str, shared: SharedNodes) -> None:
        self.id = PREFIX + name
        self.name = name
        self._shared = shared

    def terminate(self, reason: str) -> None:
        """End all its blocks, each within a second; does nothing if it was terminated already."""
        text = "".join(c for c in str(reason) if c.isprintable())[:256] or "no reason given"

        def latch_all(ledger: Ledger) -> None:
            for state in _states(ledger, self.name):
                ledger.latch(state.node, f"|{text}")

        self._shared.call(latch_all)

    def top_up(self, **limits: Any) -> None:
        """Raise limits by these amounts; pays off debt first.

        Raises:
            InvalidAmount: a number, or a dimension this task does not limit; `seconds` are each
                block's own.
            NoBudget: it was terminated; nothing has changed.
        """
        self.raise_limits(limits, new_id())

    def raise_limits(self, limits: Mapping[str, Any], request: str) -> None:
        """The same, once for each request, whoever makes it."""
        amounts = {dim: _more(dim, value) for dim, value in limits.items()}

        def add_all(ledger: Ledger) -> None:
            states = {state.node: state for state in _states(ledger, self.name)}
            for dim in amounts:
                if f"{TASK}{self.name}/{dim}" not in states:
                    raise InvalidAmount(f"top_up: the task {self.name!r} has no limit of {dim}")
            if any(state.latch for state in states.values()):
                raise NoBudget(f"the task {self.name!r} was terminated: nothing has changed")
            for dim, units in amounts.items():
                ledger.add(f"{TASK}{self.name}/{dim}", units, request)

        self._shared.call(add_all)


def find_foreign(runtime: Runtime, task_id: str) -> ForeignTask | None:
    """The shared task of this id that somebody is in, if there is one. Blocks on the ledger."""
    shared = runtime.shared
    if shared is None or not task_id.startswith(PREFIX):
        return None
    name = task_id.removeprefix(PREFIX)
    states = shared.call(lambda ledger: _states(ledger, name))
    return ForeignTask(name, shared) if any(state.holders for state in states) else None


def _states(ledger: Ledger, name: str) -> list[NodeState]:
    return ledger.read(f"{TASK}{name}/")


def _more(dim: str, value: object) -> int:
    if dim in ("seconds", "millis"):
        raise InvalidAmount(f"top_up: {dim} of a shared task are each block's own")
    units = to_units(known_dim(dim), value, round_up=False)
    if not units:
        raise InvalidAmount(f"top_up({dim}={show(value)}): give more than 0")
    return units

"""Where services share balances in these tests, and what is looked at there afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from budgetware import QuotaService, TaskBudget, connect
from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import NodeState

MOST_SECONDS = 10.0
POLL_SECONDS = 0.005


@dataclass
class Place:
    """One store; every ledger that `make` returns is a way to it."""

    make: Callable[[], Ledger]

    def connect(self, **options: Any) -> QuotaService:
        """A service that shares it, as another process would."""
        return connect(ledger=self.make(), **options)

    @contextmanager
    def look(self) -> Generator[Ledger]:
        """A way to it that is no service's."""
        ledger = self.make()
        ledger.open()
        try:
            yield ledger
        finally:
            ledger.close()

    def state(self, node: str) -> NodeState:
        """One node as it is there."""
        with self.look() as ledger:
            return next(state for state in ledger.read(node) if state.node == node)

    def books(self, node: str) -> tuple[int, int, int]:
        """What of a node is used, in the hands of holders, and lost with them."""
        state = self.state(node)
        return state.used, state.out, state.stranded

    def assert_at_rest(self, **used: int) -> None:
        """Nothing is out, its journal agrees with it, and so much of each resource is used."""
        with self.look() as ledger:
            states = ledger.read()
            assert ledger.verify() == []
        assert [state.node for state in states if state.out] == []
        by_name = {s.node.removeprefix("r/"): s.used for s in states if s.node.startswith("r/")}
        assert {name: by_name[name] for name in used} == used


def inside(service: QuotaService) -> TaskBudget:
    """A task of a service that limits nothing which matters."""
    return service.task_budget("worker", calls=1_000_000)


def soon(is_so: Callable[[], bool]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + MOST_SECONDS
    while not is_so():
        assert time.monotonic() < until, "it did not come to be so"
        time.sleep(POLL_SECONDS)


async def soon_async(is_so: Callable[[], bool]) -> None:
    """The same in a task."""
    with anyio.fail_after(MOST_SECONDS):
        while not is_so():  # noqa: ASYNC110 - it is nobody's event
            await anyio.sleep(POLL_SECONDS)


class Line:
    """A ledger that can be cut off: then every call to it fails, as after its timeout."""

    @staticmethod
    def to(ledger: Ledger) -> tuple[Ledger, Line]:
        """The line as a ledger, and as what can be cut."""
        line: Any = Line(ledger)
        return line, line

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.ledger, name)
        if not callable(method) or name == "close":
            return method

        def call(*args: Any, **options: Any) -> Any:
            if self.is_cut:
                raise LedgerUnavailable("the line is cut")
            return method(*args, **options)

        return call

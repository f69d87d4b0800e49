"""Where the balances of a scenario live: a file, or a real server; and readers of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from budgetware.errors import LedgerUnavailable
from budgetware.ledgers.addresses import ledger_at
from budgetware.ledgers.protocol import Ledger
from budgetware.ledgers.terms import Claim, NodeState
from tests.chaos.crew import PATIENCE_SECONDS, until
from tests.ledgers.valkey import Server, running

T = TypeVar("T")
STORES = ("sqlite", "valkey")


class Store:
    """A ledger's address, and what reads it from here.

    Attributes:
        server: None for a file.
    """

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.folder = folder
        self.server = server
        self._probes = 0

    @property
    def path(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def address(self) -> str:
        return f"sqlite:///{self.path}" if self.server is None else self.server.url()

    @contextmanager
    def ledger(self) -> Generator[Ledger]:
        """A ledger of its own, to be used by one thread."""
        found = ledger_at(self.address)
        assert found is not None
        insist(found.open)
        try:
            yield found
        finally:
            found.close()

    def state(self, node: str) -> NodeState:
        """The node as it is now."""
        with self.ledger() as ledger:
            [state] = [each for each in insist(ledger.read) if each.node == node]
        return state

    def settled(self, node: str) -> NodeState:
        """The node when all leases of the dead are over."""
        states: list[NodeState] = []
        with self.ledger() as ledger:

            def is_over() -> bool:
                self._probe(ledger, node)
                states[:] = [each for each in insist(ledger.read) if each.node == node]
                return states[0].out == 0

            until(is_over, "leases to end")
        return states[0]

    def _probe(self, ledger: Ledger, node: str) -> None:
        """Claim nothing, which ends leases that have expired."""
        self._probes += 1
        claim = Claim(node, f"probe{self._probes}", 1, ttl_ms=100, is_last=True)
        insist(lambda: ledger.sync([claim]))

    def read(self, function: Callable[[Ledger], T]) -> T:
        with self.ledger() as ledger:
            return insist(lambda: function(ledger))

    def events(self) -> list[str]:
        """The texts of all usage events."""
        found: list[str] = []
        after = 0
        with self.ledger() as ledger:
            while page := insist(lambda: ledger.usage(0.0, 1e12, after=after)):  # noqa: B023 - now
                after = page[-1][0]
                texts = [row.text for _number, row in page]
                found += [text for text in texts if not text.startswith('{"count":')]
        return found


def insist(call: Callable[[], T]) -> T:
    """Call it until the store answers."""
    results: list[T] = []

    def answers() -> bool:
        try:
            results.append(call())
        except LedgerUnavailable:
            return False
        return True

    until(answers, "the store to answer")
    return results[0]


@contextmanager
def store_of(kind: str, folder: Path) -> Generator[Store]:
    """A store that is there in the block."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "sqlite":
        yield Store(folder, None)
        return
    with running("valkey", folder / "server") as server:
        yield Store(folder, server)


class Watch:
    """Reads a node all the time, and remembers the worst it has seen.

    Attributes:
        samples: how often it was read.
        excess: the most that was used, out and stranded beyond the value; never, if less than 0.
    """

    def __init__(self, store: Store, node: str) -> None:
        self.samples = 0
        self.excess = -(10**18)
        self._store = store
        self._node = node
        self._over = Event()
        self._begun = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        assert self._begun.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._store.ledger() as ledger:
            while not self._over.is_set():
                self._begun.set()
                try:
                    states = ledger.read(self._node)
                except LedgerUnavailable:
                    states = []
                for state in states:
                    self.samples += 1
                    spoken_for = state.used + state.out + state.stranded
                    self.excess = max(self.excess, spoken_for - state.terms.value)
                time.sleep(0.002)

"""Random scenarios for as long as asked, and one table of what they came to.

Run by hand: `python -m tests.chaos [SECONDS] [SEED]`. It ends with 1 where a promise is broken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.chaos.crew import Crew
from tests.chaos.orders import Orders
from tests.chaos.reading import Outcome, check
from tests.chaos.scenarios import (
    kill_at_random,
    pause_at_random,
    restart_at_random,
    spoil_replies,
)
from tests.chaos.stores import STORES, Store, store_of

Scenario = Callable[[Store, Crew, Orders], Outcome]


class Kind(NamedTuple):
    """What is done to workers that draw in one way.

    Attributes:
        stores: where that can be done.
        orders: of the workers, but for address and seed.
    """

    name: str
    scenario: Scenario
    orders: Orders
    stores: tuple[str, ...] = STORES


EACH = Orders("w", "", 3_000, draws=2, per_call=True)
LEASED = Orders("w", "", 6_000, draws=2, max_lease=50)
KINDS = (
    Kind("killed, per_call", kill_at_random, EACH),
    Kind("killed, leases", kill_at_random, LEASED),
    Kind("killed, shared task", kill_at_random, replace(LEASED, kind="task", max_lease=None)),
    Kind("stopped, per_call", pause_at_random, EACH),
    Kind("stopped, leases", pause_at_random, LEASED),
    Kind("server killed, per_call", restart_at_random, EACH, ("valkey",)),
    Kind("server killed, leases", restart_at_random, LEASED, ("valkey",)),
    Kind("replies lost, per_call", spoil_replies, EACH, ("valkey",)),
    Kind("replies lost, leases", spoil_replies, LEASED, ("valkey",)),
)


def play(kind: Kind, store_kind: str, seed: int) -> tuple[Outcome, str]:
    """Run a scenario once; what it came to, and which promise was broken, if any."""
    with (
        TemporaryDirectory() as name,
        store_of(store_kind, Path(name)) as store,
        Crew(Path(name)) as crew,
    ):
        orders = replace(kind.orders, ledger=store.address, seed=seed)
        outcome = kind.scenario(store, crew, orders)
    return outcome, complaint(lambda: check(outcome, per_call=kind.orders.per_call))


def complaint(checks: Callable[[], object]) -> str:
    try:
        checks()
    except AssertionError as error:
        return str(error) or "broken"
    return ""


@contextmanager
def table() -> Generator[Callable[[str, Iterable[Outcome]], None]]:
    heads = ("rounds", "kills", "pauses", "calls", "overspend", "stranded", "lost", "twice")
    print(f"{'':34}" + "".join(f"{head:>11}" for head in heads))

    def row(name: str, found: Iterable[Outcome]) -> None:
        outcomes = list(found)
        share = sum(each.stranded for each in outcomes) / sum(each.value for each in outcomes)
        sums = [
            sum(getattr(each, what) for each in outcomes)
            for what in ("kills", "pauses", "calls", "overspend", "lost", "twice")
        ]
        kills, pauses, calls, overspend, lost, twice = sums
        texts = (len(outcomes), kills, pauses, f"{calls:,}", overspend, f"{share:.1%}", lost, twice)
        print(f"{name:34}" + "".join(f"{text!s:>11}" for text in texts))

    yield row


def main(seconds: float = 60.0, seed: int = 0) -> int:
    random = Random(seed)
    until = time.monotonic() + seconds
    found: dict[str, list[Outcome]] = {}
    broken: list[str] = []
    games = [(kind, store) for kind in KINDS for store in kind.stores]
    while True:
        for kind, store in random.sample(games, len(games)):
            name, number = f"{kind.name}, {store}", random.randrange(10**6)
            try:
                outcome, why = play(kind, store, number)
            except AssertionError as error:  # it hangs, or a worker has failed
                broken.append(f"{name}, seed {number}: {error}")
                continue
            found.setdefault(name, []).append(outcome)
            broken += [f"{name}, seed {number}: {why}"] if why else []
            if time.monotonic() > until:
                return report(found, broken)


def report(found: dict[str, list[Outcome]], broken: list[str]) -> int:
    with table() as row:
        for name in sorted(found):
            row(name, found[name])
        row("all", (each for outcomes in found.values() for each in outcomes))
    for text in broken:
        print(f"\nBROKEN: {text}")
    return 1 if broken else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(float(given[0]) if given else 60.0, int(given[1]) if given[1:] else 0))

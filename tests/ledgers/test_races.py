"""Threads, and tasks of both loops, on two services: never more than there is, and all of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from threading import Event

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Reject,
    Resource,
    reserve,
    reserve_nowait,
)
from budgetware.kernel.balances import Balance
from tests.ledgers.places import Place, inside

VALUE = 4_000
NODES = ("r/org", "r/team", "r/exact")


def define(service: QuotaService) -> None:
    insistent = Reject(patience=None)  # the last units may be with another worker for long
    service.define(Resource("org", Capacity(VALUE), insistent))
    service.define(Resource("team", Capacity(VALUE), insistent, parent="org"))
    service.define(Resource("exact", Capacity(300), insistent, per_call=True))
    service.define(Resource("slots", Concurrency(3)))


def spend(service: QuotaService, names: tuple[str, ...]) -> int:
    """Draw until it is refused for good; returns what was committed."""
    used = 0
    with inside(service):
        for turn in count():
            units = turn % 4 + 1
            try:
                with reserve(names[turn % len(names)], units) as reservation:
                    reservation.commit(units - turn % 2)
                    used += units - turn % 2
            except QuotaExceeded as refused:
                if refused.available == 0:
                    return used
    raise AssertionError("turns without end")


def spend_in_tasks(service: QuotaService, backend: str) -> int:
    used: list[int] = []

    async def work() -> None:
        with inside(service):
            for _ in range(40):
                async with reserve("slots"):
                    await anyio.sleep(0)
                try:
                    async with reserve("team", 2) as reservation:
                        await anyio.sleep(0)
                        reservation.commit(1)
                        used.append(1)
                except QuotaExceeded:
                    pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(work)

    anyio.run(main, backend=backend)
    return sum(used)


def watch(place: Place, services: list[QuotaService], done: Event) -> list[object]:
    """What was seen that must never be."""
    wrong: list[object] = []
    with place.look() as ledger:
        while not done.is_set():
            states = [state for state in ledger.read("r/") if state.node in NODES]
            wrong += [s for s in states if s.used + s.out + s.stranded > s.terms.value]
            views = [view for service in services for view in service.resources()]
            wrong += [b for view in views if not adds_up(b := view.balance)]
    return wrong


def adds_up(b: Balance) -> bool:
    parts = b.spent + b.reserved + b.granted - b.overrun
    return b.remaining is not None and b.limit == parts + b.remaining and b.reserved >= 0


def race(place: Place, works: list[Callable[[QuotaService], int]]) -> int:
    """Run each of these in a thread, on services in turn; returns what they used in all."""
    done = Event()
    with ExitStack() as stack, ThreadPoolExecutor(len(works) + 1) as pool:
        services = [stack.enter_context(place.connect(lease_seconds=1)) for _ in range(2)]
        for service in services:
            define(service)
        watching = pool.submit(watch, place, services, done)
        futures: list[Future[int]] = [
            pool.submit(work, services[at % 2]) for at, work in enumerate(works)
        ]
        try:
            used = sum(future.result() for future in futures)
        finally:
            done.set()
        assert watching.result() == []
    return used


@pytest.mark.timeout(120)
def test_all_is_spent_and_no_more(place: Place) -> None:
    used = race(place, [lambda service: spend(service, ("org", "team"))] * 4)
    place.assert_at_rest(org=used)
    assert VALUE - 20 <= used <= VALUE


@pytest.mark.timeout(120)
def test_threads_and_both_loops_at_once(place: Place) -> None:
    used = race(
        place,
        [
            lambda service: spend(service, ("org", "team")),
            lambda service: spend(service, ("team",)),
            lambda service: spend_in_tasks(service, "asyncio"),
            lambda service: spend_in_tasks(service, "trio"),
            lambda service: spend_in_tasks(service, "trio"),
            lambda service: spend_in_tasks(service, "asyncio"),
            lambda service: spend(service, ("org",)),
            lambda service: spend(service, ("org", "team")),
        ],
    )
    place.assert_at_rest(org=used)
    assert used <= VALUE


@pytest.mark.timeout(120)
def test_exact_to_the_unit(place: Place) -> None:
    used = race(place, [lambda service: spend(service, ("exact",))] * 4)
    place.assert_at_rest(exact=used)
    with place.connect() as last:
        if used < 300:
            reserve_nowait("exact", 300 - used).commit()
        assert last.resource("exact").balance.remaining == 0
    place.assert_at_rest(exact=300)

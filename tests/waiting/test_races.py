"""Many threads wait at once: nothing is overspent, nobody is left, and no snapshot lies."""

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Resource,
    connect,
    reserve,
    task_budget,
)
from budgetware.accounts import waiting
from tests.waiting.desk import balance_of
from tests.waiting.threads import Thread

THREADS = 16
TURNS = 500


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Let threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect() as connected:
        yield connected
    assert not waiting


def watched(look: Callable[[], None], *works: Callable[[], object]) -> None:
    """Run all at once, while two threads look again and again."""
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            look()

    readers = [Thread(read), Thread(read)]
    threads = [Thread(work) for work in works]
    for thread in threads:
        thread.join(50)
    done.set()
    for thread in (*threads, *readers):
        thread.raise_it()


def test_slots_are_never_overspent(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(3)))
    lock = threading.Lock()
    inside = 0

    def work(units: int) -> None:
        nonlocal inside
        for _ in range(TURNS):
            with reserve("slots", units):
                with lock:
                    inside += units
                    assert inside <= 3
                with lock:
                    inside -= units

    def look() -> None:
        assert balance_of(service, "slots").overrun == 0

    watched(look, *[partial(work, 1 + number % 3) for number in range(THREADS)])
    assert (inside, balance_of(service, "slots").reserved) == (0, 0)


def test_a_capacity_is_spent_to_the_last_unit(service: QuotaService) -> None:
    service.define(Resource("pages", Capacity(THREADS * TURNS // 2)))
    granted: list[int] = []
    told: set[float | None] = set()

    def work() -> None:
        for _ in range(TURNS):
            try:
                with reserve("pages", 2) as reservation:
                    granted.append(1)
                    reservation.commit(1)
            except QuotaExceeded as error:
                told.add(error.retry_after)

    def look() -> None:
        assert balance_of(service, "pages").overrun == 0

    watched(look, *[work] * THREADS)
    balance = balance_of(service, "pages")
    assert (balance.spent, balance.reserved) == (len(granted), 0)
    assert balance.remaining in (0, 1)  # the last unit is too little for a call
    assert told == {None}


def test_a_throttled_task_in_many_threads(service: QuotaService) -> None:
    granted: list[int] = []

    def work() -> None:
        for _ in range(TURNS // 5):
            with reserve(tokens=30) as reservation:
                granted.append(1)
                reservation.release()

    with task_budget("crawl", tokens=100, policy="throttle") as budget:

        def look() -> None:
            balance: Any = budget.snapshot()["tokens"]
            assert balance.spent + balance.reserved + balance.remaining == 100

        watched(look, *[budget.wrap(work)] * THREADS)
        assert budget.remaining("tokens") == 100
    assert len(granted) == THREADS * TURNS // 5


def test_limits_that_change_while_all_wait(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(2)))
    done: list[int] = []

    def work() -> None:
        for _ in range(TURNS // 5):
            with reserve("slots"):
                done.append(1)

    def change() -> None:
        for turn in range(TURNS // 5):
            service.update("slots", limit=Concurrency(1 + turn % 4))

    watched(lambda: None, change, *[work] * THREADS)
    assert len(done) == THREADS * TURNS // 5
    assert balance_of(service, "slots").reserved == 0


def test_waits_that_end_in_vain_while_others_are_served(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(2)))
    ended: list[str] = []

    def work(max_wait: float) -> None:
        for _ in range(TURNS // 10):
            try:
                with reserve("slots", 2, max_wait=max_wait):
                    ended.append("served")
            except QuotaExceeded:
                ended.append("in vain")

    watched(lambda: None, *[partial(work, 0.0005 * (number % 4)) for number in range(THREADS)])
    assert len(ended) == THREADS * (TURNS // 10)
    assert balance_of(service, "slots").reserved == 0

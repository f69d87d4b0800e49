"""Slots that several processes wait for: each gets its turn, though others have more calls."""

from __future__ import annotations

from time import monotonic

import anyio

from budgetware import Concurrency, QuotaExceeded, QuotaService, Resource, reserve
from budgetware.ledgers.terms import Claim, Grant
from budgetware.ledgers.turns import QUANTUM_NS, Turn
from tests.ledgers.places import Place, inside

MOST_SECONDS = 20.0
ENOUGH = 10


async def test_no_process_keeps_a_slot_from_another_that_waits(place: Place) -> None:
    served = [0, 0]
    until = monotonic() + MOST_SECONDS

    async def work(service: QuotaService, at: int) -> None:
        with inside(service):
            while min(served) < ENOUGH and monotonic() < until:
                try:
                    async with reserve("slot", 1, max_wait=MOST_SECONDS):
                        await anyio.sleep(0.01)
                except QuotaExceeded:
                    return
                served[at] += 1

    async with place.connect() as first, place.connect() as second:
        for service in (first, second):
            service.define(Resource("slot", Concurrency(1), "throttle"))
        async with anyio.create_task_group() as group:
            for at, service in enumerate((first, first, second, second)):
                group.start_soon(work, service, at // 2)
    assert min(served) >= ENOUGH


def test_a_turn_is_over_when_others_wait_and_it_was_long_enough() -> None:
    turn = Turn(0)
    claim, wanted = Claim("r/slot", "a", 1, need=1), Grant("r/slot", 1, "ok", 1, is_wanted=True)
    turn.heard(claim, wanted, 5)
    assert not turn.is_over
    later = Grant("r/slot", 2, "ok", is_wanted=True)
    turn.heard(claim, later, 5 + QUANTUM_NS)
    assert turn.is_over


def test_who_waits_asks_soon_at_first_and_then_less_often() -> None:
    turn = Turn(0)
    retries: list[int] = []
    for at in range(7):
        turn.heard(Claim("r/slot", "a", at, need=1), Grant("r/slot", at, "ok"), at)
        retries.append(turn.retry_ns(500_000_000) // 1_000_000)
    assert retries == [40, 80, 160, 320, 500, 500, 500]

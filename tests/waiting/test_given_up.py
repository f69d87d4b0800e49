"""Waits that could never end, or not in time: their loop is gone, or what they need is spent."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from threading import Thread

import anyio
import pytest

from budgetware import (
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    Throttle,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.testing import LoopClock, run_virtual

BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def service() -> Generator[QuotaService]:
    with connect() as service:
        service.define(Resource("slot", Concurrency(1)))
        yield service


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_event_loop_holds_up_nobody(service: QuotaService) -> None:
    async def wait() -> None:
        async with reserve("slot"):
            pass

    held = reserve_nowait("slot")
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    waiter = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert service.resource("slot").waiting == 1
    held.release()
    assert service.resource("slot").waiting == 0
    reserve_nowait("slot").release()
    del waiter
    gc.collect()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wait_ends_when_its_task_has_nothing_left_for_it(backend: str) -> None:
    async def main() -> None:
        async with connect(clock=LoopClock()) as service:
            service.define(Resource("slot", Concurrency(1)))
            held = reserve_nowait("slot", expires_in="1h")
            refused_at: list[float] = []
            begun = anyio.current_time()

            async def wait() -> None:
                with pytest.raises(QuotaExceeded, match="task 'agent' has 0 of 10 tokens left"):
                    await reserve("slot", tokens=8)
                refused_at.append(anyio.current_time())

            async with task_budget("agent", tokens=10), anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(1)
                charge(tokens=10)
            assert refused_at == [begun + 1]
            held.release()

    run_virtual(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_decorated_call_waits_for_no_slot_that_its_caller_holds(backend: str) -> None:
    async def main() -> None:
        async with connect(clock=LoopClock()) as service:
            service.define(Resource("slot", Concurrency(1)))

            @budgeted(target="slot")
            async def inner() -> None: ...

            @budgeted(target="slot")
            async def outer() -> None:
                async with anyio.create_task_group() as group:
                    group.start_soon(inner)

            with anyio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
                await outer()
            assert caught.group_contains(QuotaExceeded)
            assert service.resource("slot").balance.remaining == 1

    run_virtual(main, backend=backend)


def test_splitting_a_token_gains_no_share(service: QuotaService) -> None:
    service.define(Resource("rate", Rate(100, "second"), Throttle()))
    one, other = QuotaToken("rate", 1_000), QuotaToken("rate", 1_000)
    parts = [other.split(100) for _ in range(9)]
    whole = one.stake.weight()
    assert abs(sum(token.stake.weight() for token in (other, *parts)) - whole) <= len(parts) + 1
    for part in parts:
        part.close()
    assert other.stake.weight() == whole


def test_what_finish_spends_is_kept_no_longer() -> None:
    with task_budget(tokens=10, keep={"tokens": 4}) as budget:
        with budget.finish(), reserve(tokens=3) as reservation:
            reservation.commit(3)
        assert (budget.remaining("tokens"), budget.snapshot()["tokens"].granted) == (6, 1)


def test_a_thread_waits_behind_a_blocked_loop_no_longer_than_a_second_more() -> None:
    with connect() as service:
        service.define(Resource("rate", Rate(20, "second", max=1)))
        reserve_nowait("rate", 1).commit()
        blocked, served = asyncio.Event(), list[bool]()

        def thread() -> None:
            with reserve("rate", 1, max_wait=10):
                served.append(True)

        async def main() -> None:
            async def wait() -> None:
                async with reserve("rate", 1):
                    blocked.set()

            first = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            behind = Thread(target=thread)
            behind.start()
            behind.join(5)  # blocks the loop that is first in line
            assert served == [True]
            await first

        asyncio.run(main())

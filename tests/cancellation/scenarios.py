"""What is cancelled at each of its await points; each says as it goes what it has started."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaService,
    Resource,
    Terminate,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from tests.cancellation.sweep import Cost


class Unlucky(Exception): ...


async def reserve_block(cost: Cost) -> None:
    await checkpoint()
    async with reserve(tokens=50) as reservation:
        part = cost.start(50)
        await checkpoint()
        reservation.record(tokens=20)
        cost.known(part, 20)
        await checkpoint()
        reservation.commit(30)
        cost.known(part, 30)
        await checkpoint()
    await checkpoint()


async def released_block(cost: Cost) -> None:
    async with reserve(tokens=50) as reservation:
        part = cost.start(50)
        await checkpoint()
        reservation.release()
        cost.known(part, 0)
        await checkpoint()


async def block_that_fails(cost: Cost) -> None:
    try:
        async with reserve(tokens=50, on_error="release"):
            part = cost.start(50)
            await checkpoint()
            cost.known(part, 0)
            raise Unlucky
    except Unlucky:
        await checkpoint()


async def sync_block_in_a_task(cost: Cost) -> None:
    with reserve(tokens=50) as reservation:
        part = cost.start(50)
        await checkpoint()
        reservation.commit(10)
        cost.known(part, 10)
        await checkpoint()


async def bare_reservation(cost: Cost) -> None:
    await checkpoint()
    reservation = await reserve(tokens=50)
    part = cost.start(50)
    await checkpoint()
    reservation.commit(10)
    cost.known(part, 10)
    await checkpoint()


async def nowait_block(cost: Cost) -> None:
    with reserve_nowait(tokens=50) as reservation:
        part = cost.start(50)
        await checkpoint()
        reservation.commit(10)
        cost.known(part, 10)
        await checkpoint()


async def many_blocks(cost: Cost) -> None:
    async with reserve(tokens=50) as outer, reserve(tokens=60):
        one, _other = cost.start(50), cost.start(60)
        await checkpoint()
        async with reserve(tokens=70):
            cost.start(70)
            await checkpoint()
        outer.commit(5)
        cost.known(one, 5)
        await checkpoint()


@budgeted(tokens=70)
async def _fixed(cost: Cost) -> None:
    cost.start(70)
    await checkpoint()
    await checkpoint()


@budgeted(tokens=70, settle=lambda used: used)
async def _settled(cost: Cost, used: int = 40) -> int:
    part = cost.start(70)
    await checkpoint()
    await checkpoint()
    cost.known(part, used)
    return used


def _seventy(_cost: Cost) -> int:
    return 70


@budgeted(tokens=_seventy)
async def _careful(cost: Cost) -> None:
    cost.start(70)
    try:
        await checkpoint()
    finally:
        with anyio.CancelScope(shield=True):
            await checkpoint()
            await checkpoint()


@budgeted(tokens=70, measure=("time",))
async def _timed(cost: Cost) -> None:
    cost.start(70)
    await checkpoint()


async def budgeted_calls(cost: Cost) -> None:
    await _fixed(cost)
    await checkpoint()
    await _settled(cost)
    await _careful(cost)
    await _timed(cost)


async def parallel_calls(cost: Cost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_fixed, cost)
        group.start_soon(_settled, cost)
        group.start_soon(_careful, cost)
        await checkpoint()


async def refused_calls(cost: Cost) -> None:
    await _fixed(cost)
    async with task_budget("small", tokens=100, carve=True):
        for _ in range(3):
            try:
                async with reserve(tokens=101):
                    cost.start(101)
            except BudgetExceeded:
                pass
            try:
                await reserve(tokens=500)
            except BudgetExceeded:
                await _fixed(cost)
                return


async def refused_carve(cost: Cost) -> None:
    async with task_budget("small", tokens=100):
        try:
            async with task_budget("carved", tokens=200, carve=True):
                await _fixed(cost)
        except BudgetExceeded:
            await _fixed(cost)


async def task_block(cost: Cost) -> None:
    await checkpoint()
    async with task_budget("inner", tokens=500) as inner:
        await _fixed(cost)
        charge(tokens=3)
        cost.start(3)
        await checkpoint()
        inner.charge(tokens=4)
        cost.start(4)
        await _settled(cost)
    await _fixed(cost)


async def carved_block(cost: Cost) -> None:
    async with task_budget("carved", tokens=500, carve=True):
        await _fixed(cost)
        async with task_budget("deeper", tokens=100, carve=True):
            await _settled(cost)
        await checkpoint()


async def debt_below_a_carve(cost: Cost) -> None:
    async with task_budget("carved", tokens=100, carve=True):
        await _settled(cost, 150)
        await checkpoint()


@task_budget("decorated", tokens=500)
async def _decorated(cost: Cost) -> None:
    await _fixed(cost)
    await checkpoint()


async def decorated_task(cost: Cost) -> None:
    await _decorated(cost)


async def terminated_block(cost: Cost) -> None:
    try:
        async with task_budget("short", tokens=100, policy=Terminate(settle_seconds=0)):
            await _fixed(cost)
            await _fixed(cost)
    except BudgetTerminated:
        await checkpoint()
        await _fixed(cost)


async def finished_block(cost: Cost) -> None:
    short = task_budget(
        "short", tokens=100, keep={"tokens": 75}, policy=Terminate(settle_seconds=0)
    )
    try:
        async with short:
            await _fixed(cost)
    except BudgetTerminated:
        async with short.finish():
            await _fixed(cost)


async def retried_call(cost: Cost) -> None:
    attempts: list[int] = []

    @budgeted(
        tokens=70,
        retry=AsyncRetrying(
            retry=retry_if_exception_type(Unlucky),
            stop=stop_after_attempt(3),
            sleep=lambda _seconds: checkpoint(),
        ),
    )
    async def unlucky() -> None:
        cost.start(70)
        attempts.append(1)
        await checkpoint()
        if len(attempts) < 3:
            raise Unlucky

    await unlucky()


@budgeted(tokens=70, settle=lambda item: item)
async def _stream(cost: Cost) -> AsyncGenerator[int, None]:
    part = cost.start(70)
    await checkpoint()
    cost.known(part, 10)
    yield 10
    await checkpoint()
    cost.known(part, 25)
    yield 25
    await checkpoint()


async def stream(cost: Cost) -> None:
    async with aclosing(_stream(cost)) as items:
        async for _ in items:
            await checkpoint()


async def stream_left_early(cost: Cost) -> None:
    async with aclosing(_stream(cost)) as items:
        async for _ in items:
            await checkpoint()
            break
    await checkpoint()


@budgeted(tokens=70)
async def _careful_stream(cost: Cost) -> AsyncGenerator[int, None]:
    cost.start(70)
    try:
        await checkpoint()
        yield 1
    finally:
        await checkpoint()
        await checkpoint()


async def stream_that_cleans_up(cost: Cost) -> None:
    async with aclosing(_careful_stream(cost)) as items:
        async for _ in items:
            await checkpoint()


@task_budget("streamed", tokens=500)
async def _task_stream(cost: Cost) -> AsyncGenerator[int, None]:
    await _fixed(cost)
    yield 1
    await _settled(cost)
    yield 2
    await checkpoint()


async def task_stream(cost: Cost) -> None:
    async with aclosing(_task_stream(cost)) as items:
        async for _ in items:
            await checkpoint()


@task_budget("streamed", tokens=500, carve=True)
async def _carved_stream(cost: Cost) -> AsyncGenerator[int, None]:
    async with aclosing(_stream(cost)) as items:
        async for item in items:
            await _fixed(cost)
            yield item


async def carved_stream_of_a_stream(cost: Cost) -> None:
    async with aclosing(_carved_stream(cost)) as items:
        async for _ in items:
            await checkpoint()


async def _hold_for_a_while(held: anyio.Event, *target: Any, **amounts: Any) -> None:
    async with reserve(*target, **amounts) as reservation:
        held.set()
        try:
            for _ in range(3):
                await checkpoint()
        finally:
            reservation.release()


async def throttled_call(cost: Cost) -> None:
    async with task_budget("narrow", tokens=100, policy="throttle") as narrow:
        try:
            async with anyio.create_task_group() as group:
                held = anyio.Event()
                group.start_soon(partial(_hold_for_a_while, held, tokens=80))
                await held.wait()
                await _fixed(cost)
                async with reserve(tokens=20) as reservation:
                    part = cost.start(20)
                    await checkpoint()
                    reservation.commit(5)
                    cost.known(part, 5)
        finally:
            assert narrow.snapshot()["tokens"].reserved == 0


@contextmanager
def _one_slot() -> Generator[QuotaService]:
    """A service with one slot, which is free in the end."""
    with connect() as service:
        service.define(Resource("slot", Concurrency(1)))
        try:
            yield service
        finally:
            shown = service.resource("slot")
            assert (shown.balance.reserved, shown.waiting) == (0, 0)


async def call_that_waits_for_a_slot(cost: Cost) -> None:
    with _one_slot() as service:
        async with service.task_budget("inner", tokens=500), anyio.create_task_group() as group:
            held = anyio.Event()
            group.start_soon(_hold_for_a_while, held, "slot")
            await held.wait()
            async with reserve("slot", tokens=50) as reservation:
                part = cost.start(50)
                await checkpoint()
                reservation.commit({"tokens": 10})
                cost.known(part, 10)
                await checkpoint()


async def bare_reservation_of_a_slot(cost: Cost) -> None:
    with _one_slot() as service:
        async with service.task_budget("inner", tokens=500), anyio.create_task_group() as group:
            held = anyio.Event()
            group.start_soon(_hold_for_a_while, held, "slot")
            await held.wait()
            reservation = await reserve("slot", tokens=50)
            part = cost.start(50)
            try:
                await checkpoint()
            finally:
                reservation.release()
                cost.known(part, 0)


async def wait_in_vain(cost: Cost) -> None:
    with _one_slot() as service:
        async with service.task_budget("inner", tokens=500), reserve("slot"):
            async with anyio.create_task_group() as group:
                group.start_soon(_waits_in_vain, cost)
                await checkpoint()
            await _fixed(cost)


async def _waits_in_vain(cost: Cost) -> None:
    try:
        async with reserve("slot", tokens=50, max_wait=0):
            cost.start(50)
    except BudgetExceeded:
        await checkpoint()


@budgeted(tokens=70, target="slot", settle=lambda item: {"tokens": item})
async def _slot_stream(cost: Cost) -> AsyncGenerator[int, None]:
    part = cost.start(70)
    await checkpoint()
    cost.known(part, 10)
    yield 10
    await checkpoint()


async def stream_that_waits_for_a_slot(cost: Cost) -> None:
    with _one_slot() as service:
        async with service.task_budget("inner", tokens=500), anyio.create_task_group() as group:
            held = anyio.Event()
            group.start_soon(_hold_for_a_while, held, "slot")
            await held.wait()
            async with aclosing(_slot_stream(cost)) as items:
                async for _ in items:
                    await checkpoint()


SCENARIOS = [
    reserve_block,
    released_block,
    block_that_fails,
    sync_block_in_a_task,
    bare_reservation,
    nowait_block,
    many_blocks,
    budgeted_calls,
    parallel_calls,
    refused_calls,
    refused_carve,
    task_block,
    carved_block,
    debt_below_a_carve,
    decorated_task,
    terminated_block,
    finished_block,
    retried_call,
    stream,
    stream_left_early,
    stream_that_cleans_up,
    task_stream,
    carved_stream_of_a_stream,
    throttled_call,
    call_that_waits_for_a_slot,
    bare_reservation_of_a_slot,
    wait_in_vain,
    stream_that_waits_for_a_slot,
]

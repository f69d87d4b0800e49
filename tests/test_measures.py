"""`measure=("cpu",)`: what is charged is what the call's own steps ran, on any thread, no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from time import thread_time_ns
from typing import Any

import anyio
import pytest
from anyio import to_thread
from anyio.lowlevel import checkpoint

from budgetware import budgeted, task_budget
from budgetware.errors import ConfigurationError
from budgetware.measures import check_measures

SLACK_MICROS = 2_000
"""What a step may cost beyond what is measured inside it: entering it, leaving it, a page fault."""


class Known:
    """CPU time that was measured inside the call itself."""

    def __init__(self) -> None:
        self.ns = 0

    def burn(self, micros: int = 3_000) -> None:
        began = thread_time_ns()
        while thread_time_ns() - began < micros * 1_000:
            pass
        self.ns += thread_time_ns() - began

    def is_charged(self, charged: Any) -> bool:
        micros = self.ns // 1_000
        return bool(micros <= charged <= micros + SLACK_MICROS)


@pytest.fixture
def known() -> Known:
    return Known()


async def disturb(pause_seconds: float = 0) -> None:
    """Another task that works whenever the call waits."""
    while True:
        Known().burn(4_000)
        await anyio.sleep(pause_seconds)


async def test_a_coroutine_is_charged_its_own_steps_and_not_those_of_others(known: Known) -> None:
    @budgeted(measure=("cpu",))
    async def work() -> None:
        for _ in range(5):
            known.burn()
            await checkpoint()

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(disturb)
        await work()
        group.cancel_scope.cancel()
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_two_calls_at_once_are_each_charged_their_own(known: Known) -> None:
    @budgeted(measure=("cpu",))
    async def work() -> None:
        for _ in range(4):
            known.burn()
            await checkpoint()

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(work)
        group.start_soon(work)
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_an_async_generator_is_charged_its_steps_and_not_what_runs_while_it_waits(
    known: Known,
) -> None:
    @budgeted(measure=("cpu",))
    async def stream() -> AsyncIterator[int]:
        for number in range(4):
            known.burn()
            await checkpoint()
            yield number

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(disturb)
        async for _ in stream():
            Known().burn(4_000)  # the consumer's own
        group.cancel_scope.cancel()
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_an_async_generator_that_is_closed_early_is_charged_its_cleanup(
    known: Known,
) -> None:
    @budgeted(measure=("cpu",))
    async def stream() -> AsyncIterator[int]:
        try:
            known.burn()
            yield 1
        finally:
            await checkpoint()
            known.burn()

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(disturb)
        items: Any = stream()
        await anext(items)
        await items.aclose()
        group.cancel_scope.cancel()
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_an_async_generator_that_raises_is_charged_what_it_ran(known: Known) -> None:
    @budgeted(measure=("cpu",))
    async def stream() -> AsyncIterator[int]:
        yield 1
        await checkpoint()
        known.burn()
        raise LookupError

    async with task_budget(cpu_micros=10**9) as budget:
        with pytest.raises(LookupError):
            async for _ in stream():
                pass
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_a_function_in_a_worker_thread_is_charged_that_thread_alone(known: Known) -> None:
    @budgeted(measure=("cpu",))
    def work() -> None:
        known.burn(20_000)

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(disturb, 0.001)  # a thread gets no turn beside one that never rests
        await to_thread.run_sync(work)
        group.cancel_scope.cancel()
    assert known.is_charged(budget.spent("cpu_micros"))


async def test_a_cancelled_call_is_charged_what_it_ran_until_then(known: Known) -> None:
    @budgeted(measure=("cpu",))
    async def work() -> None:
        known.burn()
        try:
            await anyio.sleep_forever()
        finally:
            known.burn()

    async with task_budget(cpu_micros=10**9) as budget, anyio.create_task_group() as group:
        group.start_soon(work)
        await checkpoint()
        await checkpoint()
        group.cancel_scope.cancel()
    assert known.is_charged(budget.spent("cpu_micros"))


def test_a_generator_is_charged_its_steps_and_not_its_consumer(known: Known) -> None:
    @budgeted(measure=("cpu",))
    def steps() -> Iterator[int]:
        for number in range(4):
            known.burn()
            yield number

    with task_budget(cpu_micros=10**9) as budget:
        for _ in steps():
            Known().burn(4_000)
    assert known.is_charged(budget.spent("cpu_micros"))


@pytest.mark.parametrize("given", ["gpu", ("cpu", "gpu"), 5, None, {"cpu": 1}])
def test_a_measure_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match="measure="):
        check_measures(given)

"""Which threads a task reaches by itself, and how it is carried into the others."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from budgetware import (
    QuotaService,
    budgeted,
    charge,
    connect,
    current_budget,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import NoBudget


@pytest.fixture
def strict() -> Iterator[QuotaService]:
    with connect(strict=True) as service:
        yield service


@budgeted(calls=1)
def search() -> str:
    return "found"


def budget_name() -> str | None:
    budget = current_budget()
    return None if budget is None else budget.name


def refused_in_strict_mode() -> str:
    try:
        return search()
    except NoBudget as error:
        return type(error).__name__


def in_new_thread(work: Callable[[], str | None]) -> str | None:
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(work()))
    thread.start()
    thread.join()
    return seen[0]


def in_executor(work: Callable[[], str | None]) -> str | None:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


OUTSIDE = pytest.mark.parametrize("elsewhere", [in_new_thread, in_executor])


# By itself.


async def test_a_worker_thread_of_anyio_pays_from_the_task() -> None:
    async with task_budget("research", calls=3) as budget:
        assert await anyio.to_thread.run_sync(search) == "found"
        assert await anyio.to_thread.run_sync(budget_name) == "research"
    assert budget.spent("calls") == 1


def test_asyncio_to_thread_pays_from_the_task() -> None:
    async def main() -> int:
        async with task_budget("research", calls=3) as budget:
            assert await asyncio.to_thread(search) == "found"
            assert await asyncio.to_thread(budget_name) == "research"
        return int(budget.spent("calls"))

    assert asyncio.run(main()) == 1


async def test_a_call_from_a_worker_thread_back_to_the_loop_pays_from_the_task() -> None:
    @budgeted(calls=1)
    async def fetch() -> str:
        return "fetched"

    async with task_budget(calls=3) as budget:
        fetched = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(fetch))
    assert (fetched, budget.spent("calls")) == ("fetched", 1)


async def test_a_task_opened_in_a_worker_thread_is_a_child() -> None:
    def work() -> str:
        with task_budget("child", calls=2) as child:
            search()
        return child.path

    async with task_budget("parent", calls=3) as parent:
        path = await anyio.to_thread.run_sync(work)
    assert (path, parent.spent("calls")) == ("parent/child", 1)


async def test_a_task_opened_in_a_worker_thread_does_not_reach_its_caller() -> None:
    def work() -> None:
        task_budget("child", calls=2).__enter__()

    async with task_budget("parent", calls=3):
        await anyio.to_thread.run_sync(work)
        assert budget_name() == "parent"


# Not by itself.


@OUTSIDE
def test_elsewhere_there_is_no_current_task(
    elsewhere: Callable[[Callable[[], str | None]], str | None],
) -> None:
    with task_budget("research", calls=3):
        assert elsewhere(budget_name) is None


@OUTSIDE
def test_elsewhere_a_call_passes_uncharged(
    elsewhere: Callable[[Callable[[], str | None]], str | None],
) -> None:
    with task_budget("research", calls=3) as budget:
        assert elsewhere(search) == "found"
    assert budget.spent("calls") == 0


@OUTSIDE
def test_elsewhere_a_strict_service_refuses(
    elsewhere: Callable[[Callable[[], str | None]], str | None], strict: QuotaService
) -> None:
    with task_budget("research", calls=3) as budget:
        assert elsewhere(refused_in_strict_mode) == "NoBudget"
    assert budget.spent("calls") == 0


def test_run_in_executor_has_no_current_task(strict: QuotaService) -> None:
    async def main() -> tuple[str | None, str]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            async with task_budget("research", calls=3):
                name = await loop.run_in_executor(pool, budget_name)
                return name, await loop.run_in_executor(pool, refused_in_strict_mode)

    assert asyncio.run(main()) == (None, "NoBudget")


def test_a_strict_service_takes_note_of_what_has_happened_outside_any_task(
    strict: QuotaService,
) -> None:
    assert charge(tokens=1).name == "continue"


def test_a_strict_service_refuses_to_reserve_outside_any_task(strict: QuotaService) -> None:
    with pytest.raises(NoBudget, match="outside any task"):
        reserve_nowait(tokens=1)


# Carried by `wrap`.


@OUTSIDE
def test_wrap_carries_the_task(
    elsewhere: Callable[[Callable[[], str | None]], str | None], strict: QuotaService
) -> None:
    with task_budget("research", calls=3) as budget:
        assert elsewhere(budget.wrap(search)) == "found"
        assert elsewhere(budget.wrap(budget_name)) == "research"
    assert budget.spent("calls") == 1


def test_wrap_carries_the_task_into_run_in_executor(strict: QuotaService) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            async with task_budget("research", calls=3) as budget:
                await loop.run_in_executor(pool, budget.wrap(search))
        return int(budget.spent("calls"))

    assert asyncio.run(main()) == 1


def test_wrap_leaves_nothing_behind_on_the_thread(strict: QuotaService) -> None:
    with ThreadPoolExecutor(1) as pool, task_budget("research", calls=3) as budget:
        pool.submit(budget.wrap(search)).result()
        assert pool.submit(budget_name).result() is None


def test_wrap_keeps_arguments_and_result() -> None:
    def repeat(text: str, *, times: int) -> str:
        return text * times

    with task_budget(calls=3) as budget:
        carried = budget.wrap(repeat)
    assert carried("ab", times=2) == "abab"
    assert carried.__name__ == "repeat"


async def test_wrap_carries_the_task_into_a_coroutine_function() -> None:
    @budgeted(calls=1)
    async def fetch(text: str) -> str:
        return text

    async with anyio.create_task_group() as outside:
        async with task_budget("research", calls=3) as budget:
            outside.start_soon(budget.wrap(fetch), "x")
            await anyio.wait_all_tasks_blocked()
        assert budget.spent("calls") == 1
        assert budget_name() is None


def test_wrap_carries_the_innermost_task_inside_its_own() -> None:
    with task_budget("outer", calls=9) as outer:
        with task_budget("inner", calls=3) as inner:
            assert in_new_thread(outer.wrap(budget_name)) == "inner"
            in_new_thread(outer.wrap(search))
        assert in_new_thread(outer.wrap(budget_name)) == "outer"
    assert inner.spent("calls") == 1


def test_a_carried_call_after_the_end_is_refused() -> None:
    with task_budget("research", calls=3) as budget:
        carried = budget.wrap(search)
    with pytest.raises(NoBudget, match="has ended"):
        in_executor(carried)


def test_carried_calls_of_many_threads_spend_exactly_the_limit() -> None:
    def spend() -> int:
        ran = 0
        for _ in range(20):
            try:
                search()
                ran += 1
            except Exception:
                continue
        return ran

    with ThreadPoolExecutor(8) as pool, task_budget(calls=100, policy="reject") as budget:
        ran = sum(f.result() for f in [pool.submit(budget.wrap(spend)) for _ in range(8)])
    assert (ran, budget.spent("calls")) == (100, 100)

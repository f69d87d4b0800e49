"""Decorated functions, generators and retries wait like `reserve` does."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
import pytest
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from budgetware import (
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    task_budget,
)
from budgetware.retry import wait_for_quota
from tests.waiting.desk import balance_of, now, open_desk, turns


@pytest.fixture
def slot(service: QuotaService) -> QuotaService:
    """A service with one slot."""
    service.define(Resource("slot", Concurrency(1)))
    return service


async def test_functions_are_served_in_their_order(slot: QuotaService) -> None:
    found: list[tuple[str, float]] = []

    @budgeted(target="slot")
    async def search(query: str) -> None:
        await anyio.sleep(1)
        found.append((query, now()))

    async with anyio.create_task_group() as group:
        for query in "abc":
            group.start_soon(search, query)
            await turns()
    assert found == [("a", 1.0), ("b", 2.0), ("c", 3.0)]


async def test_a_function_settles_and_the_next_one_starts(service: QuotaService) -> None:
    starts: list[float] = []

    @budgeted(tokens=80, settle=lambda used: used)
    async def think() -> int:
        starts.append(now())
        await anyio.sleep(1)
        return 20

    async with task_budget("crawl", tokens=100, policy="throttle") as budget:
        async with anyio.create_task_group() as group:
            group.start_soon(think)
            group.start_soon(think)
        assert budget.spent("tokens") == 40
    assert starts == [0.0, 1.0]


async def test_a_function_with_a_computed_amount_waits(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(10, "second"), dim="tokens"))

    @budgeted(tokens=len)
    async def think(prompt: str) -> float:
        return now()

    with QuotaToken("tokens", 1) as token:
        at = [await think("x" * length) for length in (10, 5, 10)]
        token.close()
    assert at == [0.0, 0.5, 1.5]


async def test_a_bound_token_is_waited_for_although_the_task_has_room(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(10, "second"), dim="tokens"))

    @budgeted(tokens=10)
    async def think() -> float:
        return now()

    async with task_budget("crawl", tokens=1_000) as budget, QuotaToken("tokens", 1) as token:
        assert [await think(), await think()] == [0.0, 1.0]
        assert budget.spent("tokens") == 20
        token.close()


async def test_a_function_waits_no_longer_than_it_says(slot: QuotaService) -> None:
    @budgeted(target="slot", max_wait="2s")
    async def search() -> None: ...

    async with open_desk() as desk:
        await desk.arrive("holder", "slot")
        with pytest.raises(QuotaExceeded):
            await search()
        assert now() == 2.0


async def test_a_function_inside_another_does_not_wait_for_it(slot: QuotaService) -> None:
    @budgeted(target="slot")
    async def inner() -> None: ...

    @budgeted(target="slot")
    async def outer() -> None:
        await inner()

    with pytest.raises(QuotaExceeded) as refused:
        await outer()
    assert (refused.value.retry_after, now()) == (None, 0)
    assert balance_of(slot, "slot").reserved == 0


@budgeted(target="slot")
async def pages() -> AsyncGenerator[int]:
    yield 1
    await anyio.sleep(1)
    yield 2


async def test_an_async_generator_waits_before_its_first_step(slot: QuotaService) -> None:
    async with open_desk() as desk:
        await desk.arrive("holder", "slot", seconds=3)
        assert [item async for item in pages()] == [1, 2]
        assert now() == 4.0


async def test_an_async_generator_that_is_left_makes_room(slot: QuotaService) -> None:
    async with open_desk() as desk:
        async with aclosing(pages()) as items:
            assert await anext(items) == 1
            await desk.arrive("waiter", "slot", seconds=0)
            assert desk.entered == []
        await turns()
        assert desk.entered == ["waiter"]


async def test_a_step_of_a_generator_does_not_wait_for_the_generator(
    slot: QuotaService,
) -> None:
    @budgeted(target="slot")
    async def search() -> None: ...

    @budgeted(target="slot")
    async def results() -> AsyncIterator[int]:
        yield 1
        await search()
        yield 2

    stream = results()
    assert await anext(stream) == 1
    with pytest.raises(QuotaExceeded):
        await anext(stream)
    await search()


async def test_the_consumer_of_a_generator_is_not_inside_it(slot: QuotaService) -> None:
    """Another task may go on with the generator: it waits for that."""
    stream = pages()
    await anext(stream)
    async with open_desk() as desk:
        await desk.arrive("waiter", "slot", seconds=0)
        desk.start(stream.aclose)
    assert desk.entered == ["waiter"]


async def test_each_attempt_waits_for_itself(slot: QuotaService) -> None:
    attempts: list[float] = []

    @budgeted(
        target="slot",
        retry=AsyncRetrying(
            retry=retry_if_exception_type(KeyError),
            stop=stop_after_attempt(3),
            wait=wait_fixed(1),
            sleep=anyio.sleep,
        ),
    )
    async def search() -> str:
        attempts.append(now())
        if len(attempts) < 3:
            raise KeyError
        return "found"

    async with open_desk() as desk:
        await desk.arrive("holder", "slot", seconds=2)
        desk.start(turns)
        await desk.arrive("next", "slot", seconds=5)
        assert await search() == "found"
    assert attempts == [7.0, 8.0, 9.0]
    assert balance_of(slot, "slot").reserved == 0


async def test_a_wait_in_vain_may_be_tried_again_when_it_says(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(1, "second", max=10)))
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(QuotaExceeded),
        stop=stop_after_attempt(3),
        wait=wait_for_quota(),
        sleep=anyio.sleep,
        reraise=True,
    )

    @budgeted(target="tokens", tokens=8, max_wait=2, retry=retrying)
    async def think() -> float:
        return now()

    service.delete("tokens")
    service.define(Resource("tokens", Rate(1, "second", max=10), dim="tokens"))
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 10, seconds=0)
        assert await think() == 8.0

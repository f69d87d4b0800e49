"""Usage events: what they say, who hears them, and that a slow listener delays nobody."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from threading import Thread
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    Usage,
    UsageEvent,
    budgeted,
    charge,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError
from budgetware.events import Subscription


class HandClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def time(self) -> float:
        return 1_700_000_000 + self.ns / 1e9

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def service(clock: HandClock) -> Iterator[QuotaService]:
    prices = {"gpt-4o-mini": {"input": "0.15", "output": "0.60"}}
    with connect(clock=clock, prices=prices) as opened:
        yield opened


@pytest.fixture
def events(service: QuotaService) -> Subscription:
    return service.subscribe()


def taken(events: Subscription) -> UsageEvent:
    event = events.get_nowait()
    assert event is not None
    return event


# What they say.


def test_an_event_tells_everything_of_a_call(clock: HandClock, events: Subscription) -> None:
    usage = Usage(input_tokens=300, output_tokens=100)
    wanted = reserve(tokens=2_000, kind="llm", name="think", model="gpt-4o-mini", provider="openai")
    outer, inner = (
        task_budget("outer", usd=1, principal="alice"),
        task_budget("inner", tokens=5_000),
    )
    with outer, inner, wanted as reservation:
        clock.advance(0.25)
        reservation.commit(usage)
    assert taken(events) == UsageEvent(
        timestamp=1_700_000_001.25,
        request_id=reservation.id,
        principal="alice",
        task="outer/inner",
        kind="llm",
        name="think",
        model="gpt-4o-mini",
        provider="openai",
        endpoint=None,
        usage=usage,
        reserved={"tokens": 2_000, "usd": Decimal("0.001200")},
        charged={"tokens": 400, "usd": Decimal("0.000105")},
        duration_ms=250.0,
        wait_ms=0.0,
        status=200,
        outcome="completed",
        error=None,
    )


def test_an_event_of_a_call_outside_any_task(events: Subscription) -> None:
    reserve_nowait(tokens=5).commit(3)
    event = taken(events)
    assert (event.task, event.principal, event.kind, event.name) == ("", None, None, None)
    assert (event.reserved, event.charged) == ({"tokens": 5}, {"tokens": 3})


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (LookupError("secret"), "LookupError"),
        (anyio.BrokenResourceError("secret"), "anyio.BrokenResourceError"),
        (ExceptionGroup("secret", [KeyError("secret")]), "KeyError"),
    ],
)
def test_an_event_names_the_error_and_never_its_text(
    error: Exception, name: str, events: Subscription
) -> None:
    with pytest.raises(type(error)), reserve(tokens=5):
        raise error
    event = taken(events)
    assert (event.error or "").rpartition(".")[2] == name.rpartition(".")[2]
    assert "secret" not in repr(event.to_dict())


class HTTPError(Exception):
    """What an SDK raises."""

    status_code = 503


def test_a_failure_with_an_http_status_shows_that_status(events: Subscription) -> None:
    with pytest.raises(HTTPError), reserve(tokens=5):
        raise HTTPError
    event = taken(events)
    assert (event.outcome, event.status) == ("failed", 503)


def test_a_refused_call_has_an_event(events: Subscription) -> None:
    with task_budget("small", tokens=10), pytest.raises(BudgetExceeded):
        reserve_nowait(tokens=11, name="think", kind="llm")
    event = taken(events)
    assert (event.outcome, event.status, event.task) == ("rejected", 429, "small")
    assert (event.reserved, event.charged) == ({"tokens": 11}, {"tokens": 0})
    assert (event.name, event.kind) == ("think", "llm")
    assert (event.error or "").endswith("BudgetExceeded")
    assert event.request_id


async def test_a_terminated_call_has_an_event(events: Subscription) -> None:
    @budgeted(tokens=11)
    async def think() -> None:
        """Never run."""

    with pytest.raises(BudgetTerminated):
        async with task_budget("small", tokens=10, policy="terminate"):
            await think()
    event = taken(events)
    assert (event.outcome, event.status, event.name) == ("terminated", 429, "think")
    assert event.charged == {"tokens": 0}
    assert events.get_nowait() is None


async def test_a_call_cut_by_its_tasks_end_is_terminated(events: Subscription) -> None:
    async def work() -> None:
        async with task_budget("work", tokens=10) as budget, reserve(tokens=5):
            budget.terminate("enough")
            await anyio.sleep_forever()

    with pytest.raises(BudgetTerminated):
        await work()
    event = taken(events)
    assert (event.outcome, event.status, event.charged) == ("terminated", 429, {"tokens": 5})


def test_a_correction_is_one_more_event_of_the_same_request(events: Subscription) -> None:
    with task_budget("work", tokens=100, usd=1):
        with reserve(tokens=30, usd="0.5") as reservation:
            pass
        reservation.commit(tokens=12, usd="0.6")
    first, second = taken(events), taken(events)
    assert first.request_id == second.request_id == reservation.id
    assert (second.outcome, second.status) == ("corrected", 200)
    assert second.charged == {"tokens": -18, "usd": Decimal("0.100000")}
    assert first.charged["tokens"] == 30
    assert second.task == "work"


def test_the_sum_of_charges_is_what_was_spent(events: Subscription) -> None:
    with task_budget("work", tokens=1_000) as budget:
        charge(tokens=5)
        reserve_nowait(tokens=30).commit(12)
        reserve_nowait(tokens=30).release()
        with reserve(tokens=30) as reservation:
            pass
        reservation.commit(45)
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=2_000)
        total = 0
        while (event := events.get_nowait()) is not None:
            total += int(event.charged["tokens"])
        assert total == budget.spent("tokens") == 62


def test_an_event_turns_into_json(events: Subscription) -> None:
    with task_budget("work", usd=1, tokens=5_000):
        reservation = reserve_nowait(tokens=2_000, model="gpt-4o-mini")
        reservation.commit(Usage(input_tokens=300, output_tokens=100, model="gpt-4o-mini"))
    row = taken(events).to_dict()
    assert row["charged"] == {"tokens": 400, "usd": "0.000105"}
    assert row["usage"] == {"input_tokens": 300, "output_tokens": 100, "model": "gpt-4o-mini"}
    assert list(row) == list(UsageEvent.__slots__)


# Who hears them.


def test_nobody_is_told_of_what_happened_before_they_listened(service: QuotaService) -> None:
    reserve_nowait(tokens=1).commit()
    events = service.subscribe()
    assert events.get_nowait() is None
    reserve_nowait(tokens=2).commit()
    assert taken(events).reserved == {"tokens": 2}


def test_every_listener_hears_every_event(service: QuotaService) -> None:
    first, second = service.subscribe(), service.subscribe()
    reserve_nowait(tokens=2).commit()
    assert taken(first) == taken(second)


def test_a_quick_call_is_told_of_once_somebody_listens(service: QuotaService) -> None:
    @budgeted(tokens=1)
    def work() -> None:
        """Do nothing."""

    with task_budget(tokens=10):
        work()
        events = service.subscribe()
        work()
    assert taken(events).name == "work"
    assert events.get_nowait() is None


def test_what_does_not_fit_is_counted_and_delays_nobody(service: QuotaService) -> None:
    events = service.subscribe(maxsize=3)
    with task_budget(tokens=100) as budget:
        for n in range(10):
            reserve_nowait(tokens=n).commit()
        assert budget.spent("tokens") == 45
    assert events.dropped == 7
    assert [taken(events).reserved["tokens"] for _ in range(3)] == [0, 1, 2]
    reserve_nowait(tokens=11).commit()
    assert (taken(events).reserved, events.dropped) == ({"tokens": 11}, 7)


def test_a_full_listener_takes_nothing_from_another(service: QuotaService) -> None:
    small, large = service.subscribe(maxsize=1), service.subscribe(maxsize=5)
    for _ in range(3):
        reserve_nowait(tokens=1).commit()
    assert (small.dropped, large.dropped) == (2, 0)


@pytest.mark.parametrize("maxsize", [0, -1, True, 1.5, "10", None])
def test_a_bound_that_is_none_is_refused(maxsize: Any, service: QuotaService) -> None:
    with pytest.raises(ConfigurationError, match="maxsize"):
        service.subscribe(maxsize=maxsize)


def test_a_closed_listener_hears_nothing_more(service: QuotaService) -> None:
    with service.subscribe() as events:
        reserve_nowait(tokens=1).commit()
    reserve_nowait(tokens=2).commit()
    assert taken(events).reserved == {"tokens": 1}
    assert events.get_nowait() is None


# Reading on an event loop.


async def test_a_reader_is_woken_by_the_next_event(events: Subscription) -> None:
    heard: list[UsageEvent] = []

    async def read() -> None:
        async for event in events:
            heard.append(event)
            if len(heard) == 3:
                break

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await checkpoint()
        for n in range(3):
            reserve_nowait(tokens=n).commit()
            await checkpoint()
    assert [event.reserved["tokens"] for event in heard] == [0, 1, 2]


async def test_a_reader_is_woken_from_another_thread(events: Subscription) -> None:
    def work() -> None:
        reserve_nowait(tokens=7).commit()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, work)
        assert (await anext(events)).reserved == {"tokens": 7}


async def test_a_reader_is_woken_from_a_thread_of_no_loop(events: Subscription) -> None:
    def work() -> None:
        reserve_nowait(tokens=7).commit()

    thread = Thread(target=work)
    async with anyio.create_task_group() as group:

        async def start() -> None:
            thread.start()

        group.start_soon(start)
        assert (await anext(events)).reserved == {"tokens": 7}
    thread.join()


async def test_a_cancelled_reader_loses_no_event(events: Subscription) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anext, events)
        await checkpoint()
        group.cancel_scope.cancel()
    reserve_nowait(tokens=7).commit()
    assert (await anext(events)).reserved == {"tokens": 7}


async def test_closing_the_service_lets_readers_go() -> None:
    heard: list[UsageEvent] = []

    async def read(events: Subscription) -> None:
        heard.extend([event async for event in events])

    async with anyio.create_task_group() as group, connect() as service:
        group.start_soon(read, service.subscribe())
        await checkpoint()
        reserve_nowait(tokens=1).commit()
    assert len(heard) == 1


async def test_a_reader_that_is_slow_delays_no_call(service: QuotaService) -> None:
    events = service.subscribe(maxsize=2)
    read = anyio.Event()

    async def slow() -> None:
        async for _event in events:
            await read.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(slow)
        await checkpoint()
        async with task_budget(tokens=1_000) as budget:
            for _ in range(100):
                async with reserve(tokens=1) as reservation:
                    reservation.commit()
            assert budget.spent("tokens") == 100
        assert events.dropped >= 97
        events.close()
        read.set()


# Streams.


async def test_a_stream_is_one_event_at_its_end(clock: HandClock, events: Subscription) -> None:
    @budgeted(tokens=50, settle=lambda item: item, kind="llm", model="gpt-4o-mini")
    async def stream() -> AsyncIterator[int]:
        for output in (10, 25, 40):
            clock.advance(1)
            yield output

    async with task_budget("work", tokens=100):
        async for _ in stream():
            assert events.get_nowait() is None
    event = taken(events)
    assert (event.charged, event.duration_ms, event.outcome) == ({"tokens": 40}, 3_000, "completed")


def test_a_collected_reservation_is_told_of(events: Subscription) -> None:
    with task_budget("work", tokens=100) as budget:
        reserve_nowait(tokens=5)
        gc.collect()
        assert budget.spent("tokens") == 5
    assert taken(events).charged == {"tokens": 5}

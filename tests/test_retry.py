"""Retries by tenacity: each attempt is a reservation of its own, and a refusal is not retried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    Retrying,
    retry_any,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_any,
    wait_none,
)
from tenacity.asyncio.retry import retry_if_exception

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    BudgetwareError,
    budgeted,
    charge,
    connect,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, QuotaExceeded
from budgetware.events import Subscription
from budgetware.retry import retry_unless_denied, stop_when_exhausted, wait_for_quota


class Flaky:
    """Fails a number of times, then answers; counts how often it ran."""

    def __init__(self, failures: int, error: type[BaseException] = ConnectionError) -> None:
        self.left = failures
        self.error = error
        self.ran = 0

    def __call__(self) -> str:
        self.ran += 1
        if self.left:
            self.left -= 1
            raise self.error("again")
        return "answer"


@pytest.fixture
def events() -> Iterator[Subscription]:
    with connect() as service, service.subscribe() as subscription:
        yield subscription


def outcomes(events: Subscription) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while (event := events.get_nowait()) is not None:
        found.append((event.outcome, event.status))
    return found


def thrice(**options: Any) -> Retrying:
    return Retrying(stop=stop_after_attempt(3), wait=wait_none(), reraise=True, **options)


def thrice_async(**options: Any) -> AsyncRetrying:
    return AsyncRetrying(stop=stop_after_attempt(3), wait=wait_none(), reraise=True, **options)


def test_each_attempt_of_a_function_is_a_reservation_and_an_event(events: Subscription) -> None:
    flaky = Flaky(2)

    @budgeted(tokens=10, retry=thrice())
    def work() -> str:
        return flaky()

    with task_budget(tokens=100) as budget:
        assert work() == "answer"
        shown = budget.snapshot()["tokens"]
        assert (shown.spent, shown.assumed) == (30, 20)
    assert outcomes(events) == [("failed", 500), ("failed", 500), ("completed", 200)]


async def test_each_attempt_of_a_coroutine_function_is_a_reservation_and_an_event(
    events: Subscription,
) -> None:
    flaky = Flaky(2)

    @budgeted(tokens=10, retry=thrice_async(), on_error="release")
    async def work() -> str:
        await checkpoint()
        return flaky()

    async with task_budget(tokens=100) as budget:
        assert await work() == "answer"
        assert budget.spent("tokens") == 10
    assert outcomes(events) == [("failed", 500), ("failed", 500), ("completed", 200)]


def test_attempts_have_ids_of_their_own(events: Subscription) -> None:
    flaky = Flaky(1)

    @budgeted(tokens=10, retry=thrice())
    def work() -> str:
        return flaky()

    work()
    first, second = events.get_nowait(), events.get_nowait()
    assert first is not None
    assert second is not None
    assert first.request_id != second.request_id


async def test_the_last_error_is_raised() -> None:
    @budgeted(tokens=10, retry=thrice_async())
    async def work() -> str:
        return Flaky(9)()

    async with task_budget(tokens=100) as budget:
        with pytest.raises(ConnectionError, match="again"):
            await work()
        assert budget.spent("tokens") == 30


def test_tenacitys_own_error_is_raised_where_it_is_asked_for() -> None:
    @budgeted(tokens=10, retry=Retrying(stop=stop_after_attempt(2)))
    def work() -> str:
        return Flaky(9)()

    with task_budget(tokens=100), pytest.raises(RetryError):
        work()


def test_a_result_may_be_retried() -> None:
    flaky: list[int] = []

    @budgeted(tokens=10, retry=thrice(retry=retry_if_result(lambda n: n < 2)))
    def work() -> int:
        flaky.append(1)
        return len(flaky)

    with task_budget(tokens=100) as budget:
        assert work() == 2
        assert budget.spent("tokens") == 20


async def test_calls_do_not_share_their_attempts() -> None:
    @budgeted(tokens=1, retry=thrice_async())
    async def work(flaky: Flaky) -> str:
        await checkpoint()
        return flaky()

    calls = [Flaky(2) for _ in range(5)]
    async with task_budget(tokens=100) as budget, anyio.create_task_group() as group:
        for flaky in calls:
            group.start_soon(work, flaky)
    assert [flaky.ran for flaky in calls] == [3] * 5
    assert budget.spent("tokens") == 15


# What is not retried.


async def test_a_refusal_is_not_retried_by_a_predicate_that_does_not_name_it() -> None:
    @budgeted(tokens=60, retry=thrice_async())
    async def work() -> None:
        raise ConnectionError

    async with task_budget(tokens=100) as budget:
        with pytest.raises(BudgetExceeded):
            await work()
        assert budget.spent("tokens") == 60


@pytest.mark.parametrize(
    "predicate",
    [
        retry_if_exception_type(),
        retry_if_exception_type(Exception),
        retry_if_exception_type(RuntimeError),
        retry_if_not_exception_type(KeyError),
    ],
    ids=["default", "Exception", "RuntimeError", "all but one"],
)
def test_a_predicate_of_everything_does_not_name_it(predicate: Any) -> None:
    flaky = Flaky(9, BudgetwareError)

    @budgeted(calls=1, retry=thrice(retry=predicate))
    def work() -> str:
        return flaky()

    with pytest.raises(BudgetwareError, match="again"):
        work()
    assert flaky.ran == 1


@pytest.mark.parametrize(
    "predicate",
    [
        retry_if_exception_type(BudgetwareError),
        retry_any(retry_if_exception_type(BudgetwareError), retry_if_exception_type(KeyError)),
        retry_if_exception_type((KeyError, BudgetwareError)),
    ],
    ids=["alone", "in any", "in a tuple"],
)
def test_a_predicate_that_names_it_retries_it(predicate: Any) -> None:
    flaky = Flaky(2, BudgetwareError)

    @budgeted(calls=1, retry=thrice(retry=predicate))
    def work() -> str:
        return flaky()

    assert work() == "answer"
    assert flaky.ran == 3


async def test_an_async_predicate_that_names_it_retries_it() -> None:
    async def names_it(error: BaseException) -> bool:
        await checkpoint()
        return isinstance(error, BudgetwareError)

    flaky = Flaky(2, BudgetwareError)

    @budgeted(calls=1, retry=thrice_async(retry=retry_if_exception(names_it)))
    async def work() -> str:
        return flaky()

    assert await work() == "answer"


async def test_a_retried_refusal_is_granted_once_there_is_room(events: Subscription) -> None:
    @budgeted(tokens=60, retry=thrice_async(retry=retry_if_exception_type(BudgetExceeded)))
    async def work() -> str:
        return "answer"

    async with task_budget(tokens=100) as budget:
        held = reserve_nowait(tokens=50)
        held.record(tokens=0)

        async def make_room() -> None:
            held.release()

        async with anyio.create_task_group() as group:
            group.start_soon(make_room)
            assert await work() == "answer"
        assert budget.spent("tokens") == 60


async def test_a_cancellation_is_never_retried() -> None:
    ran: list[int] = []

    @budgeted(tokens=10, retry=thrice_async(retry=retry_if_exception_type(BaseException)))
    async def work() -> None:
        ran.append(1)
        await anyio.sleep_forever()

    async with task_budget(tokens=100) as budget:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await checkpoint()
                scope.cancel()
        assert (ran, budget.spent("tokens")) == ([1], 10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exit_is_never_retried(error: type[BaseException]) -> None:
    flaky = Flaky(9, error)

    @budgeted(tokens=10, retry=thrice(retry=retry_if_exception_type(BaseException)))
    def work() -> str:
        return flaky()

    with pytest.raises(error):
        work()
    assert flaky.ran == 1


async def test_a_termination_is_not_retried() -> None:
    ran: list[int] = []

    @budgeted(tokens=60, retry=thrice_async(retry=retry_if_exception_type(Exception)))
    async def work() -> None:
        ran.append(1)
        raise ConnectionError

    with pytest.raises(BudgetTerminated):
        async with task_budget(tokens=100, policy="terminate"):
            await work()
    assert ran == [1]


# What cannot be.


@pytest.mark.parametrize("kind", [Retrying, 3, stop_after_attempt(3)])
def test_what_is_not_tenacitys_is_refused_at_decoration(kind: Any) -> None:
    async def work() -> None:
        """Never run."""

    wrong = kind() if kind is Retrying else kind
    with pytest.raises(ConfigurationError, match="AsyncRetrying"):
        budgeted(tokens=1, retry=wrong)(work)


def test_async_retrying_of_a_function_is_refused_at_decoration() -> None:
    with pytest.raises(ConfigurationError, match=r"AsyncRetrying: give tenacity's Retrying"):
        budgeted(tokens=1, retry=AsyncRetrying())(lambda: None)


def test_retrying_a_generator_is_refused_at_decoration() -> None:
    def steps() -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="generator 'steps'"):
        budgeted(tokens=1, retry=Retrying())(steps)


# Parts to compose.


def state_of(error: BaseException | None) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    if error is None:
        state.set_result("fine")
    else:
        state.set_exception((type(error), error, None))
    return state


def refused(retry_after: float | None) -> QuotaExceeded:
    return QuotaExceeded(
        resource="r", budget="b", dim="tokens", requested=2, available=1, retry_after=retry_after
    )


TERMINATED = BudgetTerminated(budget="b", dim=None, reason="enough")


@pytest.mark.parametrize(
    ("error", "stops"),
    [(refused(None), True), (refused(2.5), False), (TERMINATED, True), (ConnectionError(), False)],
)
def test_stop_when_exhausted(error: Exception, stops: bool) -> None:
    assert stop_when_exhausted()(state_of(error)) is stops


def test_stop_when_exhausted_sees_debt_of_the_task() -> None:
    with task_budget(tokens=10):
        assert not stop_when_exhausted()(state_of(ConnectionError()))
        charge(tokens=11)
        assert stop_when_exhausted()(state_of(ConnectionError()))


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(refused(2.5), 2.5), (refused(None), 0), (TERMINATED, 0), (ConnectionError(), 0)],
)
def test_wait_for_quota_obeys_retry_after(error: Exception, seconds: float) -> None:
    assert wait_for_quota()(state_of(error)) == seconds


def wrapped(error: BudgetwareError) -> Exception:
    outside = ValueError("tool failed")
    outside.__cause__ = error
    return outside


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionError(), True),
        (refused(1), False),
        (wrapped(refused(1)), False),
        (ExceptionGroup("tools", [refused(1)]), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
    ids=repr,
)
def test_retry_unless_denied(error: BaseException | None, again: bool) -> None:
    assert retry_unless_denied()(state_of(error)) is again


def test_the_parts_compose_with_tenacitys_own() -> None:
    flaky = Flaky(1)
    retrying = Retrying(
        stop=stop_when_exhausted() | stop_after_attempt(5),
        wait=wait_for_quota() + wait_none(),
        retry=retry_unless_denied() & retry_if_exception_type(),
        reraise=True,
    )

    @budgeted(tokens=40, retry=retrying)
    def work() -> str:
        return flaky()

    with task_budget(tokens=100) as budget:
        assert work() == "answer"
        with pytest.raises(BudgetExceeded):
            work()
        assert budget.spent("tokens") == 80


def test_a_composed_stop_ends_a_retried_refusal_that_waiting_cannot_help() -> None:
    refusals: list[RetryCallState] = []
    retrying = Retrying(
        stop=stop_any(stop_when_exhausted(), stop_after_attempt(50)),
        retry=retry_if_exception_type(BudgetExceeded),
        before_sleep=refusals.append,
        reraise=True,
    )

    @budgeted(tokens=400, retry=retrying)
    def work() -> None:
        """Never run."""

    with task_budget(tokens=100), pytest.raises(BudgetExceeded):
        work()
    assert refusals == []

"""LiteLLM where it asks more than once: fallbacks, routers, batches; and calls that ask nothing."""

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import litellm
import pytest
from anyio import to_thread

from budgetware import BudgetExceeded, connect, task_budget
from budgetware.errors import ConfigurationError
from budgetware_integrations.litellm import (
    BudgetCallback,
    acompletion,
    completion,
    instrument,
    uninstrument,
    wrap,
)
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.litellm import close_clients
from tests.integrations.test_litellm import MESSAGES, asked, router_of

NEEDS = "litellm"

pytestmark = [
    pytest.mark.filterwarnings("ignore:(?s).*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:(?s)Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(?i)unclosed:ResourceWarning"),  # it closes no sync client
]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: Any) -> Any:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    await close_clients()


@pytest.fixture
def instrumented() -> Iterator[None]:
    instrument()
    yield
    uninstrument()


@pytest.fixture
def listening() -> Iterator[None]:
    callback = BudgetCallback()
    litellm.callbacks.append(callback)
    yield
    litellm.callbacks.remove(callback)


async def test_a_router_is_charged_once_for_each_attempt_that_cost(
    provider: Provider, instrumented: None
) -> None:
    with task_budget(tokens=1_000_000) as budget:
        await router_of(provider, "fail:500:1", num_retries=2).acompletion("group", MESSAGES)
    assert provider.count() == 2
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 1


@pytest.mark.usefixtures("instrumented")
async def test_a_router_streams_as_without(provider: Provider) -> None:
    router = router_of(provider, "echo")
    with task_budget(tokens=1_000_000) as budget:
        ours = [chunk async for chunk in await router.acompletion("group", MESSAGES, stream=True)]
    assert budget.spent("tokens") == provider.tokens
    uninstrument()
    theirs = [chunk async for chunk in await router.acompletion("group", MESSAGES, stream=True)]
    assert [chunk.choices for chunk in ours] == [chunk.choices for chunk in theirs]


@pytest.mark.usefixtures("instrumented")
async def test_a_router_in_sync_code_carries_the_task_into_its_thread(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        router_of(provider, "echo").completion("group", MESSAGES)
    assert budget.spent("tokens") == provider.tokens > 0


@pytest.mark.parametrize("way", ["instrumented", "listening"])
async def test_a_router_neither_repeats_a_refusal_nor_cools_down(
    provider: Provider, way: str, request: Any
) -> None:
    request.getfixturevalue(way)
    router = router_of(provider, "echo", num_retries=3)
    with task_budget(tokens=10, policy=None) as small:
        with pytest.raises(BudgetExceeded):
            await router.acompletion("group", MESSAGES)
        refusals = small.snapshot().to_dict()
    assert provider.count() == 0, refusals
    with task_budget(tokens=1_000_000):
        await router.acompletion("group", MESSAGES)
    assert provider.count() == 1


CHEAP_FIRST = {"fail:500": {"input": 1, "output": 1}, "echo": {"input": 1_000, "output": 1_000}}


async def ask_async(**request: Any) -> Any:
    return await acompletion(**request)


async def ask_sync(**request: Any) -> Any:
    return await to_thread.run_sync(lambda: completion(**request))


@pytest.mark.parametrize("ask", [ask_async, ask_sync])
async def test_a_fallback_is_held_at_its_own_price_and_size(provider: Provider, ask: Any) -> None:
    request = asked(provider, "fail:500") | {"max_retries": 0}
    larger = {"model": "openai/echo", "max_tokens": 9_000}
    with connect(prices=CHEAP_FIRST) as service:
        with service.task_budget("dear", usd="0.01"), pytest.raises(BudgetExceeded):
            await ask(**request, fallbacks=["openai/echo"])
        with service.task_budget("large", tokens=300), pytest.raises(BudgetExceeded):
            await ask(**request, fallbacks=[larger])
        assert provider.tokens == 0
        with service.task_budget("enough", usd=1_000) as budget:
            await ask(**request, fallbacks=[larger])
    assert budget.spent("usd") == Decimal(provider.tokens) / 1_000
    assert budget.spent("calls") == 1


async def test_an_attempt_that_timed_out_is_charged_though_a_fallback_answers(
    provider: Provider,
) -> None:
    request = asked(provider, "hold") | {"max_retries": 0, "timeout": 0.2}
    with task_budget(tokens=1_000_000) as budget:
        answer = await acompletion(**request, fallbacks=["openai/echo"])
    assert answer.choices[0].message.content == ANSWER
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") > provider.tokens


async def test_fallbacks_that_all_fail_raise_what_litellm_raises(provider: Provider) -> None:
    request = asked(provider, "fail:400") | {"fallbacks": ["openai/fail:400"]}
    with task_budget(calls=10) as budget, pytest.raises(Exception, match="All fallback") as ours:
        await acompletion(**request)
    with pytest.raises(Exception, match="All fallback") as theirs:
        await litellm.acompletion(**request)
    assert type(ours.value) is type(theirs.value)
    assert str(ours.value) == str(theirs.value)
    assert budget.spent("calls") == 0


@pytest.mark.usefixtures("instrumented")
async def test_a_batch_draws_on_the_task_from_its_own_threads(provider: Provider) -> None:
    batch = asked(provider) | {"messages": [MESSAGES] * 4}
    with task_budget(calls=2) as budget:
        results = litellm.batch_completion(**batch)
    assert provider.count() == budget.spent("calls") == 2
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 2


@pytest.mark.usefixtures("instrumented")
async def test_a_router_in_sync_code_raises_the_refusal(provider: Provider) -> None:
    with task_budget(tokens=10), pytest.raises(BudgetExceeded):
        router_of(provider, "echo").completion("group", MESSAGES)
    assert provider.count() == 0


async def test_arguments_that_litellm_does_not_take_hold_nothing() -> None:
    with task_budget(calls=1) as budget, pytest.raises(TypeError, match="model"):
        await acompletion()
    assert budget.spent("calls") == 0


@pytest.mark.parametrize("more", [{"n": "5"}, {"max_tokens": "9000"}])
async def test_numbers_given_as_texts_are_held(provider: Provider, more: dict[str, str]) -> None:
    with task_budget(tokens=300), pytest.raises(BudgetExceeded):
        await acompletion(**asked(provider) | more)
    assert provider.count() == 0


async def test_options_that_cannot_be_are_refused_at_once_and_undo_nothing(
    instrumented: None,
) -> None:
    holding = litellm.acompletion
    makers: tuple[Any, ...] = (instrument, BudgetCallback, partial(wrap, holding))
    for make in makers:
        with pytest.raises(ConfigurationError, match="polcy"):
            make(polcy="reject")
    assert litellm.acompletion is holding

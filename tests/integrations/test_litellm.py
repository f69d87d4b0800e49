"""LiteLLM beyond the contract: the process instrumented, routers, the callback, its own extras."""

import gc
import pickle
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from types import ModuleType
from typing import Any

import anyio
import litellm
import pytest
from anyio import to_thread
from litellm.exceptions import (
    BadRequestError,
    BudgetExceededError,
    RateLimitError,
    ServiceUnavailableError,
)
from litellm.router import Router

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    TaskBudget,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice
from budgetware_integrations.litellm import (
    BudgetCallback,
    acompletion,
    aembedding,
    atext_completion,
    completion,
    embedding,
    instrument,
    uninstrument,
    wrap,
)
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER
from tests.integrations.subjects.litellm import close_clients

NEEDS = "litellm"
PATIENCE_SECONDS = 10
MESSAGES: list[Any] = [{"role": "user", "content": "Where do rivers flow?"}]

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


def asked(provider: Provider, model: str = "echo") -> dict[str, Any]:
    where = {"api_base": f"{provider.url}/v1", "api_key": "k"}
    return {"model": f"openai/{model}", "messages": MESSAGES, "max_tokens": 64, **where}


def router_of(provider: Provider, *models: str, **options: Any) -> Router:
    deployments: list[Any] = [
        {
            "model_name": "group",
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"{provider.url}/v1",
                "api_key": "k",
                "max_retries": 0,
            },
        }
        for model in models
    ]
    return Router(model_list=deployments, **options)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so():
            gc.collect()
            await anyio.sleep(0)


def is_settled(budget: TaskBudget) -> bool:
    balance = budget.snapshot()["tokens"]
    return balance.spent > 0 and balance.reserved == 0


async def test_sync_functions_hold_too(provider: Provider) -> None:
    def work() -> None:
        assert completion(**asked(provider)).choices[0].message.content == ANSWER
        chunks = list(completion(**asked(provider), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER

    with task_budget(tokens=1_000_000) as budget:
        await to_thread.run_sync(work)
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 2


async def test_a_sync_stream_that_is_dropped_is_charged(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        stream = completion(**asked(provider, "pause"), stream=True)
        next(stream)
        assert budget.spent("tokens") == 0
        del stream
        await until(lambda: is_settled(budget))
    assert budget.snapshot()["tokens"].assumed > 64


async def test_streams_are_those_of_litellm(provider: Provider) -> None:
    with task_budget(tokens=1_000_000):
        ours = await acompletion(**asked(provider), stream=True)
        chunks = [chunk async for chunk in ours]
    theirs = await litellm.acompletion(**asked(provider), stream=True)
    bare = [chunk async for chunk in theirs]
    assert isinstance(ours, litellm.CustomStreamWrapper)
    assert [type(chunk) for chunk in chunks] == [type(chunk) for chunk in bare]
    assert [chunk.choices for chunk in chunks] == [chunk.choices for chunk in bare]
    assert not [chunk for chunk in chunks if getattr(chunk, "usage", None)]


async def test_usage_that_was_asked_for_is_not_hidden(provider: Provider) -> None:
    with task_budget(tokens=1_000_000):
        options = {"include_usage": True}
        stream = await acompletion(**asked(provider), stream=True, stream_options=options)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage.total_tokens == provider.tokens


async def test_requests_are_left_alone_where_they_are_to_be(provider: Provider) -> None:
    quiet = wrap(litellm.acompletion, include_usage=False)
    with task_budget(tokens=1_000_000) as budget:
        async for _ in await quiet(**asked(provider), stream=True):
            pass
    assert "stream_options" not in provider.calls[0].body
    assert budget.snapshot()["tokens"].assumed > 64


@pytest.mark.parametrize("model", ["anthropic/echo", "gemini/echo"])
async def test_other_protocols_are_settled_exactly(provider: Provider, model: str) -> None:
    request = asked(provider) | {"model": model, "api_base": provider.url}
    with task_budget(tokens=1_000_000) as budget:
        await acompletion(**request)
        async for _ in await acompletion(**request, stream=True):
            pass
    assert provider.count() == 2
    assert budget.spent("input_tokens") == provider.input_tokens
    assert budget.spent("output_tokens") == provider.output_tokens


async def test_embeddings_hold_no_answer(provider: Provider) -> None:
    where = {"api_base": f"{provider.url}/v1", "api_key": "k"}
    with task_budget(tokens=100) as budget:
        await aembedding("openai/echo", ["a river", "a sea"], **where)
        await to_thread.run_sync(lambda: embedding("openai/echo", ["a river"], **where))
    assert budget.spent("tokens") > 0
    assert budget.spent("calls") == 2
    assert budget.spent("output_tokens") == 0


async def test_text_completions_are_refused_before_they_are_sent(provider: Provider) -> None:
    with task_budget(tokens=10), pytest.raises(BudgetExceeded):
        await atext_completion(
            prompt="Where?", model="text-completion-openai/echo", api_base=f"{provider.url}/v1"
        )
    assert provider.count() == 0


async def test_retries_and_fallbacks_are_one_call(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        await acompletion(**asked(provider, "fail:500:1"), max_retries=0, num_retries=2)
        await acompletion(**asked(provider, "fail:400"), fallbacks=["openai/echo"])
    assert provider.count() == 4
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") == provider.tokens


async def test_an_answer_of_the_cache_costs_nothing(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")  # of LiteLLM's proxy, which its cache imports, sound included
    monkeypatch.setitem(sys.modules, "soundfile", ModuleType("soundfile"))
    litellm.enable_cache()
    try:
        with task_budget(tokens=1_000_000) as budget:
            for _ in range(2):
                await to_thread.run_sync(lambda: completion(**asked(provider), caching=True))
    finally:
        litellm.disable_cache()
    assert provider.count() == 1
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 1
    assert budget.snapshot()["tokens"].reserved == 0


async def test_a_model_without_a_price_is_not_asked(provider: Provider) -> None:
    with task_budget(usd="1.00"), pytest.raises(UnknownPrice):
        await acompletion(**asked(provider))
    assert provider.count() == 0


async def test_prices_are_by_the_name_of_the_model(provider: Provider) -> None:
    prices = {"echo": {"input": 1_000, "output": 1_000}}
    with connect(prices=prices) as service, service.task_budget("t", usd=1_000) as budget:
        await acompletion(**asked(provider))
    assert budget.spent("usd") == Decimal(provider.tokens) / 1_000


async def test_a_refusal_is_litellms_own_error_too_and_survives_pickling(
    provider: Provider,
) -> None:
    with task_budget("small", tokens=10), pytest.raises(BudgetExceededError) as caught:
        await acompletion(**asked(provider))
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, BudgetExceeded)
    assert isinstance(error, BudgetExceededError)
    assert (error.budget, error.dim, error.limit) == ("small", "tokens", 10)
    assert str(error) == str(caught.value)


@pytest.mark.usefixtures("instrumented")
async def test_instrumenting_twice_is_once_and_can_be_undone(provider: Provider) -> None:
    before = litellm.acompletion.__wrapped__
    instrument()
    assert litellm.acompletion.__wrapped__ is before
    with task_budget(tokens=1_000_000) as budget:
        await litellm.acompletion(**asked(provider))
        await acompletion(**asked(provider))
    assert budget.spent("calls") == 2
    uninstrument()
    assert litellm.acompletion is before


@pytest.mark.usefixtures("instrumented")
async def test_an_agent_that_swallows_errors_is_ended(provider: Provider) -> None:
    turns: list[int] = []

    async def work() -> None:
        async with task_budget(calls=3, policy="terminate"):
            for turn in range(30):
                turns.append(turn)
                with suppress(Exception):  # as agents do
                    await litellm.acompletion(**asked(provider))

    with pytest.raises(BudgetTerminated):
        await work()
    assert provider.count() == 3
    assert len(turns) == 4


@pytest.mark.usefixtures("listening")
async def test_the_callback_settles_answers_and_streams(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        await litellm.acompletion(**asked(provider))
        assert budget.spent("tokens") == provider.tokens
        async for _ in await litellm.acompletion(**asked(provider), stream=True):
            pass
        await until(lambda: budget.spent("calls") == 2)
    assert budget.spent("tokens") == provider.tokens


@pytest.mark.usefixtures("listening")
async def test_the_callback_gives_back_what_failed_for_free(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        await router_of(provider, "fail:500:1", num_retries=2).acompletion("group", MESSAGES)
        with pytest.raises(BadRequestError):
            await litellm.acompletion(**asked(provider, "fail:400"))
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 1


@pytest.mark.usefixtures("listening")
async def test_the_callback_leaks_nothing_of_a_stream_that_was_left(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        stream = await litellm.acompletion(**asked(provider, "pause"), stream=True)
        await anext(stream)
        await stream.aclose()
        del stream
        await until(lambda: is_settled(budget))
    assert budget.snapshot()["tokens"].assumed > 64


@pytest.mark.usefixtures("listening")
async def test_the_callback_leaks_nothing_of_a_call_that_was_cancelled(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: litellm.acompletion(**asked(provider, "hold")))
            await to_thread.run_sync(provider.wait_for, 1)
            group.cancel_scope.cancel()
        await until(lambda: is_settled(budget))
    assert budget.snapshot()["tokens"].assumed > 64


@pytest.mark.usefixtures("listening")
async def test_the_callback_settles_a_stream_that_broke(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        with pytest.raises(ServiceUnavailableError):
            async for _ in await litellm.acompletion(**asked(provider, "cut"), stream=True):
                pass
        await until(lambda: is_settled(budget))
    assert budget.snapshot()["tokens"].assumed > 64


@pytest.mark.usefixtures("listening", "instrumented")
async def test_callback_and_functions_charge_once_together(provider: Provider) -> None:
    with task_budget(tokens=1_000_000) as budget:
        await litellm.acompletion(**asked(provider))
    assert budget.spent("calls") == 1


@pytest.mark.parametrize("way", ["functions", "listening"])
@pytest.mark.parametrize(
    ("model", "headers"),
    [
        ("fail:429", {"retry-after": "30"}),
        ("echo", {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}),
    ],
)
async def test_a_provider_that_asks_for_less_pauses_the_resource(
    provider: Provider, model: str, headers: dict[str, str], way: str, request: Any
) -> None:
    if way == "listening":
        request.getfixturevalue(way)
    ask: Any = litellm.acompletion if way == "listening" else acompletion
    provider.headers |= headers
    async with connect() as service:
        service.define(Resource("model", Rate(1_000, "second"), dim="calls", max_wait=0))
        async with QuotaToken("model", expected_use=1), task_budget("t", calls=9, service=service):
            with suppress(RateLimitError):
                await ask(**asked(provider, model), max_retries=0)
            with pytest.raises(QuotaExceeded) as caught:
                await ask(**asked(provider))
    assert caught.value.is_paused
    assert provider.count() == 1


async def test_only_functions_of_litellm_can_be_wrapped() -> None:
    with pytest.raises(TypeError, match="acompletion"):
        wrap(print)


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

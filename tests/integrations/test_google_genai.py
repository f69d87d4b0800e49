"""What the client of Gemini does beyond the contract: its sync side, Vertex AI, caches, signals."""

import gc
import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import anyio
import pytest
from google import genai
from google.genai import types
from google.genai.errors import APIError

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaExceeded,
    QuotaToken,
    Rate,
    Resource,
    connect,
    task_budget,
)
from budgetware.errors import UnknownPrice
from budgetware_integrations._model_calls import ModelCall
from budgetware_integrations._options import CallSettings
from budgetware_integrations.google_genai import instrument, uninstrument, wrap
from budgetware_integrations.httpx import wrap as budgeted_http
from tests.integrations.provider import Provider
from tests.integrations.provider.behaviour import ANSWER

NEEDS = "google-genai"
httpx: Any = import_module("httpx" if find_spec("httpx") else "httpx2")
SHORT = types.GenerateContentConfig(max_output_tokens=64)
TEXTS: list[Any] = ["Rivers", "Seas"]
PATIENCE_SECONDS = 20

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def client_of(provider: Provider, **how: Any) -> genai.Client:
    options = types.HttpOptions(base_url=provider.url, **how)
    return genai.Client(api_key="k", http_options=options)


@contextmanager
def client_that_gets(
    answer: Callable[[Any], Any], retry: Any = None, **how: Any
) -> Generator[genai.Client]:
    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        options = types.HttpOptions(
            base_url="http://provider", httpx_client=http, retry_options=retry
        )
        yield wrap(genai.Client(api_key="k", http_options=options, **how))


@asynccontextmanager
async def async_side(provider: Provider, **how: Any) -> AsyncGenerator[Any]:
    options = types.HttpOptions(base_url=provider.url)
    client = wrap(genai.Client(api_key="k", http_options=options, **how))
    try:
        yield client.aio
    finally:
        await client.aio.aclose()
        client.close()


@pytest.fixture
def wrapped(provider: Provider) -> Generator[genai.Client]:
    client = wrap(client_of(provider))
    yield client
    client.close()


def test_the_sync_side_is_settled_to_what_the_server_counted(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(tokens=100_000) as budget:
        answer = wrapped.models.generate_content(model="echo", contents="Why?", config=SHORT)
    assert answer.text == ANSWER
    assert type(answer) is types.GenerateContentResponse
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 1


def test_a_sync_stream_is_settled_to_what_the_server_counted(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(tokens=100_000) as budget:
        stream = wrapped.models.generate_content_stream(model="echo", contents="Why?")
        assert "".join(chunk.text or "" for chunk in stream) == ANSWER
    balance = budget.snapshot()["tokens"]
    assert (balance.spent, balance.assumed) == (provider.tokens, 0)


def test_a_sync_stream_that_is_left_is_charged_what_its_chunks_told(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(tokens=100_000) as budget:
        for _ in wrapped.models.generate_content_stream(model="pause", contents="Why?"):
            break
        provider.wait_for(1, "hung up")
        balance = budget.snapshot()["tokens"]
    assert 0 < balance.spent == balance.assumed < 100
    assert balance.reserved == 0


async def test_a_stream_that_is_only_broken_out_of_is_charged_once_it_is_collected(
    provider: Provider,
) -> None:
    async with async_side(provider) as client, task_budget(tokens=100_000) as budget:
        stream = await client.models.generate_content_stream(model="pause", contents="Why?")
        async for _ in stream:
            break
        del stream, _
        gc.collect()
        with anyio.fail_after(PATIENCE_SECONDS):
            while budget.snapshot()["tokens"].reserved:  # noqa: ASYNC110 - of a finalizer
                await anyio.sleep(0)
    balance = budget.snapshot()["tokens"]
    assert 0 < balance.spent == balance.assumed < 100


def test_a_sync_call_is_refused_before_it_is_sent(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(tokens=10), pytest.raises(BudgetExceeded):
        wrapped.models.generate_content(model="echo", contents="Why?")
    assert provider.count() == 0


def test_an_endless_loop_of_sync_tools_is_ended(wrapped: genai.Client, provider: Provider) -> None:
    def search(query: str) -> str:
        """Search the web."""
        return f"nothing about {query}"

    turns = types.AutomaticFunctionCallingConfig(maximum_remote_calls=50)
    config = types.GenerateContentConfig(tools=[search], automatic_function_calling=turns)
    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate"):
        wrapped.models.generate_content(
            model='loop:search:{"query": "x"}', contents="Why?", config=config
        )
    assert provider.count() == 3


async def test_a_model_that_asks_others_pays_for_all_but_the_one_it_is_held_for(
    provider: Provider,
) -> None:
    async with async_side(provider) as client, task_budget(tokens=100_000) as budget:

        async def ask_three() -> None:
            for _ in range(3):
                await client.models.generate_content(model="echo", contents="Where?")

        outer = ModelCall(CallSettings(), provider="test", model="moa", prompt="Where?")
        await outer.run(ask_three)
    assert (budget.spent("calls"), len(provider.calls)) == (3, 3)
    assert budget.spent("tokens") >= provider.tokens
    assert budget.snapshot()["tokens"].reserved == 0


async def test_each_turn_of_a_chat_is_a_call(provider: Provider) -> None:
    async with async_side(provider) as client, task_budget(tokens=100_000) as budget:
        chat = client.chats.create(model="echo")
        await chat.send_message("Why?")
        stream = await chat.send_message_stream("And then?")
        assert "".join([chunk.text async for chunk in stream]) == ANSWER
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") == provider.tokens


def test_counting_tokens_is_free(wrapped: genai.Client, provider: Provider) -> None:
    with task_budget(tokens=1) as budget:
        assert wrapped.models.count_tokens(model="echo", contents="Why?").total_tokens
    assert budget.spent("calls") == 0


def test_every_candidate_is_held(wrapped: genai.Client) -> None:
    config = types.GenerateContentConfig(max_output_tokens=1_000, candidate_count=3)
    with task_budget(tokens=2_500), pytest.raises(BudgetExceeded) as refused:
        wrapped.models.generate_content(model="echo", contents="Why?", config=config)
    assert 3_000 < int(refused.value.requested) < 3_100


def test_an_embedding_holds_its_texts_and_no_answer(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(tokens=1_000) as budget:
        answer = wrapped.models.embed_content(model="echo", contents=TEXTS)
    assert len(answer.embeddings or []) == 2
    assert 0 < budget.spent("tokens") < 30
    assert budget.spent("output_tokens") == 0


async def test_vertex_is_held_as_the_gemini_api_is(provider: Provider) -> None:
    async with (
        async_side(provider, vertexai=True) as client,
        task_budget(tokens=100_000) as budget,
    ):
        await client.models.generate_content(model="echo", contents="Why?")
        stream = await client.models.generate_content_stream(model="echo", contents="So?")
        assert [chunk async for chunk in stream]
    assert provider.calls[0].path.endswith("publishers/google/models/echo:generateContent")
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("calls") == 2


def test_embeddings_by_vertex_are_settled_to_the_sum_they_report() -> None:
    def predict(request: Any) -> Any:
        assert request.url.path.endswith(":predict")
        counted = {"values": [0.0], "statistics": {"token_count": 5.0, "truncated": False}}
        return httpx.Response(200, json={"predictions": [{"embeddings": counted}] * 2})

    with client_that_gets(predict, vertexai=True) as client, task_budget(tokens=9_000) as budget:
        client.models.embed_content(model="text-embedding-005", contents=TEXTS)
    assert budget.spent("input_tokens") == 10
    assert budget.snapshot()["tokens"].assumed == 0


def test_cached_content_is_held_by_the_size_it_was_made_with() -> None:
    def answer(request: Any) -> Any:
        if "generateContent" in request.url.path:
            usage = {"promptTokenCount": 70_002, "totalTokenCount": 70_002}
            return httpx.Response(200, json={"candidates": [], "usageMetadata": usage})
        cache = {"name": "cachedContents/known", "usageMetadata": {"totalTokenCount": 70_000}}
        return httpx.Response(200, json=cache)

    def held_for(client: genai.Client, cache: str) -> int:
        config = types.GenerateContentConfig(max_output_tokens=1, cached_content=cache)
        with task_budget(tokens=1), pytest.raises(BudgetExceeded) as refused:
            client.models.generate_content(model="echo", contents="Why?", config=config)
        return int(refused.value.requested)

    with client_that_gets(answer) as client:
        client.caches.create(model="echo", config={"contents": "…"})
        assert 70_000 < held_for(client, "cachedContents/known") < 70_100
        assert 32_768 < held_for(client, "cachedContents/other") < 32_868


def retry_info(request: Any) -> Any:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    return httpx.Response(429, json={"error": {"code": 429, "details": [detail]}})


def retry_header(request: Any) -> Any:
    return httpx.Response(429, headers={"Retry-After": "34.5"}, json={"error": {"code": 429}})


@pytest.mark.parametrize("answer", [retry_info, retry_header])
def test_a_provider_that_asks_for_less_pauses_what_the_call_draws_on(
    answer: Callable[[Any], Any],
) -> None:
    with client_that_gets(answer) as client, connect() as service:
        service.define(Resource("model", Rate(1_000, "second"), enforcement="reject", dim="calls"))
        token = QuotaToken("model", expected_use=2, service=service)
        with token, service.task_budget(calls=10) as budget:
            with pytest.raises(APIError):
                client.models.generate_content(model="echo", contents="Why?")
            with pytest.raises(QuotaExceeded, match="paused") as paused:
                client.models.generate_content(model="echo", contents="Why?")
    assert 30 < (paused.value.retry_after or 0) <= 34.5
    assert budget.spent("calls") == 0


def test_an_error_in_a_stream_is_charged_what_came_before_it() -> None:
    def answer(request: Any) -> Any:
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
        content = {"content": {"role": "model", "parts": [{"text": "Riv"}]}, "index": 0}
        chunk = {"candidates": [content], "usageMetadata": usage}
        failed = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
        events = "".join(f"data: {json.dumps(event)}\r\n\r\n" for event in (chunk, failed))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=events)

    with (
        client_that_gets(answer) as client,
        task_budget(tokens=100_000) as budget,
        pytest.raises(APIError, match="overloaded"),
    ):
        list(client.models.generate_content_stream(model="echo", contents="Why?"))
    balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed == 7


def test_a_first_chunk_that_tells_of_the_prompt_alone_leaves_the_answer_as_held() -> None:
    def answer(request: Any) -> Any:
        usage = {"promptTokenCount": 5, "totalTokenCount": 5}
        content = {"content": {"role": "model", "parts": [{"text": "Riv"}]}, "index": 0}
        event = json.dumps({"candidates": [content], "usageMetadata": usage})
        events = f"data: {event}\r\n\r\n" * 2
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=events)

    with client_that_gets(answer) as client, task_budget(tokens=100_000) as budget:
        ask: Any = client.models.generate_content_stream
        stream = ask(model="echo", contents="Why?", config=SHORT)
        next(stream)
        stream.close()
    spent = budget.snapshot()
    assert (spent["input_tokens"].spent, spent["output_tokens"].spent) == (5, 64)


def test_a_server_that_is_not_there_charges_nothing() -> None:
    options = types.HttpOptions(base_url="http://127.0.0.1:9")
    client = wrap(genai.Client(api_key="k", http_options=options))
    with task_budget(tokens=100_000) as budget, pytest.raises(Exception, match="refused"):
        client.models.generate_content(model="echo", contents="Why?")
    assert budget.spent("calls") == 0


def test_a_model_without_a_price_is_refused_where_usd_is_limited(
    wrapped: genai.Client, provider: Provider
) -> None:
    with task_budget(usd="1"), pytest.raises(UnknownPrice):
        wrapped.models.generate_content(model="echo", contents="Why?")
    assert provider.count() == 0


def test_the_price_of_a_call_is_charged(wrapped: genai.Client, provider: Provider) -> None:
    with task_budget(usd="1") as budget:
        wrapped.models.generate_content(model="gemini-2.5-flash", contents="Why?")
    assert 0 < budget.spent("usd") < 1


def test_a_client_is_wrapped_once(provider: Provider) -> None:
    client = client_of(provider)
    assert wrap(wrap(client)) is client
    with task_budget(calls=10) as budget:
        client.models.generate_content(model="echo", contents="Why?")
    assert budget.spent("calls") == 1


def test_a_transport_below_a_wrapped_client_holds_nothing_more(provider: Provider) -> None:
    with budgeted_http(httpx.Client()) as below:
        options = types.HttpOptions(base_url=provider.url, httpx_client=below)
        client = wrap(genai.Client(api_key="k", http_options=options))
        with task_budget(calls=9) as budget:
            client.models.generate_content(model="echo", contents="Why?")
            assert below.get(provider.url).status_code == 200
    assert budget.spent("calls") == 2


def test_what_is_no_client_is_refused() -> None:
    no_client: Any = object()
    with pytest.raises(TypeError, match=r"give a google\.genai\.Client"):
        wrap(no_client)


def test_all_clients_hold_while_they_are_instrumented(provider: Provider) -> None:
    before, also_wrapped = client_of(provider), wrap(client_of(provider))

    def spent_by(*clients: genai.Client) -> object:
        with task_budget(calls=10) as budget:
            for client in clients:
                client.models.generate_content(model="echo", contents="Why?")
        return budget.spent("calls")

    instrument()
    instrument()
    try:
        assert spent_by(before, also_wrapped, wrap(before), client_of(provider)) == 4
    finally:
        uninstrument()
        uninstrument()
    assert spent_by(client_of(provider)) == 0
    assert spent_by(before, also_wrapped) == 2


def test_an_attempt_that_timed_out_is_charged_whatever_the_next_one_says() -> None:
    failures = [httpx.ReadTimeout("late"), httpx.ConnectError("nobody")]

    def answer(request: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return httpx.Response(400, json={"error": {"code": 400, "message": "no"}})

    retry = types.HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.001)
    with (
        client_that_gets(answer, retry=retry) as client,
        task_budget(tokens=10_000) as budget,
        pytest.raises(APIError),
    ):
        client.models.generate_content(model="echo", contents="?", config=SHORT)
    assert not failures
    assert budget.snapshot()["tokens"].assumed > 64


async def test_a_stream_that_the_client_cannot_parse_leaves_no_errors_behind(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    async with async_side(provider) as aio, task_budget(tokens=10_000):
        with pytest.raises(ValueError, match="usage"):
            async for _ in await aio.models.generate_content_stream(model="absurd", contents="?"):
                pass
        for _ in range(5):
            gc.collect()
            await anyio.lowlevel.checkpoint()
    assert caplog.text == ""


def test_a_provider_that_is_no_name_is_refused() -> None:
    with pytest.raises(ValueError, match="provider"):
        wrap(genai.Client(api_key="k"), provider=cast("str", 5))

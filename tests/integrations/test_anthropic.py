# ruff: noqa: SIM117 - a server, a client and a budget are one thing each
"""The client of Anthropic, beyond the contract: helpers, the middleware, other platforms."""

import gc
import gzip
import json
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import anthropic
import anyio
import pytest
from anthropic.lib.bedrock import AnthropicBedrock
from anthropic.lib.vertex import AnthropicVertex

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaToken,
    Rate,
    Resource,
    UsageEvent,
    connect,
    task_budget,
)
from budgetware.errors import UnknownPrice
from budgetware_integrations.anthropic import BudgetMiddleware, instrument, uninstrument, wrap
from tests.integrations.canned import Answer, canned, document, events
from tests.integrations.provider import Provider

NEEDS = "anthropic"

# Of the SDK itself, on trio: it leaves generators it has read to the end unclosed.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

USER: Any = [{"role": "user", "content": "Where do rivers flow?"}]
HELLO: Any = {"model": "echo", "messages": USER, "max_tokens": 64}
RATES = {"input": "1", "output": "10", "cache_read": "0.1", "cache_write": "2"}
USAGE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 200,
    "output_tokens": 50,
}


def message(**fields: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"id": "msg", "type": "message", "role": "assistant", "model": "m"}
    about |= {"stop_reason": "end_turn", "stop_sequence": None}
    return about | {"content": [{"type": "text", "text": "To the sea."}]} | fields


def parts(usage: Any = USAGE, *, ends: bool = True) -> list[dict[str, Any]]:
    begun = {"type": "message_start", "message": message(content=[], usage=usage)}
    delta = {"type": "text_delta", "text": "To"}
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    words = {"type": "content_block_delta", "index": 0, "delta": delta}
    if not ends:
        return [begun, block, words]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    return [begun, block, words, stop, {"type": "message_stop"}]


Way = Any


@pytest.fixture(params=["wrap", "middleware"])
def way(request: pytest.FixtureRequest) -> Way:
    """Either way to hold, as a maker of arguments and a wrapper of clients."""
    if request.param == "wrap":
        return (dict[str, Any], wrap)
    return (lambda: {"middleware": [BudgetMiddleware()]}, lambda client: client)


@pytest.fixture
async def client(provider: Provider, way: Way) -> AsyncIterator[anthropic.AsyncAnthropic]:
    arguments, held = way
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="k", **arguments()) as made:
        yield held(made)


@pytest.fixture
def sync_client(provider: Provider, way: Way) -> Iterator[anthropic.Anthropic]:
    arguments, held = way
    with anthropic.Anthropic(base_url=provider.url, api_key="k", **arguments()) as made:
        yield held(made)


@contextmanager
def client_at(url: str, way: Way) -> Generator[anthropic.Anthropic]:
    arguments, held = way
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, **arguments()) as made:
        yield held(made)


def events_of(subscription: Any) -> list[UsageEvent]:
    """What a closed service has told."""

    async def collect() -> list[UsageEvent]:
        return [event async for event in subscription]

    return anyio.run(collect)


async def test_messages_and_their_streams_are_settled(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        await client.messages.create(**HELLO)
        await client.beta.messages.create(**HELLO)
        async for _ in await client.messages.create(**HELLO, stream=True):
            pass
        async with client.messages.stream(**HELLO) as stream:
            assert (await stream.get_final_text()).startswith("Rivers")
        async with client.beta.messages.stream(**HELLO) as beta:
            assert [text async for text in beta.text_stream]
    assert budget.spent("calls") == provider.count() == 5
    assert budget.spent("input_tokens") == provider.input_tokens
    assert budget.spent("output_tokens") == provider.output_tokens
    assert budget.snapshot()["tokens"].assumed == 0


def test_sync_messages_and_their_streams_are_settled(
    sync_client: anthropic.Anthropic, provider: Provider
) -> None:
    with task_budget(tokens=10_000) as budget:
        sync_client.messages.create(**HELLO)
        list(sync_client.messages.create(**HELLO, stream=True))
        with sync_client.messages.stream(**HELLO) as stream:
            assert stream.get_final_message().usage.output_tokens
    assert budget.spent("calls") == 3
    assert budget.spent("tokens") == provider.tokens
    assert budget.snapshot()["tokens"].assumed == 0


async def test_raw_responses_are_settled(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        raw = await client.messages.with_raw_response.create(**HELLO)
        assert (await raw.parse()).content
        async with client.messages.with_streaming_response.create(**HELLO) as response:
            assert (await response.parse()).content
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.snapshot()["tokens"].assumed == 0


async def test_each_turn_of_a_tool_runner_is_a_call(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    @anthropic.beta_async_tool
    async def search(query: str) -> str:
        """Search."""
        return "the sea"

    async with task_budget(tokens=10_000) as budget:
        runner = client.beta.messages.tool_runner(
            model='tool:search:{"query": "x"}', messages=USER, max_tokens=64, tools=[search]
        )
        final = await runner.until_done()
    assert final.stop_reason == "end_turn"
    assert budget.spent("calls") == provider.count() == 2
    assert budget.spent("tokens") == provider.tokens


async def test_a_tool_runner_is_terminated(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    @anthropic.beta_async_tool
    async def search(query: str) -> str:
        """Search."""
        return "the sea"

    runner = client.beta.messages.tool_runner(
        model='loop:search:{"query": "x"}', messages=USER, max_tokens=64, tools=[search]
    )
    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=4, policy="terminate"):
            await runner.until_done()
    assert provider.count() == 4


async def test_counting_tokens_costs_nothing(client: anthropic.AsyncAnthropic) -> None:
    async with task_budget(calls=9) as budget:
        counted = await client.messages.count_tokens(model="echo", messages=USER)
    assert counted.input_tokens > 0
    assert budget.spent("calls") == 0


def test_cached_tokens_come_on_top_and_cost_their_own_price(way: Way) -> None:
    with canned(document(message(usage=USAGE)), events(*parts(), done=False)) as server:
        with connect(prices={"m": RATES}), client_at(server.url, way) as client:
            with task_budget(usd="0.10") as whole:
                client.messages.create(model="m", messages=USER, max_tokens=64)
            with task_budget(usd="0.10") as streamed:
                list(client.messages.create(model="m", messages=USER, max_tokens=64, stream=True))
    for budget in (whole, streamed):
        assert budget.spent("input_tokens") == 1_300
        assert budget.spent("output_tokens") == 50
        assert budget.spent("usd") * 1_000_000 == 100 + 100 + 400 + 500


def test_a_stream_that_is_left_early_is_charged_its_prompt_and_the_answer_as_held(
    way: Way,
) -> None:
    with canned(events(*parts(ends=False), done=False)) as server, connect() as service:
        subscription = service.subscribe()
        with client_at(server.url, way) as client, task_budget(tokens=10_000) as budget:
            asked: Any = {"model": "m", "messages": USER, "max_tokens": 64}
            with client.messages.create(**asked, stream=True) as stream:
                next(iter(stream))
    assert budget.spent("input_tokens") == 1_300
    assert budget.spent("output_tokens") == 64
    assert budget.spent("tokens") == 1_364
    assert budget.snapshot()["tokens"].assumed == 1_364
    assert [event.outcome for event in events_of(subscription)] == ["cancelled"]


def test_an_error_told_in_a_stream_breaks_it(way: Way) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    sent = events(*parts(ends=False), error, done=False)
    with canned(sent) as server, connect() as service:
        subscription = service.subscribe()
        with client_at(server.url, way) as client, task_budget(tokens=10_000) as budget:
            with pytest.raises(anthropic.APIStatusError):
                list(client.messages.create(**(HELLO | {"model": "m"}), stream=True))
    assert [event.outcome for event in events_of(subscription)] == ["broken"]
    assert budget.spent("tokens") == 1_364


@pytest.mark.parametrize("usage", [{}, {"input_tokens": -3, "output_tokens": 1}, "7", None])
def test_nonsense_at_the_end_leaves_the_answer_as_held(way: Way, usage: Any) -> None:
    sent = parts()
    sent[3]["usage"] = usage
    with canned(events(*sent, done=False)) as server, client_at(server.url, way) as client:
        with task_budget(tokens=10_000) as budget:
            with client.messages.with_streaming_response.create(**HELLO, stream=True) as response:
                response.read()
    assert budget.spent("tokens") == 1_364


def test_compressed_streams_are_read(way: Way) -> None:
    plain = events(*parts(), done=False)
    packed = Answer(gzip.compress(plain.body), plain.kind, headers={"content-encoding": "gzip"})
    with canned(packed) as server, client_at(server.url, way) as client:
        with task_budget(tokens=10_000) as budget:
            assert len(list(client.messages.create(**HELLO, stream=True))) == 5
    assert budget.spent("tokens") == 1_350
    assert server.headers[0]["accept-encoding"] == "identity"


def test_messages_given_as_an_iterator_are_counted_and_sent(way: Way) -> None:
    with canned(document(message())) as server, client_at(server.url, way) as client:
        with task_budget(tokens=10_000) as budget:
            messages: Any = iter([{"role": "user", "content": "x" * 3_000}])
            client.messages.create(model="m", max_tokens=64, messages=messages)
    assert server.bodies[0]["messages"][0]["content"] == "x" * 3_000
    assert budget.spent("tokens") > 1_000


async def test_a_model_without_a_price_is_not_called_under_a_limit_of_usd(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    async with task_budget(usd="0.10"):
        with pytest.raises(UnknownPrice):
            await client.messages.create(**HELLO)
    assert provider.count() == 0


async def test_a_refusal_is_not_tried_again(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    async with connect() as service:
        subscription = service.subscribe()
        async with task_budget("t", tokens=10, service=service):
            with pytest.raises(BudgetExceeded):
                await client.messages.create(**HELLO)
        service.flush()
    assert [event.outcome async for event in subscription] == ["rejected"]
    assert provider.count() == 0


async def test_an_overloaded_provider_pauses_the_resource(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    provider.headers |= {"retry-after": "30", "x-should-retry": "false"}
    async with connect() as service:
        service.define(Resource("model", Rate(1_000, "second"), dim="calls", max_wait=0))
        async with QuotaToken("model", expected_use=1), task_budget("t", calls=9, service=service):
            with pytest.raises(anthropic.APIStatusError):
                await client.messages.create(**(HELLO | {"model": "fail:529"}))
            with pytest.raises(BudgetExceeded):
                await client.messages.create(**HELLO)
        assert provider.count() == 1


async def test_a_connection_that_is_refused_is_free(way: Way) -> None:
    arguments, held = way
    async with (
        anthropic.AsyncAnthropic(
            base_url="http://127.0.0.1:9", api_key="k", max_retries=0, **arguments()
        ) as made,
        task_budget(tokens=10_000) as budget,
    ):
        with pytest.raises(anthropic.APIConnectionError):
            await held(made).messages.create(**HELLO)
    assert budget.spent("tokens") == 0


async def test_a_status_of_an_error_is_free_and_told(
    client: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    async with connect() as service:
        subscription = service.subscribe()
        async with task_budget("t", tokens=10_000, service=service) as budget:
            with pytest.raises(anthropic.BadRequestError):
                await client.messages.create(**(HELLO | {"model": "fail:400"}))
        service.flush()
    (event,) = [event async for event in subscription]
    assert (event.outcome, event.status) == ("failed", 400)
    assert (event.kind, event.provider, event.model) == ("llm", "anthropic", "fail:400")
    assert budget.spent("tokens") == budget.spent("calls") == 0


def test_a_sync_stream_that_is_dropped_is_charged_when_it_is_collected(
    sync_client: anthropic.Anthropic,
) -> None:
    with task_budget(tokens=10_000) as budget:
        stream = sync_client.messages.create(**(HELLO | {"model": "pause"}), stream=True)
        next(stream)
        del stream
        gc.collect()
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed >= 64
    assert balance.reserved == 0


# The middleware alone.


async def test_the_middleware_holds_each_attempt(provider: Provider) -> None:
    async with connect() as service:
        subscription = service.subscribe()
        async with (
            anthropic.AsyncAnthropic(
                base_url=provider.url, api_key="k", middleware=[BudgetMiddleware()]
            ) as client,
            task_budget("t", tokens=10_000, service=service) as budget,
        ):
            await client.messages.create(**(HELLO | {"model": "fail:500:1"}))
        service.flush()
    assert [event.outcome async for event in subscription] == ["failed", "completed"]
    assert budget.spent("calls") == 1
    assert budget.spent("tokens") == provider.tokens


def test_the_middleware_does_nothing_in_a_wrapped_client(provider: Provider) -> None:
    with (
        anthropic.Anthropic(
            base_url=provider.url, api_key="k", middleware=[BudgetMiddleware()]
        ) as client,
        task_budget(calls=9) as budget,
    ):
        wrap(client).messages.create(**HELLO)
        list(client.messages.create(**HELLO, stream=True))
    assert budget.spent("calls") == 2
    assert budget.spent("tokens") == provider.tokens


def test_what_another_middleware_answers_is_free(provider: Provider) -> None:
    cached = anthropic.types.Message.model_validate(message(usage=USAGE))

    def cache(request: Any, call_next: Any) -> Any:
        return cached

    with (
        anthropic.Anthropic(
            base_url=provider.url, api_key="k", middleware=[BudgetMiddleware(), cache]
        ) as client,
        task_budget(calls=9) as budget,
    ):
        assert client.messages.create(**HELLO) is cached
    assert provider.count() == budget.spent("calls") == 0


# Clients.


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="give a client of anthropic"):
        wrap(object())  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


@pytest.fixture
def instrumented() -> Iterator[None]:
    instrument()
    try:
        yield
    finally:
        uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_all_clients_of_the_process_are_held_for(provider: Provider) -> None:
    with anthropic.Anthropic(base_url=provider.url, api_key="k") as client:
        with task_budget(calls=9) as budget:
            client.messages.create(**HELLO)
            wrap(client).with_options(timeout=9).messages.create(**HELLO)
            assert budget.spent("calls") == 2
            uninstrument()
            client.messages.create(**HELLO)
            assert budget.spent("calls") == 3


def test_clients_of_vertex_are_held_for() -> None:
    with canned(document(message(usage=USAGE))) as server, connect() as service:
        subscription = service.subscribe()
        client = AnthropicVertex(base_url=server.url, region="r", project_id="p", access_token="k")
        with client, task_budget(tokens=10_000) as budget:
            wrap(client).messages.create(model="m", messages=USER, max_tokens=64)
    assert server.paths == ["/projects/p/locations/r/publishers/anthropic/models/m:rawPredict"]
    assert budget.spent("tokens") == 1_350
    (event,) = events_of(subscription)
    assert (event.provider, event.model) == ("gcp.vertex_ai", "m")


def test_clients_of_bedrock_are_held_for() -> None:
    with canned(document(message(usage=USAGE))) as server, connect() as service:
        subscription = service.subscribe()
        client = AnthropicBedrock(base_url=server.url, aws_region="r", api_key="k")
        with client, task_budget(tokens=10_000) as budget:
            wrap(client).messages.create(model="m", messages=USER, max_tokens=64)
    assert server.paths == ["/model/m/invoke"]
    assert budget.spent("tokens") == 1_350
    (event,) = events_of(subscription)
    assert (event.provider, event.model) == ("aws.bedrock", "m")


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_a_hook_has_read_is_settled(way: Way, streamed: bool) -> None:
    arguments, wrapped = way
    answer = events(*parts()) if streamed else document(message(usage=USAGE))
    with canned(answer) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k", **arguments()) as made:
            cast("Any", made)._client.event_hooks["response"].append(
                lambda response: response.read()
            )
            with task_budget(tokens=10_000) as budget:
                asked: Any = HELLO | {"stream": streamed}
                list(wrapped(made).messages.create(**asked))
    assert (budget.spent("tokens"), budget.snapshot()["tokens"].assumed) == (1_350, 0)


def test_count_tokens_is_given_plain_values() -> None:
    seen: list[str] = []

    def count(prompt: Any) -> int:
        seen.append(json.dumps(prompt))
        return 10

    block = anthropic.types.TextBlock(type="text", text="To the sea.")
    told: Any = [*USER, {"role": "assistant", "content": [block]}, *USER]
    with canned(document(message(usage=USAGE))) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k") as client:
            messages = wrap(client, count_tokens=count).messages
            messages.create(model="m", max_tokens=9, messages=told)
            messages.parse(model="m", max_tokens=9, messages=told)
            client.beta.messages.create(model="m", max_tokens=9, messages=told)
    assert len(seen) == 3
    assert all("To the sea." in text and "system" not in text for text in seen)

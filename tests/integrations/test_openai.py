# ruff: noqa: SIM117 - a server, a client and a budget are one thing each
"""The client of OpenAI, beyond the contract: its other calls, raw responses, odd servers."""

import copy
import gc
import gzip
import json
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from inspect import signature
from typing import Any, cast

import anyio
import openai
import pytest
from anyio import to_thread

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaToken,
    Rate,
    Resource,
    UsageEvent,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownPrice
from budgetware_integrations._model_calls import ModelCall
from budgetware_integrations._options import CallSettings
from budgetware_integrations.openai import instrument, uninstrument, wrap
from tests.integrations.canned import Answer, Canned, canned, document, events
from tests.integrations.provider import Provider

NEEDS = "openai"

# Of the SDK itself, on trio: it leaves generators it has read to the end unclosed.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

USER: Any = [{"role": "user", "content": "Where do rivers flow?"}]
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
RATES = {"input": "1", "output": "10"}
OURS = {"budgetware", "budgetware_integrations", "openai", "httpx", "httpx2", "_contextvars"}


def chunk(text: str | None = None, **fields: Any) -> dict[str, Any]:
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return about | {"choices": choices} | fields


def chat(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "To the sea."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    about = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return about | {"choices": [choice]} | fields


def outer_call() -> ModelCall:
    """A call of a framework's model, which asks clients."""
    return ModelCall(CallSettings(), provider="test", model="moa", prompt="Where?")


SENDS_BYTES = "content" in signature(openai.OpenAI.post).parameters  # not before openai 3


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made:
        yield wrap(made)


@pytest.fixture
def sync_client(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k") as made:
        yield wrap(made)


@contextmanager
def client_at(url: str, **options: Any) -> Generator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=url, api_key="k", max_retries=options.pop("max_retries", 0)
    ) as made:
        yield wrap(made, **options)


def held_for(client: openai.OpenAI, **arguments: Any) -> int:
    """The tokens that a call of a silent model is charged: what it held."""
    with task_budget(tokens=10**15) as budget:
        asked: Any = {"model": "mute", "messages": USER} | arguments
        client.chat.completions.create(**asked)
    return int(budget.snapshot()["tokens"].assumed)


# What is called.


async def test_a_response_is_settled(client: openai.AsyncOpenAI, provider: Provider) -> None:
    async with task_budget(tokens=10_000) as budget:
        response = await client.responses.create(model="echo", input="Where?", max_output_tokens=9)
        assert response.output_text
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_streamed_response_is_settled(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        async for _ in await client.responses.create(model="echo", input="Where?", stream=True):
            pass
        async with client.responses.stream(model="echo", input="Where?") as stream:
            final = await stream.get_final_response()
    assert final.output_text
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 2
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_task_that_outlives_the_call_it_was_started_in_pays_for_its_own(
    provider: Provider,
) -> None:
    ended, calls = anyio.Event(), 0

    async def ask() -> None:
        await client.chat.completions.create(model="echo", messages=USER)

    async def ask_later() -> None:
        await ended.wait()
        await ask()

    async def hook(_request: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            group.start_soon(ask_later)

    http = openai.DefaultAsyncHttpxClient(event_hooks={"request": [hook]})
    made = openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k", http_client=http)
    async with made, task_budget(tokens=100_000) as budget, anyio.create_task_group() as group:
        client = wrap(made)
        await ask()
        ended.set()
    assert (budget.spent("calls"), len(provider.calls)) == (2, 2)
    assert budget.spent("tokens") == provider.tokens


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_model_that_asks_others_pays_for_all_but_the_one_it_is_held_for(
    client: openai.AsyncOpenAI, provider: Provider, at_once: bool
) -> None:
    async def ask() -> None:
        await client.chat.completions.create(model="echo", messages=USER)

    async def ask_three() -> None:
        if at_once:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask)
        else:
            for _ in range(3):
                await ask()

    async with task_budget(tokens=100_000) as budget:
        await outer_call().run(ask_three)
    assert (budget.spent("calls"), len(provider.calls)) == (3, 3)
    assert budget.spent("tokens") >= provider.tokens
    assert budget.snapshot()["tokens"].reserved == 0


async def test_what_is_tried_again_inside_a_call_is_part_of_it(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async def ask() -> Any:
        for model in ("no-such-model", "no-such-model"):
            with pytest.raises(openai.OpenAIError):
                await client.with_options(max_retries=0).chat.completions.create(
                    model=model, messages=USER, timeout=1e-6
                )
        return await client.chat.completions.create(model="echo", messages=USER)

    async with task_budget(tokens=100_000) as budget:
        await outer_call().run(ask)
    assert budget.spent("calls") == 1
    assert budget.spent("tokens") == provider.tokens


async def test_a_task_inside_a_call_pays_for_its_own(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async def judge() -> None:
        async with task_budget("judge", calls=1) as inner:
            await client.chat.completions.create(model="echo", messages=USER)
            with pytest.raises(BudgetExceeded):
                await client.chat.completions.create(model="echo", messages=USER)
            assert inner.spent("calls") == 1

    async with task_budget(tokens=100_000) as budget:
        await outer_call().run(judge)
    assert (budget.spent("calls"), len(provider.calls)) == (2, 1)


def test_a_background_response_is_charged_what_it_held() -> None:
    queued: dict[str, Any] = {
        "id": "r",
        "object": "response",
        "status": "queued",
        "output": [],
        "usage": None,
    }
    with canned(document(queued)) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            client.responses.create(model="m", input="?", background=True, max_output_tokens=99)
    assert budget.snapshot()["tokens"].assumed > 99


@pytest.mark.parametrize("given", ["one text", ["two", "texts"], [1, 2, 3], [[1, 2], [3]]])
async def test_embeddings_of_texts_and_of_tokens_are_settled(
    client: openai.AsyncOpenAI, provider: Provider, given: Any
) -> None:
    async with task_budget(tokens=10_000) as budget:
        await client.embeddings.create(model="echo", input=given)
    assert budget.spent("tokens") == budget.spent("input_tokens") == provider.input_tokens
    assert budget.spent("output_tokens") == 0


def test_an_embedding_holds_its_texts_alone() -> None:
    answer = {"object": "list", "data": [], "model": "m"}
    with canned(document(answer)) as server, client_at(server.url) as client:
        with task_budget(tokens=100) as budget:
            client.embeddings.create(model="m", input="word " * 30, encoding_format="float")
    assert 30 <= budget.spent("tokens") <= 60


def test_completions_are_settled_and_their_streams() -> None:
    whole = {"id": "c", "object": "text_completion", "choices": [], "model": "m", "usage": USAGE}
    parts = [chunk("a") | {"object": "text_completion"}, chunk(usage=USAGE)]
    with canned(document(whole), events(*parts)) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            client.completions.create(model="m", prompt="Where?")
            seen = list(client.completions.create(model="m", prompt="Where?", stream=True))
    assert budget.spent("tokens") == 36
    assert len(seen) == 1


@pytest.mark.parametrize("how", ["slash", "bytes"] if SENDS_BYTES else ["slash"])
@pytest.mark.parametrize("streamed", [True, False])
def test_requests_that_are_posted_by_hand_are_held_for(how: str, streamed: bool) -> None:
    body = {"model": "m", "messages": USER, "stream": streamed}
    asked: Any = {"body": body} if how == "slash" else {"content": json.dumps(body).encode()}
    with canned(document(chat(usage=USAGE))) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            path = "/chat/completions" + ("/" if how == "slash" else "")
            client.post(path, cast_to=object, **asked)
    assert budget.spent("tokens") == 18
    assert server.bodies[0]["messages"] == USER


async def test_parse_is_settled(client: openai.AsyncOpenAI, provider: Provider) -> None:
    async with task_budget(tokens=10_000) as budget:
        parsed = await client.chat.completions.parse(model="echo", messages=USER)
        assert parsed.choices[0].message.content
    assert budget.spent("tokens") == provider.tokens > 0


def test_an_answer_that_cannot_be_parsed_was_paid_for_and_costs_what_it_reports() -> None:
    from pydantic import BaseModel, ValidationError

    class Answer(BaseModel):
        river: str

    with canned(document(chat(usage=USAGE))) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget, pytest.raises(ValidationError):
            client.chat.completions.parse(model="m", messages=USER, response_format=Answer)
    assert budget.spent("tokens") == 18
    assert budget.snapshot()["tokens"].assumed == 0


async def test_the_stream_helper_is_settled_and_sees_no_extra_chunk(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        async with client.chat.completions.stream(model="echo", messages=USER) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_completion()
    assert kinds[-1] == "content.done"
    assert final.choices[0].message.content
    assert final.usage is None
    assert budget.spent("tokens") == provider.tokens > 0


async def test_what_calls_no_model_costs_nothing(client: openai.AsyncOpenAI) -> None:
    async with task_budget(calls=9) as budget:
        assert [model.id async for model in client.models.list()] == ["echo"]
        await client.responses.input_tokens.count(model="echo", input="Where?")
    assert budget.spent("calls") == 0


# How it is answered.


async def test_raw_responses_are_settled(client: openai.AsyncOpenAI, provider: Provider) -> None:
    async with task_budget(tokens=10_000) as budget:
        raw = await client.chat.completions.with_raw_response.create(model="echo", messages=USER)
        assert budget.spent("tokens") == provider.tokens > 0
        assert raw.parse().choices[0].message.content
        raw_stream = await client.chat.completions.with_raw_response.create(
            model="echo", messages=USER, stream=True
        )
        chunks = [chunk async for chunk in raw_stream.parse()]
    assert all(chunk.choices for chunk in chunks)
    assert budget.spent("tokens") == provider.tokens
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_response_that_is_read_later_is_settled_then(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        streaming = client.chat.completions.with_streaming_response
        async with streaming.create(model="echo", messages=USER) as response:
            assert budget.snapshot()["tokens"].reserved > 0
            assert json.loads(await response.read())["usage"]
        assert budget.spent("tokens") == provider.tokens > 0
        async with streaming.create(model="echo", messages=USER, stream=True) as response:
            lines = [line async for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert budget.spent("tokens") == provider.tokens
    assert budget.snapshot()["tokens"].reserved == 0


async def test_a_response_that_is_never_read_is_charged_what_it_held(
    client: openai.AsyncOpenAI,
) -> None:
    async with task_budget(tokens=10_000) as budget:
        streaming = client.chat.completions.with_streaming_response
        async with streaming.create(model="echo", messages=USER, max_tokens=64):
            pass
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 64
    assert balance.reserved == 0


@pytest.mark.parametrize("streamed", [True, False])
def test_compressed_answers_are_read(streamed: bool) -> None:
    plain = events(chunk("a"), chunk(usage=USAGE)) if streamed else document(chat(usage=USAGE))
    packed = Answer(gzip.compress(plain.body), plain.kind, headers={"content-encoding": "gzip"})
    with canned(packed) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            streaming = client.chat.completions.with_streaming_response
            with streaming.create(model="m", messages=USER, stream=streamed) as response:
                text = response.read().decode()
    assert text.startswith("data: {" if streamed else '{"id": "c"')
    assert budget.spent("tokens") == 18
    assert server.headers[0]["accept-encoding"] == "identity"


def test_an_answer_that_was_compressed_badly_fails_as_without() -> None:
    bad = Answer(b"no gzip", "text/event-stream", headers={"content-encoding": "gzip"})
    asked: Any = {"model": "m", "messages": USER, "stream": True}
    with canned(bad) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget, pytest.raises(Exception) as ours:  # noqa: PT011
            list(client.chat.completions.create(**asked))
        with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as bare:
            with pytest.raises(Exception) as theirs:  # noqa: PT011 - another one in each version
                list(bare.chat.completions.create(**asked))
    assert type(ours.value) is type(theirs.value)
    assert budget.snapshot()["tokens"].assumed > 0


# Usage in streams.


def streamed_from(server: Canned, **arguments: Any) -> tuple[list[Any], Any]:
    """The chunks of a stream, and the balance after it."""
    with client_at(server.url) as client, task_budget(tokens=100_000) as budget:
        asked: Any = {"model": "m", "messages": USER, "stream": True} | arguments
        chunks = list(client.chat.completions.create(**asked))
    return chunks, budget.snapshot()["tokens"]


def test_the_chunk_of_usage_is_hidden_from_who_did_not_ask() -> None:
    with canned(events(chunk("a"), chunk("b"), chunk(usage=USAGE))) as server:
        chunks, balance = streamed_from(server)
    assert [c.choices[0].delta.content for c in chunks] == ["a", "b"]
    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    assert (balance.spent, balance.assumed) == (18, 0)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, openai.NOT_GIVEN])
def test_not_asking_is_said_in_many_ways(options: Any) -> None:
    with canned(events(chunk("a"), chunk(usage=USAGE))) as server:
        chunks, balance = streamed_from(server, stream_options=options)
    assert len(chunks) == 1
    assert balance.spent == 18


def test_who_asks_for_usage_gets_all_chunks() -> None:
    with canned(events(chunk("a"), chunk(usage=USAGE))) as server:
        chunks, balance = streamed_from(server, stream_options={"include_usage": True})
    assert chunks[-1].usage.total_tokens == 18
    assert len(chunks) == 2
    assert balance.spent == 18


def test_asking_in_the_extra_body_is_asking() -> None:
    body = {"stream_options": {"include_usage": True}, "max_tokens": 5}
    with canned(events(chunk("a"), chunk(usage=USAGE))) as server:
        chunks, balance = streamed_from(server, extra_body=body)
    assert len(chunks) == 2
    assert balance.spent == 18
    assert server.bodies[0]["max_tokens"] == 5


def test_a_server_that_knows_no_stream_options_is_not_asked() -> None:
    with canned(events(chunk("a"))) as server, client_at(server.url, include_usage=False) as client:
        with task_budget(tokens=10_000) as budget:
            list(client.chat.completions.create(model="m", messages=USER, stream=True))
    assert "stream_options" not in server.bodies[0]
    assert budget.snapshot()["tokens"].assumed > 4_096


def test_usage_beside_the_last_words_is_not_hidden() -> None:
    with canned(events(chunk("a"), chunk("b", usage=USAGE))) as server:
        chunks, balance = streamed_from(server)
    assert [c.choices[0].delta.content for c in chunks] == ["a", "b"]
    assert (balance.spent, balance.assumed) == (18, 0)


def test_usage_that_grows_with_each_chunk_counts_once() -> None:
    growing = [
        chunk("a", usage={"prompt_tokens": 11, "completion_tokens": n, "total_tokens": 11 + n})
        for n in (1, 4, 7)
    ]
    with canned(events(*growing)) as server:
        chunks, balance = streamed_from(server)
    assert len(chunks) == 3
    assert (balance.spent, balance.assumed) == (18, 0)


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}])
@pytest.mark.parametrize("kind", ["chat", "text"])
@pytest.mark.parametrize("last", [None, "b"])
def test_usage_that_is_reported_first_and_last_is_the_last(
    asked: Any, kind: str, last: str | None
) -> None:
    first = chunk(usage=USAGE | {"completion_tokens": 0, "total_tokens": 11})
    parts = [first, chunk("a"), chunk(last, usage=USAGE)]
    if kind == "text":
        parts = [part | {"object": "text_completion"} for part in parts]
    with canned(events(*parts)) as server, client_at(server.url) as client:
        with task_budget(tokens=100_000) as budget:
            if kind == "chat":
                create: Any = client.chat.completions.create
                chunks = list(create(model="m", messages=USER, stream=True, **asked))
            else:
                create = client.completions.create
                chunks = list(create(model="m", prompt="Where?", stream=True, **asked))
    assert len(chunks) == (3 if asked else 1 if last is None else 2)
    assert (budget.spent("tokens"), budget.snapshot()["tokens"].assumed) == (18, 0)


def test_an_answer_of_no_tokens_costs_none() -> None:
    nothing = USAGE | {"completion_tokens": 0, "total_tokens": 11}
    with canned(events(chunk("", usage=nothing))) as server:
        _, balance = streamed_from(server)
    assert (balance.spent, balance.assumed) == (11, 0)


def test_an_answer_that_began_and_was_left_is_charged_as_held() -> None:
    first = chunk("a", usage=USAGE | {"completion_tokens": 0, "total_tokens": 11})
    with canned(events(first, done=False)) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            create = client.chat.completions.create
            with create(model="m", messages=USER, stream=True, max_tokens=500) as stream:
                next(stream)
    assert budget.spent("tokens") == 511


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "text/plain"])
@pytest.mark.parametrize("is_read", [True, False])
def test_a_stream_that_a_hook_has_read_is_settled_and_hides_its_usage(
    kind: str, is_read: bool
) -> None:
    body = events(chunk("a"), chunk(usage=USAGE)).body
    with canned(Answer(body, kind)) as server:
        with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as made:
            if is_read:
                cast("Any", made)._client.event_hooks["response"].append(
                    lambda response: response.read()
                )
            with task_budget(tokens=10_000) as budget:
                stream = wrap(made).chat.completions.create(model="m", messages=USER, stream=True)
                assert [c.choices[0].delta.content for c in stream] == ["a"]
    assert (budget.spent("tokens"), budget.snapshot()["tokens"].assumed) == (18, 0)


async def test_an_async_stream_that_a_hook_has_read_is_settled(provider: Provider) -> None:
    async def read(response: Any) -> None:
        await response.aread()

    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made:
        cast("Any", made)._client.event_hooks["response"].append(read)
        async with task_budget(tokens=10_000) as budget:
            create = wrap(made).chat.completions.create
            stream = await create(model="echo", messages=USER, stream=True)
            assert [c async for c in stream if not c.choices] == []
    assert budget.spent("tokens") == provider.tokens > 0


def test_usage_that_grows_is_known_when_the_stream_is_left() -> None:
    growing = [
        chunk("a", usage={"prompt_tokens": 11, "completion_tokens": n, "total_tokens": 11 + n})
        for n in (1, 4, 7)
    ]
    with canned(events(*growing, done=False)) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            with client.chat.completions.create(model="m", messages=USER, stream=True) as stream:
                next(stream)
        balance = budget.snapshot()["tokens"]
    assert 12 <= balance.spent == balance.assumed <= 18


def test_a_chunk_without_choices_that_has_no_usage_is_passed_on() -> None:
    filters = chunk(prompt_filter_results=[], usage=None)  # as Azure begins its streams
    with canned(events(filters, chunk("a"), chunk(usage=USAGE))) as server:
        chunks, balance = streamed_from(server)
    assert len(chunks) == 2
    assert balance.spent == 18


def test_a_stream_that_ends_without_a_word_is_charged_what_it_held() -> None:
    with canned(events(done=False)) as server:
        chunks, balance = streamed_from(server, max_tokens=50)
    assert chunks == []
    assert balance.spent == balance.assumed > 50


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 7, "total_tokens": 6},
        {"prompt_tokens": "many", "completion_tokens": 7, "total_tokens": 18},
        {"prompt_tokens": 1.5, "completion_tokens": 7},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 10**400, "completion_tokens": 7},
        [],
        "18",
        {"tokens": 18},
    ],
)
def test_nonsense_leaves_what_is_held(usage: Any) -> None:
    with canned(events(chunk("a"), chunk(usage=usage))) as server:
        _, balance = streamed_from(server, max_tokens=50)
    assert balance.spent == balance.assumed > 50


# What is held.


@pytest.mark.parametrize("most", [None, 0, -1, "64", True, openai.NOT_GIVEN, openai.omit])
def test_a_maximum_that_is_none_holds_the_default(sync_client: openai.OpenAI, most: Any) -> None:
    assert held_for(sync_client, max_tokens=most) > 4_096


def test_the_maximum_is_held_for_each_answer(sync_client: openai.OpenAI) -> None:
    one = held_for(sync_client, max_tokens=100)
    assert held_for(sync_client, max_completion_tokens=100) == one
    assert held_for(sync_client, max_tokens=50, max_completion_tokens=100) == one
    assert held_for(sync_client, max_tokens=100, n=3) == one + 200
    assert held_for(sync_client, extra_body={"max_tokens": 100}) == one


def test_a_maximum_beyond_all_sense_is_refused_by_the_budget(sync_client: openai.OpenAI) -> None:
    with task_budget(tokens=1_000_000), pytest.raises(BudgetExceeded):
        sync_client.chat.completions.create(
            model="mute", messages=USER, max_tokens=10**40, n=10**40
        )


def test_completions_hold_an_answer_for_each_prompt_and_try() -> None:
    whole = {"id": "c", "object": "text_completion", "choices": [], "model": "m"}
    with canned(document(whole)) as server, client_at(server.url) as client:
        with task_budget(tokens=10_000) as budget:
            client.completions.create(
                model="m", prompt=["Where?", "Why?"], max_tokens=100, best_of=3
            )
    assert 600 < budget.spent("tokens") < 620


def test_a_users_count_of_the_prompt_is_held(provider: Provider) -> None:
    seen: list[Any] = []

    def count(prompt: Any) -> int:
        seen.append(prompt)
        return 1_000

    with client_at(f"{provider.url}/v1", count_tokens=count, default_output_tokens=10) as client:
        assert held_for(client) == 1_010
    assert seen == [{"messages": USER}]


def test_nonsense_settings_are_refused() -> None:
    with openai.OpenAI(api_key="k") as client:
        for tokens in (0, -1, True, 1.5, "9"):
            with pytest.raises(ValueError, match="default_output_tokens"):
                wrap(client, default_output_tokens=cast("int", tokens))
        wrong: list[dict[str, Any]] = [
            {"count_tokens": 3},
            {"provider": 5},
            {"provider": ""},
            {"include_usage": "no"},
        ]
        for options in wrong:
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                wrap(client, **options)
        with pytest.raises(TypeError, match="give a client of openai"):
            wrap(cast("openai.OpenAI", object()))


# Prices.


async def test_usd_is_settled_to_the_exact_price(provider: Provider) -> None:
    async with (
        connect(prices={"echo": RATES}),
        openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made,
    ):
        client = wrap(made)
        async with task_budget(usd="0.10") as budget:
            await client.chat.completions.create(model="echo", messages=USER)
            stream = await client.chat.completions.create(model="echo", messages=USER, stream=True)
            async for _ in stream:
                pass
    micros = provider.input_tokens + 10 * provider.output_tokens
    assert budget.spent("usd") == Decimal(micros) / 1_000_000


def test_the_price_is_that_of_the_model_that_was_asked_for() -> None:
    dated = chat(usage=USAGE, model="m-2026-08-07-eu")
    with canned(document(dated)) as server, client_at(server.url) as client:
        with connect(prices={"m": RATES}), task_budget(usd="0.10") as budget:
            client.chat.completions.create(model="m", messages=USER)
    assert budget.spent("usd") == Decimal("0.000081")


async def test_a_model_without_a_price_is_not_called_under_a_limit_of_usd(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(usd="0.10"):
        with pytest.raises(UnknownPrice):
            await client.chat.completions.create(model="echo", messages=USER)
    assert provider.count() == 0


# Failures.


async def test_a_429_after_all_tries_is_free(provider: Provider) -> None:
    provider.headers["retry-after-ms"] = "1"
    async with openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made:
        client = wrap(made)
        async with task_budget(tokens=10_000) as budget:
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="fail:429", messages=USER)
        assert provider.count() == 3
        assert budget.spent("tokens") == budget.spent("calls") == 0


async def test_a_timeout_is_charged_for_it_may_have_been_answered(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(max_retries=0).chat.completions.create(
                model="hold", messages=USER, timeout=0.05
            )
    assert budget.snapshot()["tokens"].assumed > 4_096


def test_an_attempt_that_was_sent_is_charged_though_the_next_one_finds_nobody() -> None:
    import socket

    def answer_one() -> None:
        connection, _ = listener.accept()
        listener.close()
        with connection:
            while b"rivers" not in connection.recv(65_536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread = threading.Thread(target=answer_one)
        thread.start()
        with client_at(url, max_retries=1) as client, task_budget(tokens=10_000) as budget:
            with pytest.raises(openai.APIConnectionError):
                client.chat.completions.create(model="m", messages=USER)
        thread.join()
    assert budget.snapshot()["tokens"].assumed > 4_096


async def test_a_connection_that_is_refused_is_free_however_often() -> None:
    async with (
        openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=1) as made,
        task_budget(tokens=10_000) as budget,
    ):
        with pytest.raises(openai.APIConnectionError):
            await wrap(made).chat.completions.create(model="echo", messages=USER)
    assert budget.spent("tokens") == 0


async def test_a_connection_that_is_refused_is_free() -> None:
    async with (
        openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0) as made,
        task_budget(tokens=10_000) as budget,
    ):
        with pytest.raises(openai.APIConnectionError):
            await wrap(made).chat.completions.create(model="echo", messages=USER)
    assert budget.spent("tokens") == 0


async def test_a_request_that_cannot_be_made_is_free(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with task_budget(tokens=10_000) as budget:
        with pytest.raises(TypeError, match="not JSON serializable"):
            await client.chat.completions.create(
                model="echo", messages=USER, extra_body={"strange": object()}
            )
    assert provider.count() == 0
    assert budget.spent("tokens") == 0


@pytest.mark.parametrize("error", [{"message": "overloaded", "code": 503}, "overloaded"])
def test_an_error_told_in_a_stream_is_charged_as_a_broken_one(error: Any) -> None:
    with canned(events(chunk("a"), {"error": error})) as server, connect() as service:
        subscription = service.subscribe()
        with client_at(server.url) as client, task_budget(tokens=10_000) as budget:
            with pytest.raises(openai.APIError):
                list(client.chat.completions.create(model="m", messages=USER, stream=True))
    (event,) = events_of(subscription)
    assert (event.outcome, event.status) == ("broken", 0)
    assert budget.snapshot()["tokens"].assumed > 4_096


def events_of(subscription: Any) -> list[UsageEvent]:
    """What a closed service has told."""

    async def collect() -> list[UsageEvent]:
        return [event async for event in subscription]

    return anyio.run(collect)


async def test_events_say_how_calls_ended(client: openai.AsyncOpenAI, provider: Provider) -> None:
    create = client.with_options(max_retries=0).chat.completions.create
    async with connect() as service:
        subscription = service.subscribe()
        async with task_budget("t", tokens=100_000, service=service):
            await create(model="echo", messages=USER)
            with pytest.raises(openai.InternalServerError):
                await create(model="fail:500", messages=USER)
            async with await create(model="pause", messages=USER, stream=True) as stream:
                async for _ in stream:
                    break
            with pytest.raises(Exception, match=r"(?i)connection"):
                async for _ in await create(model="cut", messages=USER, stream=True):
                    pass
            with anyio.move_on_after(0.05):
                await create(model="hold", messages=USER)
            service.flush()
        told = [await anext(subscription) for _ in range(5)]
    assert [(event.outcome, event.status) for event in told] == [
        ("completed", 200),
        ("failed", 500),
        ("cancelled", 499),
        ("broken", 0),
        ("cancelled", 499),
    ]
    assert {(event.kind, event.provider, event.name) for event in told} == {
        ("llm", "openai", "chat")
    }
    assert told[0].model == "echo"
    assert told[0].usage is not None
    assert told[0].usage.reasoning_tokens == 2
    assert told[0].charged["tokens"] == told[0].usage.total_tokens


# Providers that ask for less.


async def test_a_429_that_is_tried_again_pauses_the_resource(provider: Provider) -> None:
    provider.headers |= {"retry-after-ms": "30000", "x-should-retry": "false"}
    async with (
        connect() as service,
        openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made,
    ):
        service.define(Resource("model", Rate(1_000, "second"), dim="calls", max_wait=0))
        client = wrap(made)
        async with QuotaToken("model", expected_use=1), task_budget("t", calls=9, service=service):
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="fail:429", messages=USER)
            with pytest.raises(BudgetExceeded) as caught:
                await client.chat.completions.create(model="echo", messages=USER)
    assert 20 < cast("float", caught.value.retry_after) <= 30
    assert provider.count() == 1


async def test_a_rate_limit_with_nothing_left_pauses_the_resource(provider: Provider) -> None:
    provider.headers |= {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "30s",
    }
    async with (
        connect() as service,
        openai.AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k") as made,
    ):
        service.define(Resource("model", Rate(1_000, "second"), dim="calls", max_wait=0))
        client = wrap(made)
        async with QuotaToken("model", expected_use=1), task_budget("t", calls=9, service=service):
            await client.chat.completions.create(model="echo", messages=USER)
            with pytest.raises(BudgetExceeded):
                await client.chat.completions.create(model="echo", messages=USER)
    assert provider.count() == 1


async def test_a_timeout_of_the_client_does_not_count_the_wait_for_a_turn(
    client: openai.AsyncOpenAI, provider: Provider
) -> None:
    async with connect() as service:
        service.define(Resource("model", Concurrency(1), dim="calls"))
        token = QuotaToken("model", expected_use=1)
        async with token, task_budget("t", calls=9, service=service) as budget:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, client, "hold")
                await to_thread.run_sync(provider.wait_for, 1)
                with anyio.move_on_after(0.2) as scope:
                    await client.chat.completions.create(
                        model="echo", messages=USER, timeout=0.01, max_tokens=1
                    )
                assert scope.cancelled_caught
                provider.released.set()
            await ask(client, "echo")
        assert budget.spent("calls") == 2


async def ask(client: openai.AsyncOpenAI, model: str) -> None:
    await client.chat.completions.create(model=model, messages=USER)


# Sync.


def test_sync_calls_and_streams_are_settled(sync_client: openai.OpenAI, provider: Provider) -> None:
    create = sync_client.chat.completions.create
    with task_budget(tokens=10_000) as budget:
        create(model="echo", messages=USER)
        chunks = list(create(model="echo", messages=USER, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.snapshot()["tokens"].assumed == 0


def test_a_sync_stream_that_is_read_to_its_end_is_completed(provider: Provider) -> None:
    with connect() as service:
        subscription = service.subscribe()
        with client_at(f"{provider.url}/v1") as client, task_budget(tokens=10_000):
            list(client.chat.completions.create(model="echo", messages=USER, stream=True))
    assert [event.outcome for event in events_of(subscription)] == ["completed"]


def test_a_sync_stream_that_is_left_early_is_charged(sync_client: openai.OpenAI) -> None:
    with task_budget(tokens=10_000) as budget:
        with sync_client.chat.completions.create(
            model="pause", messages=USER, stream=True
        ) as stream:
            next(stream)
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 4_096
    assert balance.reserved == 0


@pytest.mark.parametrize("reads", [0, 1])
def test_a_sync_stream_that_is_dropped_is_charged_when_it_is_collected(
    sync_client: openai.OpenAI, reads: int
) -> None:
    with task_budget(tokens=10_000) as budget:
        stream = sync_client.chat.completions.create(model="pause", messages=USER, stream=True)
        for _ in range(reads):
            next(stream)
        assert budget.snapshot()["tokens"].reserved > 0
        del stream
        gc.collect()
        balance = budget.snapshot()["tokens"]
    assert balance.spent == balance.assumed > 4_096
    assert balance.reserved == 0


def test_a_sync_run_is_terminated(sync_client: openai.OpenAI, provider: Provider) -> None:
    def loop() -> None:
        for _ in range(20):
            try:
                sync_client.chat.completions.create(model="echo", messages=USER)
            except Exception:
                continue

    with pytest.raises(BudgetTerminated), task_budget(calls=3, policy="terminate"):
        loop()
    assert provider.count() == 3


def test_threads_share_a_client_and_a_budget(
    sync_client: openai.OpenAI, provider: Provider
) -> None:
    ran: list[bool] = []

    def work() -> None:
        for _ in range(5):
            try:
                sync_client.chat.completions.create(model="echo", messages=USER, max_tokens=9)
            except BudgetExceeded:
                ran.append(False)
            else:
                ran.append(True)

    with task_budget(calls=10) as budget:
        threads = [threading.Thread(target=budget.wrap(work)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ran.count(True) == provider.count() == budget.spent("calls") == 10
    assert budget.spent("tokens") == provider.tokens


# Clients.


def test_wrapping_twice_charges_once(provider: Provider) -> None:
    with client_at(f"{provider.url}/v1") as client, task_budget(calls=9) as budget:
        assert wrap(wrap(client)) is client
        client.chat.completions.create(model="echo", messages=USER)
    assert budget.spent("calls") == 1


def test_settings_of_the_second_time_count(provider: Provider) -> None:
    with client_at(f"{provider.url}/v1", default_output_tokens=10) as client:
        wrap(client)
        first = held_for(client)
        wrap(client, default_output_tokens=500)
        assert held_for(client) == first + 490


def test_a_wrapped_client_is_of_its_class() -> None:
    with openai.AzureOpenAI(
        api_key="k", api_version="v", azure_endpoint="http://127.0.0.1:9"
    ) as client:
        kind = type(client)
        assert wrap(client) is client
        assert isinstance(client, openai.AzureOpenAI)
        assert type(client).__qualname__ == kind.__qualname__
        assert repr(type(client)) == repr(kind)


def test_copies_are_wrapped(provider: Provider) -> None:
    with client_at(f"{provider.url}/v1") as client, task_budget(calls=9) as budget:
        for other in (client.with_options(timeout=5), client.copy(), copy.copy(client)):
            other.chat.completions.create(model="echo", messages=USER)
    assert budget.spent("calls") == 3


def test_a_client_is_no_more_picklable_than_without() -> None:
    with openai.OpenAI(api_key="k") as bare, openai.OpenAI(api_key="k") as client:
        for it in (bare, wrap(client)):
            with pytest.raises((TypeError, pickle.PicklingError)):
                pickle.dumps(it)


def test_a_client_with_a_request_of_its_own_keeps_it(provider: Provider) -> None:
    class Mine(openai.OpenAI):
        asked = 0

        def request(self, *args: Any, **how: Any) -> Any:
            self.asked += 1
            return super().request(*args, **how)

    with Mine(base_url=f"{provider.url}/v1", api_key="k") as client, task_budget(calls=9) as budget:
        wrap(client).chat.completions.create(model="echo", messages=USER)
        assert client.asked == 1
        assert budget.spent("calls") == 1


def test_azure_clients_are_held_for_though_they_change_the_address() -> None:
    with canned(document(chat(usage=USAGE))) as server, connect() as service:
        subscription = service.subscribe()
        with (
            openai.AzureOpenAI(api_key="k", api_version="v", azure_endpoint=server.url) as client,
            task_budget(tokens=10_000) as budget,
        ):
            wrap(client).chat.completions.create(model="mine", messages=USER)
    assert server.paths == ["/openai/deployments/mine/chat/completions?api-version=v"]
    assert budget.spent("tokens") == 18
    (event,) = events_of(subscription)
    assert (event.provider, event.model) == ("azure.ai.openai", "mine")


async def test_async_azure_clients_are_held_for() -> None:
    with canned(events(chunk("a"), chunk(usage=USAGE))) as server:
        async with (
            openai.AsyncAzureOpenAI(
                api_key="k", api_version="v", azure_endpoint=server.url, azure_deployment="d"
            ) as client,
            task_budget(tokens=10_000) as budget,
        ):
            stream = await wrap(client).chat.completions.create(
                model="m", messages=USER, stream=True
            )
            assert len([chunk async for chunk in stream]) == 1
    assert budget.spent("tokens") == 18


@pytest.fixture
def instrumented() -> Iterator[None]:
    instrument()
    try:
        yield
    finally:
        uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_all_clients_of_the_process_are_held_for(provider: Provider) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k") as client:
        with task_budget(calls=9) as budget:
            client.chat.completions.create(model="echo", messages=USER)
            instrument(default_output_tokens=10)
            assert held_for(client) < 100
            wrap(client).chat.completions.create(model="echo", messages=USER)
            assert budget.spent("calls") == 3
            uninstrument()
            client.chat.completions.create(model="echo", messages=USER)
            assert budget.spent("calls") == 4


def test_uninstrument_leaves_nothing() -> None:
    before = [dict(vars(kind)) for kind in (openai.OpenAI, openai.AsyncOpenAI)]
    uninstrument()
    instrument()
    instrument()
    uninstrument()
    assert [dict(vars(kind)) for kind in (openai.OpenAI, openai.AsyncOpenAI)] == before


def test_hundreds_of_calls_leave_nothing_behind() -> None:
    stream = events(chunk("a"), chunk(usage=USAGE))
    with canned(*[document(chat(usage=USAGE)), stream] * 300) as server:
        with client_at(server.url) as client, task_budget(tokens=10**9):

            def ask(times: int) -> int:
                for _ in range(times):
                    client.chat.completions.create(model="m", messages=USER)
                    list(client.chat.completions.create(model="m", messages=USER, stream=True))
                for log in (server.bodies, server.headers, server.paths):
                    log.clear()
                gc.collect()
                kinds = [str(type(it).__module__).partition(".")[0] for it in gc.get_objects()]
                return sum(kind in OURS for kind in kinds)

            before = ask(50)
            assert ask(200) - before < 20


@pytest.mark.usefixtures("caplog")
def test_nothing_of_a_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with canned(document(chat(usage=USAGE | {"total_tokens": -1}))) as server:
        with caplog.at_level(logging.DEBUG, "budgetware"), client_at(server.url) as client:
            with task_budget(tokens=10_000):
                client.chat.completions.create(model="m", messages=USER)
    assert "rivers" not in caplog.text

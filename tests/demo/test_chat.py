"""The client: what it sends, what it reads, and what it says when an endpoint fails."""

from contextlib import aclosing

import anyio
import anyio.to_thread
import httpx
import pytest

from budgetware.demo.chat import ChatClient, ChatRequest, Chunk, Message
from budgetware.demo.endpoint import Endpoint, base_url
from budgetware.demo.failures import (
    ModelFailed,
    ModelRefused,
    StreamBroken,
    charge_on_error,
    failure_of_status,
    failure_of_transport,
)
from tests.demo.chat_server import MODEL, WORDS, ChatServer, chat_server

REQUEST = ChatRequest((Message("user", "two words"),), prompt_tokens=9, max_tokens=40)


async def ask(server: ChatServer, key: str | None = None) -> tuple[list[Chunk], ChatClient]:
    async with ChatClient(Endpoint(server.url, MODEL, key)) as client:
        return [chunk async for chunk in client.stream(REQUEST)], client


async def failure_of(endpoint: Endpoint) -> ModelFailed:
    async with ChatClient(endpoint) as client:
        with pytest.raises(ModelFailed) as caught:
            async for _ in client.stream(REQUEST):
                pass
    assert client.reported.tokens == 0
    return caught.value


async def test_stream_gives_the_words_and_the_usage_last() -> None:
    with chat_server() as server:
        chunks, _ = await ask(server)
    assert "".join(chunk.text for chunk in chunks) == "".join(WORDS)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * len(WORDS)
    assert chunks[-1].usage == {"prompt_tokens": 2, "completion_tokens": 4}


async def test_reports_on_the_way_are_not_the_bill() -> None:
    early = 'data: {"usage": {"prompt_tokens": 2, "completion_tokens": 99}}'
    with chat_server(raw_lines=(early,)) as server:
        chunks, client = await ask(server)
    assert [chunk.usage for chunk in chunks if chunk.usage] == [
        {"prompt_tokens": 2, "completion_tokens": 4}
    ]
    assert client.reported.tokens == 6


async def test_request_asks_for_a_stream_with_usage_and_a_limit() -> None:
    with chat_server() as server:
        await ask(server, key="sesame")
    (body,) = server.bodies
    assert body["stream_options"] == {"include_usage": True}
    assert (body["model"], body["max_tokens"], body["stream"]) == (MODEL, 40, True)
    assert server.keys == ["Bearer sesame"]


async def test_client_sums_what_the_endpoint_reported() -> None:
    with chat_server() as server:
        _, client = await ask(server)
    assert (client.reported.prompt_tokens, client.reported.completion_tokens) == (2, 4)


async def test_endpoint_that_reports_no_usage_is_not_made_up_for() -> None:
    with chat_server(reports_usage=False) as server:
        chunks, client = await ask(server)
    assert (chunks[-1].usage, client.reported.tokens) == (None, 0)


async def test_cancelling_the_reader_closes_the_connection() -> None:
    with chat_server(holds_after=2) as server:
        with anyio.move_on_after(10) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, server)
                await anyio.to_thread.run_sync(server.began.wait, 5)
                group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(server.hung_up.wait, 5)
    assert not scope.cancelled_caught


async def test_closing_the_generator_early_closes_the_connection() -> None:
    with chat_server(holds_after=1) as server:
        async with ChatClient(Endpoint(server.url, MODEL)) as client:
            async with aclosing(client.stream(REQUEST)) as chunks:
                assert (await anext(chunks)).text == WORDS[0]
            assert await anyio.to_thread.run_sync(server.hung_up.wait, 5)
    assert client.reported.tokens == 0


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, ModelRefused, "OPENAI_API_KEY"),
        (404, ModelRefused, "is there a model 'fake-1'?"),
        (429, ModelRefused, "--parallel 1"),
        (400, ModelRefused, "status 400 on demand"),
        (500, StreamBroken, "status 500 on demand"),
    ],
)
async def test_status_becomes_an_error_with_a_remedy(
    status: int, kind: type[ModelFailed], words: str
) -> None:
    with chat_server(status=status) as server:
        failure = await failure_of(Endpoint(server.url, MODEL))
    assert type(failure) is kind
    assert failure.status_code == status
    assert words in str(failure)


async def test_nobody_listening_is_said_plainly() -> None:
    failure = await failure_of(Endpoint("http://127.0.0.1:9/v1", MODEL))
    assert type(failure) is ModelRefused
    assert "cannot reach http://127.0.0.1:9/v1" in str(failure)


async def test_stream_that_breaks_off_is_an_error() -> None:
    with chat_server(breaks_after=2) as server:
        failure = await failure_of(Endpoint(server.url, MODEL))
    assert type(failure) is StreamBroken
    assert "2 chunks" in str(failure)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("data: {nonsense", "chunk 1 of the stream is no JSON"),
        ("data: [1]", "chunk 1 of the stream is no object"),
        ('data: {"error": {"message": "\\u001b[31mout of memory"}}', "out of memory"),
    ],
)
async def test_stream_that_talks_nonsense_is_an_error(line: str, words: str) -> None:
    with chat_server(raw_lines=(line,)) as server:
        failure = await failure_of(Endpoint(server.url, MODEL))
    assert type(failure) is StreamBroken
    assert words in str(failure)
    assert str(failure).isprintable()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ConnectTimeout(""), ModelRefused, "timed out"),
        (httpx.ReadTimeout(""), StreamBroken, "fell silent after 3 chunks"),
        (httpx.ReadError(""), StreamBroken, "broke off after 3 chunks: ReadError"),
    ],
)
def test_failing_transport_is_said_plainly(
    error: httpx.HTTPError, kind: type[ModelFailed], words: str
) -> None:
    failure = failure_of_transport(Endpoint("http://localhost/v1", MODEL), error, chunks=3)
    assert type(failure) is kind
    assert words in str(failure)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>\x1b[2Jno\nway</html>", "answered 503: <html>[2Jno way</html>;"),
        (b'{"error": "just words"}', "answered 503: just words;"),
        (b"[]", "answered 503; "),
        (b"x" * 999, "x…;"),
    ],
)
def test_servers_own_words_are_passed_on_safely(body: bytes, words: str) -> None:
    assert words in str(failure_of_status(Endpoint("http://localhost/v1", MODEL), 503, body))


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("https://host/api/v2/ ", "https://host/api/v2"),
    ],
)
def test_address_gets_the_usual_path_where_it_has_none(typed: str, url: str) -> None:
    assert base_url(typed) == url


def test_openai_has_its_own_name_for_the_limit() -> None:
    assert Endpoint("https://api.openai.com/v1", MODEL).limit_name == "max_completion_tokens"


def test_a_call_that_never_ran_is_not_charged_and_one_that_may_have_is() -> None:
    assert charge_on_error(ModelRefused("no")) == "release"
    assert charge_on_error(StreamBroken("no")) == "charge"


def test_key_is_not_shown() -> None:
    assert "sesame" not in repr(Endpoint("http://localhost/v1", MODEL, "sesame"))

"""Bounds of a prompt's tokens, and the server's own counters."""

import pytest

from budgetware.demo import token_counts
from budgetware.demo.chat import ChatClient, Message
from budgetware.demo.endpoint import Endpoint
from budgetware.demo.token_counts import bound_by_bytes, chat_request, server_count
from tests.demo.chat_server import MODEL, chat_server

MESSAGES = (Message("system", "be brief"), Message("user", "what is this: ☃ ?"))


async def test_llama_cpp_counts_the_prompt_itself() -> None:
    with chat_server(is_llama_cpp=True) as server:
        async with ChatClient(Endpoint(server.url, MODEL, is_llama_cpp=True)) as client:
            request = await chat_request(client, MESSAGES, max_tokens=10)
    assert (request.prompt_tokens, request.most_tokens) == (7, 17)


async def test_foreign_endpoint_is_bounded_by_bytes_and_asked_for_nothing() -> None:
    async with ChatClient(Endpoint("http://127.0.0.1:9/v1", MODEL)) as client:
        request = await chat_request(client, MESSAGES, max_tokens=10)
    assert request.prompt_tokens == bound_by_bytes(MESSAGES)


def test_bytes_are_counted_not_characters() -> None:
    snow, text = Message("user", "☃☃☃"), Message("user", "abc")
    assert bound_by_bytes((snow,)) - bound_by_bytes((text,)) == 6


async def test_counters_are_read_from_the_server() -> None:
    with chat_server(is_llama_cpp=True) as server:
        server.count(30, 12)
        async with ChatClient(Endpoint(server.url, MODEL, is_llama_cpp=True)) as client:
            count = await server_count(client)
    assert count is not None
    assert (count.prompt_tokens, count.completion_tokens, count.tokens) == (30, 12, 42)


async def test_foreign_endpoint_has_no_counters_to_read() -> None:
    async with ChatClient(Endpoint("http://127.0.0.1:9/v1", MODEL)) as client:
        assert await server_count(client) is None


async def test_busy_server_is_waited_for_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_counts, "IDLE_WAIT_SECONDS", 0.2)
    with chat_server(is_llama_cpp=True, running=1) as server:
        async with ChatClient(Endpoint(server.url, MODEL, is_llama_cpp=True)) as client:
            assert await server_count(client) is None

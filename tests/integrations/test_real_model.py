"""A real model, in small: what is settled is what the server says it did."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import anyio
import httpx
import openai
import pytest

from budgetware import task_budget
from budgetware.demo.endpoint import Endpoint
from budgetware.demo.local_model import LocalModelMissing, find_weights, local_model
from budgetware_integrations import anthropic as for_anthropic
from budgetware_integrations import openai as for_openai

NEEDS = "xllamacpp"
LONG = 1_500
"""Tokens of an answer that takes the model some seconds."""


def is_missing() -> bool:
    try:
        find_weights()
    except LocalModelMissing:
        return True
    return False


pytestmark = [
    pytest.mark.skipif(is_missing() and "CI" not in os.environ, reason="no local model installed"),
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with local_model(parallel=1) as running:
        yield running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def counted(endpoint: Endpoint) -> dict[str, int]:
    """The counters of the server's own scheduler, since it started."""
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    text = httpx.get(f"{endpoint.root}/metrics", headers=headers).text
    lines = [line.split() for line in text.splitlines() if line.startswith("llamacpp:")]
    return {name.removeprefix("llamacpp:"): int(float(value)) for name, value in lines}


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not is_so():  # noqa: ASYNC110 - the server's state
            await anyio.sleep(0.02)


def client_of_openai(endpoint: Endpoint) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(base_url=endpoint.url, api_key=endpoint.api_key, max_retries=0)
    return for_openai.wrap(client)


def asked(endpoint: Endpoint, text: str, most: int) -> Any:
    return {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": most,
    }


async def test_openai_is_settled_to_the_servers_own_count(endpoint: Endpoint) -> None:
    before = counted(endpoint)
    async with client_of_openai(endpoint) as client, task_budget(tokens=10_000) as budget:
        whole = await client.chat.completions.create(**asked(endpoint, "Name a river.", 12))
        stream = await client.chat.completions.create(
            **asked(endpoint, "Name a sea.", 12), stream=True
        )
        chunks = [chunk async for chunk in stream]
    await until(lambda: counted(endpoint)["requests_processing"] == 0)
    after = counted(endpoint)
    assert whole.usage is not None
    assert all(chunk.choices for chunk in chunks)
    assert budget.spent("input_tokens") == (
        after["prompt_tokens_total"] - before["prompt_tokens_total"]
    )
    assert budget.spent("output_tokens") == (
        after["tokens_predicted_total"] - before["tokens_predicted_total"]
    )
    assert budget.snapshot()["tokens"].assumed == 0


async def test_anthropic_is_settled_to_what_the_server_reports(endpoint: Endpoint) -> None:
    async with (
        anthropic.AsyncAnthropic(
            base_url=endpoint.root, api_key=endpoint.api_key, max_retries=0
        ) as made,
        task_budget(tokens=10_000) as budget,
    ):
        client = for_anthropic.wrap(made)
        whole = await client.messages.create(**asked(endpoint, "Name a river.", 12))
        async with client.messages.stream(**asked(endpoint, "Name a sea.", 12)) as stream:
            streamed = await stream.get_final_message()
    used = [whole.usage, streamed.usage]
    assert budget.spent("tokens") == sum(u.input_tokens + u.output_tokens for u in used) > 0
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_cancelled_stream_stops_the_server_and_is_charged(endpoint: Endpoint) -> None:
    before = counted(endpoint)["tokens_predicted_total"]
    async with client_of_openai(endpoint) as client, task_budget(tokens=10_000) as budget:

        async def read() -> None:
            stream = await client.chat.completions.create(
                **asked(endpoint, "Tell a long story about a river.", LONG), stream=True
            )
            async with stream:
                async for _ in stream:
                    began.set()

        began = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await began.wait()
            group.cancel_scope.cancel()
        balance = budget.snapshot()["tokens"]
        await until(lambda: counted(endpoint)["requests_processing"] == 0)
    assert counted(endpoint)["tokens_predicted_total"] - before < LONG // 2
    assert balance.spent == balance.assumed > LONG
    assert balance.reserved == 0

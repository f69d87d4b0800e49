"""The job with the real model, in small. Skipped where it is not installed, but never in CI."""

import os
from pathlib import Path

import anyio
import httpx
import pytest

from budgetware.demo.chat import ChatClient
from budgetware.demo.documents import find_documents
from budgetware.demo.job import Result, run_job
from budgetware.demo.local_model import LocalModelMissing, find_weights, local_model
from budgetware.demo.plan import DEMO_PRICES, SUMMARY_TOKENS, Plan, Policy
from budgetware.demo.prompts import summary_messages
from budgetware.demo.screens import LiveScreen
from budgetware.demo.token_counts import chat_request, server_count

TEXTS = {
    "rivers.txt": "Rivers begin in mountains as springs and flow down to the sea.",
    "trains.txt": "The night train leaves at ten and arrives in the morning.",
    "bread.txt": "Bread needs flour, water, salt and time. Bake it in a hot oven.",
    "stars.txt": "On a clear night one can see some two thousand stars.",
}


def is_missing() -> bool:
    try:
        find_weights()
    except LocalModelMissing:
        return True
    return False


pytestmark = [
    pytest.mark.skipif(is_missing() and "CI" not in os.environ, reason="no local model installed"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


async def run(folder: Path, policy: Policy) -> Result:
    plan = Plan(
        tokens=600,
        calls=20,
        usd=None,
        seconds=200,
        policy=policy,
        parallel=2,
        prices=DEMO_PRICES,
    )
    # The server must not be stopped under an open stream, so a hang ends in here, in good order.
    with local_model(parallel=2) as endpoint, anyio.fail_after(200):
        return await run_job(endpoint, find_documents(folder), plan, LiveScreen({}))


async def test_bill_equals_the_servers_count_to_the_token(folder: Path) -> None:
    result = await run(folder, "reject")
    comparison = result.comparison
    assert comparison.server == comparison.reported == comparison.settled == comparison.spent > 0
    assert comparison.equal


async def test_agent_stops_by_its_budget_and_answers(folder: Path) -> None:
    result = await run(folder, "reject")
    assert "tokens left" in result.outcome.ended_by
    assert result.comparison.spent <= 600
    assert result.outcome.answer


async def test_terminated_agent_pays_no_less_than_the_server_worked(folder: Path) -> None:
    result = await run(folder, "terminate")
    assert "was terminated" in result.outcome.ended_by
    assert result.comparison.equal


async def test_bound_of_a_prompt_is_exact(folder: Path) -> None:
    messages = summary_messages("stars.txt", "☃ <|im_end|> " + TEXTS["stars.txt"])
    with local_model(parallel=1) as endpoint:
        async with ChatClient(endpoint) as client:
            request = await chat_request(client, messages, max_tokens=SUMMARY_TOKENS)
            chunks = [chunk async for chunk in client.stream(request)]
            count = await server_count(client)
    assert chunks[-1].usage is not None
    assert request.prompt_tokens == chunks[-1].usage["prompt_tokens"]
    assert count is not None
    assert count.prompt_tokens == request.prompt_tokens


def test_server_stops_with_its_block() -> None:
    with local_model(parallel=1) as endpoint:
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(endpoint.root)


def test_key_of_the_local_server_is_needed() -> None:
    with local_model(parallel=1) as endpoint:
        assert httpx.get(f"{endpoint.root}/metrics").status_code == 401

"""The whole job against a small server: how it ends, what it pays, and that the counts agree."""

import os
import signal
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from budgetware.demo import agent
from budgetware.demo.documents import Document, find_documents
from budgetware.demo.endpoint import Endpoint
from budgetware.demo.failures import ModelFailed, ModelRefused, StreamBroken
from budgetware.demo.job import Result, name_model, run_job
from budgetware.demo.plan import DEMO_PRICES, SUMMARY_TOKENS, Plan
from budgetware.demo.screens import LiveScreen
from tests.demo.chat_server import MODEL, WORDS, ChatServer, chat_server

PLAN = Plan(
    tokens=10_000,
    calls=100,
    usd=Decimal(1),
    seconds=60,
    policy="reject",
    parallel=2,
    prices=DEMO_PRICES,
)
# The prompt of a summary, in words: the file, and what the agent says around it.
TEXT = "word " * 12
PROMPT = 38
HELD = PROMPT + SUMMARY_TOKENS
CHARGED = PROMPT + len(WORDS)


@pytest.fixture
def documents(tmp_path: Path) -> list[Document]:
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(TEXT)
    return find_documents(tmp_path)


async def run(
    server: ChatServer, documents: list[Document], plan: Plan, *, is_llama_cpp: bool = True
) -> Result:
    endpoint = Endpoint(server.url, MODEL, is_llama_cpp=is_llama_cpp)
    return await run_job(endpoint, documents, plan, LiveScreen({}))


def decisions(result: Result, name: str) -> list[str]:
    return [row.decision for row in result.journal.rows if row.name == name]


async def test_ample_budget_reads_every_file_and_answers(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents, PLAN)
    assert decisions(result, "read_file") == ["admitted"] * 6
    assert decisions(result, "summarise") == ["admitted"] * 6
    assert decisions(result, "answer") == ["admitted"]
    assert result.outcome.answer == "".join(WORDS)
    assert result.outcome.ended_by == "every file was read"


async def test_each_call_holds_its_bound_and_is_charged_what_was_reported(
    documents: list[Document],
) -> None:
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents[:1], PLAN)
    row = next(row for row in result.journal.rows if row.name == "summarise")
    assert (row.caller, row.document) == (MODEL, "0.txt")
    assert (row.reserved, row.charged, row.usd) == (HELD, CHARGED, Decimal("0.000054"))


async def test_charged_tokens_equal_the_servers_count(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents, PLAN)
    assert result.comparison.server == server.tokens == result.comparison.settled
    assert result.comparison.equal
    assert result.comparison.cut_calls == 0


async def test_work_of_others_before_the_run_is_not_counted(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True) as server:
        server.count(1_000, 1_000)
        result = await run(server, documents, PLAN)
    assert result.comparison.equal


async def test_refused_agent_stops_and_answers_out_of_what_is_kept(
    documents: list[Document],
) -> None:
    plan = replace(PLAN, tokens=300)
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents, plan)
    assert 1 <= decisions(result, "summarise").count("rejected") <= plan.parallel
    assert decisions(result, "answer") == ["admitted"]
    assert result.comparison.spent <= 300
    assert result.journal.reserved_tokens < sum(row.reserved or 0 for row in result.journal.rows)
    assert "tokens left" in result.outcome.ended_by
    assert result.comparison.equal


async def test_refusal_in_calls_ends_the_work_too(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents, replace(PLAN, calls=5))
    assert result.snapshot["dims"]["calls"]["spent"] == 5
    assert decisions(result, "answer") == ["admitted"]


async def test_terminated_agent_loses_what_is_running_and_still_answers(
    documents: list[Document],
) -> None:
    plan = replace(PLAN, tokens=240, policy="terminate")
    with chat_server(is_llama_cpp=True, holds_after=2, troubled=range(1)) as server:
        result = await run(server, documents, plan)
        assert await anyio.to_thread.run_sync(server.hung_up.wait, 5)
    assert decisions(result, "answer") == ["admitted"]
    assert "was terminated" in result.outcome.ended_by
    assert (result.comparison.cut_calls, result.comparison.cut) == (1, HELD)
    assert result.comparison.server_cut == PROMPT + 2
    assert result.comparison.equal


async def test_deadline_cuts_the_running_calls_and_leaves_time_for_the_answer(
    documents: list[Document],
) -> None:
    plan = replace(PLAN, seconds=0.5)
    with chat_server(is_llama_cpp=True, holds_after=1, troubled=range(2)) as server:
        result = await run(server, documents, plan)
    assert "deadline" in result.outcome.ended_by
    assert result.outcome.no_answer == "there is nothing to sum up"
    assert (result.comparison.cut_calls, result.comparison.cut) == (2, 2 * HELD)
    assert result.comparison.equal


async def test_interrupt_ends_the_task_with_an_answer(documents: list[Document]) -> None:
    async def interrupt(server: ChatServer) -> None:
        await anyio.to_thread.run_sync(server.began.wait, 10)
        os.kill(os.getpid(), signal.SIGINT)

    plan = replace(PLAN, parallel=1)
    with chat_server(is_llama_cpp=True, holds_after=0, troubled=range(1, 2)) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(interrupt, server)
            result = await run(server, documents, plan)
            assert "interrupted" in result.outcome.ended_by
            assert result.outcome.answer == "".join(WORDS)
            assert result.comparison.equal


@pytest.mark.parametrize(
    ("status", "kind", "charged"),
    [(401, ModelRefused, 0), (404, ModelRefused, 0), (500, StreamBroken, HELD)],
)
async def test_failing_model_is_in_the_result_with_what_it_cost(
    documents: list[Document], status: int, kind: type[ModelFailed], charged: int
) -> None:
    with chat_server(is_llama_cpp=True, status=status) as server:
        result = await run(server, documents, replace(PLAN, parallel=1))
    assert type(result.outcome.failure) is kind
    assert decisions(result, "summarise") == ["failed"]
    assert [event.status for event in result.journal.events] == [200, status]
    assert result.comparison.spent == charged
    assert result.comparison.equal


async def test_broken_stream_is_charged_as_held(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True, breaks_after=2) as server:
        result = await run(server, documents, replace(PLAN, parallel=1))
    assert type(result.outcome.failure) is StreamBroken
    assert decisions(result, "summarise") == ["broken"]
    assert (result.comparison.cut, result.comparison.server_cut) == (HELD, PROMPT + 2)
    assert result.comparison.equal


@pytest.mark.parametrize(
    "usage",
    ['{"prompt_tokens": -1}', '{"prompt_tokens": "9"}', '{"prompt_tokens": 1e300}'],
)
async def test_usage_that_is_no_count_is_a_failure_charged_as_held(
    documents: list[Document], usage: str
) -> None:
    with chat_server(raw_lines=(f'data: {{"usage": {usage}}}',)) as server:
        result = await run(server, documents, replace(PLAN, parallel=1), is_llama_cpp=False)
    assert type(result.outcome.failure) is StreamBroken
    assert result.comparison.cut > 0


async def test_model_that_fails_at_the_answer_leaves_the_notes(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True, breaks_after=1, troubled=range(1, 2)) as server:
        result = await run(server, documents[:1], PLAN)
    assert type(result.outcome.failure) is StreamBroken
    assert (len(result.outcome.notes), result.outcome.answer) == (1, "")
    assert result.comparison.equal


async def test_answer_that_takes_too_long_is_given_up_and_paid(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "ANSWER_SECONDS", 0.3)
    with chat_server(is_llama_cpp=True, holds_after=1, troubled=range(1, 2)) as server:
        result = await run(server, documents[:1], PLAN)
    assert result.outcome.no_answer == "the model took too long"
    assert decisions(result, "answer") == ["cancelled"]
    assert result.comparison.cut_calls == 1
    assert result.comparison.equal


async def test_server_that_is_gone_shows_no_count(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True) as server:
        pass
    result = await run(server, documents, PLAN)
    assert type(result.outcome.failure) is ModelRefused
    assert result.comparison.server is None
    assert result.comparison.spent == 0


async def test_endpoint_without_usage_is_charged_as_held(documents: list[Document]) -> None:
    with chat_server(is_llama_cpp=True, reports_usage=False) as server:
        result = await run(server, documents[:1], PLAN)
    assert result.comparison.settled == 0
    assert result.comparison.cut_calls == 2
    assert result.comparison.equal


async def test_foreign_endpoint_is_compared_with_what_it_reported(
    documents: list[Document],
) -> None:
    with chat_server() as server:
        result = await run(server, documents, PLAN, is_llama_cpp=False)
    assert result.comparison.server is None
    assert result.comparison.settled == result.comparison.reported == server.tokens
    assert result.comparison.equal


async def test_file_that_vanished_is_passed_over(documents: list[Document]) -> None:
    documents[0].path.unlink()
    with chat_server(is_llama_cpp=True) as server:
        result = await run(server, documents, PLAN)
    assert result.outcome.unreadable == ["0.txt"]
    assert len(result.outcome.notes) == 5


async def test_model_is_the_first_one_listed_where_none_is_named() -> None:
    with chat_server(models=("one", "two")) as server:
        endpoint = await name_model(Endpoint(server.url, ""))
    assert endpoint.model == "one"


async def test_endpoint_that_lists_no_model_asks_for_a_name() -> None:
    with chat_server(models=()) as server, pytest.raises(ModelRefused, match="--model-name"):
        await name_model(Endpoint(server.url, ""))

"""The Claude Agent SDK, with a program in place of Claude Code that speaks its protocol."""

import json
import os
import shlex
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    CLINotFoundError,
    HookMatcher,
    ProcessError,
    ResultMessage,
)
from claude_agent_sdk import query as bare_query

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    Concurrency,
    QuotaToken,
    Resource,
    Terminate,
    connect,
    task_budget,
)
from budgetware.errors import ConfigurationError, InvalidAmount
from budgetware_integrations.claude_agent_sdk import BudgetedClient, budget_options, query
from tests.integrations import claude_cli

NEEDS = "claude-agent-sdk"

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 900,
    "cache_creation_input_tokens": 50,
    "output_tokens": 40,
}
TOTAL = 1_000
SAYS = {"says": "Rivers", "usage": USAGE, "id": "m1"}
BY_MODEL = {
    "claude-x": {
        "inputTokens": 10,
        "cacheReadInputTokens": 900,
        "cacheCreationInputTokens": 50,
        "outputTokens": 40,
        "costUSD": 0.02,
    }
}
RESULT = {"usage": USAGE, "modelUsage": BY_MODEL, "total_cost_usd": 0.02}
BASH = {"tool": "Bash", "input": {"command": "ls"}}

pytestmark = [
    # Of the SDK, on trio: `query` leaves the generators inside it to the collector.
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


class Cli:
    """The program, and what it saw."""

    def __init__(self, folder: Path) -> None:
        self.log_file = folder / "seen.json"
        self.program = folder / "claude"
        words = [sys.executable, "-I", "-S", claude_cli.__file__]
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        self.program.chmod(0o700)

    def options(self, **more: Any) -> ClaudeAgentOptions:
        env = {claude_cli.LOG: str(self.log_file)}
        return ClaudeAgentOptions(cli_path=self.program, env=env, **more)

    @property
    def seen(self) -> Any:
        return json.loads(self.log_file.read_text(encoding="utf-8"))

    @property
    def most_usd(self) -> Decimal | None:
        arguments = self.seen["arguments"]
        name = "--max-budget-usd"
        return Decimal(arguments[arguments.index(name) + 1]) if name in arguments else None

    def wait_for_its_end(self) -> None:
        """For threads."""
        latest = time.monotonic() + 20
        while time.monotonic() < latest:
            try:
                os.kill(self.seen["process"], 0)
            except (FileNotFoundError, ProcessLookupError):
                return
            time.sleep(0.01)
        raise AssertionError(self.seen)


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncGenerator[Cli]:
    """The program; the SDK closes it in its own time, which the test waits for."""
    made = Cli(tmp_path)
    yield made
    await to_thread.run_sync(made.wait_for_its_end)


@asynccontextmanager
async def left_early(cli: Cli, *steps: Any, **options: Any) -> AsyncGenerator[None]:
    """A query that is left after the block, which runs when its first answer has come."""
    stream = query(prompt=json.dumps([*steps, {"wait": True}]), options=cli.options(**options))
    async with aclosing(stream) as messages:
        async for message in messages:
            if isinstance(message, AssistantMessage):
                break
        yield


async def all_of(cli: Cli, *steps: Any, given: ClaudeAgentOptions | None = None, **how: Any) -> Any:
    options = given or cli.options()
    stream = query(prompt=json.dumps(steps), options=options, **how)
    return [message async for message in stream]


async def test_messages_are_as_without(cli: Cli) -> None:
    steps = [SAYS, BASH, {"result": RESULT}]
    async with task_budget(usd="1", tokens=100_000):
        ours = await all_of(cli, *steps)
    stream = bare_query(prompt=json.dumps(steps), options=cli.options())
    theirs: list[Any] = [message async for message in stream]
    assert [type(message) for message in ours] == [type(message) for message in theirs]
    assert ours[-1].result == theirs[-1].result


async def test_a_query_is_settled_to_what_its_result_reports(cli: Cli) -> None:
    async with task_budget(usd="0.50", tokens=100_000, calls=9) as budget:
        await all_of(cli, SAYS, {"result": RESULT})
    snapshot = budget.snapshot()
    assert snapshot["usd"].spent == Decimal("0.02")
    assert snapshot["tokens"].spent == TOTAL
    assert snapshot["input_tokens"].spent == 960
    assert snapshot["output_tokens"].spent == 40
    assert snapshot["calls"].spent == 1
    assert snapshot["tokens"].assumed == 0
    assert snapshot["usd"].reserved == 0


async def test_claude_code_is_told_to_stop_at_what_is_left(cli: Cli) -> None:
    async with (
        task_budget("outer", usd="0.30"),
        task_budget("inner", usd="5") as budget,
        left_early(cli, SAYS),
    ):
        assert budget.snapshot()["usd"].reserved == Decimal("0.30")
    assert cli.most_usd == Decimal("0.3")


async def test_claude_code_is_told_to_stop_at_what_the_options_allow(cli: Cli) -> None:
    given = cli.options(max_budget_usd=0.1)
    async with task_budget(usd="5", tokens=100_000) as budget:
        await all_of(cli, {"result": RESULT}, given=given)
    assert cli.most_usd == Decimal("0.1")
    assert given.max_budget_usd == 0.1
    assert given.hooks is None
    assert budget.spent("usd") == Decimal("0.02")


async def test_without_a_limit_claude_code_is_told_of_none(cli: Cli) -> None:
    async with task_budget(calls=9) as budget:
        await all_of(cli, {"result": RESULT})
    assert cli.most_usd is None
    assert budget.spent("usd") == Decimal("0.02")


async def test_outside_any_task_a_query_passes(cli: Cli) -> None:
    messages = await all_of(cli, SAYS, BASH, {"result": RESULT})
    assert messages[-1].result == "done"
    assert cli.seen["ran"] == ["Bash"]


async def test_a_query_that_is_refused_starts_nothing(cli: Cli) -> None:
    async with task_budget(usd="0.01") as budget:
        budget.charge(usd="0.01")
        with pytest.raises(BudgetExceeded):
            await all_of(cli, SAYS)
    assert not cli.log_file.exists()


async def test_a_query_that_needs_more_tokens_holds_more(cli: Cli) -> None:
    steps = [{**SAYS, "id": f"m{number}"} for number in range(5)]
    totals = {name: 5 * count for name, count in BY_MODEL["claude-x"].items()}
    result = {**RESULT, "modelUsage": {"claude-x": totals}}
    async with task_budget(tokens=100_000) as budget:
        stream = query(
            prompt=json.dumps([*steps, {"result": result}]), options=cli.options(), tokens=1_500
        )
        held = [int(budget.snapshot()["tokens"].reserved) async for _ in stream]
    assert max(held) == 4 * 1_500
    assert budget.spent("tokens") == 5 * TOTAL
    assert budget.snapshot()["tokens"].reserved == 0


async def test_a_query_that_has_used_its_tokens_ends(cli: Cli) -> None:
    steps = [{**SAYS, "id": f"m{number}"} for number in range(5)]
    async with task_budget(tokens=2_500) as budget:
        with pytest.raises(BudgetExceeded):
            await all_of(cli, *steps, {"wait": True}, tokens=1_000)
    assert budget.spent("tokens") == 3 * TOTAL
    assert budget.snapshot()["tokens"].reserved == 0


async def test_messages_of_one_answer_count_once(cli: Cli) -> None:
    async with task_budget(tokens=100_000) as budget:
        with pytest.raises(ProcessError):
            await all_of(cli, SAYS, SAYS, SAYS, {"exit": 3})
    assert budget.spent("tokens") == budget.snapshot()["tokens"].assumed == TOTAL


async def test_a_query_that_is_left_early_is_charged_what_is_known(cli: Cli) -> None:
    async with task_budget(usd="0.50", tokens=100_000) as budget, left_early(cli, SAYS):
        pass
    assert budget.spent("tokens") == TOTAL
    assert budget.spent("usd") == Decimal("0.50")
    assert budget.snapshot()["tokens"].reserved == 0


async def test_an_answer_that_is_not_counted_yet_is_estimated(cli: Cli) -> None:
    says = {"says": "x" * 300, "usage": USAGE | {"output_tokens": 1}, "id": "m1"}
    async with task_budget(tokens=100_000) as budget, left_early(cli, says):
        pass
    assert budget.spent("tokens") == 960 + 100


async def test_a_query_that_is_left_early_is_priced_where_its_model_is_known(cli: Cli) -> None:
    prices = {"claude-x": {"input": "1", "output": "10"}}
    async with (
        connect(prices=prices) as service,
        service.task_budget("t", usd="0.50") as budget,
        left_early(cli, SAYS, model="claude-x"),
    ):
        pass
    assert budget.spent("usd") == Decimal("0.00136")


async def test_a_query_that_is_left_after_its_result_is_settled(cli: Cli) -> None:
    async with task_budget(usd="0.50", tokens=100_000) as budget:
        stream = query(prompt=json.dumps([SAYS, {"result": RESULT}]), options=cli.options())
        async with aclosing(stream) as messages:
            async for message in messages:
                if isinstance(message, ResultMessage):
                    break
    assert budget.spent("usd") == Decimal("0.02")
    assert budget.snapshot()["tokens"].assumed == 0


async def test_a_query_that_is_cancelled_is_charged_and_holds_nothing(cli: Cli) -> None:
    began = anyio.Event()

    async def read() -> None:
        async for message in query(
            prompt=json.dumps([SAYS, {"wait": True}]), options=cli.options()
        ):
            if isinstance(message, AssistantMessage):
                began.set()

    async with task_budget(tokens=100_000) as budget:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await began.wait()
                group.cancel_scope.cancel()
    assert budget.spent("tokens") == TOTAL
    assert budget.snapshot()["tokens"].reserved == 0


@pytest.mark.parametrize(
    "result",
    [
        {"usage": None},
        {"usage": {"input_tokens": -7, "output_tokens": "many"}, "total_cost_usd": "much"},
        {"usage": {}, "modelUsage": {"claude-x": {"inputTokens": "many"}}, "total_cost_usd": -1},
        {"usage": USAGE | {"input_tokens": 1.5}, "modelUsage": {"claude-x": 7}},
    ],
)
async def test_usage_that_is_missing_or_nonsense_is_unknown(cli: Cli, result: Any) -> None:
    async with task_budget(usd="0.50", tokens=100_000) as budget:
        await all_of(cli, {"says": "x"}, {"result": result}, tokens=5_000)
    assert budget.spent("tokens") == budget.snapshot()["tokens"].assumed == 5_000
    assert budget.spent("usd") == Decimal("0.50")


async def test_a_result_of_an_error_that_is_not_billed_is_free(cli: Cli) -> None:
    refused = {"is_error": True, "api_error_status": 429, "usage": {"input_tokens": 0}}
    async with task_budget(usd="0.50", tokens=100_000) as budget:
        await all_of(cli, {"says": "API Error"}, {"result": refused})
    assert budget.spent("tokens") == budget.spent("usd") == 0


async def test_a_result_without_any_answer_costs_nothing(cli: Cli) -> None:
    async with task_budget(usd="0.50", tokens=100_000) as budget:
        await all_of(cli, {"result": {"usage": {"input_tokens": 0}, "total_cost_usd": 0}})
    assert budget.spent("tokens") == budget.spent("usd") == 0


async def test_a_program_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    options = ClaudeAgentOptions(cli_path=tmp_path / "nowhere")
    async with task_budget(usd="0.50", tokens=100_000) as budget:
        with pytest.raises(CLINotFoundError):
            async for _ in query(prompt="[]", options=options):
                pass
    assert budget.spent("tokens") == budget.spent("usd") == 0
    assert budget.snapshot()["usd"].reserved == 0


async def test_tools_are_held_and_settled(cli: Cli) -> None:
    failing = {**BASH, "fails": True}
    async with task_budget(custom0=9) as budget:
        await all_of(cli, BASH, failing, {"result": RESULT}, tools={"custom0": 2})
    assert cli.seen["ran"] == ["Bash", "Bash"]
    assert budget.spent("custom0") == 4
    assert budget.snapshot()["custom0"].assumed == 0


async def test_a_tool_that_is_refused_is_denied_and_the_run_goes_on(cli: Cli) -> None:
    async with task_budget(custom0=3) as budget:
        messages = await all_of(cli, BASH, BASH, BASH, {"result": RESULT}, tools={"custom0": 2})
    assert cli.seen["ran"] == ["Bash"]
    assert messages[-1].result == "done"
    denial = cli.seen["answers"][-1][1]["hookSpecificOutput"]
    assert denial["permissionDecision"] == "deny"
    assert denial["permissionDecisionReason"].startswith("Refused by the budget: budget 'task'")
    assert budget.spent("custom0") == 2


async def test_of_parallel_tools_as_many_run_as_the_budget_allows(cli: Cli) -> None:
    many = {**BASH, "with": [BASH] * 99}
    async with task_budget(custom0=10, policy=None) as budget:
        await all_of(cli, many, {"result": RESULT}, tools={"custom0": 1})
    assert len(cli.seen["ran"]) == 10
    assert budget.spent("custom0") == 10


async def test_a_terminated_task_ends_the_run(cli: Cli) -> None:
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            await all_of(cli, BASH, BASH, BASH, BASH, {"result": RESULT}, tools={"custom0": 1})
    assert cli.seen["ran"] == ["Bash", "Bash"]


async def test_a_hook_of_a_terminated_task_stops_claude_code(cli: Cli) -> None:
    """Where the owner does not wait for the query, nothing cancels it."""
    client = BudgetedClient(cli.options())

    async def send() -> None:
        async with task_budget(calls=9, policy=Terminate(settle_seconds=0)) as budget:
            await client.connect()
            await client.query(json.dumps([BASH, {"result": RESULT}]))
            budget.terminate("enough")

    with pytest.raises(BudgetTerminated):
        await send()
    with anyio.fail_after(20):
        assert [m async for m in client.receive_response()] != []
        await client.disconnect()
    assert cli.seen["ran"] == []
    assert cli.seen["answers"][0][1]["continue"] is False
    assert "enough" in cli.seen["answers"][0][1]["stopReason"]


async def test_a_throttled_tool_waits_its_turn(cli: Cli) -> None:
    async with connect() as service:
        service.define(Resource("shell", Concurrency(1), enforcement="throttle", dim="custom0"))
        token = QuotaToken("shell", expected_use=1)
        async with token, task_budget("t", custom0=100, service=service) as budget:
            await all_of(cli, {**BASH, "with": [BASH, BASH]}, tools={"custom0": 1}, max_wait=0.05)
            assert budget.spent("custom0") == 1
            await all_of(cli, BASH, BASH, tools={"custom0": 1})
            assert budget.spent("custom0") == 3
    timeouts = {matcher["timeout"] for m in cli.seen["hooks"].values() for matcher in m}
    assert timeouts == {55.0}


async def test_a_tool_that_permissions_deny_after_all_is_free(cli: Cli) -> None:
    denied = {**BASH, "denied": True}
    denials = [{"tool_name": "Bash", "tool_use_id": "t2-0", "tool_input": {}}]
    async with task_budget(custom0=9) as budget:
        result = {**RESULT, "permission_denials": denials}
        await all_of(cli, denied, {"result": result}, tools={"custom0": 2})
    assert budget.spent("custom0") == 0


async def test_a_tool_that_nobody_tells_the_end_of_is_charged(cli: Cli) -> None:
    async with task_budget(custom0=9) as budget:
        await all_of(cli, {**BASH, "denied": True}, {"result": RESULT}, tools={"custom0": 2})
        balance = budget.snapshot()["custom0"]
    assert balance.spent == balance.assumed == 2
    assert balance.reserved == 0


async def test_what_a_tool_holds_may_follow_from_its_input(cli: Cli) -> None:
    def amounts(name: str, given: Any) -> dict[str, int] | None:
        return {"custom0": 7} if given == {"command": "ls"} and name == "Bash" else None

    async with task_budget(custom0=9) as budget:
        await all_of(cli, BASH, {"tool": "Read"}, {"result": RESULT}, tools=amounts)
    assert cli.seen["ran"] == ["Bash", "Read"]
    assert budget.spent("custom0") == 7


async def test_a_hook_that_fails_blocks_its_tool(cli: Cli) -> None:
    def amounts(name: str, given: Any) -> dict[str, int]:
        raise LookupError(name)

    await all_of(cli, BASH, {"result": RESULT}, tools=amounts)
    assert cli.seen["ran"] == []
    assert {m["onFailure"] for ms in cli.seen["hooks"].values() for m in ms} == {"block"}


async def test_a_query_may_be_a_task_with_limits(cli: Cli) -> None:
    limits = {"usd": "0.10", "custom0": 1}
    async with task_budget("day", usd="5", custom0=100) as budget:
        await all_of(
            cli, BASH, BASH, {"result": RESULT}, limits=limits, name="one", tools={"custom0": 1}
        )
    assert cli.most_usd == Decimal("0.1")
    assert cli.seen["ran"] == ["Bash"]
    assert budget.spent("usd") == Decimal("0.02")
    assert budget.spent("custom0") == 1


async def test_limits_that_terminate_end_the_query(cli: Cli) -> None:
    limits = {"custom0": 1, "policy": "terminate"}
    with pytest.raises(BudgetTerminated):
        await all_of(cli, BASH, BASH, {"wait": True}, limits=limits, tools={"custom0": 1})
    assert cli.seen["ran"] == ["Bash"]


async def test_of_a_hundred_queries_as_many_run_as_the_budget_allows(cli: Cli) -> None:
    ends: list[str] = []

    async def ask() -> None:
        try:
            await all_of(cli, SAYS, {"result": RESULT}, given=cli.options(max_budget_usd=0.05))
        except BudgetExceeded:
            ends.append("refused")
        else:
            ends.append("ran")

    async with (
        task_budget(calls=3, usd="5", tokens=1_000_000, policy=None) as budget,
        anyio.create_task_group() as group,
    ):
        for _ in range(100):
            group.start_soon(ask)
    assert ends.count("ran") == 3
    assert budget.spent("usd") == Decimal("0.06")


async def test_the_queries_of_a_client_are_settled_one_by_one(cli: Cli) -> None:
    twice = {"claude-x": {name: 2 * count for name, count in BY_MODEL["claude-x"].items()}}
    later = {"usage": USAGE, "modelUsage": twice, "total_cost_usd": 0.05}
    async with (
        task_budget("day", usd="5", tokens=100_000) as day,
        BudgetedClient(cli.options()) as client,
    ):
        async with task_budget("one", usd="1") as one:
            await client.query(json.dumps([SAYS, {"result": RESULT}]))
            assert [type(m).__name__ async for m in client.receive_response()][-1:] == [
                "ResultMessage"
            ]
        async with task_budget("two", usd="1") as two:
            await client.query(json.dumps([SAYS, {"result": later}]))
            async for _ in client.receive_response():
                pass
    assert (one.spent("usd"), two.spent("usd")) == (Decimal("0.02"), Decimal("0.03"))
    assert (one.spent("tokens"), two.spent("tokens")) == (TOTAL, TOTAL)
    assert day.snapshot()["tokens"].assumed == 0


async def test_a_session_that_is_cleared_counts_from_zero(cli: Cli) -> None:
    async with (
        task_budget("day", usd="5", tokens=100_000) as day,
        BudgetedClient(cli.options()) as client,
    ):
        for steps in ([{"result": RESULT}], [{"reset": True}, {"result": RESULT}]):
            await client.query(json.dumps(steps))
            async for _ in client.receive_response():
                pass
    assert day.spent("usd") == Decimal("0.04")
    assert day.spent("tokens") == 2 * TOTAL


async def test_a_client_that_disconnects_early_is_charged_what_is_known(cli: Cli) -> None:
    async with task_budget("day", tokens=100_000) as day:
        async with BudgetedClient(cli.options()) as client:
            await client.query(json.dumps([SAYS, {"wait": True}]))
            async for message in client.receive_messages():
                if isinstance(message, AssistantMessage):
                    break
        balance = day.snapshot()["tokens"]
    assert balance.spent == balance.assumed == TOTAL
    assert balance.reserved == 0


async def test_what_agents_in_the_background_use_after_the_result_is_charged(cli: Cli) -> None:
    twice = {"claude-x": {name: 2 * count for name, count in BY_MODEL["claude-x"].items()}}
    later = {"modelUsage": twice, "total_cost_usd": 0.05}
    async with (
        task_budget("day", usd="5", tokens=100_000) as day,
        BudgetedClient(cli.options()) as client,
    ):
        await client.query(json.dumps([SAYS, {"result": RESULT}]))
        async for _ in client.receive_response():
            pass
        unheld = json.dumps([{**SAYS, "id": "b"}, {"result": later}])
        await ClaudeSDKClient.query(client, unheld)  # as if nobody had sent it
        async for _ in client.receive_response():
            pass
    assert day.spent("usd") == Decimal("0.05")
    assert day.spent("tokens") == 2 * TOTAL


async def test_prompts_that_come_one_after_the_other_are_one_query(cli: Cli) -> None:
    twice = {"claude-x": {name: 2 * count for name, count in BY_MODEL["claude-x"].items()}}
    later = {"modelUsage": twice, "total_cost_usd": 0.05}

    async def prompts() -> Any:
        for result in (RESULT, later):
            content = json.dumps([SAYS, {"result": result}])
            yield {"type": "user", "message": {"role": "user", "content": content}}

    async with task_budget("day", usd="5", tokens=100_000) as day:
        async for _ in query(prompt=prompts(), options=cli.options()):
            pass
    assert day.spent("usd") == Decimal("0.05")
    assert day.spent("tokens") == 2 * TOTAL
    assert day.spent("calls") == 1


async def test_options_keep_the_hooks_they_have_and_get_ours_once(cli: Cli) -> None:
    seen: list[str] = []

    async def own(given: Any, _tool_use_id: str | None, _context: Any) -> Any:
        seen.append(given["tool_name"])
        return {}

    options = cli.options(hooks={"PreToolUse": [HookMatcher(hooks=[own])]})
    held = budget_options(options, tools={"custom0": 1})
    assert budget_options(held) is held
    async with task_budget(custom0=9) as budget:
        async for _ in query(prompt=json.dumps([BASH, {"result": RESULT}]), options=held):
            pass
    assert seen == ["Bash"]
    assert budget.spent("custom0") == 1
    assert len(options.hooks["PreToolUse"]) == 1  # type: ignore[index]


def test_tokens_that_cannot_be_held_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"tokens=0: give an int of 1 or more"):
        query(prompt="[]", tokens=0)


@pytest.mark.parametrize(
    "wrong",
    [{"tools": "x"}, {"tools": 5}, {"policy": "x"}, {"max_wait": "x"}, {"max_wait": None},
     {"options": "x"}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_at_once(wrong: Any) -> None:
    given: Any = {"prompt": "[]", **wrong}
    for refuse in (
        lambda: query(**given),
        lambda: budget_options(**wrong),
        lambda: BudgetedClient(**wrong),
    ):
        with pytest.raises(ConfigurationError):
            refuse()


@pytest.mark.parametrize("wrong", [5, {}, {"policy": "x"}])
def test_limits_that_cannot_be_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        query(prompt="[]", limits=wrong)


def test_amounts_of_tools_that_cannot_be_are_refused_at_once() -> None:
    with pytest.raises(InvalidAmount, match="did you mean 'calls'"):
        budget_options(tools={"call": 1})

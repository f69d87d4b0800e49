"""The Claude Agent SDK with Claude Code itself, the program in its wheel, at the local provider."""

from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultError, ResultMessage, ToolResultBlock

from budgetware import BudgetTerminated, task_budget
from budgetware_integrations.claude_agent_sdk import BudgetedClient, query
from tests.integrations.provider import Provider

NEEDS = "claude-agent-sdk"

MODEL = "claude-haiku-4-5"
ONCE = 'tool:Bash:{"command": "echo x >> ran", "description": "x"}'
FOR_EVER = 'loop:Bash:{"command": "echo x >> ran", "description": "x"}'
BUNDLED = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"

pytestmark = [
    pytest.mark.skipif(not BUNDLED.exists(), reason="the wheel for this system has no program"),
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


class Home:
    """A folder of its own for the program, and the options that keep it there."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        self.ran = folder / "ran"
        self.folder = folder
        self.environment = {
            "ANTHROPIC_BASE_URL": provider.url,
            "ANTHROPIC_API_KEY": "k",
            "HOME": str(folder),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }

    def options(self, model: str, **more: Any) -> ClaudeAgentOptions:
        more.setdefault("max_turns", 8)
        return ClaudeAgentOptions(
            model=model,
            env=self.environment,
            cwd=self.folder,
            setting_sources=[],
            allowed_tools=["Bash"],
            **more,
        )

    @property
    def runs(self) -> int:
        """How often the tool ran."""
        return self.ran.read_text(encoding="utf-8").count("x") if self.ran.exists() else 0


@pytest.fixture
def home(provider: Provider, tmp_path: Path) -> Home:
    return Home(provider, tmp_path)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_query_is_settled_to_what_was_billed(home: Home, provider: Provider) -> None:
    async with task_budget(usd="1", tokens=200_000) as budget:
        messages = [m async for m in query(prompt="Rivers?", options=home.options(ONCE))]
    assert isinstance(messages[-1], ResultMessage)
    assert home.runs == 1
    assert budget.spent("tokens") == provider.tokens > 0
    assert budget.spent("calls") == 2
    assert float(budget.spent("usd")) == pytest.approx(messages[-1].total_cost_usd, abs=1e-6)
    assert budget.snapshot()["usd"].assumed == 0


async def test_a_tool_that_is_refused_does_not_run_and_the_model_reads_why(home: Home) -> None:
    blocks: list[Any] = []

    async def run() -> None:
        async for message in query(
            prompt="Rivers?", options=home.options(FOR_EVER), tools={"custom0": 1}
        ):
            blocks.extend(getattr(message, "content", []))

    async with task_budget(custom0=2) as budget:
        with pytest.raises(ResultError, match="maximum number of turns"):
            await run()
    told = [str(block.content) for block in blocks if isinstance(block, ToolResultBlock)]
    assert home.runs == budget.spent("custom0") == 2
    assert "Refused by the budget: budget 'task' has 0 of 2 custom0 left" in told[-1]


async def test_a_terminated_task_ends_the_program(home: Home) -> None:
    stream = query(prompt="Rivers?", options=home.options(FOR_EVER), tools={"custom0": 1})
    with pytest.raises(BudgetTerminated):
        async with task_budget(custom0=2, policy="terminate"):
            assert [message async for message in stream] == []
    assert home.runs == 2


async def test_the_program_stops_at_what_is_left(home: Home, provider: Provider) -> None:
    async with task_budget(usd="0.003") as budget:
        with pytest.raises(ResultError, match="maximum budget"):
            async for _ in query(prompt="Rivers?", options=home.options(FOR_EVER)):
                pass
    assert provider.count() == 1
    assert budget.spent("tokens") == provider.tokens
    assert budget.spent("usd") > 0.003


async def test_the_queries_of_a_session_are_settled_one_by_one(
    home: Home, provider: Provider
) -> None:
    spent: list[int] = []
    async with (
        task_budget(usd="1", tokens=200_000) as day,
        BudgetedClient(home.options(MODEL)) as client,
    ):
        for prompt in ("Rivers?", "Again?", "/clear", "And now?"):
            await client.query(prompt)
            async for _ in client.receive_response():
                pass
            assert day.spent("tokens") == provider.tokens
            spent.append(int(day.spent("calls")))
    assert spent == [1, 2, 2, 3]
    assert day.snapshot()["usd"].assumed == 0

"""The programs of the contract, as they stand there."""

# ruff: noqa: E501 - so do their lines

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from budgetware import Usage

CALLS_AND_MODELS = """
import anyio
from budgetware import BudgetExceeded, BudgetTerminated, QuotaToken, Usage, budgeted, reserve, task_budget

@budgeted(calls=1)                                     # a tool
async def search(query: str) -> list[str]: ...

@budgeted(tokens=2_000, calls=1, settle=lambda reply: reply.usage, kind="llm", model="gpt-4o-mini")
async def think(prompt: str): ...                       # hold 2,000 tokens, settle to the reply's real usage

async def main() -> None:
    async with task_budget("research", tokens=50_000, calls=40, usd="0.25", seconds=120) as budget:
        await search("anyio cancellation")
        async with reserve(tokens=800) as reservation:  # the same by hand
            reply = await client.chat(...)
            reservation.commit(Usage(input_tokens=310, output_tokens=120))
    print(budget.snapshot()["tokens"].spent)

anyio.run(main)                                         # also anyio.run(main, backend="trio")
anyio.run(main, backend="trio")
"""

MANIFEST = """
# budgetware.toml
ledger = "memory://"
dimensions = ["gpu_seconds"]

[resources.openai-tokens]
limit = { type = "rate", value = 90_000, period = "minute", max = 90_000 }
enforcement = "throttle"                    # throttle | reject | terminate
dim = "tokens"                              # a reservation of tokens draws on it where a token for it is bound
max_wait = "30s"
unit = "token"
units = "tokens"
parent = "org-tokens"

[resources.org-tokens]
limit = { type = "capacity", value = 50_000_000 }
enforcement = "reject"
dim = "tokens"

[resources.browsers]
limit = { type = "concurrency", value = 4 }
enforcement = "throttle"

[budgets.research]                          # a template for task_budget("research")
tokens = { limit = 50_000, warn = 40_000 }
usd = "0.25"
seconds = 120
policy = "terminate"

[principals.team-search]
[principals.alice]
parent = "team-search"
[principals.alice.quotas]
tokens = { type = "rate", value = 1_000_000, period = "day" }
[principals.ops]
exempt = true
"""

SHARED = """
import anyio
import budgetware
from budgetware import QuotaToken, budgeted, principal, task_budget

@budgeted(tokens=1_000)
async def sub_agent(): ...

async def main():
    async with budgetware.connect("budgetware.toml") as service:        # ledger="redis://…" overrides the manifest
        token = QuotaToken("openai-tokens", expected_use=1_000)
        async with token.reserve(2_000) as reservation:                 # reserve, then commit
            reply = await ask()
            reservation.commit(reply.usage.total_tokens)
        child = token.split(200, allowance=10_000)                      # a sub-agent: weight 200, at most 10,000 units
        async with child:                                               # bound: @budgeted(tokens=…) inside draws on it
            await sub_agent()
        token.merge(child)
        shown.append((token.expected_use, token.snapshot()["tokens"].spent))
        shown.append(service.resource("org-tokens").balance.spent)
        async with task_budget("research", principal="alice"):
            await sub_agent()
        shown.append(service.principal("team-search").snapshot()["tokens"].spent)
        shown.append(service.principal("ops").exempt)

anyio.run(main)
anyio.run(main, backend="trio")
"""


@dataclass
class Reply:
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=310, output_tokens=120))

    async def chat(self, _prompt: object) -> Reply:
        return self


async def ask() -> Reply:
    return Reply()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The globals of a program; it is a module, as its functions need one."""
    module = ModuleType("program")
    monkeypatch.setitem(sys.modules, "program", module)
    return vars(module)


def test_the_first_program_runs_as_written(
    program: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    program["client"] = Reply()
    exec(CALLS_AND_MODELS, program)
    assert capsys.readouterr().out == "430\n430\n"


def test_the_second_program_runs_as_written(
    program: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "budgetware.toml").write_text(MANIFEST)
    monkeypatch.chdir(tmp_path)
    shown: list[Any] = []
    program |= {"ask": ask, "shown": shown}
    exec(SHARED, program)
    assert shown == [(1_000, 1_430), 1_430, 1_000, True] * 2

"""LLMs and agents of CrewAI, with its own client for OpenAI (crewai)."""

import os
import warnings
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_DISABLE_TRACKING", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own modules are imported with warnings
    from crewai import LLM, Agent, BaseLLM, Crew, Task
    from crewai.tools import BaseTool, tool

from budgetware_integrations.crewai import budget
from tests.integrations.subjects import Subject

# Tests have CrewAI from here, imported without its telemetry.
__all__ = [
    "SUBJECT", "Agent", "BaseLLM", "BaseTool", "Crew", "Task", "budget", "local_agent",
    "local_llm", "tool",
]  # fmt: skip


@tool("search")
def search(query: str) -> str:
    """Search for a query."""
    return f"nothing about {query}"


def local_llm(url: str, model: str, **options: Any) -> Any:
    return LLM(
        model=model,
        provider="openai",
        base_url=f"{url}/v1",
        api_key="k",
        max_tokens=64,
        **options,
    )


def local_agent(llm: Any, *tools: Any, **options: Any) -> Agent:
    return Agent(
        role="researcher", goal="find", backstory="none", llm=llm, tools=list(tools), **options
    )


class LLMs:
    def __init__(self, url: str, budgeted: bool) -> None:
        self.url = url
        self.budgeted = budgeted
        self.llms: dict[str, Any] = {}

    def llm(self, model: str) -> Any:
        if model not in self.llms:
            llm = local_llm(self.url, model)
            self.llms[model] = budget(llm) if self.budgeted else llm
        return self.llms[model]

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.llm(model).acall([{"role": "user", "content": prompt}])

    def text(self, answer: Any) -> str:
        return str(answer)

    async def loop(self, model: str) -> Any:
        agent = budget(local_agent(self.llm(model), search, max_iter=100))
        return await agent.kickoff_async("Search for ever.")

    async def aclose(self) -> None:
        for llm in self.llms.values():
            await llm._get_async_client().close()


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncIterator[LLMs]:
    with warnings.catch_warnings():  # CrewAI asks itself for what it has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        async with aclosing(LLMs(url, budgeted)) as llms:
            yield llms


SUBJECT = Subject(
    name="crewai",
    distribution="crewai",
    open=opened,
    retries=True,
    loops=True,
)

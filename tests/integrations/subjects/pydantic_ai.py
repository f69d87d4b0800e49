"""An agent of Pydantic AI, over OpenAI's models (pydantic-ai-slim)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import openai
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from budgetware_integrations.pydantic_ai import BudgetCapability
from tests.integrations.subjects import Subject


def search(query: str) -> str:
    """Search the library."""
    return f"nothing about {query}"


class Agent:
    def __init__(self, client: openai.AsyncOpenAI, budgeted: bool) -> None:
        self.provider, self.budgeted = OpenAIProvider(openai_client=client), budgeted

    def agent(self, model: str, *tools: Any) -> PydanticAgent[None, str]:
        return PydanticAgent(
            OpenAIChatModel(model, provider=self.provider),
            tools=tools,
            model_settings={"max_tokens": 64},
            capabilities=[BudgetCapability()] if self.budgeted else [],
        )

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.agent(model).run(prompt)

    def text(self, answer: Any) -> str:
        return str(answer.output)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        async with self.agent(model).run_stream(prompt) as result:
            words: Any = result.stream_text(delta=True, debounce_by=None)
            async with aclosing(words):
                async for word in words:
                    if word:
                        yield word

    async def loop(self, model: str) -> Any:
        limits = UsageLimits(request_limit=1_000)
        return await self.agent(model, search).run("?", usage_limits=limits)


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Agent]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2) as client:
        yield Agent(client, budgeted)


SUBJECT = Subject(
    name="pydantic_ai",
    distribution="pydantic-ai-slim",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

"""Microsoft's Agent Framework, over chat completions (agent-framework-openai)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
from agent_framework import Agent, AgentResponse, tool
from agent_framework.openai import OpenAIChatCompletionClient

from budgetware_integrations.agent_framework import budget_middleware
from tests.integrations.subjects import Subject


@tool(approval_mode="never_require")
async def search(query: str) -> str:
    """Search the web."""
    return f"nothing on {query}"


class Client:
    def __init__(self, client: openai.AsyncOpenAI, budgeted: bool) -> None:
        self.client = client
        self.budgeted = budgeted

    def agent(self, model: str, **more: Any) -> Agent[Any]:
        chat = OpenAIChatCompletionClient(model=model, async_client=self.client)
        chat.function_invocation_configuration["max_iterations"] = 100
        middleware = budget_middleware() if self.budgeted else []
        options: Any = {"max_tokens": 64}
        return Agent(chat, name="Guide", default_options=options, middleware=middleware, **more)

    async def ask(self, model: str, prompt: str) -> AgentResponse[Any]:
        return await self.agent(model).run(prompt)

    def text(self, answer: AgentResponse[Any]) -> str:
        return answer.text

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        stream = self.agent(model).run(prompt, stream=True)
        try:
            async for update in stream:
                if update.text:
                    yield update.text
        finally:
            await stream.close()

    async def loop(self, model: str) -> AgentResponse[Any]:
        return await self.agent(model, tools=[search]).run("search")


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2) as client:
        yield Client(client, budgeted)


SUBJECT = Subject(
    name="agent_framework",
    distribution="agent-framework-openai",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

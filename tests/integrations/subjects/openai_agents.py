"""The OpenAI Agents SDK, over chat completions (openai-agents)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    Runner,
    RunResult,
    function_tool,
    set_tracing_disabled,
)

from budgetware_integrations.openai_agents import run_config, wrap
from tests.integrations.subjects import Subject

set_tracing_disabled(disabled=True)


@function_tool
async def search(query: str) -> str:
    """Search the web.

    Args:
        query: what for.
    """
    return f"nothing on {query}"


class Client:
    def __init__(self, provider: OpenAIProvider, budgeted: bool) -> None:
        config = RunConfig(model_provider=provider)
        self.budgeted = budgeted
        self.config = run_config(config) if budgeted else config

    def agent(self, model: str, **more: Any) -> Agent[None]:
        settings = ModelSettings(max_tokens=64)
        made = Agent[None](name="Guide", model=model, model_settings=settings, **more)
        return wrap(made) if self.budgeted else made

    async def ask(self, model: str, prompt: str) -> RunResult:
        return await Runner.run(self.agent(model), prompt, run_config=self.config)

    def text(self, answer: RunResult) -> str:
        return str(answer.final_output)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        result = Runner.run_streamed(self.agent(model), prompt, run_config=self.config)
        try:
            async for event in result.stream_events():
                data: Any = getattr(event, "data", None)
                if getattr(data, "type", None) == "response.output_text.delta":
                    yield data.delta
        finally:
            result.cancel()

    async def loop(self, model: str) -> RunResult:
        agent = self.agent(model, tools=[search], reset_tool_choice=False)
        return await Runner.run(agent, "search", run_config=self.config, max_turns=100)


def opened_over(use_responses: bool) -> Any:
    @asynccontextmanager
    async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2) as client:
            provider = OpenAIProvider(openai_client=client, use_responses=use_responses)
            yield Client(provider, budgeted)

    return opened


SUBJECT = Subject(
    name="openai_agents",
    distribution="openai-agents",
    open=opened_over(use_responses=False),
    retries=True,
    streams=True,
    loops=True,
)

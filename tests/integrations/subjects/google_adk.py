"""Agents of the Agent Development Kit, on Gemini (google-adk)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from google import genai
from google.adk.agents import LlmAgent, RunConfig
from google.adk.models import Gemini
from google.adk.runners import InMemoryRunner
from google.genai import types

from budgetware_integrations.google_adk import wrap
from tests.integrations.subjects import Subject

RETRIES = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.01, jitter=0)
SHORT = types.GenerateContentConfig(max_output_tokens=64)
STREAMED = RunConfig.model_validate({"streaming_mode": "sse"})


async def search(query: str) -> str:
    """Search the web."""
    return f"nothing about {query}"


class Agent:
    def __init__(self, client: genai.Client, budgeted: bool) -> None:
        self.client = client
        self.budgeted = budgeted

    def runner(self, model: str, **how: Any) -> InMemoryRunner:
        gemini = Gemini(model=model, client=self.client)
        agent = LlmAgent(name="a", model=gemini, generate_content_config=SHORT, **how)
        runner = InMemoryRunner(agent=agent)
        return wrap(runner) if self.budgeted else runner

    async def events(self, runner: InMemoryRunner, prompt: str, **how: Any) -> AsyncGenerator[Any]:
        session = await runner.session_service.create_session(app_name=runner.app_name, user_id="u")
        message = types.Content(role="user", parts=[types.Part(text=prompt)])
        stream = runner.run_async(user_id="u", session_id=session.id, new_message=message, **how)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def ask(self, model: str, prompt: str) -> Any:
        async with aclosing(self.events(self.runner(model), prompt)) as events:
            return [event async for event in events][-1]

    def text(self, answer: Any) -> str:
        parts = answer.content.parts if answer.content else []
        return "".join(part.text or "" for part in parts)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        every = self.events(self.runner(model), prompt, run_config=STREAMED)
        async with aclosing(every) as events:
            async for event in events:
                if event.partial and self.text(event):
                    yield self.text(event)

    async def loop(self, model: str) -> Any:
        runner = self.runner(model, tools=[search])
        async with aclosing(self.events(runner, "Where do rivers flow?")) as events:
            return [event async for event in events][-1]


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Agent]:
    options = types.HttpOptions(base_url=url, retry_options=RETRIES)
    client = genai.Client(api_key="k", http_options=options)
    try:
        yield Agent(client, budgeted)
    finally:
        await client.aio.aclose()
        client.close()


SUBJECT = Subject(
    name="google_adk",
    distribution="google-adk",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

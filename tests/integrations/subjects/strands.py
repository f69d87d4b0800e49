"""Agents of Strands, with its model provider for OpenAI (strands-agents)."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from strands import Agent, tool
from strands.models.openai import OpenAIModel

from budgetware_integrations.strands import budget
from tests.integrations.subjects import Subject


@tool
def search(query: str) -> str:
    """Search.

    Args:
        query: what for.
    """
    return f"nothing about {query}"


class Agents:
    def __init__(self, url: str, budgeted: bool) -> None:
        self.url = url
        self.budgeted = budgeted

    def agent(self, model: str, **options: Any) -> Agent:
        client = {"base_url": f"{self.url}/v1", "api_key": "k"}
        speaking = OpenAIModel(client_args=client, model_id=model, params={"max_tokens": 64})
        made = Agent(model=speaking, callback_handler=None, **options)
        return budget(made) if self.budgeted else made

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.agent(model).invoke_async(prompt)

    def text(self, answer: Any) -> str:
        return str(answer.message["content"][0]["text"])

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        events: Any = self.agent(model).stream_async(prompt)
        async with aclosing(events):
            async for event in events:
                if event.get("data"):
                    yield event["data"]

    async def loop(self, model: str) -> Any:
        return await self.agent(model, tools=[search]).invoke_async("Search for ever.")


@contextmanager
def streams_let_go() -> Iterator[None]:
    """Have streams that are left early closed.

    Strands closes its spans in another context then. OpenTelemetry logs that, pytest keeps what is
    logged, and with its frames the stream itself.
    """
    log = logging.getLogger("opentelemetry.context")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncIterator[Agents]:
    with streams_let_go():
        yield Agents(url, budgeted)


SUBJECT = Subject(
    name="strands",
    distribution="strands-agents",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

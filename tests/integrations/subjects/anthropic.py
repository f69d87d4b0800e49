"""The client of Anthropic (anthropic)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anthropic

from budgetware_integrations.anthropic import wrap
from tests.integrations.subjects import Subject


class Client:
    def __init__(self, client: anthropic.AsyncAnthropic) -> None:
        self.client = client

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.client.messages.create(
            model=model, messages=[{"role": "user", "content": prompt}], max_tokens=64
        )

    def text(self, answer: Any) -> str:
        return str(answer.content[0].text)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        stream = await self.client.messages.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=64,
            stream=True,
        )
        iterator: Any = aiter(stream)
        async with stream, aclosing(iterator) as events:  # as trio would have it
            async for event in events:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    yield event.delta.text


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=2) as client:
        yield Client(wrap(client) if budgeted else client)


SUBJECT = Subject(
    name="anthropic",
    distribution="anthropic",
    open=opened,
    backends=("asyncio", "trio"),
    retries=True,
    streams=True,
)

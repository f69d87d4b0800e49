"""The client of OpenAI (openai)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import openai

from budgetware_integrations.openai import wrap
from tests.integrations.subjects import Subject


class Client:
    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": prompt}], max_tokens=64
        )

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        stream = await self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=64,
            stream=True,
        )
        chunks: Any = aiter(stream)
        async with stream, aclosing(chunks):  # as trio would have it
            async for chunk in chunks:
                word = chunk.choices[0].delta.content
                if word:
                    yield word


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=2) as client:
        yield Client(wrap(client) if budgeted else client)


SUBJECT = Subject(
    name="openai",
    distribution="openai",
    open=opened,
    backends=("asyncio", "trio"),
    retries=True,
    streams=True,
)

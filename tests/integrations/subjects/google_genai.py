"""The client of Gemini (google-genai)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from google import genai
from google.genai import types

from budgetware_integrations.google_genai import wrap
from tests.integrations.subjects import Subject

RETRIES = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.01, jitter=0)
LONGEST_LOOP = 70


class Client:
    def __init__(self, client: genai.Client) -> None:
        self.client = client

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.client.aio.models.generate_content(
            model=model,
            contents=prompt,
            config=types.GenerateContentConfig(max_output_tokens=64),
        )

    def text(self, answer: Any) -> str:
        return str(answer.text)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        stream: Any = await self.client.aio.models.generate_content_stream(
            model=model,
            contents=prompt,
            config=types.GenerateContentConfig(max_output_tokens=64),
        )
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    yield chunk.text

    async def loop(self, model: str) -> Any:
        async def search(query: str) -> str:
            """Search the web."""
            return f"nothing about {query}"

        turns = types.AutomaticFunctionCallingConfig(maximum_remote_calls=LONGEST_LOOP)
        return await self.client.aio.models.generate_content(
            model=model,
            contents="Where do rivers flow?",
            config=types.GenerateContentConfig(
                tools=[search], max_output_tokens=64, automatic_function_calling=turns
            ),
        )


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
    options = types.HttpOptions(base_url=url, retry_options=RETRIES)
    client = genai.Client(api_key="k", http_options=options)
    try:
        yield Client(wrap(client) if budgeted else client)
    finally:
        await client.aio.aclose()
        client.close()


SUBJECT = Subject(
    name="google_genai",
    distribution="google-genai",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

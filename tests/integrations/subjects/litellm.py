"""The functions of LiteLLM (litellm)."""

import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any

import litellm

from budgetware_integrations.litellm import acompletion
from tests.integrations.subjects import Subject

litellm.suppress_debug_info = True
NOISE = ("(?s).*`ReadOnly` qualifier", "(?s)Pydantic serializer warnings")
"""What LiteLLM warns of by itself, and hides as it is imported, before pytest has its say."""


async def close_clients() -> None:
    """Close what LiteLLM keeps for the next call, in the loop that it is of."""
    whole: Any = litellm
    await whole.close_litellm_async_clients()
    kept = whole.in_memory_llm_clients_cache
    for client in kept.cache_dict.values():
        close = getattr(client, "close", None)
        if close is not None and not iscoroutinefunction(close):
            close()
    kept.flush_cache()


class Client:
    def __init__(self, url: str, complete: Any) -> None:
        self.complete = complete
        self.options: dict[str, Any] = {
            "api_base": f"{url}/v1",
            "api_key": "k",
            "max_tokens": 64,
        }

    def asked(self, model: str, prompt: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": f"openai/{model}", "messages": messages, **self.options}

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.complete(**self.asked(model, prompt))

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        stream = await self.complete(**self.asked(model, prompt), stream=True)
        try:
            async for chunk in stream:
                word = chunk.choices[0].delta.content
                if word:
                    yield word
        finally:
            await stream.aclose()


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Client]:
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        yield Client(url, acompletion if budgeted else litellm.acompletion)
        await close_clients()


SUBJECT = Subject(
    name="litellm",
    distribution="litellm",
    open=opened,
    retries=True,
    streams=True,
)

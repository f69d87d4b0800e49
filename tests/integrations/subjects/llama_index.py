"""LLMs and agents of LlamaIndex, with its package for OpenAI (llama-index-llms-openai)."""

import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, LLMMetadata
from llama_index.llms.openai import OpenAI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic.warnings import PydanticDeprecationWarning

from budgetware_integrations.llama_index import budget
from tests.integrations.subjects import Subject


class LocalOpenAI(OpenAI):
    """Of the models at the local provider, whose names LlamaIndex does not know."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            is_chat_model=True, is_function_calling_model=True, model_name=self.model
        )


def search(query: str) -> str:
    """Search."""
    return f"nothing about {query}"


def local_llm(client: AsyncOpenAI, model: str) -> LocalOpenAI:
    return LocalOpenAI(  # type: ignore[call-arg]
        model=model, max_tokens=64, max_retries=1, async_openai_client=client
    )


class LLMs:
    def __init__(self, client: AsyncOpenAI, budgeted: bool) -> None:
        self.client = client
        self.budgeted = budgeted
        self.llms: dict[str, Any] = {}

    def llm(self, model: str, client: AsyncOpenAI | None = None) -> LocalOpenAI:
        llm = local_llm(client or self.client, model)
        return budget(llm) if self.budgeted else llm

    async def ask(self, model: str, prompt: str) -> Any:
        if model not in self.llms:
            self.llms[model] = self.llm(model)
        return await self.llms[model].achat([ChatMessage(role="user", content=prompt)])

    def text(self, answer: Any) -> str:
        return str(answer.message.content)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        # With a client of its own: it closes what LlamaIndex leaves open of a stream.
        async with self.client.with_options(http_client=DefaultAsyncHttpxClient()) as client:
            llm = self.llm(model, client)
            items: Any = await llm.astream_chat([ChatMessage(role="user", content=prompt)])
            async with aclosing(items):
                async for item in items:
                    if item.delta:
                        yield item.delta

    async def loop(self, model: str) -> Any:
        agent = FunctionAgent(llm=self.llm(model), tools=[search])
        return await budget(agent).run("Search for ever.", max_iterations=100)


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncIterator[LLMs]:
    with warnings.catch_warnings():  # LlamaIndex asks itself for what pydantic has deprecated
        warnings.simplefilter("ignore", PydanticDeprecationWarning)
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
            yield LLMs(client, budgeted)


SUBJECT = Subject(
    name="llama_index",
    distribution="llama-index-llms-openai",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
)

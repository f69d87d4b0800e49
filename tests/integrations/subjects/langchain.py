"""An agent of LangChain, over OpenAI's models (langchain)."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI

from budgetware_integrations.langchain import BudgetMiddleware
from tests.integrations.subjects import Subject


def search(query: str) -> str:
    """Search the library."""
    return f"nothing about {query}"


class Agent:
    def __init__(self, url: str, budgeted: bool, http: httpx2.AsyncClient) -> None:
        self.url, self.budgeted, self.http = url, budgeted, http

    def model(self, name: str) -> ChatOpenAI:
        return ChatOpenAI(
            model=name,
            base_url=f"{self.url}/v1",
            api_key="k",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            max_completion_tokens=64,
            max_retries=2,
            http_async_client=self.http,
            stream_chunk_timeout=None,  # before 3.12 its `wait_for` swallows cancellations
        )

    def agent(self, model: str, tools: tuple[Any, ...] = ()) -> Any:
        middleware = [BudgetMiddleware()] if self.budgeted else []
        return create_agent(self.model(model), tools=tools, middleware=middleware)

    async def ask(self, model: str, prompt: str) -> Any:
        state = await self.agent(model).ainvoke({"messages": [("user", prompt)]})
        return state["messages"][-1]

    def text(self, answer: AIMessage) -> str:
        return answer.text

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        asked = {"messages": [("user", prompt)]}
        stream = self.agent(model).astream(asked, stream_mode="messages")
        async with aclosing(stream) as chunks:
            async for chunk, _ in chunks:
                if isinstance(chunk, AIMessageChunk) and chunk.text:
                    yield chunk.text

    async def loop(self, model: str) -> Any:
        config = {"recursion_limit": 1_000}
        return await self.agent(model, (search,)).ainvoke({"messages": [("user", "?")]}, config)


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Agent]:
    async with httpx2.AsyncClient() as http:
        yield Agent(url, budgeted, http)


SUBJECT = Subject(
    name="langchain",
    distribution="langchain",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
    cuts_streams=False,
)

"""Models and agents of smolagents, which is sync, with its model for OpenAI (smolagents)."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter, to_thread
from smolagents import ChatMessage, LogLevel, MessageRole, OpenAIModel, ToolCallingAgent, tool

from budgetware_integrations.smolagents import budget
from tests.integrations.subjects import Subject


@tool  # type: ignore[untyped-decorator]
def search(query: str) -> str:
    """Search.

    Args:
        query: What for.
    """
    return f"nothing about {query}"


def local_model(url: str, model: str) -> OpenAIModel:
    return OpenAIModel(model, api_base=f"{url}/v1", api_key="k", max_tokens=64)


def asked(prompt: str) -> list[Any]:
    return [ChatMessage(MessageRole.USER, content=[{"type": "text", "text": prompt}])]


class Models:
    def __init__(self, url: str, budgeted: bool) -> None:
        self.url = url
        self.budgeted = budgeted
        self.limiter = CapacityLimiter(100)
        self.models: dict[str, OpenAIModel] = {}

    def model(self, name: str) -> OpenAIModel:
        if name not in self.models:
            self.models[name] = self.new_model(name)
        return self.models[name]

    def new_model(self, name: str) -> OpenAIModel:
        model = local_model(self.url, name)
        return budget(model) if self.budgeted else model

    async def in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await to_thread.run_sync(work, *args, limiter=self.limiter)

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.in_thread(self.model(model).generate, asked(prompt))

    def text(self, answer: Any) -> str:
        return str(answer.content)

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        own = self.new_model(model)  # its client closes what smolagents leaves open of a stream
        stream = own.generate_stream(asked(prompt))
        try:
            while (delta := await self.in_thread(next, stream, None)) is not None:
                if delta.content:
                    yield delta.content
        finally:
            stream.close()
            own.client.close()

    async def loop(self, model: str) -> Any:
        agent = ToolCallingAgent(
            tools=[search], model=self.model(model), max_steps=60, verbosity_level=LogLevel.OFF
        )
        return await self.in_thread(budget(agent).run, "Search for ever.")


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[Models]:
    models = Models(url, budgeted)
    yield models
    for model in models.models.values():
        model.client.close()


SUBJECT = Subject(
    name="smolagents",
    distribution="smolagents",
    open=opened,
    retries=True,
    streams=True,
    loops=True,
    reports=False,
    cancels=False,
)

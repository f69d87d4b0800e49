"""LMs of DSPy, on its own engine (dspy)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import dspy

from budgetware_integrations.dspy import budget
from tests.integrations.subjects import Subject


def local_lm(url: str, model: str, **options: Any) -> dspy.LM:
    chosen: dict[str, Any] = {"max_tokens": 64, "cache": False, "num_retries": 1} | options
    return dspy.LM(f"openai/{model}", api_base=f"{url}/v1", api_key="k", **chosen)


class LMs:
    def __init__(self, url: str, budgeted: bool) -> None:
        self.url = url
        self.budgeted = budgeted
        self.lms: dict[str, dspy.LM] = {}

    def lm(self, model: str) -> dspy.LM:
        if model not in self.lms:
            lm = local_lm(self.url, model)
            self.lms[model] = budget(lm) if self.budgeted else lm
        return self.lms[model]

    async def ask(self, model: str, prompt: str) -> Any:
        return await self.lm(model).acall(prompt)

    def text(self, answer: Any) -> str:
        return str(answer[0])

    async def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def work() -> None:
            with send, dspy.context(send_stream=send):
                await self.lm(model).acall(prompt)

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            with receive:
                try:
                    async for chunk in receive:
                        word = chunk.choices[0].delta.content
                        if word:
                            yield word
                except GeneratorExit:
                    group.cancel_scope.cancel()


@asynccontextmanager
async def opened(url: str, budgeted: bool) -> AsyncGenerator[LMs]:
    lms = LMs(url, budgeted)
    yield lms
    for lm in lms.lms.values():
        await lm.aclose()


SUBJECT = Subject(
    name="dspy",
    distribution="dspy",
    open=opened,
    retries=True,
    streams=True,
)

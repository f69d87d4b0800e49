"""LiteLLM: calls, streams and a router under one budget.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    3 of 10 calls, 62 tokens
    refused: budget 'second' has 100 of 100 tokens left
"""

from typing import Any

import anyio
import litellm
from litellm.router import Router

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.litellm import instrument

MODEL = "openai/gpt-5-nano"
DEPLOYMENTS: list[Any] = [{"model_name": "small", "litellm_params": {"model": MODEL}}]


def asks(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


async def main() -> None:
    instrument()  # LiteLLM's functions hold from here on, whoever calls them
    router = Router(model_list=DEPLOYMENTS, num_retries=2)

    async with task_budget("first", tokens=5_000, calls=10) as first:
        answer = await litellm.acompletion(MODEL, asks("Where do rivers flow?"), max_tokens=500)
        print(answer.choices[0].message.content)

        stream = await litellm.acompletion(MODEL, asks("And the sea?"), max_tokens=500, stream=True)
        async for chunk in stream:  # as without: what tells of usage is kept from you
            print(chunk.choices[0].delta.content or "", end="")
        print()

        await router.acompletion("small", asks("And the rain?"), max_tokens=500)
    print(f"{first.spent('calls')} of 10 calls, {first.spent('tokens')} tokens")

    try:
        async with task_budget("second", tokens=100):
            await router.acompletion("small", asks("And the sky?"), max_tokens=500)
    except BudgetExceeded as refusal:  # no retry, no cooldown of the deployment
        print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    anyio.run(main)

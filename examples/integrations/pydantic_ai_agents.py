"""Budgets for Pydantic AI: every run of an agent is a task, an agent that is a tool one inside.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    refused: budget 'research' has 0 of 2 calls left, 1 requested
    2 calls, 42 tokens
"""

import anyio
from pydantic_ai import Agent

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.pydantic_ai import BudgetCapability

editor = Agent(
    "openai-chat:gpt-5-nano",
    name="editor",
    model_settings={"max_tokens": 500},
    capabilities=[BudgetCapability(limits={"tokens": 1_000})],
)
author = Agent(
    "openai-chat:gpt-5-nano",
    name="author",
    model_settings={"max_tokens": 500},
    capabilities=[BudgetCapability(limits={"tokens": 5_000, "seconds": 60})],
)


@author.tool_plain
async def edit(text: str) -> str:
    """Have a text edited."""
    return (await editor.run(text)).output


async def main() -> None:
    async with task_budget("research", calls=2) as budget:
        print((await author.run("Where do rivers flow?")).output)

        async with author.run_stream("And the sea?") as result:
            async for word in result.stream_text(delta=True, debounce_by=None):
                print(word, end="")
        print()

        try:
            await author.run("And the rain?")
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

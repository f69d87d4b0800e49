"""Microsoft's Agent Framework: each run of an agent is a task, inside the one around it.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    day: 2 of 10 calls
    refused: budget 'Guide' has 100 of 100 tokens left
"""

import anyio
from agent_framework import Agent, tool
from agent_framework.openai import OpenAIChatCompletionClient

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.agent_framework import budget_middleware


@tool(approval_mode="never_require")
async def search(query: str) -> str:
    """Search the library."""
    return f"nothing on {query}"


def guide_with(tokens: int) -> Agent:
    return Agent(
        OpenAIChatCompletionClient(model="gpt-5-nano"),
        name="Guide",
        tools=[search],
        default_options={"max_tokens": 500},
        middleware=budget_middleware(limits={"tokens": tokens, "calls": 5}),
    )


async def main() -> None:
    async with task_budget("day", tokens=50_000, calls=10) as day:
        guide = guide_with(tokens=5_000)
        print((await guide.run("Where do rivers flow?")).text)
        async for update in guide.run("Where do rivers flow?", stream=True):
            print(update.text, end="")
        print(f"\nday: {day.spent('calls')} of 10 calls")
        try:
            await guide_with(tokens=100).run("And the sea?")
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    anyio.run(main)

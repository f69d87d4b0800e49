"""LlamaIndex: an agent, its tools and a plain call of a model pay from one task.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    refused: budget 'research' has 4954 of 5000 tokens left, 50005 requested
    2 calls, 46 tokens
"""

import anyio
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.llama_index import budget


def length_km(river: str) -> int:
    """Look up how long a river is."""
    return {"Rhine": 1_233, "Nile": 6_650}[river]


async def main() -> None:
    llm = budget(OpenAI(model="gpt-5-nano", max_tokens=500))
    agent = budget(FunctionAgent(llm=llm, tools=[length_km]))

    async with task_budget("research", tokens=5_000, calls=10) as research:
        print(await agent.run("How long is the Rhine?"))

        # A stream is settled, too: its usage is asked for, and the extra chunk kept from you.
        async for item in await llm.astream_complete("Where do rivers flow?"):
            print(item.delta, end="")
        print()

        try:
            await budget(OpenAI(model="gpt-5-nano", max_tokens=50_000)).acomplete("Write a book.")
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{research.spent('calls')} calls, {research.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

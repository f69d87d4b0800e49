"""A budget for a LangChain agent: its model calls and its tools, and each run as a task.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    The run ends here, for the budget
    2 calls, 42 tokens
"""

from typing import Any

import anyio
from langchain.agents import create_agent

from budgetware import task_budget
from budgetware_integrations.langchain import BudgetMiddleware, run_budget


def search(query: str) -> str:
    """Search the library."""
    return f"nothing about {query}"


def question(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


async def main() -> None:
    agent = create_agent(
        "openai:gpt-5-nano",
        tools=[search],
        middleware=[BudgetMiddleware(on_refusal="answer", default_output_tokens=500)],
    )
    # Every run of this copy is a task of its own, inside whichever task it runs in.
    limited = run_budget(agent, limits={"tokens": 2_000, "seconds": 60}, name="question")

    async with task_budget("research", calls=2) as budget:
        state = await limited.ainvoke(question("Where do rivers flow?"))
        print(state["messages"][-1].text)

        chunks: Any = limited.astream(question("And the sea?"), stream_mode="messages")
        async for chunk, _ in chunks:
            print(chunk.text, end="")
        print()

        state = await limited.ainvoke(question("And the rain?"))
        print(state["messages"][-1].text.partition(":")[0])

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

"""Budgets in a plain LangGraph: a node that is one call, and a model that holds by itself.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    refused: budget 'research' has 0 of 4 calls left, 1 requested
    4 calls, 53 tokens
"""

from typing import NotRequired, TypedDict

import anyio
from langchain.chat_models import init_chat_model
from langgraph.graph import END, START, StateGraph

from budgetware import BudgetExceeded, budgeted, task_budget
from budgetware_integrations.langchain import wrap


class State(TypedDict):
    """What the nodes pass on."""

    question: str
    found: NotRequired[str]
    answer: NotRequired[str]


@budgeted(calls=1)  # a node that is one call of something
async def look_up(state: State) -> dict[str, str]:
    return {"found": f"nothing about {state['question']}"}


async def write(state: State) -> dict[str, str]:  # a node that calls a model
    model = wrap(init_chat_model("openai:gpt-5-nano"), default_output_tokens=500)
    reply = await model.ainvoke(f"{state['question']} Known: {state.get('found')}")
    return {"answer": reply.text}


async def main() -> None:
    graph = StateGraph(State)
    graph.add_node("look_up", look_up)
    graph.add_node("write", write)
    graph.add_edge(START, "look_up")
    graph.add_edge("look_up", "write")
    graph.add_edge("write", END)
    app = graph.compile()

    async with task_budget("research", calls=4, tokens=2_000) as budget:
        for question in ("Where do rivers flow?", "And the sea?", "And the rain?"):
            try:
                print((await app.ainvoke({"question": question}))["answer"])
            except BudgetExceeded as refusal:
                print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

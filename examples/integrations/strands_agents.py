"""Strands: each run of an agent is a task of its own, inside the task of who asked.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    ended: task 'guide' was terminated
    2 calls, 44 tokens of 600 in all
"""

import anyio
from strands import Agent
from strands.models.openai import OpenAIModel

from budgetware import BudgetTerminated, task_budget
from budgetware_integrations.strands import budget


def guide() -> Agent:
    model = OpenAIModel(model_id="gpt-5-nano", params={"max_completion_tokens": 200})
    agent = Agent(name="guide", model=model, callback_handler=None)
    # A run that needs more than this is ended, whatever the agent makes of it.
    return budget(agent, limits={"tokens": 300, "calls": 10, "policy": "terminate"})


async def main() -> None:
    async with task_budget("visitors", tokens=600) as visitors:
        for question in ("Where do rivers flow?", "And the sea?", "Tell me all. " * 100):
            try:
                answer = await guide().invoke_async(question)
            except BudgetTerminated as end:
                print(f"ended: {str(end).partition(':')[0]}")
            else:
                print(str(answer).strip())
    print(f"{visitors.spent('calls')} calls, {visitors.spent('tokens')} tokens of 600 in all")


if __name__ == "__main__":
    anyio.run(main)

"""OpenAI's agents: a run pays for its agents' turns and tools, and ends where its budget does.

It prints:

    Rivers flow to the sea.
    1 of 10 calls
    streamed: Rivers flow to the sea.
    refused: budget 'third' has 100 of 100 tokens left
"""

import anyio
from agents import Agent, Runner, function_tool

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.openai_agents import run_config, wrap


@function_tool
async def search(query: str) -> str:
    """Search the library."""
    return f"nothing on {query}"


editor = Agent(name="Editor", model="gpt-5-nano", instructions="Edit.")
guide = wrap(Agent(name="Guide", model="gpt-5-nano", tools=[search], handoffs=[editor]))
CONFIG = run_config(default_output_tokens=500)


async def main() -> None:
    async with task_budget("first", tokens=5_000, calls=10) as first:
        result = await Runner.run(guide, "Where do rivers flow?", run_config=CONFIG)
        print(result.final_output)
    print(f"{first.spent('calls')} of 10 calls")

    async with task_budget("second", tokens=5_000):
        streamed = Runner.run_streamed(guide, "Where do rivers flow?", run_config=CONFIG)
        async for _ in streamed.stream_events():
            pass
        print(f"streamed: {streamed.final_output}")

    try:
        async with task_budget("third", tokens=100):
            await Runner.run(guide, "And the sea?", run_config=CONFIG)
    except BudgetExceeded as refusal:
        print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    anyio.run(main)

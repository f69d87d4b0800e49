"""A run of an ADK agent as a task: its models and tools are held, and paid by the run.

It prints:

    Rivers flow to the sea.
    calls: 1, tokens: 24
    refused: budget 'helper' has 100 of 100 tokens left
"""

import anyio
from google.adk.agents import LlmAgent
from google.adk.runners import InMemoryRunner, Runner
from google.genai import types

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.google_adk import wrap

QUESTION = types.Content(role="user", parts=[types.Part(text="Where do rivers flow?")])


def search(query: str) -> str:
    """Search the web."""
    return f"nothing about {query}"


def helper() -> LlmAgent:
    return LlmAgent(
        name="helper",
        model="gemini-2.5-flash",
        tools=[search],
        generate_content_config=types.GenerateContentConfig(max_output_tokens=500),
    )


async def ask(runner: Runner) -> None:
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="me")
    run = runner.run_async(user_id="me", session_id=session.id, new_message=QUESTION)
    async for event in run:
        if event.is_final_response() and event.content and event.content.parts:
            print(event.content.parts[0].text)


async def main() -> None:
    async with task_budget("day", tokens=100_000, calls=40) as day:
        await ask(wrap(InMemoryRunner(agent=helper()), limits={"tokens": 5_000}, name="helper"))
        print(f"calls: {day.spent('calls')}, tokens: {day.spent('tokens')}")

        poor = wrap(InMemoryRunner(agent=helper()), limits={"tokens": 100}, name="helper")
        try:
            await ask(poor)
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    anyio.run(main)

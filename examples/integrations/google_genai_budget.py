"""A budget for a Gemini client: what each call may cost is held before it is sent.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    refused: budget 'research' has 1954 of 2000 tokens left, 50021 requested
    2 calls, 46 tokens
"""

import anyio
from google import genai
from google.genai import types

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.google_genai import wrap

MODEL = "gemini-2.5-flash"
SHORT = types.GenerateContentConfig(max_output_tokens=500)
LONG = types.GenerateContentConfig(max_output_tokens=50_000)


async def main() -> None:
    async with wrap(genai.Client()).aio as client, task_budget("research", tokens=2_000) as budget:
        reply = await client.models.generate_content(
            model=MODEL, contents="Where do rivers flow?", config=SHORT
        )
        print(reply.text)

        # Each chunk of a stream tells what was used so far: it may be left at any time.
        stream = await client.models.generate_content_stream(
            model=MODEL, contents="And the sea?", config=SHORT
        )
        async for chunk in stream:
            print(chunk.text, end="")
        print()

        try:
            await client.models.generate_content(
                model=MODEL, contents="Write a book about rivers.", config=LONG
            )
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

"""A budget for an OpenAI client: what each call may cost is held before it is sent.

It prints:

    Rivers flow to the sea.
    Rivers flow to the sea.
    refused: budget 'research' has 1958 of 2000 tokens left, 50011 requested
    2 calls, 42 tokens
"""

import anyio
import openai

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.openai import wrap

MODEL = "gpt-5-nano"


async def main() -> None:
    client = wrap(openai.AsyncOpenAI())

    async with task_budget("research", tokens=2_000) as budget:
        reply = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Where do rivers flow?"}],
            max_completion_tokens=500,
        )
        print(reply.choices[0].message.content)

        # A stream is settled, too: its usage is asked for, and the extra chunk kept from you.
        async with client.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": "And the sea?"}],
            max_completion_tokens=500,
        ) as stream:
            async for event in stream:
                if event.type == "content.delta":
                    print(event.delta, end="")
        print()

        try:
            await client.responses.create(
                model=MODEL, input="Write a book about rivers.", max_output_tokens=50_000
            )
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    anyio.run(main)

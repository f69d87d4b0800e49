"""A budget for an Anthropic client: as a wrapper of it, or as its middleware.

It prints:

    Rivers flow to the sea.
    refused: budget 'research' has 0 of 2 calls left, 1 requested
    2 calls, 42 tokens
"""

import anthropic

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.anthropic import BudgetMiddleware, wrap

MODEL = "claude-haiku-4-5"


def ask(client: anthropic.Anthropic, question: str) -> anthropic.types.Message:
    return client.messages.create(
        model=MODEL, max_tokens=500, messages=[{"role": "user", "content": question}]
    )


def main() -> None:
    wrapped = wrap(anthropic.Anthropic())
    with_middleware = anthropic.Anthropic(middleware=[BudgetMiddleware()])

    with task_budget("research", calls=2, tokens=2_000) as budget:
        for block in ask(wrapped, "Where do rivers flow?").content:
            if block.type == "text":
                print(block.text)
        ask(with_middleware, "And the sea?")
        try:
            ask(wrapped, "And the rain?")
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(':')[0]}")

    print(f"{budget.spent('calls')} calls, {budget.spent('tokens')} tokens")


if __name__ == "__main__":
    main()

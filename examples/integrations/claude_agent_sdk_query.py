"""Claude Code with a budget: what a query may cost, and how many commands it may run.

It prints:

    Rivers flow to the sea.
    usd: 0.0018 of 0.05
    refused: budget 'second' has 0 of 1 tokens left
"""

import anyio
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, TextBlock

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.claude_agent_sdk import query

OPTIONS = ClaudeAgentOptions(
    model="claude-haiku-4-5",
    allowed_tools=["Bash"],
    setting_sources=[],
    env={"CLAUDE_CONFIG_DIR": "claude", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
)


async def main() -> None:
    async with task_budget("first", usd="0.05", tokens=100_000, calls=20) as first:
        async for message in query(prompt="Where do rivers flow?", options=OPTIONS):
            if isinstance(message, AssistantMessage):
                print(*(b.text for b in message.content if isinstance(b, TextBlock)))
    print(f"usd: {first.spent('usd'):.4f} of 0.05")

    async with task_budget("second", tokens=1) as second:
        second.charge(tokens=1)
        try:
            async for _ in query(prompt="And the sea?", options=OPTIONS):
                pass
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    anyio.run(main)

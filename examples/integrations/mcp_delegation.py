"""A tool of an MCP server that calls a model, and a client that says what that may cost.

The server's own limit is for anybody; the client lends less, and pays what was used of it. Here
both are in one process; over stdio or HTTP it is the same, for it travels in `_meta`.

It prints:

    Rivers flow to the sea.
    the server charged 2 calls and 16 tokens
    2984 of 3000 tokens are left
    Refused by the budget: budget 'caller' has 200 of 200 tokens left, 4110 requested
    2984 of 3000 tokens are left
"""

import anyio
import openai
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import TextContent

from budgetware import task_budget
from budgetware_integrations import mcp
from budgetware_integrations.openai import wrap

server = mcp.guard(MCPServer("rivers", log_level="ERROR"), limits={"tokens": 10_000, "seconds": 60})


@server.tool()
async def ask(question: str, most: int | None = None) -> str:
    """Ask a model about rivers."""
    async with wrap(openai.AsyncOpenAI()) as model:
        reply = await model.chat.completions.create(
            model="gpt-5-nano",
            messages=[{"role": "user", "content": question}],
            max_completion_tokens=most,
        )
    return reply.choices[0].message.content or ""


async def main() -> None:
    client = mcp.wrap(Client(server), delegate={"tokens": 200, "calls": 5})
    async with client, task_budget("research", tokens=3_000) as budget:
        for most in (100, None):
            result = await client.call_tool("ask", {"question": "Where?", "most": most})
            assert isinstance(result.content[0], TextContent)
            print(result.content[0].text.partition(": ask for less")[0])
            charged = (result.meta or {})[mcp.BUDGET_KEY]["charged"]
            if not result.is_error:
                print(f"the server charged {charged['calls']} calls and {charged['tokens']} tokens")
            print(f"{budget.remaining('tokens')} of 3000 tokens are left")


if __name__ == "__main__":
    anyio.run(main)

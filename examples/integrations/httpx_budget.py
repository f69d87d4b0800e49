"""A budget for any HTTP API: calls and bytes, and units of its own for what is dear.

It prints:

    /page: 4096 bytes
    /search: 512 bytes
    /search: refused
    2 calls, 4608 bytes, 5 units
"""

import anyio
import httpx

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.httpx import wrap


def amounts(request: httpx.Request) -> dict[str, int]:
    """A search costs five units of ours, of which there are nine; a page costs none."""
    return {"calls": 1, "custom0": 5 if request.url.path == "/search" else 0}


def site(request: httpx.Request) -> httpx.Response:
    """Stands for the API, so that this program runs without one."""
    return httpx.Response(200, content=bytes(512 if request.url.path == "/search" else 4_096))


async def main() -> None:
    api = httpx.MockTransport(site)
    async with httpx.AsyncClient(base_url="https://api.example.com", transport=api) as bare:
        client = wrap(bare, amounts=amounts, max_response_bytes=10_000)
        async with task_budget("crawl", calls=100, bytes=20_000, custom0=9) as budget:
            for path in ("/page", "/search", "/search"):
                try:
                    response = await client.get(path)
                except BudgetExceeded:
                    print(f"{path}: refused")
                else:
                    print(f"{path}: {len(response.content)} bytes")

    calls, sent, units = (budget.spent(dim) for dim in ("calls", "bytes", "custom0"))
    print(f"{calls} calls, {sent} bytes, {units} units")


if __name__ == "__main__":
    anyio.run(main)

"""Four sub-agents crawl a site at the rate it allows: they share a token, and turns by weight.

20 pages a second, 30 in all; `forum` may have two of them. It prints, the seconds apart:

    news: 16 pages, waited up to 1.7 s
    docs: 8 pages, waited up to 1.7 s
    blog: 4 pages, waited up to 1.5 s
    forum: 2 pages, waited up to 0.8 s
    30 requests reached the site, 0 of them too early
"""

from contextlib import suppress

import anyio.abc

from budgetware import BudgetExceeded, QuotaToken, Rate, Resource, connect, reserve, task_budget


async def visit(port: int) -> None:
    with suppress(BudgetExceeded):  # the allowance is used up
        async with reserve(calls=1) as turn, await anyio.connect_tcp("127.0.0.1", port) as page:
            await page.receive()
            turn.commit()


async def sub_agent(name: str, token: QuotaToken, port: int) -> None:
    async with task_budget(name, calls=20), token, anyio.create_task_group() as group:
        for _page in range(20):
            group.start_soon(visit, port)
    token.close()  # its weight goes back to the token that it was split off


async def main() -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        on_time.append(5 + len(on_time) <= 20 * (anyio.current_time() - began))  # main drew 5
        async with stream:
            await stream.send(b"<html>")

    agents = {"news": (4, None), "docs": (2, None), "blog": (1, None), "forum": (1, 2)}
    service, site = connect(), await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = site.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - Django has one, too
    events, began, on_time = service.subscribe(), anyio.current_time(), list[bool]()
    async with service, site, anyio.create_task_group() as server:
        server.start_soon(site.serve, answer)
        service.define(Resource("site", Rate(20, "second", max=1), dim="calls"))
        async with QuotaToken("site", 8, allowance=35) as token, anyio.create_task_group() as group:
            token.reserve_nowait(1).commit(5)  # a debt: all get in line before the first page
            for name, (weight, most) in agents.items():
                group.start_soon(sub_agent, name, token.split(weight, allowance=most), port)
        token.close()
        server.cancel_scope.cancel()
    found = [event async for event in events if event.outcome == "completed"]
    for name in agents:
        waits = [event.wait_ms / 1000 for event in found if event.task == name]
        print(f"{name}: {len(waits)} pages, waited up to {max(waits):.1f} s")
    print(f"{len(on_time)} requests reached the site, {on_time.count(False)} of them too early")


if __name__ == "__main__":
    anyio.run(main)

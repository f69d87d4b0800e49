"""What the HTTP face gives and costs while 64 agents run in the same process.

Run by hand: `python -m tests.benchmarks.admin`. The requests come from another process, over real
sockets. A call's time is that of a call that does nothing, wall clock: what others take of the
process is in it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from statistics import mean, median, quantiles
from threading import Thread
from typing import Any

import anyio
import uvicorn

from budgetware import QuotaService, Rate, admin, budgeted, connect, task_budget
from budgetware.admin.serving import listen, url_of

AGENTS = 64
SECONDS = 4.0
CONNECTIONS = 8
PATH = "/api/sys/principals/alice/usage"
STREAM = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


@budgeted(tokens=1, calls=1)
async def nothing() -> None:
    return None


class Agents:
    """Agents that call, and think between two calls; with no thought they use all of a core."""

    def __init__(self, thought_seconds: float) -> None:
        self._thought_seconds = thought_seconds
        self.spent_us: list[float] = []
        self.calls = 0
        self.is_over = False

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(AGENTS):
                tasks.start_soon(self._agent)

    async def _agent(self) -> None:
        async with task_budget("agent", tokens=2**50, principal="alice"):
            while not self.is_over:
                began = time.perf_counter_ns()
                await nothing()
                self.spent_us.append((time.perf_counter_ns() - began) / 1_000)
                self.calls += 1
                await anyio.sleep(self._thought_seconds)

    def measured(self, label: str, seconds: float) -> str:
        spent, self.spent_us = self.spent_us, []
        last = quantiles(spent, n=100)[98]
        return (
            f"{label:<44} {len(spent) / seconds:>9,.0f} calls/s   per call: median "
            f"{median(spent):5.1f} µs, mean {mean(spent):6.1f}, p99 {last:7.1f}"
        )


def load(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.admin", "load", url, str(SECONDS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ask_for(url: str, seconds: float) -> None:
    """In the other process: requests on a few connections, and how long each took."""
    host, port = url.removeprefix("http://").strip("/").split(":")
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    took: list[float] = []
    end = time.monotonic() + seconds

    def connection() -> None:
        with socket.create_connection((host, int(port))) as opened:
            while time.monotonic() < end:
                began = time.perf_counter()
                opened.sendall(request)
                answer = opened.recv(1 << 16)
                assert answer.startswith(b"HTTP/1.1 200"), answer
                while b"}}" not in answer:
                    answer += opened.recv(1 << 16)
                took.append((time.perf_counter() - began) * 1_000)

    threads = [Thread(target=connection) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = quantiles(took, n=100)
    print(json.dumps({"rate": len(took) / seconds, "median_ms": cuts[49], "p99_ms": cuts[98]}))


async def finished(process: subprocess.Popen[str]) -> dict[str, float]:
    text = await anyio.to_thread.run_sync(lambda: process.communicate()[0])
    found: dict[str, float] = json.loads(text)
    return found


async def measure_requests(service: QuotaService, thought_seconds: float) -> None:
    """The same agents alone, and with requests on the same event loop."""
    agents = Agents(thought_seconds)
    with listen("127.0.0.1", 0) as taken:
        config = uvicorn.Config(admin.app(service), log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [taken])
            tasks.start_soon(agents.run)
            await anyio.sleep(1)
            agents.spent_us.clear()
            await anyio.sleep(SECONDS)
            shown = (
                "without a pause" if not thought_seconds else f"{thought_seconds * 1e3:g} ms apart"
            )
            print(agents.measured(f"{AGENTS} agents, calls {shown}, alone", SECONDS))
            began = time.monotonic()
            found = await finished(load(url_of(taken)))
            print(agents.measured("  with requests", time.monotonic() - began))
            print(
                f"  GET {PATH}: {found['rate']:,.0f}/s on {CONNECTIONS} connections, "
                f"median {found['median_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms"
            )
            agents.is_over = True
            server.should_exit = True


async def measure_streams(service: QuotaService) -> None:
    """Calls alone, with a client that reads, and with one that does not."""
    agents = Agents(0.005)
    app = admin.app(service)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [taken])
            tasks.start_soon(agents.run)
            await anyio.sleep(1)
            await measure_stream(agents, "no client")
            with reader(port):
                await measure_stream(agents, "one that reads")
                with socket.create_connection(("127.0.0.1", port)) as stalled:
                    stalled.sendall(STREAM)
                    await measure_stream(agents, "and one that does not")
                    (broadcast,) = app.state.face.broadcasts
                    lost = sorted(each.dropped for each in broadcast.clients)
                    print(f"  events dropped, by client: {lost}")
            agents.is_over = True
            server.should_exit = server.force_exit = True


async def measure_stream(agents: Agents, label: str) -> None:
    agents.spent_us.clear()
    await anyio.sleep(SECONDS)
    print(agents.measured(f"events: {label}", SECONDS))


@contextmanager
def reader(port: int) -> Generator[None]:
    """A client in another process that takes all that comes."""
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.admin", "read", str(port)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def read_all(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as opened:
        opened.sendall(STREAM)
        while opened.recv(1 << 20):
            pass


def run(measure: Callable[..., Any], *arguments: object) -> None:
    with connect() as service:
        service.define_principal("alice", quotas={"tokens": Rate(2**50, "day")})
        anyio.run(measure, service, *arguments)


def main() -> None:
    for thought_seconds in (0.01, 0.002, 0):
        run(measure_requests, thought_seconds)
    run(measure_streams)


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        ask_for(sys.argv[2], float(sys.argv[3]))
    elif sys.argv[1:2] == ["read"]:
        read_all(int(sys.argv[2]))
    else:
        main()

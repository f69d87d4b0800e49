"""Adapters beside their bare frameworks: `python -m tests.benchmarks.frameworks [--json FILE]`.

For each framework that is installed: of 100 calls at once on a budget for 10, how many reached the
server; in an endless loop of tools on a budget that ends it, how many turns were refused before it
ended, and how many calls reached the server; tokens settled beside tokens the server counted; the
median of calls one after the other, beside the bare framework, in turns. Give the JSON files of
other environments as arguments to have one table of all.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from budgetware import BudgetTerminated, connect, errors, task_budget
from tests.integrations.provider import serve
from tests.integrations.subjects import Subject, subjects

ROUNDS = 60
WARM = 5
PROMPT = "Where do rivers flow?"
MODULES = Path(__file__).parents[2] / "integrations" / "budgetware_integrations"


@contextmanager
def apart() -> Generator[str]:
    """The provider in a process of its own, where it takes no time from what is measured."""
    command = [sys.executable, "-m", "tests.integrations.provider"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate()


async def at_once(subject: Subject) -> int:
    """How many of 100 calls at once reach the server, with a budget for 10."""

    async def ask(agent: Any) -> None:
        try:
            await agent.ask("echo", PROMPT)
        except Exception as error:
            if errors.budget_error(error) is None:
                raise

    with serve() as provider:
        async with (
            subject.open(provider.url, True) as agent,
            task_budget(calls=10, policy=None),
            anyio.create_task_group() as group,
        ):
            for _ in range(100):
                group.start_soon(ask, agent)
        return provider.count()


async def in_a_loop(subject: Subject) -> tuple[int, int]:
    """Refused turns until an endless loop ended, and calls that reached the server."""
    with serve() as provider:
        refused = 0
        async with connect() as service, subject.open(provider.url, True) as agent:
            events = service.subscribe(maxsize=10_000)
            try:
                async with task_budget(calls=9, policy="terminate"):
                    await agent.loop('loop:search:{"query": "x"}')
            except BudgetTerminated:
                pass
            service.close()
            async for event in events:
                refused += event.outcome in {"rejected", "terminated"} and event.reserved == {}
        return refused, provider.count()


async def settled(subject: Subject) -> tuple[int, int]:
    """Tokens settled, and tokens that the server counted."""
    with serve() as provider:
        async with subject.open(provider.url, True) as agent:
            async with task_budget(tokens=10_000_000) as budget:
                for number in range(10):
                    await agent.ask("echo", PROMPT * (1 + number % 4))
                if subject.streams:
                    async for _ in agent.stream("echo", PROMPT):
                        pass
            return int(budget.spent("tokens")), provider.tokens


async def beside(subject: Subject, url: str) -> tuple[float, float]:
    """Medians in microseconds of a bare call, and of a budgeted one, in turns."""
    bare, ours = list[float](), list[float]()
    async with (
        subject.open(url, False) as plain,
        subject.open(url, True) as budgeted,
        task_budget(tokens=10_000_000),
    ):
        for turn in range(ROUNDS + WARM):
            for agent, times in ((plain, bare), (budgeted, ours)):
                began = perf_counter()
                await agent.ask("echo", PROMPT)
                if turn >= WARM:
                    times.append((perf_counter() - began) * 1e6)
    return statistics.median(bare), statistics.median(ours)


async def row(subject: Subject, url: str) -> dict[str, Any]:
    refused, reached = await in_a_loop(subject) if subject.loops else (None, None)
    tokens, counted = await settled(subject)
    bare, ours = await beside(subject, url)
    return {
        "framework": subject.name,
        "version": subject.version,
        "reached": await at_once(subject),
        "refused": refused,
        "loop": reached,
        "settled": tokens,
        "counted": counted,
        "bare_us": round(bare),
        "added_us": round(ours - bare),
        "lines": len((MODULES / f"{subject.name}.py").read_text(encoding="utf-8").splitlines()),
    }


def show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    heads = (
        "framework version 100→10 loop:refused loop:calls settled counted bare_us added_us lines"
    )
    for head in heads.split():
        table.add_column(head, justify="left" if head in {"framework", "version"} else "right")
    for each in sorted(rows, key=lambda r: str(r["framework"])):
        table.add_row(*("–" if value is None else str(value) for value in each.values()))
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.frameworks")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("files", nargs="*", type=Path, help="what --json wrote elsewhere")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    rows = [each for path in given.files for each in json.loads(path.read_text(encoding="utf-8"))]
    known = {each["framework"] + each["version"] for each in rows}
    with apart() as url:
        for subject in subjects():
            wanted = not given.only or subject.name in given.only
            if wanted and subject.name + subject.version not in known:
                rows.append(anyio.run(row, subject, url))
                print(rows[-1], file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(rows), encoding="utf-8")
    else:
        show(rows)


if __name__ == "__main__":
    main()

"""What recording usage costs a call, and how long a report over a million events takes.

Run by hand: `python -m tests.benchmarks.usage [EVENTS]`. Beside it, in the same run: a call without
any record, and the same report summed by SQL and by Python over the events themselves. It ends with
1 where two of them differ.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, thread_time, time
from typing import Any

import anyio

from budgetware import budgeted, connect, task_budget
from budgetware.ledgers.sqlite import SqliteLedger
from budgetware.ledgers.terms import UsageRow
from budgetware.usage_sums import Groups, sums_of
from tests.reports.stage import event

DAYS, PRINCIPALS = 7, 100
TOOLS = ("search", "fetch", "think", "write", "run")
BATCH = 1_000
CALLS = 20_000
SQL = (
    "SELECT date(timestamp - 0.000001, 'unixepoch') AS day, text ->> 'principal' AS who, "
    "sum(text ->> '$.charged.tokens') FROM usage WHERE timestamp > ? AND timestamp <= ? "
    "GROUP BY day, who"
)


def table(*rows: tuple[object, ...]) -> str:
    """Rows below each other."""
    return "\n".join("  ".join(f"{cell!s:>24}" for cell in row) for row in rows)


def fill(path: Path, events: int) -> float:
    """Write so many events of the last days; returns the seconds it took."""
    ledger, groups = SqliteLedger(path), Groups()
    ledger.open()
    now = time()
    begun = perf_counter()
    for start in range(0, events, BATCH):
        rows: list[UsageRow] = []
        for number in range(start, min(start + BATCH, events)):
            made = event(
                now - DAYS * 86_400 * (1 - (number + 1) / events),
                principal=f"agent-{number % PRINCIPALS}",
                name=TOOLS[number % len(TOOLS)],
                charged={"calls": 1, "tokens": number % 997},
            )
            text = json.dumps(made.to_dict(), separators=(",", ":"))
            rows.append(UsageRow("h", number + 1, made.timestamp, text, sums_of(made, groups)))
        ledger.record(rows)
    ledger.close()
    return perf_counter() - begun


Found = dict[tuple[str, str], int]


def by_report(path: Path, since: float) -> Found:
    """Ask the service."""
    with connect(ledger=f"sqlite:///{path}", record_usage=True) as service:
        report = service.report(since=since, by=("principal", "day"))
    return {
        (str(group.key["day"]), str(group.key["principal"])): group.usage.units["tokens"]
        for group in report.groups
    }


def by_sql(path: Path, since: float) -> Found:
    """Have SQLite sum the events."""
    connection = sqlite3.connect(path)
    found = connection.execute(SQL, (since, time() + 1)).fetchall()
    connection.close()
    return {(day, who): tokens for day, who, tokens in found}


def by_python(path: Path, since: float) -> Found:
    """Read all events, and sum them."""
    ledger = SqliteLedger(path)
    ledger.open()
    found: Found = {}
    after = 0
    while page := ledger.usage(since, time() + 1, after=after):
        after = page[-1][0]
        for _number, row in page:
            data = json.loads(row.text)
            key = f"{_day(row.timestamp)}", data["principal"]
            found[key] = found.get(key, 0) + data["charged"]["tokens"]
    ledger.close()
    return found


def _day(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp - 0.000001, UTC).date().isoformat()


def peak_mebibytes() -> float:
    """The most memory this process ever had; `ru_maxrss` would have its parent's."""
    [line] = [
        text for text in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in text
    ]
    return int(line.split()[1]) / 1024


def measured(way: Callable[[Path, float], Found], path: Path, since: float, queue: Any) -> None:
    """In a process of its own: the answer, seconds, and how much memory that took."""
    before = peak_mebibytes()
    begun = perf_counter()
    found = way(path, since)
    seconds = perf_counter() - begun
    queue.put((found, seconds, peak_mebibytes() - before))


def reports(path: Path) -> bool:
    """Time three ways to the same numbers; says whether they are the same."""
    since = time() - (DAYS - 1) * 86_400
    context = get_context("spawn")
    rows: list[tuple[object, ...]] = []
    answers: list[Found] = []
    for name, way in (("service.report", by_report), ("SQL", by_sql), ("Python", by_python)):
        queue: Any = context.Queue()
        process = context.Process(target=measured, args=(way, path, since, queue))
        process.start()
        found, seconds, mebibytes = queue.get()
        process.join()
        answers.append(found)
        rows.append((name, f"{seconds:.3f} s", f"{mebibytes:.1f} MiB more", len(found)))
    print(table(("report by principal, day", "time", "memory", "groups"), *rows))
    return answers[0] == answers[1] == answers[2]


async def _noop() -> None:
    """A call that does nothing."""


@budgeted(calls=1)
async def _search() -> None:
    """A tool that does nothing."""


@budgeted(tokens=500, settle=lambda used: used)
async def _think() -> int:
    """A model that says what it used."""
    return 400


Tool = Callable[[], Coroutine[Any, Any, object]]


def call_micros(tool: Tool, ledger: str | None, *, record: bool) -> tuple[float, float, float]:
    """Microseconds of a call: CPU of its thread, of the whole process, and of a no-op await."""

    async def main() -> tuple[float, float, float]:
        async with connect(ledger=ledger, record_usage=record) as service:
            async with task_budget(calls=10**9, tokens=10**12):
                await tool()
                await anyio.to_thread.run_sync(service.flush)
                thread, process = thread_time(), process_time()
                for _ in range(CALLS):
                    await tool()
                thread = thread_time() - thread
                await anyio.to_thread.run_sync(service.flush)
                process = process_time() - process
            bare = thread_time()
            for _ in range(CALLS):
                await _noop()
            return thread / CALLS * 1e6, process / CALLS * 1e6, (thread_time() - bare) / CALLS * 1e6

    return anyio.run(main)


def costs(folder: Path) -> None:
    """What recording costs a call."""
    rows: list[tuple[object, ...]] = []
    for name, ledger, record in (
        ("nothing recorded", None, False),
        ("in memory", None, True),
        ("SQLite", f"sqlite:///{folder}/cost.db", True),
    ):
        for what, tool in (("", _search), (", settled", _think)):
            found = min(call_micros(tool, ledger, record=record) for _ in range(3))
            thread, whole, bare = found
            cells = (f"{thread:.2f} us", f"{thread / bare:.1f} x", f"{whole:.2f} us")
            rows.append((name + what, *cells))
    print(table(("@budgeted(calls=1)", "its thread", "a no-op await", "whole process"), *rows))


def main() -> None:
    """Measure all of it."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with TemporaryDirectory() as folder:
        costs(Path(folder))
        path = Path(folder) / "usage.db"
        seconds = fill(path, events)
        size = path.stat().st_size / 2**20
        print(
            f"{events:,} events written in {seconds:.1f} s, {seconds / events * 1e6:.1f} us each, "
            f"{size:.0f} MiB"
        )
        is_same = reports(path)
        print("the same numbers three ways" if is_same else "THEY DIFFER")
    sys.exit(not is_same)


if __name__ == "__main__":
    main()

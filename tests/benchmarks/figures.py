"""Every figure of the library in one run, each beside its target.

Run by hand: `python -m tests.benchmarks.figures`, and with `--json` for one JSON document on
standard output. It ends with 1 where a count or a sum is not what it must be; ratios vary with
the machine, and are for reading.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import version
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import anyio

from budgetware import budgeted, task_budget
from tests.benchmarks import overhead, telemetry, waiting
from tests.benchmarks.behaviours import IDEALS, Behaviour, behaviours
from tests.benchmarks.rows import Row

CHARGES = 1_000_000
WARM_UP = 10_000
INTERPRETERS = 15
SLACK_BYTES = 20_000
"""A fiftieth of a byte per call."""

ALONE = "import anyio, opentelemetry.trace, opentelemetry.metrics"
OURS = "import anyio, budgetware"
RUN = "; anyio.run(anyio.sleep, 0)"
TIMED = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


class Charges(NamedTuple):
    """A million settled calls: what was booked, what it had to be, what stayed behind."""

    spent: int
    expected: int
    grown_bytes: int


@budgeted(tokens=10, settle=lambda used: used)
async def call(used: int) -> int:
    return used


async def settle_calls(times: int) -> None:
    for number in range(times):
        await call(number % 7)


async def charges() -> Charges:
    """Settle calls to 0..6 tokens in turn."""
    budget = task_budget("charges", tokens=10**12)
    async with budget:
        await settle_calls(WARM_UP)
        warmed = budget.spent("tokens")
        gc.collect()
        tracemalloc.start()
        before, _peak = tracemalloc.get_traced_memory()
        await settle_calls(CHARGES)
        gc.collect()
        after, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        spent = int(budget.spent("tokens") - warmed)
        return Charges(spent, sum(n % 7 for n in range(CHARGES)), after - before)
    raise AssertionError("a task_budget swallows no error")


def import_seconds(program: str, cache: str) -> float:
    """CPU time of an import in a fresh interpreter, its own start apart."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", TIMED.format(program)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout)


def import_row(what: str, then: str, target: float | None) -> Row:
    """Compiled files are read, not made: as in any run of a program but its first."""
    programs = [f"{imports}{then}" for imports in (OURS, ALONE)]
    with TemporaryDirectory() as cache:
        pairs = [[import_seconds(each, cache) for each in programs] for _ in range(INTERPRETERS)]
    ours, theirs = (median(seconds) for seconds in zip(*pairs[1:], strict=True))
    return Row(what, ours * 1e6, ours / theirs, target)


def import_rows() -> list[Row]:
    """anyio imports most of itself, and its event loop, when they are first used."""
    return [
        import_row("import budgetware", "", 1.3),
        import_row("  and an empty anyio.run", RUN, None),
    ]


def print_behaviours(rows: list[Behaviour]) -> None:
    backends = list(dict.fromkeys(row.backend for row in rows))
    counts = {(row.what, row.backend): row.counted for row in rows}
    print(f"{'a budget of 10':44}" + "".join(f"{name:>9}" for name in (*backends, "ideal")))
    for what, ideal in IDEALS.items():
        shown = [counts[what, backend] for backend in backends]
        print(f"{what:44}" + "".join(f"{count:9}" for count in (*shown, ideal)))


def print_charges(charged: Charges) -> None:
    print(f"\n{CHARGES:,} charges")
    print(f"{'  their sum, and what it must be':44}{charged.spent:9,} {charged.expected:17,}")
    print(f"{'  bytes left behind, and the most allowed':44}{charged.grown_bytes:9,}", end="")
    print(f"{SLACK_BYTES:18,}")


def print_imports(rows: list[Row]) -> None:
    print(f"\n{'CPU of a fresh interpreter':44} {'ms':>8} {'× without':>9} {'target':>8}")
    for row in rows:
        target = "" if row.target is None else row.target
        print(f"{row.what:44} {row.micros / 1000:8.0f} {row.ratio:9.2f} {target:>8}")


def measure() -> dict[str, Any]:
    print(f"{platform.python_implementation()} {platform.python_version()}, ", end="")
    print(f"anyio {version('anyio')}, trio {version('trio')}, {os.cpu_count()} CPUs\n")
    counts = behaviours()
    print_behaviours(counts)
    charged = anyio.run(charges)
    print_charges(charged)
    imported = import_rows()
    print_imports(imported)
    print()
    anyio.run(overhead.main)
    print()
    anyio.run(telemetry.main)
    print()
    waited = anyio.run(waiting.main)
    return {
        "python": platform.python_version(),
        "behaviours": [row._asdict() for row in counts],
        "charges": charged._asdict(),
        "import": [row._asdict() for row in imported],
        "overhead": [row._asdict() for row in overhead.MEASURED],
        "telemetry": [row._asdict() for row in telemetry.MEASURED],
        "waiting": waited,
    }


def is_as_it_must_be(figures: dict[str, Any]) -> bool:
    counted = all(row["counted"] == row["ideal"] for row in figures["behaviours"])
    charged = Charges(**figures["charges"])
    exact = charged.spent == charged.expected and charged.grown_bytes < SLACK_BYTES
    return counted and exact


def main(*, as_json: bool) -> int:
    """With `as_json` the tables go to standard error."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        figures = measure()
    if as_json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    return 0 if is_as_it_must_be(figures) else 1


if __name__ == "__main__":
    raise SystemExit(main(as_json="--json" in sys.argv))

"""Tools that are programs: run one as a child process under limits, charged what it really used.

    from budgetware import process, task_budget

    async with task_budget("tools", cpu_micros=10_000_000):
        result = await process.run(["python", "-c", code], cpu_seconds=2, memory="256MiB")

Not here: shells, terminals, and talking to a child while it runs.
"""

from .results import ProcessLimit, ProcessResult
from .runs import run, run_sync

__all__ = ["ProcessLimit", "ProcessResult", "run", "run_sync"]

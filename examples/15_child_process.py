"""Run code that a model has written, in a child process that cannot use more than it may.

`process.run` reserves CPU time and memory before the child starts, has the operating system hold it
to that, and charges what it really used. Output, wall clock and all its own children are limited,
too; it dies with the task.

It prints:

    careful: exit 0, said b'499999500000'
    busy: stopped at its limit of cpu, said b''
    greedy: stopped at its limit of memory, said b''
    chatty: stopped at its limit of output, said b'xxxxxxxxxxxx'
    2 seconds more are refused: nothing was started
    charged what they used: True
"""

import sys

import anyio

from budgetware import BudgetExceeded, process, task_budget

PROGRAMS = {
    "careful": "print(sum(range(1_000_000)))",
    "busy": "while True: pass",
    "greedy": "print(len(bytes(10**9)))",
    "chatty": "while True: print('x' * 1_000)",
}


async def main() -> None:
    async with task_budget("sandbox", cpu_micros=1_000_000) as budget:
        used = 0
        for name, code in PROGRAMS.items():
            result = await process.run(
                [sys.executable, "-c", code], cpu_seconds=0.3, memory="256MiB", output_bytes="64KiB"
            )
            used += result.cpu_micros
            ended = f"exit {result.returncode}"
            if result.limit is not None:
                ended = f"stopped at its limit of {result.limit}"
            print(f"{name}: {ended}, said {result.stdout[:12]!r}")
        try:
            await process.run([sys.executable, "-V"], cpu_seconds=2)
        except BudgetExceeded:
            print("2 seconds more are refused: nothing was started")
        print(f"charged what they used: {budget.spent('cpu_micros') == used}")


if __name__ == "__main__":
    anyio.run(main)

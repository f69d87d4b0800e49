"""`budgetware run`: a program under a budget.

Not here: how it is limited (`budgetware.process`).
"""

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from budgetware.formats import parse_bytes, parse_duration, visible
from budgetware.kernel.dims import check_name

from ..failures import misuse, told
from ..options import JsonOption
from ..places import default_manifest
from ..runs import RunOrder, carry_out, parse_budget

DEFAULT_OUTPUT = "10MiB"
_INTERRUPTED = 130


COMMAND = Annotated[
    list[str], typer.Argument(metavar="COMMAND", help="A program and its arguments.")
]
BUDGET = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        "-b",
        metavar="DIM=VALUE",
        help="A limit of its task: tokens=50k, usd=0.25, cpu=10s; may be given several times.",
    ),
]
TASK = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of its task; a template of the manifest.")
]
PRINCIPAL = Annotated[
    str | None, typer.Option(metavar="PRINCIPAL", help="On whose behalf; its quotas pay, too.")
]
SECONDS = Annotated[
    str | None, typer.Option(metavar="TIME", help="How long it may run, as 60 or 2m.")
]
CPU = Annotated[
    str | None, typer.Option(metavar="TIME", help="CPU time of all its processes, as 10s.")
]
MEMORY = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The most it may hold, as 512MiB.")
]
OUTPUT = Annotated[
    str, typer.Option(metavar="SIZE", help="How much it may write to both of its outputs.")
]
STDIN = Annotated[
    bool, typer.Option("--stdin", help="Read standard input to its end, and pass it on.")
]
MANIFEST = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Whose ledger it is; default: BUDGETWARE_MANIFEST, ./budgetware.toml, or none.",
    ),
]
LEDGER = Annotated[
    str | None, typer.Option(metavar="URL", help="A ledger, as sqlite:///budgetware.db.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_interspersed_args": False})(run)


def run(
    command: COMMAND,
    *,
    budget: BUDGET = None,
    task: TASK = None,
    principal: PRINCIPAL = None,
    seconds: SECONDS = None,
    cpu: CPU = None,
    memory: MEMORY = None,
    output: OUTPUT = DEFAULT_OUTPUT,
    stdin: STDIN = False,
    manifest: MANIFEST = None,
    ledger: LEDGER = None,
    json: JsonOption = False,
) -> None:
    """Run a program under a budget, and charge the CPU time and memory that it used.

    What it writes is passed on when it has ended; one line on stderr says what it used, with
    --json as a document.

    The exit code is the program's, 1 where it was refused or stopped at a limit, 2 where it
    could not be started.

    With a ledger its task is shared: BUDGETWARE_MANIFEST and BUDGETWARE_TASK tell a program that
    uses budgetware how to pay from it: task_budget(os.environ["BUDGETWARE_TASK"], shared=True).
    """
    with told():
        with misuse():
            for what, name in (("task", task), ("principal", principal)):
                if name is not None:
                    check_name(what, name)
            ceilings = {
                "wall_seconds": None if seconds is None else parse_duration(seconds),
                "cpu_seconds": None if cpu is None else parse_duration(cpu),
                "memory": None if memory is None else parse_bytes(memory),
                "output_bytes": parse_bytes(output),
            }
            order = RunOrder(
                command,
                manifest if manifest is not None or ledger is not None else default_manifest(),
                ledger,
                parse_budget(budget or ()),
                task,
                principal,
                ceilings,
                sys.stdin.buffer.read() if stdin else None,
            )
        try:
            receipt = carry_out(order)
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
    typer.echo(receipt.result.stdout, nl=False)
    typer.echo(receipt.result.stderr, nl=False, err=True)
    line = jsonlib.dumps(receipt.to_dict()) if json else f"budgetware: {visible(receipt.line())}"
    typer.echo(line, err=True)
    raise typer.Exit(receipt.code)

"""`budgetware run`: a program under a budget.

Not here: how it is limited, in a process of its own (`budgetware.process`) or, as a Python program,
in this one (`cli.scripts`).
"""

import json as jsonlib
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from budgetware.errors import InvalidAmount
from budgetware.formats import parse_bytes, parse_duration, visible
from budgetware.kernel.dims import check_name

from ..failures import misuse, told
from ..options import Ending, JsonOption
from ..places import default_manifest
from ..runs import RunOrder, carry_out, parse_budget
from ..scripts.program import (
    INTERRUPTED,
    MODULE_OPTION,
    Program,
    program_of,
    program_of_python,
)
from ..scripts.program import (
    STDIN as FROM_STDIN,
)

DEFAULT_OUTPUT = "10MiB"
DEFAULT_GRACE = "10s"
_OTHERS = {"cpu_seconds": "cpu", "memory": "memory", "output_bytes": "output"}


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
USD = Annotated[str | None, typer.Option(metavar="DOLLARS", help="As --budget usd=DOLLARS.")]
TOKENS = Annotated[str | None, typer.Option(metavar="COUNT", help="As --budget tokens=COUNT.")]
CALLS = Annotated[str | None, typer.Option(metavar="COUNT", help="As --budget calls=COUNT.")]
POLICY = Annotated[
    Ending | None,
    typer.Option(
        help="What happens when its task has not enough: its calls are refused, or it is ended. "
        "Default: a Python program is ended, another's calls are refused."
    ),
]
GRACE = Annotated[
    str, typer.Option(metavar="TIME", help="How long a Python program may go on once it is ended.")
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
    str | None,
    typer.Option(
        metavar="SIZE",
        help=f"How much it may write to both of its outputs; default: {DEFAULT_OUTPUT}.",
    ),
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


class RunCommand(TyperCommand):
    """The command, whose options end at `-m`, as those of Python do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        valued = {
            name
            for param in self.params
            if param.param_type_name == "option" and not getattr(param, "is_flag", False)
            for name in param.opts
        }
        return super().parse_args(ctx, _module_last(args, valued))


def _module_last(args: list[str], valued: set[str]) -> list[str]:
    """Say that no more options come before `-m`."""
    at = 0
    while at < len(args) and args[at].startswith("-") and args[at] not in ("--", FROM_STDIN):
        if args[at] == MODULE_OPTION:
            return [*args[:at], "--", *args[at:]]
        at += 2 if args[at] in valued else 1
    return args


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})(run)


def run(
    command: COMMAND,
    *,
    budget: BUDGET = None,
    usd: USD = None,
    tokens: TOKENS = None,
    calls: CALLS = None,
    policy: POLICY = None,
    task: TASK = None,
    principal: PRINCIPAL = None,
    seconds: SECONDS = None,
    cpu: CPU = None,
    memory: MEMORY = None,
    output: OUTPUT = None,
    stdin: STDIN = False,
    grace: GRACE = DEFAULT_GRACE,
    manifest: MANIFEST = None,
    ledger: LEDGER = None,
    json: JsonOption = False,
) -> None:
    """Run a program under a budget, and say what it has used.

    A Python program, given as FILE.py, as -m MODULE, as a folder or archive with __main__.py, or
    as - (standard input), is run in this process, as python would: what its model clients
    (openai, anthropic, google-genai, litellm) and budgetware itself use is charged to its task,
    in all its threads and event loops, but not in processes that it starts. Under limits, what
    it forks off may call no model, and neither may its atexit handlers. What its budget ends
    exits with 3, whatever it catches. So is python FILE, with the Python that runs this, unless
    --cpu, --memory, --output or --stdin ask for a process.

    Any other COMMAND is run in a process of its own, and charged the CPU time and memory that it
    used; to be limited in tokens, calls or usd it needs a ledger. What it writes is passed on
    when it has ended. The exit code is the program's, 1 where it was refused or stopped at a
    limit, 2 where it could not be started.

    One line on stderr says at the end what was used, with --json as a document: at SIGTERM, too.

    With a ledger its task is shared: BUDGETWARE_MANIFEST and BUDGETWARE_TASK tell a program that
    uses budgetware how to pay from it: task_budget(os.environ["BUDGETWARE_TASK"], shared=True).
    """
    with told():
        with misuse():
            for what, name in (("task", task), ("principal", principal)):
                if name is not None:
                    check_name(what, name)
            limits = parse_budget(budget or (), usd=usd, tokens=tokens, calls=calls)
            ceilings = {
                "wall_seconds": None if seconds is None else parse_duration(seconds),
                "cpu_seconds": None if cpu is None else parse_duration(cpu),
                "memory": None if memory is None else parse_bytes(memory),
                "output_bytes": None if output is None else parse_bytes(output),
            }
            order = RunOrder(
                command,
                manifest if manifest is not None or ledger is not None else default_manifest(),
                ledger,
                limits,
                task,
                principal,
                ceilings,
                policy=None if policy is None else policy.value,
            )
            grace_seconds = parse_duration(grace)
            program = program_of(command)
            if program is None and not stdin and not order.needs_process:
                program = program_of_python(command)
        if program is not None:
            _run_here(program, order, grace_seconds, as_json=json)
        given = sys.stdin.buffer.read() if stdin else None
        _run_apart(replace(order, input=given), as_json=json)


def _run_here(program: Program, order: RunOrder, grace_seconds: float, *, as_json: bool) -> None:
    """Run a Python program; does not return."""
    from ..scripts.running import run_program, text_of

    limits = dict(order.limits)
    with misuse():
        _check_here(order)
        if order.ceilings["wall_seconds"] is not None:
            if "seconds" in limits:
                raise InvalidAmount("--budget: seconds has two limits: give one of them")
            limits["seconds"] = order.ceilings["wall_seconds"]
    order = replace(order, limits=limits)
    receipt = run_program(program, order, grace_seconds=grace_seconds, as_json=as_json)
    with suppress(OSError, ValueError, AttributeError):  # it is closed, or there is none
        sys.stdout.flush()  # what it has written comes first
    try:
        typer.echo(text_of(receipt, as_json=as_json), err=True)
    except OSError:  # the exit code is the program's all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raise typer.Exit(receipt.code)


def _check_here(order: RunOrder) -> None:
    """Raise where something is asked for that only a process of its own has."""
    names = [name for option, name in _OTHERS.items() if order.ceilings[option] is not None]
    dims = {"cpu_micros": "budget cpu=…", "memory": "budget memory=…"}
    names += [name for dim, name in dims.items() if dim in order.limits]
    if not names:
        return
    name = names[0]
    others = [dim for dim in order.limits if dim not in (*dims, "seconds", "millis")]
    if others:
        raise InvalidAmount(
            f"--{name} limits processes, and {', '.join(others)} what a Python program does in "
            "this one: give one kind of limit"
        )
    option = f"--{name}" if "=" in name else f"--{name} …"
    raise InvalidAmount(
        f"--{name} limits processes: run the program in one, as in budgetware run {option} -- "
        f"python {' '.join(order.command)[:60]}"
    )


def _run_apart(order: RunOrder, *, as_json: bool) -> None:
    """Run any program; does not return."""
    ceilings = {**order.ceilings}
    if ceilings["output_bytes"] is None:
        ceilings["output_bytes"] = parse_bytes(DEFAULT_OUTPUT)
    try:
        receipt = carry_out(replace(order, ceilings=ceilings))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(receipt.result.stdout, nl=False)
    typer.echo(receipt.result.stderr, nl=False, err=True)
    text = jsonlib.dumps(receipt.to_dict()) if as_json else f"budgetware: {visible(receipt.line())}"
    typer.echo(text, err=True)
    raise typer.Exit(receipt.code)

"""A program that is run under a budget: what it may use, what it is told, what it has used.

It pays from a task of its own. With a ledger that task is shared, so that a program that uses
budgetware may join it: `BUDGETWARE_MANIFEST` names the ledger, and has a template of the name in
`BUDGETWARE_TASK`. Not here: starting and limiting it (`budgetware.process`).
"""

import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from budgetware import QuotaService, TaskBudget, connect, principal
from budgetware.budgets import task_budget
from budgetware.errors import ConfigurationError, InvalidAmount, ManifestError
from budgetware.formats import amount_text, bytes_text, duration_text, parse_duration
from budgetware.ids import new_id
from budgetware.kernel.dims import from_units
from budgetware.ledgers.addresses import MEMORY, ledger_at
from budgetware.limits import parse_limits
from budgetware.manifest import Manifest, Problem, parse_manifest
from budgetware.process import ProcessResult, run_sync
from budgetware.shared_tasks import key_of

from .failures import MISUSED, Failure, misuse
from .grammar import ALIASES, parse_value
from .places import MANIFEST_VARIABLE

TASK_VARIABLE, PRINCIPAL_VARIABLE = "BUDGETWARE_TASK", "BUDGETWARE_PRINCIPAL"
_MEASURED = frozenset({"cpu_micros", "memory", "seconds", "millis"})
"""What a process is charged for, and limited in, whatever it does."""
_OF_PROCESSES = frozenset({"cpu_micros", "memory"})
_STOPPED = 1
_SIGNALLED = 128


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What was asked for, checked.

    Attributes:
        limits: of the task.
        task: its name; the manifest may have a template of it.
        ceilings: arguments of `process.run`.
        policy: of the task; None: the template's, or the usual one.
    """

    command: Sequence[str]
    manifest: Path | None = None
    ledger: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    task: str | None = None
    principal: str | None = None
    ceilings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    input: bytes | None = None
    policy: str | None = None

    @property
    def needs_process(self) -> bool:
        """Whether it asks for something that only a process of its own has."""
        ceilings = {name for name, value in self.ceilings.items() if value is not None}
        return bool(ceilings - {"wall_seconds"} or _OF_PROCESSES & {*self.limits})


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a program ended, and what it used."""

    command: str
    result: ProcessResult
    task: dict[str, Any] | None

    @property
    def code(self) -> int:
        """The exit code: the program's own, unless a limit has stopped it."""
        if self.result.limit is not None:
            return _STOPPED
        code = self.result.returncode
        return code if code >= 0 else _SIGNALLED - code

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        result = self.result
        return {
            "command": self.command,
            "exit_code": result.returncode,
            "stopped_by": result.limit,
            "cpu_micros": result.cpu_micros,
            "peak_memory_bytes": result.peak_memory_bytes,
            "duration_ms": result.duration_ms,
            "is_truncated": result.is_truncated,
            "task": self.task,
        }

    def line(self) -> str:
        """One line for people."""
        result = self.result
        how = f"exit {result.returncode}"
        if result.limit is not None:
            how = f"stopped at its limit of {result.limit}"
        parts = [
            how,
            f"{duration_text(result.cpu_micros / 1e6)} CPU",
            bytes_text(result.peak_memory_bytes),
            f"{duration_text(result.duration_ms / 1e3)} in all",
            *(["output cut"] if result.is_truncated else []),
            *(self._paid()),
        ]
        return f"{self.command}: {', '.join(parts)}"

    def _paid(self) -> list[str]:
        dims: Mapping[str, Mapping[str, Any]] = {} if self.task is None else self.task["dims"]
        return [
            f"{dim} {amount_text(dim, row['spent'])} of {amount_text(dim, row['limit'])}"
            for dim, row in dims.items()
            if row["limit"] is not None and dim != "millis"
        ]


def parse_budget(words: Sequence[str], **named: str | None) -> dict[str, Any]:
    """Read limits of a task: `tokens=50k`, `usd=0.25`, `cpu=10s`, `seconds=2m`.

    Args:
        words: those of `--budget`.
        **named: limits that have an option of their own, which is called after them.

    Raises:
        InvalidAmount: one of them is none, or is there twice.
    """
    given = [(f"--budget {word[:60]}", *word.partition("=")) for word in words]
    given += [
        (f"--{dim} {text[:60]}", dim, "=", text) for dim, text in named.items() if text is not None
    ]
    limits: dict[str, Any] = {}
    for option, name, equals, value in given:
        dim = ALIASES.get(name, name)
        if not equals or not value:
            raise InvalidAmount(f"{option}: give DIM=VALUE, such as tokens=50k")
        if dim in limits:
            raise InvalidAmount(f"--budget: {dim} has two limits: give one of them")
        limits[dim] = _limit_of(option, dim, value)
    return limits


def _limit_of(option: str, dim: str, text: str) -> Any:
    """A limit that a task takes; what is wrong with it names the option."""
    try:
        value = parse_duration(text) if dim == "seconds" else parse_value(text, dim)
        parse_limits({dim: value}, share=None, keep=None)
    except ConfigurationError as error:
        said = str(error)
        if said.startswith(f"{dim}="):  # which the option says already
            said = said.partition(": ")[2]
        raise InvalidAmount(f"{option}: {said}") from None
    return value


def carry_out(order: RunOrder) -> Receipt:
    """Run a program, and charge what it used.

    Raises:
        Failure, BudgetwareError: it was not started, or its task was ended.
    """
    with opened(order) as (service, name, environment):
        return _run(service, order, name, environment)


@contextmanager
def opened(order: RunOrder) -> Generator[tuple[QuotaService, str, dict[str, str]]]:
    """The service of a program, the name of its task, and what its environment is told of it.

    Raises:
        Failure, BudgetwareError: it cannot be opened.
    """
    with misuse():
        ledger_at(MEMORY if order.ledger is None else order.ledger)
    name = order.task or f"run-{new_id()[:8]}"
    environment: dict[str, str] = {}
    if order.principal is not None:
        environment[PRINCIPAL_VARIABLE] = order.principal
    with _manifest_for(order, name) as manifest, connect(manifest) as service:
        if manifest is not None:
            environment[MANIFEST_VARIABLE] = str(manifest.absolute())
        yield service, name, environment


def task_of(service: QuotaService, order: RunOrder, name: str) -> TaskBudget:
    """The task of a program, shared with all that it starts, if there is a ledger."""
    is_shared = service.runtime.shared is not None and _can_share(service, order, name)
    return task_budget(name, shared=is_shared, service=service, policy=order.policy, **order.limits)


def _check_task(order: RunOrder, manifest: Manifest) -> None:
    """Raise unless the task has limits: its own, or those of a template."""
    if order.task is None or order.limits or order.task in manifest.budgets:
        return
    where = "there is no manifest" if order.manifest is None else f"{order.manifest} has none"
    raise Failure(
        f"--task {order.task}: no limit is given, and no template [budgets.{order.task}], as "
        f"{where}: give a limit, such as -b tokens=50k, or the --manifest that has it",
        MISUSED,
    )


def _run(service: QuotaService, order: RunOrder, name: str, environment: dict[str, str]) -> Receipt:
    scope: Any = nullcontext()
    if order.limits or order.task is not None:
        scope = task_of(service, order, name)
        if scope.plan.shared:
            environment[TASK_VARIABLE] = name
        else:
            _check_measured(order, service, name)
    whose: Any = nullcontext() if order.principal is None else principal(order.principal)
    given = {**os.environ, **environment}
    with whose, scope as task:
        try:
            result = run_sync(order.command, input=order.input, env=given, **order.ceilings)
        except OSError as error:
            why = error.strerror or str(error)
            raise Failure(f"cannot start {order.command[0]}: {why}", MISUSED) from None
        snapshot = None if task is None else snapshot_of(service, task)
    return Receipt(Path(order.command[0]).name, result, snapshot)


def _check_measured(order: RunOrder, service: QuotaService, name: str) -> None:
    """Raise if a limit cannot be kept: the process has no way to pay from its task.

    Raises:
        Failure: it says what to do.
    """
    template = service.runtime.templates.get(name)
    dims = {*order.limits, *(() if template is None else template.limits)} - _MEASURED
    if dims:
        raise Failure(
            f"{order.command[0]} would not be limited in {', '.join(sorted(dims))}: a process of "
            "its own cannot pay. Run a Python program as FILE.py, -m MODULE or python FILE, with "
            f"{sys.executable} and without --cpu, --memory, --output and --stdin; or give a "
            f"--ledger, and have the program join {TASK_VARIABLE}",
            MISUSED,
        )


def snapshot_of(service: QuotaService, task: TaskBudget) -> dict[str, Any]:
    """The balances of a task, with what the program itself has paid from it."""
    shown = task.snapshot().to_dict()
    shared = service.runtime.shared
    if shared is None or not task.plan.shared:
        return shown
    service.flush()
    for state in shared.call(lambda ledger: ledger.read(key_of(task.name, ""))):
        dim = state.node.rpartition("/")[2]
        spent, limit = state.used + state.stranded, state.terms.value
        units = {"spent": spent, "remaining": max(0, limit - spent), "overrun": spent - limit}
        amounts = {name: from_units(dim, max(0, n)) for name, n in units.items()}
        shown["dims"][dim] |= {
            name: str(n) if isinstance(n, Decimal) else n for name, n in amounts.items()
        }
    return shown


def _can_share(service: QuotaService, order: RunOrder, name: str) -> bool:
    """Whether there is something to share, and nothing that cannot be."""
    template = service.runtime.templates.get(name)
    options: Mapping[str, Any] = {} if template is None else template.options
    limits: Mapping[str, Any] = {} if template is None else template.limits
    dims = {*limits, *order.limits} - {"seconds", "millis"}
    return bool(dims) and not options.get("carve") and not options.get("keep")


@contextmanager
def _manifest_for(order: RunOrder, name: str) -> Generator[Path | None]:
    """The manifest that the program is told of, or a copy that has its task as a template."""
    text = "" if order.manifest is None else _read(order.manifest)
    known = parse_manifest(text, None if order.manifest is None else str(order.manifest))
    if order.ledger is not None and known.ledger != MEMORY:
        raise Failure("the manifest names a ledger already: leave out --ledger", MISUSED)
    _check_task(order, known)
    added = ""
    if order.ledger or known.ledger != MEMORY:
        added = "" if name in known.budgets else _template(name, order.limits)
    if order.ledger is None and not added:
        yield order.manifest
        return
    ledger = "" if order.ledger is None else f"ledger = {json.dumps(order.ledger)}\n"
    text = f"{ledger}{text}\n{added}"
    _check_copy(text)
    with TemporaryDirectory(prefix="budgetware-") as folder:  # its owner's alone
        path = Path(folder) / "budgetware.toml"
        path.write_text(text, encoding="utf-8")
        yield path


def _check_copy(text: str) -> None:
    """Parse a manifest whose file is about to go: only what was typed can be wrong in it."""
    try:
        parse_manifest(text)
    except ManifestError as error:
        problems: Sequence[Problem] = error.__dict__.get("problems", ())
        said = problems[0].message if problems else str(error)
        raise Failure(f"--budget, --task or --ledger: {said}", MISUSED) from None


def _read(manifest: Path) -> str:
    try:
        return manifest.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
        raise Failure(f"{manifest}: cannot be read: {why}", MISUSED) from None


def _template(name: str, limits: Mapping[str, Any]) -> str:
    if not limits:
        return ""
    lines = [
        f'{dim} = "{value}"' if isinstance(value, Decimal) else f"{dim} = {value}"
        for dim, value in limits.items()
    ]
    return "\n".join([f'[budgets."{name}"]', *lines, ""])

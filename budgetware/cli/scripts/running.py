"""Running a program under the task of its process, from its first line to its receipt.

Not here: what of it is watched (`watch`), carried (`threads`) and hosted (`scope`).
"""

import json
import os
import sys
import threading
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from budgetware import BudgetTerminated, QuotaService, TaskBudget, principal
from budgetware.errors import BudgetwareError, budget_error
from budgetware.formats import visible
from budgetware.frames import current

from ..runs import TASK_VARIABLE, RunOrder, opened, snapshot_of, task_of
from .ending import Forks, close_task, on_termination
from .program import Program, exit_code_of, wait_for_threads
from .receipt import TERMINATED, UNLIMITED, ScriptReceipt
from .scope import ProcessScope, host_loops
from .threads import carry_context
from .watch import Watch

_FLUSH_SECONDS = 1.0


def run_program(
    program: Program, order: RunOrder, *, grace_seconds: float, as_json: bool
) -> ScriptReceipt:
    """Run a program in this process; all that it does is charged to one task.

    Raises:
        Failure, BudgetwareError: it was not started.
    """
    program.enter()
    has_limits = bool(order.limits) or order.task is not None
    if not has_limits:
        order = replace(order, limits={"calls": UNLIMITED})
    with opened(order) as (service, name, environment):
        task = task_of(service, _with_policy(order, service, name), name)
        if task.plan.shared:
            environment[TASK_VARIABLE] = name
        os.environ.update(environment)
        whose: Any = nullcontext() if order.principal is None else principal(order.principal)
        with whose:
            run = _Run(program, service, task, as_json=as_json, has_limits=has_limits)
            receipt = run.carry_out(grace_seconds)
    current.set(task.frame)  # atexit handlers stand in the task, which has ended: it refuses
    return receipt


def _with_policy(order: RunOrder, service: QuotaService, name: str) -> RunOrder:
    """Unless told otherwise, what its budget ends must not go on."""
    template = service.runtime.templates.get(name)
    if order.policy is not None or (template is not None and "policy" in template.options):
        return order
    return replace(order, policy="terminate")


class _Run:
    """One run of a program: `code` is what it has ended with so far."""

    def __init__(
        self,
        program: Program,
        service: QuotaService,
        task: TaskBudget,
        *,
        as_json: bool,
        has_limits: bool,
    ) -> None:
        self.program = program
        self.service = service
        self.task = task
        self.as_json = as_json
        self.has_limits = has_limits
        self.forks: Forks | None = None
        self.last = threading.Lock()
        self.code = 0
        self.since = monotonic()
        self.process = os.getpid()

    def carry_out(self, grace_seconds: float) -> ScriptReceipt:
        """Run it, with all its threads, to its end; what is done to the process stays so."""
        scope = self.task.scope = ProcessScope()
        watch = Watch(self.task, grace_seconds, partial(self.stop, TERMINATED))
        scope.on_end = watch.ended
        with ExitStack() as stack:
            stack.enter_context(suppress(BudgetTerminated))  # the receipt tells of it
            stack.enter_context(self.task)
            scope.node = self.task.node
            self.service.runtime.outside = self.task.frame  # contexts that inherit nothing, too
            self.forks = Forks(self.task.node, has_limits=self.has_limits)
            watch.start()
            stack.callback(watch.stop)
            for change in (_instrument, carry_context, partial(host_loops, scope)):
                change()
            self._hush_threads()
            on_termination(self.stop)
            self._run(watch)
            self._stop_if_forked()
            if not self.last.acquire(blocking=False):
                threading.Event().wait()  # it is being stopped, and exits
            receipt = self.receipt()
        return receipt  # noqa: RET504 - the end of the task may raise, and is swallowed

    def _run(self, watch: Watch) -> None:
        try:
            try:
                self.program.run()
            finally:
                watch.main_returned()
        except BaseException as error:
            self.code = exit_code_of(error, is_shown=self.is_shown)
        try:
            wait_for_threads()
        except KeyboardInterrupt as error:
            self.code = exit_code_of(error, is_shown=self.is_shown)

    def is_shown(self, error: BaseException) -> bool:
        """Whether what ended a thread is anything but the end of the budget."""
        if self.task.node.latch is None:
            return True
        return isinstance(error, Exception) and budget_error(error) is None

    def _hush_threads(self) -> None:
        """Have no thread print a traceback of the end of the budget."""
        original = threading.excepthook

        def hook(args: threading.ExceptHookArgs, /) -> None:
            if args.exc_value is None or self.is_shown(args.exc_value):
                original(args)

        threading.excepthook = hook

    def receipt(self) -> ScriptReceipt:
        """What it has used in all: nothing more is granted, and what is open is charged."""
        close_task(self.task)
        refusals = self.service.runtime.tallies.refusals.copy()
        return ScriptReceipt(
            name=self.program.shown,
            own_code=self.code,
            latch=self.task.node.latch,
            refused=sum(n for key, n in refusals.items() if key[0] != "throttled"),
            duration_ms=round((monotonic() - self.since) * 1e3),
            task=snapshot_of(self.service, self.task),
            forked=0 if self.forks is None else self.forks.count,
        )

    def stop(self, code: int) -> None:
        """Exit, though the program runs: it was told in every other way, or is to end at once."""
        if not self.last.acquire(blocking=False):
            return  # it ends by itself
        try:
            self.code = code
            flush = threading.Thread(target=_flush, daemon=True)
            flush.start()
            flush.join(_FLUSH_SECONDS)
            with suppress(BudgetwareError, OSError):
                receipt = self.receipt()
                code = receipt.code
                self.service.flush()
                os.write(2, f"{text_of(receipt, as_json=self.as_json)}\n".encode())
        finally:
            os._exit(code)

    def _stop_if_forked(self) -> None:
        """A child that comes back from a fork in the program has no receipt to give."""
        if os.getpid() != self.process:
            _flush()
            os._exit(self.code)


def text_of(receipt: ScriptReceipt, *, as_json: bool) -> str:
    """A receipt as it is printed: one line."""
    return json.dumps(receipt.to_dict()) if as_json else f"budgetware: {visible(receipt.line())}"


def _instrument() -> None:
    from budgetware_integrations import instrument

    instrument()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it is closed, or gone
            stream.flush()

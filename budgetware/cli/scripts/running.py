"""Running a program under the task of its process, from its first line to its receipt.

Not here: what of it is watched (`watch`), carried (`threads`) and hosted (`scope`).
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from time import monotonic
from typing import Any

from budgetware import BudgetTerminated, QuotaService, TaskBudget, principal
from budgetware.errors import BudgetwareError, budget_error
from budgetware.formats import visible

from ..runs import TASK_VARIABLE, RunOrder, opened, snapshot_of, task_of
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
    if not order.limits and order.task is None:
        order = replace(order, limits={"calls": UNLIMITED})
    with opened(order) as (service, name, environment):
        task = task_of(service, _with_policy(order, service, name), name)
        if task.plan.shared:
            environment[TASK_VARIABLE] = name
        os.environ.update(environment)
        whose: Any = nullcontext() if order.principal is None else principal(order.principal)
        with whose:
            return _Run(program, service, task, as_json=as_json).carry_out(grace_seconds)


def _with_policy(order: RunOrder, service: QuotaService, name: str) -> RunOrder:
    """Unless told otherwise, what its budget ends must not go on."""
    template = service.runtime.templates.get(name)
    if order.policy is not None or (template is not None and "policy" in template.options):
        return order
    return replace(order, policy="terminate")


class _Run:
    """One run of a program: `code` is what it has ended with so far."""

    def __init__(
        self, program: Program, service: QuotaService, task: TaskBudget, *, as_json: bool
    ) -> None:
        self.program = program
        self.service = service
        self.task = task
        self.as_json = as_json
        self.code = 0
        self.since = monotonic()
        self.process = os.getpid()

    def carry_out(self, grace_seconds: float) -> ScriptReceipt:
        """Run it, with all its threads, to its end."""
        scope = self.task.scope = ProcessScope()
        watch = Watch(self.task, grace_seconds, self.kill)
        scope.on_end = watch.ended
        with ExitStack() as stack:
            stack.enter_context(suppress(BudgetTerminated))  # the receipt tells of it
            stack.enter_context(self.task)
            scope.node = self.task.node
            watch.start()
            for undo in (_instrument(), carry_context(), host_loops(scope), self._hush_threads()):
                stack.callback(undo)
            stack.callback(watch.stop)
            self._run(watch)
            receipt = self.receipt()
        self._stop_if_forked()
        return receipt

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

    def _hush_threads(self) -> Callable[[], None]:
        """Have no thread print a traceback of the end of the budget."""
        original = threading.excepthook

        def hook(args: threading.ExceptHookArgs, /) -> None:
            if args.exc_value is None or self.is_shown(args.exc_value):
                original(args)

        threading.excepthook = hook

        def undo() -> None:
            if threading.excepthook is hook:
                threading.excepthook = original

        return undo

    def receipt(self) -> ScriptReceipt:
        """What it has used by now."""
        refusals = self.service.runtime.tallies.refusals.copy()
        return ScriptReceipt(
            name=self.program.shown,
            own_code=self.code,
            latch=self.task.node.latch,
            refused=sum(n for key, n in refusals.items() if key[0] != "throttled"),
            duration_ms=round((monotonic() - self.since) * 1e3),
            task=snapshot_of(self.service, self.task),
        )

    def kill(self) -> None:
        """Exit, though the program runs: it was told in every other way."""
        flush = threading.Thread(target=_flush, daemon=True)
        flush.start()
        flush.join(_FLUSH_SECONDS)
        with suppress(BudgetwareError, OSError):
            self.service.flush()
            os.write(2, f"{text_of(self.receipt(), as_json=self.as_json)}\n".encode())
        os._exit(TERMINATED)

    def _stop_if_forked(self) -> None:
        """A child that comes back from a fork in the program has no receipt to give."""
        if os.getpid() != self.process:
            _flush()
            os._exit(self.code)


def text_of(receipt: ScriptReceipt, *, as_json: bool) -> str:
    """A receipt as it is printed: one line."""
    return json.dumps(receipt.to_dict()) if as_json else f"budgetware: {visible(receipt.line())}"


def _instrument() -> Callable[[], None]:
    from budgetware_integrations import instrument, uninstrument

    instrument()
    return uninstrument


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it is closed, or gone
            stream.flush()

"""The end of a process's task: nothing is granted any more, and what is open is charged.

Not here: what ends the program (`watch`, `running`).
"""

import gc
import os
import signal
import threading
from _thread import start_new_thread
from collections.abc import Callable

from budgetware import TaskBudget
from budgetware.accounts import acquire, release, waiting
from budgetware.admission.parking import dismiss
from budgetware.holds import Hold
from budgetware.kernel.nodes import Node

TERMINATION_CODE = 143
_OVER = (
    "the program has ended, and so has its budget: make model calls before its end, not in atexit "
    "handlers or threads that outlive it"
)
_FORKED = (
    "this process was forked off a program under `budgetware run`, which cannot charge what is "
    "used here: make model calls in the program itself or its threads; or give a --ledger, and "
    'start another process (spawn) that joins task_budget(os.environ["BUDGETWARE_TASK"], '
    "shared=True)"
)


def close_task(task: TaskBudget) -> None:
    """Refuse what is asked for from now on, and charge what nobody will settle any more."""
    _refuse(task.node, _OVER)
    if waiting:
        dismiss(task.frame.now_ns(), task.node)
    task.frame.runtime.sweep()
    if any(cell.reserved > 0 for cell in list(task.node.cells.values())):
        _assume_open(task.node)


def _assume_open(node: Node) -> None:
    """Only the calls themselves know that they are open: streams, and those of other threads."""
    for each in gc.get_objects():
        if type(each) is Hold and each.state == "held" and node in each.frame.chain:
            each.told_late = False  # the block that would tell of it may never end
            each.expire()


def _refuse(node: Node, text: str) -> None:
    try:
        acquire()
        node.ended = True
        node.ended_text = text
        node.guard()
    finally:
        release()


class Forks:
    """What a program forks off: under limits it is granted nothing, else it is counted."""

    def __init__(self, node: Node, *, has_limits: bool) -> None:
        self.count = 0
        self._node = node
        self._has_limits = has_limits
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _in_parent(self) -> None:
        if not self._has_limits:
            self.count += 1

    def _in_child(self) -> None:
        if self._has_limits:
            _refuse(self._node, _FORKED)


def on_termination(stop: Callable[[int], object]) -> None:
    """Have SIGTERM call `stop` with an exit code, in a thread of its own; a second one kills.

    A signal finds the main thread anywhere, so nothing that takes a lock may be done in it. What
    a program sets for that signal stands, and so does that it is ignored.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        start_new_thread(stop, (TERMINATION_CODE,))

    def in_child() -> None:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)

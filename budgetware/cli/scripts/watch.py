"""Seeing to it that a program whose budget has ended it does end, whatever it catches.

First its event loops are cancelled and its calls refused; then, if that did not help, it is
interrupted as by Ctrl-C, and in the end the process exits. Not here: that the task is ended.
"""

import signal
import threading
from collections.abc import Callable

from budgetware import TaskBudget
from budgetware.admission.decisions import look_at_deadlines


class Watch:
    """A thread that watches over the task of a process.

    Args:
        grace_seconds: how long after the end of its task the program may go on; it is interrupted
            after half of that.
        kill: called when that is over; it does not return.
    """

    def __init__(self, task: TaskBudget, grace_seconds: float, kill: Callable[[], object]) -> None:
        self._task = task
        self._grace_seconds = grace_seconds
        self._kill = kill
        self._is_ended = threading.Event()
        self._is_done = threading.Event()
        self._lock = threading.Lock()
        self._runs = True

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="budgetware-watch", daemon=True).start()

    def ended(self) -> None:
        """The task was ended. From any thread."""
        self._is_ended.set()

    def main_returned(self) -> None:
        """The main thread has left the program: it is not to be interrupted any more."""
        with self._lock:
            self._runs = False

    def stop(self) -> None:
        """The program is over."""
        self._is_done.set()
        self._is_ended.set()

    def _watch(self) -> None:
        while not self._is_ended.wait(self._seconds_left()):
            look_at_deadlines(self._task.frame)
            if self._task.node.latch is not None:
                self._task.cancel_scope()
        if self._is_done.wait(self._grace_seconds / 2):
            return
        self._interrupt()
        if not self._is_done.wait(self._grace_seconds / 2):
            self._kill()

    def _seconds_left(self) -> float | None:
        deadline_ns = self._task.frame.deadline_ns
        if not deadline_ns:
            return None
        return max(0.001, (deadline_ns - self._task.frame.now_ns()) / 1e9)

    def _interrupt(self) -> None:
        main = threading.main_thread().ident
        with self._lock:
            if self._runs and main is not None and callable(signal.getsignal(signal.SIGINT)):
                if hasattr(signal, "pthread_kill"):  # wakes it where it sleeps
                    signal.pthread_kill(main, signal.SIGINT)
                else:
                    signal.raise_signal(signal.SIGINT)

"""Running a child process: hold, start, wait, settle. Not here: how each of these is done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ..amounts import Price, check_amounts
from ..errors import BlockingInEventLoop, InvalidAmount
from ..frames import current_frame
from ..kernel.dims import show
from ..loops import current_loop
from ..policies import PolicyLike
from ..reservations import Reservation, reserve
from .children import Child
from .orders import Order, Seconds, Size, check_order
from .results import ProcessResult
from .shares import cpu_share, memory_share
from .waits import wait_async, wait_sync

OUTPUT_BYTES = 1 << 20
Command = Sequence[str | os.PathLike[str]]


class _Run:
    """One call of `run`: what is to be started, and the reservation it runs under."""

    def __init__(
        self,
        command: Command,
        amounts: dict[str, Price],
        *,
        name: str | None,
        policy: PolicyLike,
        max_wait: float | str | None,
        check: bool,
        **what: Any,
    ) -> None:
        self.order: Order = check_order(command, **what)
        if "cpu_micros" in amounts:
            given = show(amounts["cpu_micros"])
            raise InvalidAmount(f"cpu_micros={given}: give cpu_seconds, which is its limit, too")
        self.command = command
        self.check = check
        self.frame = current_frame()
        self.cpu_micros = self.order.cpu_micros or cpu_share(self.frame)
        self.memory = self.order.memory or memory_share(self.frame)
        check_amounts(amounts)
        also: dict[str, Any] = dict(amounts)
        self.reservation: Reservation = reserve(
            policy=policy,
            max_wait=max_wait,
            kind="tool",
            name=name or self.order.name,
            cpu_micros=self.cpu_micros or 1,  # enough to be refused while there is debt
            memory=self.memory or 0,
            **also,
        )

    def start(self) -> Child:
        """Start it; what cannot be asked for is released."""
        try:
            return Child(self.order, cpu_micros=self.cpu_micros, memory=self.memory)
        except BaseException:
            self.reservation.release()
            raise

    def settle(self, child: Child) -> ProcessResult:
        """Book what it used, however it ended."""
        failure = child.failure()
        if failure is not None:
            self.reservation.release()
            raise failure
        result = child.result()
        self.reservation.commit(cpu_micros=result.cpu_micros, memory=result.peak_memory_bytes)
        return result

    def cut(self, child: Child) -> None:
        """Book what it used until it was ended."""
        try:
            self.settle(child)
        except OSError:  # it had not started, or nobody knows; then what is held is charged
            return

    def checked(self, result: ProcessResult) -> ProcessResult:
        """Raise where that was asked for."""
        if not self.check or (not result.returncode and result.limit is None):
            return result
        error = subprocess.CalledProcessError(
            result.returncode, list(self.command), result.stdout, result.stderr
        )
        if result.limit is not None:
            error.add_note(f"it came to its limit of {result.limit}")
        raise error


async def run(
    command: Command,
    *,
    input: bytes | str | None = None,
    cpu_seconds: Seconds | None = None,
    memory: Size | None = None,
    output_bytes: Size = OUTPUT_BYTES,
    wall_seconds: Seconds | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    name: str | None = None,
    policy: PolicyLike = None,
    max_wait: float | str | None = None,
    **amounts: Price,
) -> ProcessResult:
    """Run a program as a child process under limits, and charge exactly what it used.

    It reserves before the child is started, as `reserve` does: `cpu_micros` and `memory` as
    limited here; where a payer limits what is not named, what the poorest of them has left. At
    the end that becomes the CPU time of the child and of all that descends from it, and the
    most memory one of them held. With it all its descendants are killed: when it ends, when a
    limit is exceeded, when this call is cancelled, when its task ends, and when this process
    dies. A limit that is exceeded is no error: see `ProcessResult.limit`.

    Beyond Linux only the child's process group is killed, its limits are the kernel's own, which
    count CPU time in whole seconds and each process by itself, and `memory` is refused.

    Args:
        command: the program, looked for in `PATH`, and its arguments; no shell.
        input: what it may read from its standard input; nothing by default.
        cpu_seconds: the CPU time of all its processes, in seconds or as a text such as `"2m"`.
        memory: its memory, in bytes or as a text such as `"256MiB"`: the address space of each
            process, and what all of them really hold.
        output_bytes: how much it may write, of standard output and error together.
        wall_seconds: how long it may run, waiting for its turn apart.
        cwd: its folder; by default this process's.
        env: all of its environment; by default this process's.
        check: raise `subprocess.CalledProcessError` where it fails, or exceeds a limit.
        name: of the span; by default the program's.
        policy, max_wait: as for `reserve`.
        **amounts: what else a call costs, as `calls=1`.

    Raises:
        ConfigurationError, InvalidAmount: at once; nothing has changed.
        BudgetExceeded, BudgetTerminated, NoBudget, LedgerUnavailable: nothing was started.
        OSError: the program cannot be started, as when it is not there; nothing is charged.
        ChildProcessError: whoever watched it was killed; charged as reserved.
    """
    asked = _Run(
        command, amounts, name=name, policy=policy, max_wait=max_wait, check=check, input=input,
        cpu_seconds=cpu_seconds, memory=memory, output_bytes=output_bytes,
        wall_seconds=wall_seconds, cwd=cwd, env=env,
    )  # fmt: skip
    async with asked.reservation:
        child = asked.start()
        try:
            try:
                await wait_async(child, asked.frame)
            except BaseException:
                asked.cut(child)
                raise
            return asked.checked(asked.settle(child))
        finally:
            child.close()


def run_sync(
    command: Command,
    *,
    input: bytes | str | None = None,
    cpu_seconds: Seconds | None = None,
    memory: Size | None = None,
    output_bytes: Size = OUTPUT_BYTES,
    wall_seconds: Seconds | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = False,
    name: str | None = None,
    policy: PolicyLike = None,
    max_wait: float | str | None = None,
    **amounts: Price,
) -> ProcessResult:
    """Run a program as `run` does, blocking this thread.

    Raises:
        BlockingInEventLoop: this thread runs an event loop.
    """
    if current_loop() is not None:
        raise BlockingInEventLoop(
            "process.run_sync would block the event loop of this thread: await process.run(...), "
            "or call it in a worker thread"
        )
    asked = _Run(
        command, amounts, name=name, policy=policy, max_wait=max_wait, check=check, input=input,
        cpu_seconds=cpu_seconds, memory=memory, output_bytes=output_bytes,
        wall_seconds=wall_seconds, cwd=cwd, env=env,
    )  # fmt: skip
    with asked.reservation:
        child = asked.start()
        try:
            try:
                wait_sync(child, asked.frame)
            except BaseException:
                asked.cut(child)
                raise
            return asked.checked(asked.settle(child))
        finally:
            child.close()

"""A process that draws on a shared resource, and says at once what has come of each call.

Run as `python -m tests.chaos.worker ORDERS`. It prints, each line in one write:

    ready                           it may be asked
    + NUMBER HELD USED NANOSECONDS  a call was granted, and will use so much of what it holds
    - NUMBER NANOSECONDS            it has done its work, and is about to settle
    = NUMBER                        its block was left: the settlement is acknowledged
    ! NUMBER ERROR SECONDS RETRY    it was refused, after so long
    flushed COUNT                   so many acknowledged ones are in the ledger
    done                            there is nothing left to draw
    ended NANOSECONDS               the task was terminated
    .                               what was asked for is done

and reads what it is asked for: `draw HELD USED`, `open HELD`, `settle USED`, `flush`, `balance`,
`step SECONDS`, `files BYTES`, `terminate`, `quit`.
"""

from __future__ import annotations

import ctypes
import os
import resource as limits
import sys
import time
from random import Random
from typing import Any

import anyio

from tests.chaos.orders import TARGET, Orders, read_orders

MAX_BIRTHS = 10

_real_time = time.time


class WallClock:
    """The wall clock of this process, which can be set."""

    step_seconds = 0.0

    def __call__(self) -> float:
        return _real_time() + self.step_seconds


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Worker:
    """One life."""

    def __init__(self, orders: Orders, clock: WallClock) -> None:
        self.orders = orders
        self.clock = clock
        self.random = Random(orders.seed)
        self.count = self.acknowledged = 0
        self.is_ready = self.is_leaving = False
        self.open: Any = None
        self.opened = ""
        self.service: Any = None
        self.task: Any = None
        self.heard = b""

    async def live(self) -> None:
        import budgetware

        orders = self.orders
        error: Any = orders.on_ledger_error
        service = budgetware.connect(
            ledger=orders.ledger,
            lease_seconds=orders.lease_seconds,
            on_ledger_error=error,
            outbox=orders.outbox,
        )
        async with service:
            self.service = service
            if orders.is_task:
                await self._share()
            else:
                await anyio.to_thread.run_sync(service.define, self._resource())
                await self._work()

    def _resource(self) -> Any:
        from budgetware import Capacity, Concurrency, Rate, Resource

        orders = self.orders
        limit: Any = Concurrency(orders.value)
        if orders.kind == "rate":
            limit = Rate(orders.value, orders.period_seconds)
        if orders.kind == "capacity":
            limit = Capacity(orders.value)
        is_capacity = orders.kind == "capacity"
        stranded: Any = orders.stranded if is_capacity else "keep"
        return Resource(
            TARGET,
            limit,
            "throttle" if orders.kind == "concurrency" else "reject",
            max_wait=0.2 if orders.kind == "concurrency" else None,
            per_call=orders.per_call,
            max_lease=orders.max_lease,
            stranded=stranded,
        )

    async def _share(self) -> None:
        from budgetware import BudgetTerminated, Reject, task_budget

        task = task_budget(
            self.orders.kind, shared=True, calls=self.orders.value, policy=Reject(patience=None)
        )  # fmt: skip
        try:
            async with task as self.task:
                await self._work()
        except BudgetTerminated:
            say("ended", time.monotonic_ns())
            while await self._next() != "quit":
                say(".")

    async def _work(self) -> None:
        self.is_ready = True
        say("ready")
        async with anyio.create_task_group() as group:
            if self.orders.draws:
                group.start_soon(self._run_freely)
            await self._obey()
            self.is_leaving = True

    async def _run_freely(self) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(self.orders.draws):
                group.start_soon(self._draw_all)
        if not self.is_leaving:
            say("done")

    async def _draw_all(self) -> None:
        """Draw until there is nothing left, for anybody."""
        while not self.is_leaving:
            held = self.random.randint(1, self.orders.most)
            used = self.random.randint(0, held)
            answer = await self.draw(held, used)
            if answer == "never" and held > 1:
                answer = await self.draw(1, 1)
            if answer == "never":
                return
            if answer != "granted":
                await anyio.sleep(0.01)

    async def draw(self, held: int, used: int) -> str:
        """Make a call; say whether it was granted, or refused for now, or for ever."""
        from budgetware import BudgetExceeded, reserve
        from budgetware.errors import LedgerUnavailable

        number = self._number()
        began = time.monotonic()
        amounts: dict[str, Any] = {"calls": held} if self.task is not None else {}
        target: tuple[Any, ...] = () if amounts else (TARGET, held)
        answer, retry = "refused", None
        try:
            async with reserve(*target, kind="tool", name=number, **amounts) as reservation:
                say("+", number, held, used, time.monotonic_ns())
                await anyio.sleep(self.random.uniform(0, self.orders.busy_seconds))
                say("-", number, time.monotonic_ns())
                reservation.commit(used)
            self.acknowledged += 1
            say("=", number)
            return "granted"
        except BudgetExceeded as error:
            retry = error.retry_after
            answer = "never" if retry is None else answer
            problem: Exception = error
        except LedgerUnavailable as error:
            problem = error
        seconds = time.monotonic() - began
        say("!", number, type(problem).__name__, f"{seconds:.3f}", retry)
        return answer

    def _number(self) -> str:
        self.count += 1
        orders = self.orders
        if orders.step_seconds and self.count == orders.drawn_before_step:
            self.clock.step_seconds = orders.step_seconds
        return f"{orders.name}.{self.count}"

    # What it is asked for.

    async def _obey(self) -> None:
        while True:
            word, *values = (await self._next()).split()
            if word == "quit":
                return
            await getattr(self, f"_{word}")(*values)
            say(".")

    async def _next(self) -> str:
        while b"\n" not in self.heard:
            await anyio.wait_readable(0)
            data = os.read(0, 4_096)
            if not data:
                return "quit"
            self.heard += data
        line, _, self.heard = self.heard.partition(b"\n")
        return line.decode()

    async def _draw(self, held: str, used: str) -> None:
        await self.draw(int(held), int(used))

    async def _open(self, held: str) -> None:
        from budgetware import reserve

        self.opened = self._number()
        self.open = await reserve(TARGET, int(held), kind="tool", name=self.opened)
        say("+", self.opened, held, held, time.monotonic_ns())

    async def _settle(self, used: str) -> None:
        self.open.commit(int(used))
        say("settled", self.opened, used)

    async def _flush(self) -> None:
        count = self.acknowledged
        await anyio.to_thread.run_sync(self.service.flush)
        say("flushed", count)

    async def _balance(self) -> None:
        found = self.service.resource(TARGET).balance
        say("balance", found.spent, found.reserved, found.granted, found.remaining)

    async def _step(self, seconds: str) -> None:
        self.clock.step_seconds += float(seconds)

    async def _files(self, size: str) -> None:
        hard = limits.getrlimit(limits.RLIMIT_FSIZE)[1]
        limits.setrlimit(limits.RLIMIT_FSIZE, (int(size) if int(size) >= 0 else hard, hard))

    async def _terminate(self) -> None:
        say("terminates", time.monotonic_ns())
        self.task.terminate("told to")


def obey_modes() -> None:
    """Have the modes of files count for root, too: without its capabilities 1 and 2."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110  # of those in effect
    assert libc.capset(header, sets) == 0


def main() -> None:
    orders = read_orders(sys.argv[1])
    clock = WallClock()
    time.time = clock
    if not orders.drawn_before_step:
        clock.step_seconds = orders.step_seconds
    if orders.is_ordinary:
        obey_modes()
    sys.exit(run(Worker(orders, clock)))


def run(worker: Worker) -> int:
    """Live once; where the ledger was away at birth, try again, as a supervisor would."""
    import budgetware.errors

    for left in reversed(range(MAX_BIRTHS)):
        try:
            anyio.run(worker.live)
        except budgetware.errors.BudgetwareError as error:
            is_away = isinstance(error, budgetware.errors.LedgerUnavailable)
            if left and is_away and not worker.is_ready:
                continue
            say("failed", type(error).__name__, str(error))
            return 3
        return 0
    return 3


if __name__ == "__main__":
    main()

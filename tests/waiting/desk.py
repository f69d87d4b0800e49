"""Callers that reserve, say when they were let in, and stay until they are sent away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from budgetware import QuotaService, Reservation, TaskBudget, reserve, reserve_nowait
from budgetware.errors import BudgetwareError
from budgetware.kernel.balances import Balance


async def turns(number: int = 8) -> None:
    """Let all others run as far as they get, while no time passes."""
    for _ in range(number):
        await checkpoint()


def now() -> float:
    """The virtual time in seconds, to the nanosecond."""
    return round(anyio.current_time(), 9)


class Caller:
    """One call: `at` is when it was let in, `error` why it was not."""

    def __init__(
        self, make: Callable[[], Reservation], seconds: float | None, used: int | None
    ) -> None:
        self.at: float | None = None
        self.error: BudgetwareError | None = None
        self.left = anyio.Event()
        self.scope = anyio.CancelScope()
        self.reservation: Reservation | None = None
        self.used = used
        self._make = make
        self._seconds = seconds

    async def run(self, entered: list[str], name: str) -> None:
        try:
            with self.scope:
                async with self._make() as self.reservation:
                    self.at = now()
                    entered.append(name)
                    await self._stay()
                    if self.used is not None:
                        self.reservation.commit(self.used)
        except BudgetwareError as error:
            self.error = error

    async def _stay(self) -> None:
        if self._seconds is None:
            await self.left.wait()
        else:
            await anyio.sleep(self._seconds)


class Desk:
    """Where callers arrive; `entered` are their names in the order in which they were let in."""

    def __init__(self, group: TaskGroup) -> None:
        self.entered: list[str] = []
        self.callers: dict[str, Caller] = {}
        self._group = group
        self._context = copy_context()

    async def arrive(
        self,
        name: str,
        *target: Any,
        seconds: float | None = None,
        used: int | None = None,
        inside: TaskBudget | None = None,
        is_stranger: bool = False,
        **options: Any,
    ) -> Caller:
        """Start a caller, and let it get as far as it gets before the next one comes.

        It stays for so many seconds, else until it is sent away, and commits what it `used`. It
        calls from where it is started, or inside another task, or is a stranger to all that was
        entered since the desk was opened.
        """
        caller = Caller(lambda: reserve(*target, **options), seconds, used)
        self.callers[name] = caller
        run = caller.run if inside is None else inside.wrap(caller.run)
        context = self._context.copy() if is_stranger else copy_context()
        context.run(self._group.start_soon, run, self.entered, name)
        await turns()
        return caller

    async def leave(self, name: str, used: int | None = None) -> None:
        """Let a caller go, having used so much."""
        caller = self.callers[name]
        caller.used = caller.used if used is None else used
        caller.left.set()
        await turns()

    async def cancel(self, name: str) -> None:
        """Cancel a caller, whether it waits or is in."""
        self.callers[name].scope.cancel()
        await turns()

    def start(self, run: Callable[..., Coroutine[Any, Any, object]], *args: object) -> None:
        """Run something else beside the callers."""
        self._group.start_soon(run, *args)

    def error(self, name: str) -> Any:
        """Why a caller was not let in."""
        return self.callers[name].error

    def at(self, name: str) -> float | None:
        """When a caller was let in."""
        return self.callers[name].at

    def send_away(self) -> None:
        """Let everyone go who is in, or will be."""
        for caller in self.callers.values():
            caller.left.set()


@asynccontextmanager
async def open_desk() -> AsyncGenerator[Desk]:
    """A desk whose callers all go at the end."""
    async with anyio.create_task_group() as group:
        desk = Desk(group)
        yield desk
        desk.send_away()


def take(*target: Any, **options: Any) -> Reservation:
    """Hold something as a foreigner would: this task does not know of it."""
    return copy_context().run(reserve_nowait, *target, **options)


def balance_of(service: QuotaService, name: str) -> Balance:
    """The balance of a resource, which adds up."""
    balance: Any = service.resource(name).balance
    parts = balance.spent + balance.reserved + balance.granted + balance.remaining
    assert balance.limit == parts - balance.overrun, balance
    return balance  # type: ignore[no-any-return]

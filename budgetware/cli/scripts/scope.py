"""The scope of a task that is a whole process: its end cancels every event loop that runs in it.

Not here: what ends it.
"""

import math
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

import anyio

from budgetware.imports import when_imported
from budgetware.kernel.nodes import Node
from budgetware.loops import call_on, current_loop
from budgetware.scopes import OwnerScope
from budgetware.termination import TerminateSignal, terminated

Undo = Callable[[], None]


class ProcessScope(OwnerScope):
    """Open in the main thread, where no event loop runs yet; those that come are its guests.

    Attributes:
        node: of the task, once it is entered.
        on_end: called each time that the task is ended.
    """

    def __init__(self) -> None:
        self.node: Node | None = None
        self.on_end: Callable[[], object] | None = None
        self._guests: dict[anyio.CancelScope, Any] = {}

    def cancel(self) -> None:
        """Cancel what runs inside, from any thread."""
        if self.on_end is not None:
            self.on_end()
        for scope, loop in list(self._guests.items()):
            call_on(loop, scope.cancel)

    @property
    def is_over(self) -> bool:
        """Whether its task was ended."""
        return self.node is not None and self.node.latch is not None

    def is_cut(self) -> bool:
        """Whether what is awaited here now is cancelled by this scope; a shield keeps it off."""
        loop = current_loop()
        guests = list(self._guests.items())
        if not any(its is loop and scope.cancel_called for scope, its in guests):
            return False
        return anyio.current_effective_deadline() == -math.inf

    async def host(self, main: Awaitable[Any]) -> Any:
        """Run what an event loop runs first; the end of the task ends it."""
        node = self.node
        if node is None:
            return await main
        scope = anyio.CancelScope()
        self._guests[scope] = current_loop()
        try:
            with scope:
                if node.latch is not None:
                    scope.cancel()
                return await main
        finally:
            del self._guests[scope]
        raise TerminateSignal(terminated(node))


def host_loops(scope: ProcessScope) -> Undo:
    """Have the event loops of asyncio and trio run in a scope; returns the undo."""
    undos: list[Undo] = []
    undos.append(when_imported("asyncio", lambda module: _host_asyncio(module, scope, undos)))
    undos.append(when_imported("trio", lambda module: _host_trio(module, scope, undos)))

    def undo() -> None:
        for take_back in reversed(undos):
            take_back()

    return undo


def _host_asyncio(asyncio: Any, scope: ProcessScope, undos: list[Undo]) -> None:
    def is_main(given: Any) -> bool:
        return asyncio.iscoroutine(given) and current_loop() is None

    def is_main_in_time(given: Any) -> bool:  # what a loop runs to be closed is to come to its end
        return is_main(given) and not scope.is_over

    for kind, name, is_hosted in (
        (asyncio.Runner, "run", is_main),
        (asyncio.BaseEventLoop, "run_until_complete", is_main_in_time),
    ):
        original = getattr(kind, name)
        setattr(kind, name, _hosting(original, scope, is_hosted))
        undos.append(partial(setattr, kind, name, original))


def _hosting(original: Any, scope: ProcessScope, is_hosted: Callable[[Any], bool]) -> Any:
    @wraps(original)
    def run(self: Any, main: Any, **options: Any) -> Any:
        if is_hosted(main):
            main = scope.host(main)
        return original(self, main, **options)

    return run


def _host_trio(trio: Any, scope: ProcessScope, undos: list[Undo]) -> None:
    original = trio.run

    @wraps(original)
    def run(async_fn: Any, *args: Any, **options: Any) -> Any:
        async def hosted(*args: Any) -> Any:
            return await scope.host(async_fn(*args))

        return original(wraps(async_fn)(hosted), *args, **options)

    trio.run = run
    undos.append(partial(setattr, trio, "run", original))

"""Runs of LlamaIndex's workflows, which end with who awaits them. Not here: what they pay."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class

from ._subclasses import Method, subclass

__all__ = ["cancelling"]


def cancelling(original: Method) -> Method:
    """Make `run` of a workflow: it is cancelled where who awaits its handler is."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return subclass(original(self, *args, **kwargs), {"__await__": _await})

    return run


def _await(original: Method) -> Method:
    async def result(handler: Any) -> Any:
        ended = _Ended()
        async with create_task_group() as group:
            group.start_soon(ended.watch, _Original(original, handler))
            try:
                await ended.event.wait()
            except get_cancelled_exc_class():
                with CancelScope(shield=True):
                    await handler.cancel_run()
                raise
        if ended.error is not None:
            raise ended.error
        return ended.result

    return lambda self: result(self).__await__()


class _Ended:
    """How a run ended, waited for by a task that is not cancelled.

    A cancelled wait for the result would kill the loop of the run, and leave its steps running.
    """

    __slots__ = ("error", "event", "result")

    def __init__(self) -> None:
        self.event = Event()
        self.result: Any = None
        self.error: BaseException | None = None

    async def watch(self, running: Awaitable[Any]) -> None:
        try:
            with CancelScope(shield=True):
                self.result = await running
        except BaseException as error:
            self.error = error
        finally:
            self.event.set()


@dataclass(frozen=True, slots=True)
class _Original:
    """A handler, awaited as it was before."""

    method: Method
    handler: Any

    def __await__(self) -> Any:
        return self.method(self.handler)

"""One run of a decorated generator: as a call with one reservation, or as a task of its own."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import Token
from typing import TYPE_CHECKING, Any

from .accounts import book_later, drain
from .admission.refusals import refuse_async, refuse_sync
from .events import Outcome
from .frames import Frame, current
from .holding import Holding, enter_hold, leave_hold
from .holds import Hold
from .loops import current_loop
from .measures import CpuMeter, Metered, with_cpu
from .requests import admit_async, admit_sync
from .scopes import restore
from .termination import TerminateSignal, terminated
from .usage import Usage, read_usage

if TYPE_CHECKING:
    from .sites import Site
    from .tasks import TaskBudget


class CallStream:
    """A generator under `@budgeted`: held from its first step to its last."""

    def __init__(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._site = site
        self._args = args
        self._kwargs = kwargs
        self._hold: Hold | None = None
        self._items = 0
        self._settling: BaseException | None = None
        self._meter = CpuMeter() if site.cpu else None
        self._token: Token[Frame] | None = None
        self._holding: Holding | None = None
        self._frame: Frame | None = None
        self._is_async = False

    def __del__(self) -> None:
        """An event loop that is closed over a stream drops it without a word to it."""
        hold = self._hold
        if hold is not None and hold.state == "held":
            book_later(lambda: hold.close("assumed", hold.record, "cancelled"))

    @property
    def hold(self) -> Hold:
        assert self._hold is not None
        return self._hold

    async def start_async(self) -> None:
        self._frame = current.get(None)
        answer = self._site.open(self._args, self._kwargs)
        if not isinstance(answer, Hold):
            answer = self._site.admitted(await admit_async(answer))
        self._hold = answer
        self._is_async = True

    def start(self) -> None:
        self._frame = current.get(None)
        answer = self._site.open(self._args, self._kwargs)
        if not isinstance(answer, Hold):
            answer = self._site.admitted(admit_sync(answer))
        self._hold = answer

    def enter(self) -> None:
        # A finalizer may run a step in a context of its own: the frame is the one of the start.
        frame = self._frame
        self._token = None if frame is None else current.set(frame)
        if self.hold.frame.is_throttled:
            self._holding = enter_hold(self.hold)
        if self.hold.span is not None:
            self.hold.span.attach()
        if self._meter is not None and not self._is_async:
            self._meter.start()

    def leave(self, error: BaseException | None) -> BaseException | None:
        if self._meter is not None and not self._is_async:
            self._meter.stop()
        if self.hold.span is not None:
            self.hold.span.detach()
        if self._holding is not None:
            leave_hold(self._holding)
        if self._token is not None:
            restore(self._token)
        return error

    def running(self, step: Awaitable[Any], /) -> Awaitable[Any]:
        return step if self._meter is None else Metered(step, self._meter)

    def seen(self, item: Any, /) -> None:
        self._items += 1
        settle = self._site.settle
        if settle is None:
            return
        if settle == Usage.of:  # not every item of a stream reports usage
            settle = read_usage
        try:
            used = settle(item)
            if used is not None:
                self.hold.note(used, {})
        except BaseException as error:
            self._settling = error
            raise

    def ended(self, error: BaseException | None) -> BaseException | None:
        hold = self.hold
        if error is not None and error is self._settling:
            hold.record = None
        hold.record = with_cpu(hold, hold.record, self._meter)
        if error is None:
            hold.close("committed", hold.record)
        elif error is self._settling:
            hold.close("assumed", hold.record, "completed", error)
        else:
            hold.cut(error, self._outcome(error))
            if self._is_async and current_loop() is not None:
                drain()  # a loop closes its streams in a task, never inside a collection
        return error

    def _outcome(self, error: BaseException) -> Outcome | None:
        """A provider or body that fails after it gave something is broken, not failed."""
        return "broken" if self._items and isinstance(error, Exception) else None


class TaskStream:
    """A generator under `@task_budget(...)`: a task, with a scope of its own for each step."""

    def __init__(self, task: TaskBudget) -> None:
        self._task = task
        self._is_open = False

    def __del__(self) -> None:
        if self._is_open:
            task = self._task
            book_later(lambda: task.end(None))

    async def start_async(self) -> None:
        refusal = self._task.open()
        if refusal is not None:
            await refuse_async(refusal)
        self._is_open = True

    def start(self) -> None:
        refusal = self._task.open()
        if refusal is not None:
            refuse_sync(refusal)
        self._is_open = True

    def enter(self) -> None:
        self._task.enter_scope()

    def leave(self, error: BaseException | None) -> BaseException | None:
        left = self._task.leave_scope(error)
        if left is None and self._task.node.latch is not None:
            return TerminateSignal(terminated(self._task.node))
        return left

    def running(self, step: Awaitable[Any], /) -> Awaitable[Any]:
        return step

    def seen(self, _item: Any, /) -> None:
        return

    def ended(self, error: BaseException | None) -> BaseException | None:
        self._is_open = False
        return self._task.end(error)

"""`task_budget`: a budget with a scope; everything that runs inside pays from it.

Not here: what calls cost (`holds`), and how a refusal reaches their code (`termination`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio import to_thread

from . import sessions, shared_tasks
from .accounts import acquire, release, waiting
from .admission.decisions import look_at_deadlines, look_at_least
from .admission.parking import dismiss, serve_cells
from .admission.refusals import Refusal, refuse_async, refuse_sync
from .amounts import Price
from .errors import ConfigurationError
from .events import Outcome
from .finishing import Finish
from .frames import Frame, current
from .generators import refuse_inside_generator
from .ids import new_id
from .kernel.balances import Snapshot
from .kernel.nodes import Node
from .kernel.tree import give_back
from .kernel.verdict import Verdict
from .ledgers.terms import NodeState
from .limits import NO_LIMITS, top_up
from .outcomes import outcome_of
from .placing import place
from .plans import TaskPlan
from .policies import Terminate
from .requests import book
from .runtime import Runtime, default_runtime
from .scopes import OwnerScope, converted
from .statements import Amount, describe, remaining, snapshot, spent, verdict
from .task_functions import carry, decorate_task
from .termination import latch

F = TypeVar("F")
P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("budgetware")
_SETTLE_POLL_SECONDS = 0.002


class TaskBudget:
    """A budget with a scope; made by `task_budget`, entered once, read from anywhere.

    Attributes:
        name: for people and dashboards; not unique.
        id: unique in this process and, by a random prefix, beyond it.
    """

    is_spread = False
    started_ns = 0
    ended_ns: int | None = None
    _node: Node | None = None
    _frame: Frame | None = None
    _span: Any = None

    def __init__(self, plan: TaskPlan, name: str | None = None) -> None:
        self.plan = plan
        self.name = plan.name or name or "task"
        self.id = new_id()
        self.scope = OwnerScope()

    def __repr__(self) -> str:
        state = "not entered" if self._node is None else "ended" if self._node.ended else "open"
        return f"<TaskBudget {self.name} {self.id} {state}>"

    # What it shows.

    @property
    def path(self) -> str:
        """The names of its ancestors and its own, outermost first, joined by `/`."""
        return self.node.path

    @property
    def parent(self) -> TaskBudget | None:
        """The task it is inside of, which pays with it; None where it is an outermost one."""
        outer: TaskBudget | None = next((node.owner for node in self.node.chain[1:]), None)
        return outer

    @property
    def verdict(self) -> Verdict:
        """The worst state of its own dimensions; `exhausted` once terminated."""
        return verdict(self)

    @property
    def is_terminated(self) -> bool:
        """Whether it was terminated, or is past its deadline; not what its ancestors are."""
        look_at_deadlines(self.frame)
        return self.node.latch is not None

    def spent(self, dim: str) -> Amount:
        """What was charged in `dim` so far, children included; `memory`: the highest held."""
        return spent(self, dim)

    def remaining(self, dim: str) -> Amount | None:
        """What a call in this context could still reserve from this task; None: no limit.

        Ancestors may have less. What is kept counts only inside `finish()`.
        """
        return remaining(self, dim)

    def snapshot(self) -> Snapshot:
        """All balances at one instant."""
        return snapshot(self)

    def describe(self) -> str:
        """One paragraph an agent can read: what is left of what, ancestors included."""
        return describe(self)

    # What it does.

    def terminate(self, reason: str) -> None:
        """End the task: refuse every later reservation, cancel its block. From any thread.

        Does nothing if it has ended already.
        """
        text = "".join(c for c in str(reason) if c.isprintable())[:256] or "no reason given"
        try:
            acquire()
            if self.node.ended:
                return
            latch(self.node, None, text)
        finally:
            release()
        self.cancel_scope()

    def top_up(self, **limits: Any) -> None:
        """Raise limits by these amounts (`seconds` too); pays off debt first.

        Raises:
            InvalidAmount: a number, or a dimension this task does not limit.
            BudgetTerminated, NoBudget: it was terminated, or has ended; nothing has changed.
            BudgetExceeded: it is a carve and its parent has not enough.
        """
        top_up(self, limits)

    def charge(self, **amounts: Price) -> Verdict:
        """Book on this task what has already happened; see `charge`."""
        return book(self.frame, amounts)

    def checkpoint(self) -> None:
        """Raise what a reserve would raise now, charging nothing.

        That is: the task or an ancestor was terminated, has ended or is past its deadline, or
        has nothing left in a dimension it limits.
        """
        frame = self._context()
        if frame.deadline_ns and frame.now_ns() >= frame.deadline_ns:
            look_at_deadlines(frame)
        refusal = look_at_least(frame)
        if refusal is not None:
            refuse_sync(refusal)

    def finish(self) -> Finish:
        """Let calls inside `async with` (or `with`) spend what `keep` held back.

        In the block, or once more in the owner's `except BudgetTerminated`.
        """
        return Finish(self)

    def wrap(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Make `fn` run inside this task wherever it is called: in a thread, an executor.

        Context variables reach worker threads of anyio and `asyncio.to_thread` by themselves,
        not `threading.Thread`, `ThreadPoolExecutor.submit` or `loop.run_in_executor`.
        """
        if not callable(fn):
            raise ConfigurationError(f"wrap({str(fn)[:40]}): give a function")
        return carry(self._context(), fn)

    def __call__(self, fn: F) -> F:
        """Decorate a function: each call, or each run of a generator, is a task of its own."""
        if self._node is not None:
            raise _entered_twice(self.name)
        decorated: F = decorate_task(lambda name: TaskBudget(self.plan, name), fn)
        return decorated

    # Its place in the tree.

    @property
    def node(self) -> Node:
        """Its node; for the library's own use."""
        if self._node is None:
            raise _not_entered(self.name)
        return self._node

    @property
    def frame(self) -> Frame:
        """Where its calls stand; for the library's own use."""
        if self._frame is None:
            raise _not_entered(self.name)
        return self._frame

    @property
    def stack(self) -> object | None:
        """The task or thread its block runs on, while it is open."""
        return self.scope.stack

    def _context(self) -> Frame:
        """The current frame if it stands inside this task, else the task's own."""
        frame = current.get(None)
        return frame if frame is not None and self.node in frame.chain else self.frame

    def cancel_scope(self) -> None:
        """Cancel the block, from any thread; whoever waits below it is refused."""
        if self.plan.shared:
            shared_tasks.spread(self)
        if waiting:
            dismiss(self.frame.now_ns(), self.node)
        self.scope.cancel()

    def warn(self, dim: str) -> None:
        """Call `on_warn`; whatever it raises changes nothing."""
        if self.plan.on_warn is None:
            return
        try:
            self.plan.on_warn(self, Verdict("warn", dim))
        except Exception:
            _log.exception("on_warn of task %s raised; nothing has changed", self.path)

    # Its life.

    def prepare(self) -> Runtime:
        """Settle which service it belongs to, and what its template says."""
        if self._node is not None:
            raise _entered_twice(self.name)
        parent = current.get(None)
        runtime = self.plan.runtime or (default_runtime() if parent is None else parent.runtime)
        plan = self.plan
        if plan.override is not None and (runtime.templates or plan.limits is NO_LIMITS):
            self.plan = plan.within(runtime)
        return runtime

    def open(self, states: list[NodeState] | None = None) -> Refusal | None:
        """Join the tree; a carve may be refused, and then nothing has changed.

        Args:
            states: of a shared one: its limits in the ledger; None: ask for them, which blocks.
        """
        frame = place(self, self.prepare(), states)
        if not isinstance(frame, Frame):
            return frame
        self._frame = frame
        self._node = frame.chain[0]
        frame.runtime.nodes.add(self._node)
        if frame.runtime.records is not None:
            sessions.started(self)
        if frame.observer is not None:
            self._span = frame.observer.task_started(self)
        return None

    def enter_scope(self) -> None:
        """Make the task current here, and open its cancel scope."""
        time_ns = None
        if self.node.deadline_ns is not None:
            time_ns = self.node.deadline_ns - self.frame.now_ns()
        if self._span is not None:
            self._span.attach()
        self.scope.enter(self.frame, None if time_ns is None else time_ns / 1e9)
        if self.node.latch is not None:  # terminated before its block, or between two steps
            self.scope.cancel()

    def leave_scope(self, error: BaseException | None) -> BaseException | None:
        """The opposite; returns what of `error` was not this task's own cancellation."""
        error = self.scope.close(error)
        if self._span is not None:
            self._span.detach()
        if self.scope.expired and self.node.latch is None:
            try:
                acquire()
                latch(self.node, "millis", "its deadline has passed")
            finally:
                release()
        return error

    async def settle(self) -> None:
        """Wait, shielded, for calls of foreign tasks and threads under a terminated task."""
        policy = self.plan.policy
        limit = policy.settle_seconds if isinstance(policy, Terminate) else 1.0
        if self.node.latch is None or limit == 0 or not self._is_reserved():
            return
        pause = _SETTLE_POLL_SECONDS
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + limit):
            while self._is_reserved():
                await anyio.sleep(pause)
                pause = min(2 * pause, 0.05)

    def _is_reserved(self) -> bool:
        self.frame.runtime.sweep()
        return any(cell.reserved > 0 for cell in list(self.node.cells.values()))

    def end(self, error: BaseException | None) -> BaseException | None:
        """Leave the tree; returns what the block raises."""
        node, frame = self.node, self.frame
        frame.runtime.sweep()
        try:
            acquire()
            self.ended_ns = frame.now_ns()
            node.ended = True
            for dim in node.lent:
                give_back(node.cells[dim])
            node.guard()
            frame.runtime.nodes.discard(node)
            if self.plan.shared:
                shared_tasks.end(self)
        finally:
            release()
        if waiting:
            dismiss(self.ended_ns, node)
            lent = [(outer.cells, dim) for outer in node.chain[1:] for dim in node.lent]
            lenders = [cells[dim] for cells, dim in lent if dim in cells]
            serve_cells(lenders, self.ended_ns)
        shown = converted(node, error)
        if node.latch is not None and shown is not None:
            frame.runtime.telemetry.terminated(self, shown)
        if self._span is not None:
            self._span.ended(self, self._outcome(shown), shown)
            self._span = None
        if frame.runtime.records is not None:
            sessions.ended(self, self._outcome(shown))
        return shown

    def _outcome(self, shown: BaseException | None) -> Outcome:
        if self.node.latch is not None:
            return "terminated"
        return "completed" if shown is None else outcome_of(shown, self.frame)

    def __enter__(self) -> TaskBudget:
        refuse_inside_generator()
        refusal = self.open()
        if refusal is not None:
            refuse_sync(refusal)
        self.enter_scope()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._show(error, self.end(self.leave_scope(error)))

    async def __aenter__(self) -> TaskBudget:
        refuse_inside_generator()
        states: list[NodeState] | None = None
        if self.plan.shared:
            states = await to_thread.run_sync(shared_tasks.define, self, self.prepare())
        refusal = self.open(states)
        if refusal is not None:
            await refuse_async(refusal)
        self.enter_scope()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        left = self.leave_scope(error)
        if self.node.latch is not None and not isinstance(left, GeneratorExit):
            try:
                await self.settle()
            except BaseException as interrupted:  # a native cancel: it goes on, ours with it
                left = interrupted
        self._show(error, self.end(left))

    @staticmethod
    def _show(error: BaseException | None, shown: BaseException | None) -> None:
        """Raise what the block raises, unless that goes on by itself.

        Nothing is ever swallowed: a cancellation that was this task's own has latched it, and a
        latched task shows its end.
        """
        assert shown is not None or error is None
        if shown is not None and shown is not error:
            raise shown


def _entered_twice(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"task_budget {name!r} was entered already: a task is entered once; make a new one, or "
        "decorate a function with it"
    )


def _not_entered(name: str) -> ConfigurationError:
    return ConfigurationError(f"task_budget {name!r} was not entered yet: use it inside its block")

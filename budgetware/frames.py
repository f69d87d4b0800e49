"""Where a call stands: the service and the task it runs in, and who pays for it there.

A frame is made once per task; the context variable holds the innermost. Not here: charging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from .accounts import acquire, drain, release
from .clock import Clock, SystemClock
from .events import Events
from .kernel.dims import known_dim
from .kernel.tree import Item, Node, Payers, payers
from .tallies import Tallies, Tally
from .telemetry.service import Telemetry

if TYPE_CHECKING:
    from .limits import TaskLimits
    from .pricing import PriceBook
    from .tasks import TaskBudget

MAX_PLANS = 512
Amounts = tuple[tuple[str, int], ...]
"""(dimension, units) …; hashable, so that equal ones share a plan."""


class Runtime:
    """What one service's tasks share: clock, prices, counts, subscribers, telemetry."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        strict: bool = False,
        prices: PriceBook | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.strict = strict
        self._prices = prices
        self.events = Events()
        self.tallies = Tallies()
        self.nodes: set[Node] = set()
        self.telemetry = Telemetry(self, tracer_provider, meter_provider)
        self.expiring: dict[int, tuple[int, Callable[[], object]]] = {}
        self._expiry_ns = 0

    @property
    def prices(self) -> PriceBook:
        """Where prices come from; most programs have none to ask for."""
        if self._prices is None:
            from .pricing import PriceBook

            self._prices = PriceBook()
        return self._prices

    def sweep(self) -> None:
        """Book what finalizers left and what has expired. Without the lock."""
        drain()
        if self.expiring:
            now_ns = self.clock.now_ns()
            if now_ns >= self._expiry_ns:
                self._expire(now_ns)

    def expire_at(self, number: int, expires_ns: int, expire: Callable[[], object]) -> None:
        """Call `expire` at the first sweep after `expires_ns`, unless `number` is taken out."""
        if not self.expiring or expires_ns < self._expiry_ns:
            self._expiry_ns = expires_ns
        self.expiring[number] = (expires_ns, expire)

    def _expire(self, now_ns: int) -> None:
        open_ones = list(self.expiring.items())
        later = [expires_ns for _number, (expires_ns, _fn) in open_ones if expires_ns > now_ns]
        self._expiry_ns = min(later, default=0)
        for number, (expires_ns, expire) in open_ones:
            if now_ns >= expires_ns:
                self.expiring.pop(number, None)
                expire()


class HasRuntime(Protocol):
    """A service, as far as a task needs to know it."""

    @property
    def runtime(self) -> Runtime: ...


class Shape:
    """An operation and fixed amounts; equal ones are one object, so that they share plans."""

    __slots__ = ("__weakref__", "amounts", "operation")

    def __init__(self, operation: str, amounts: Amounts) -> None:
        self.operation = operation
        self.amounts = amounts

    @staticmethod
    def of(operation: str, amounts: Amounts, model: str | None) -> Shape:
        """The shape of these.

        A call that names a model may be priced, so it shares its shape with none that does not.
        """
        key = (operation, amounts, model)
        shape = _shapes.get(key)
        if shape is None:
            shape = _shapes[key] = Shape(operation, amounts)
        return shape


_shapes: WeakValueDictionary[tuple[str, Amounts, str | None], Shape] = WeakValueDictionary()


class Plan:
    """What calls of one shape hold in one frame, and where they are counted.

    `direct` says that booking what was held is one addition per payer.
    """

    __slots__ = ("direct", "events", "frame", "items", "observer", "tally")

    def __init__(self, frame: Frame, items: Sequence[Item], tally: Tally) -> None:
        self.frame = frame
        self.events = frame.runtime.events
        self.observer = frame.observer
        self.items = items
        self.tally = tally
        self.direct = not any(dim == "memory" or above for dim, _n, (_cells, above) in items)


class Frame:
    """A place in the tree of tasks, seen by one service.

    `quick` holds the plans whose calls may be held and settled without a `Hold`.
    `chain` is the task and its ancestors, innermost first; empty outside any task. Nodes in
    `finishing` let calls of this frame spend what they keep.
    """

    __slots__ = (
        "chain",
        "deadline_ns",
        "finishing",
        "has_warn",
        "held",
        "limits_usd",
        "name",
        "now_ns",
        "observer",
        "payers",
        "plans",
        "principal",
        "quick",
        "runtime",
        "tallies",
        "task",
    )

    def __init__(
        self,
        runtime: Runtime,
        task: TaskBudget | None = None,
        chain: tuple[Node, ...] = (),
        *,
        principal: str | None = None,
        finishing: frozenset[Node] = frozenset(),
    ) -> None:
        self.runtime = runtime
        self.task = task
        self.chain = chain
        self.principal = principal
        self.finishing = finishing
        self.name = chain[0].name if chain else ""
        self.now_ns: Callable[[], int] = runtime.clock.now_ns
        self.observer = runtime.telemetry.observer()
        self.payers: dict[str, Payers] = {}
        self.plans: dict[Shape, Plan] = {}
        self.quick: dict[Shape, Plan] = {}
        self.held: dict[Amounts, list[Item]] = {}
        self.tallies: dict[str, Tally] = {}
        self.has_warn = False
        self.limits_usd = False
        is_timed = False
        for node in chain:
            limits: TaskLimits = node.owner.plan.limits
            self.has_warn = self.has_warn or limits.has_warn
            self.limits_usd = self.limits_usd or "usd" in limits.cells
            is_timed = is_timed or node.deadline_ns is not None
        self.deadline_ns = 0
        if is_timed:
            self.look_at_deadlines()

    @property
    def path(self) -> str:
        """The names of the task and its ancestors, outermost first; `""` outside any task."""
        return self.chain[0].path if self.chain else ""

    def look_at_deadlines(self) -> None:
        """Note the next instant at which a deadline or its warning must be looked at."""
        times = [
            ns
            for node in self.chain
            if node.latch is None and node not in self.finishing
            for ns in (node.deadline_ns, node.warn_ns)
            if ns is not None
        ]
        self.deadline_ns = min(times, default=0)

    def items(self, amounts: Iterable[tuple[str, int]]) -> list[Item]:
        """Pair amounts with their payers; raises `InvalidAmount` for an unknown dimension."""
        known = self.payers
        return [(dim, n, known.get(dim) or self._payers(dim)) for dim, n in amounts]

    def items_of(self, amounts: Amounts) -> list[Item]:
        """The same for amounts that may come again; kept, outside any task apart."""
        items = self.held.get(amounts)
        if items is None:
            items = self.items(amounts)
            if self.chain:
                if len(self.held) >= MAX_PLANS:
                    self.held.clear()
                self.held[amounts] = items
        return items

    def _payers(self, dim: str) -> Payers:
        name = known_dim(dim)
        try:
            acquire()
            found = self.payers[name] = payers(self.chain, name)
        finally:
            release()
        return found

    def plan(self, shape: Shape) -> Plan:
        """The plan of calls of one shape; kept, outside any task apart."""
        plan = self.plans.get(shape)
        if plan is None:
            tally = self.runtime.tallies.tally(self.name, shape.operation, shape.amounts)
            plan = Plan(self, self.items(shape.amounts), tally)
            if self.chain:
                if len(self.plans) >= MAX_PLANS:
                    self.plans.clear()
                    self.quick.clear()
                self.plans[shape] = plan
                if plan.direct and tally.amounts and not self.finishing:
                    self.quick[shape] = plan
        return plan

    def tally(self, operation: str) -> Tally:
        """Where calls of an operation whose amounts differ are counted."""
        tally = self.tallies.get(operation)
        if tally is None:
            tally = self.runtime.tallies.tally(self.name, operation)
            self.tallies[operation] = tally
        return tally


current: ContextVar[Frame] = ContextVar("budgetware_frame")
_connected: Runtime | None = None
_in_memory: Runtime | None = None


def default_runtime() -> Runtime:
    """The process-wide service's runtime; without one, that of a service in memory."""
    global _in_memory  # noqa: PLW0603
    if _connected is not None:
        return _connected
    try:
        acquire()
        if _in_memory is None:
            _in_memory = Runtime()
        return _in_memory
    finally:
        release()


def set_default(runtime: Runtime | None, *, only_first: bool = False) -> bool:
    """Make `runtime` the process-wide one; with `only_first` only if there is none."""
    global _connected  # noqa: PLW0603
    try:
        acquire()
        if only_first and _connected is not None:
            return False
        _connected = runtime
        return True
    finally:
        release()


def is_default(runtime: Runtime) -> bool:
    """Say whether `runtime` is the process-wide one."""
    return _connected is runtime


def current_frame() -> Frame:
    """The innermost frame of this context; outside any task, its service's.

    Outside tasks a frame is made per call, so that an SDK installed meanwhile is seen.
    """
    frame = current.get(None)
    if frame is None:
        return Frame(default_runtime())
    return frame if frame.chain else Frame(frame.runtime, principal=frame.principal)

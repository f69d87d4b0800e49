"""Where a call stands: the service and the task it runs in, and who pays for it there.

A frame is made once per task; the context variable holds the innermost. Not here: charging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from .accounts import acquire, release
from .kernel.dims import known_dim
from .kernel.nodes import Cell, Item, Node, Payers, joined, payers, refresh
from .policies import Throttle
from .principals import Principal
from .resources import Pool
from .runtime import Runtime, default_runtime
from .stakes import Draw, Stake
from .tallies import Tally

if TYPE_CHECKING:
    from .limits import TaskLimits
    from .tasks import TaskBudget

MAX_PLANS = 512
Amounts = tuple[tuple[str, int], ...]
"""(dimension, units) …; hashable, so that equal ones share a plan."""


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

    `direct` says that booking what was held is one addition per payer, and that a call neither
    waits nor is refilled by the clock. `is_checked`: before each hold it is to be seen whether
    `is_current`, as what it draws on does not show when the task ends, or its lease.
    """

    __slots__ = (
        "direct",
        "events",
        "frame",
        "is_checked",
        "items",
        "leases",
        "observer",
        "tally",
        "tasks",
    )

    def __init__(self, frame: Frame, items: Sequence[Item], tally: Tally) -> None:
        self.frame = frame
        self.events = frame.runtime.events
        self.observer = frame.observer
        self.items = items
        self.tally = tally
        self.direct = not (
            frame.is_throttled
            or any(cell.refill is not None for cell in frame.rates)
            or any(is_special for _dim, _n, (_cells, _above, is_special) in items)
        )
        self.leases = tuple([cell.lease for cell in frame.rates if cell.lease is not None])
        self.tasks = () if frame.aim is None else frame.chain
        self.is_checked = bool(self.leases or self.tasks)

    def is_current(self) -> bool:
        """Whether its leases last, and its task takes reservations."""
        for node in self.tasks:
            if node.latch is not None or node.ended or node.refused:
                return False
        if self.leases:
            now_ns = self.frame.now_ns()
            for lease in self.leases:
                if now_ns >= lease.deadline_ns:
                    return False
        return True


class Frame:
    """A place in the tree of tasks, seen by one service.

    `quick` holds the plans whose calls may be held and settled without a `Hold`.
    `chain` is the task and its ancestors, innermost first; empty outside any task. Nodes in
    `finishing` let calls of this frame spend what they keep. `draws` are the bound tokens, one
    per resource, and `aim` is what its calls draw on by name. `rates` are the payers that are
    refilled, or leased; where one of these is told of the end of each call, it `confirms` that.
    `is_throttled`: a call may have to wait for what
    others hold, and not only for time to pass. `shares_usd`: a payer that is no task limits it.
    """

    __slots__ = (
        "__weakref__",
        "_toward",
        "aim",
        "chain",
        "confirms",
        "deadline_ns",
        "draws",
        "finishing",
        "has_warn",
        "held",
        "is_throttled",
        "limits_usd",
        "name",
        "now_ns",
        "observer",
        "outer",
        "payers",
        "plans",
        "principal",
        "quick",
        "rates",
        "runtime",
        "shares_usd",
        "tallies",
        "task",
        "waited_on",
    )

    def __init__(
        self,
        runtime: Runtime,
        task: TaskBudget | None = None,
        chain: tuple[Node, ...] = (),
        *,
        principal: Principal | None = None,
        finishing: frozenset[Node] = frozenset(),
        draws: tuple[Draw, ...] = (),
        aim: Draw | None = None,
    ) -> None:
        self.runtime = runtime
        self.task = task
        self.chain = chain
        self.principal = principal
        self.finishing = finishing
        self.draws = draws
        self.aim = aim
        self.outer: Any = None
        self.name = chain[0].name if chain else ""
        self.now_ns: Callable[[], int] = runtime.clock.now_ns
        self.observer = runtime.telemetry.observer()
        self.payers: dict[str, Payers] = {}
        self.plans: dict[Shape, Plan] = {}
        self.quick: dict[object, Plan] = {}
        self.held: dict[Amounts, list[Item]] = {}
        self.tallies: dict[str, Tally] = {}
        self.rates: tuple[Cell, ...] = ()
        self.confirms = False
        self.waited_on: tuple[Sequence[Item], frozenset[Node]] | None = None
        self._toward: dict[Pool | Stake, Frame] | None = None
        self.deadline_ns = 0
        self._look()
        if principal is not None or draws or aim is not None:
            self._look_outward()
            try:
                acquire()
                _outward.add(self)
            finally:
                release()

    def _look(self) -> None:
        """Learn what the tasks ask for."""
        self.has_warn = self.limits_usd = self.is_throttled = self.shares_usd = False
        is_timed = False
        for node in self.chain:
            limits: TaskLimits = node.owner.plan.limits
            self.has_warn = self.has_warn or limits.has_warn
            self.limits_usd = self.limits_usd or "usd" in limits.cells
            is_timed = is_timed or node.deadline_ns is not None
            if isinstance(node.policy, Throttle):
                self.is_throttled = True
        if is_timed:
            self.look_at_deadlines()

    def _look_outward(self) -> None:
        """Learn what principals and resources ask for."""
        principal = self.principal
        if principal is not None:
            self.is_throttled = self.is_throttled or principal.is_throttled
            for node in principal.node.chain:
                self.shares_usd = self.shares_usd or "usd" in node.owner.definition.quotas
        for draw in self.draws if self.aim is None else (self.aim, *self.draws):
            self.shares_usd = self.shares_usd or (draw.key == "usd" and draw.is_dimension)
            self.is_throttled = self.is_throttled or draw.is_throttled
        self.limits_usd = self.limits_usd or self.shares_usd

    def look_anew(self) -> None:
        """Forget what rests on definitions that have changed. Locked."""
        self.payers, self.plans, self.quick, self.held = {}, {}, {}, {}
        self._look()
        self._look_outward()

    def seen_anew(self) -> Frame:
        """This frame, which is outside any task, with whoever watches it now."""
        self.observer = self.runtime.telemetry.observer()
        return self

    def at(self, **changes: Any) -> Frame:
        """A frame like this one, with another principal, other draws, or an aim."""
        return Frame(
            self.runtime,
            self.task,
            self.chain,
            principal=changes.get("principal", self.principal),
            finishing=changes.get("finishing", self.finishing),
            draws=changes.get("draws", self.draws),
            aim=changes.get("aim"),
        )

    def toward(self, target: Pool | Stake) -> Frame:
        """The frame of calls that draw on `target` by name; by a bound token, where there is one.

        What the target does not count is drawn as ever.
        """
        known = self._toward
        if known is None:
            known = self._toward = {}
        frame = known.get(target)
        if frame is None:
            pool = target.pool if isinstance(target, Stake) else target
            found = Draw(pool, target if isinstance(target, Stake) else None)
            if found.stake is None:
                found = next((draw for draw in self.draws if draw.pool is pool), found)
            frame = self.at(aim=found)
            if len(known) >= MAX_PLANS:
                known.clear()
            if not self.finishing:
                known[target] = frame
        elif not self.chain:
            frame.seen_anew()
        return frame

    def is_hindered(self) -> bool:
        """Whether its tasks refuse, or have refused in a row, which a grant would end."""
        return any(n.latch is not None or n.ended or n.refused for n in self.chain)

    def keep_plan(self, key: object, aimed: Frame, amounts: Amounts, operation: str) -> None:
        """Let calls of `key` that draw on a target take the quick lane from now on."""
        tally = self.runtime.tallies.tally(self.name, operation, amounts)
        plan = Plan(aimed, aimed.items_of(amounts), tally)
        if not plan.direct or not tally.amounts or self.finishing:
            return
        if len(self.quick) >= MAX_PLANS:
            self.quick.clear()
        self.quick[key] = plan
        try:
            acquire()
            _outward.add(self)
        finally:
            release()

    def refresh(self) -> None:
        """Put into rates what has come since. Locked."""
        now_ns = self.now_ns()
        for cell in self.rates:
            refresh(cell, now_ns)

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
        """The same for amounts that may come again."""
        items = self.held.get(amounts)
        if items is None:
            items = self.items(amounts)
            if len(self.held) >= MAX_PLANS:
                self.held.clear()
            self.held[amounts] = items
        return items

    def _payers(self, dim: str) -> Payers:
        aim = self.aim
        if aim is not None and aim.key == dim:
            draws, is_dimension = [aim], aim.is_dimension
        else:
            draws = [draw for draw in self.draws if draw.key == dim and draw.is_dimension]
            is_dimension = True
        name = known_dim(dim) if is_dimension else dim
        found: Payers = ((), (), name == "memory")
        try:
            acquire()
            if is_dimension:
                found = payers(self.chain, name)
                if self.principal is not None:
                    nodes = self.principal.node.chain
                    found = joined(found, [node.cell(name) for node in nodes])
            for draw in draws:
                found = joined(found, draw.cells)
            rates = [c for c in found[0] if c.refill is not None or c.lease is not None]
            self.rates = tuple(dict.fromkeys((*self.rates, *rates)))
            self.payers[name] = found
            if any(c.lease is not None and c.lease.is_per_call for c in rates):
                self.confirms = True
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
            own = "" if self.aim is None or self.aim.is_dimension else self.aim.key
            tally = self.runtime.tallies.tally(self.name, operation, own=own)
            self.tallies[operation] = tally
        return tally


_outward: WeakSet[Frame] = WeakSet()
"""Those with payers whose definitions may change. Under the lock."""


def definitions_changed() -> None:
    """A resource or principal was changed live: what frames have learned of it is out of date."""
    try:
        acquire()
        for frame in list(_outward):
            frame.look_anew()
    finally:
        release()


current: ContextVar[Frame] = ContextVar("budgetware_frame")


def current_frame() -> Frame:
    """The innermost frame of this context; outside any task, its service's."""
    frame = current.get(None)
    if frame is None:
        return outside(default_runtime())
    return frame if frame.chain else frame.seen_anew()


def outside(runtime: Runtime) -> Frame:
    """Where calls outside any task of a service stand; an SDK installed meanwhile is seen."""
    frame = runtime.outside
    if frame is None:
        frame = runtime.outside = Frame(runtime)
        return frame
    return frame.seen_anew()

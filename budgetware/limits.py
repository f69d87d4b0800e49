"""The limits of a task, as its author writes them. Not here: balances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .accounts import acquire, release, waiting
from .admission.parking import serve_cells
from .admission.refusals import exceeded
from .clock import parse_seconds
from .errors import ConfigurationError, InvalidAmount, NoBudget
from .ids import new_id
from .kernel.budget import Limit
from .kernel.carving import lending, raise_limit
from .kernel.dims import ABOVE_MAX, BUILT_IN, declare, known_dim, show, to_units
from .kernel.nodes import Cell, Node, QuotaCell
from .kernel.tree import shortages
from .policies import Throttle
from .shared_tasks import top_up as top_up_shared
from .termination import terminated

if TYPE_CHECKING:
    from .tasks import TaskBudget

LimitValue = int | str | Decimal | float | Limit
_NS = 1_000_000_000
_COUNTED = frozenset(BUILT_IN) - {"usd", "millis"}


@dataclass(slots=True)
class TaskLimits:
    """Checked limits, in units: {dimension: (limit, warn, keep)}, and the time in ns."""

    cells: dict[str, tuple[int, int | None, int]]
    time_ns: int | None
    warn_ns: int | None
    has_warn: bool

    def put_on(self, node: Node) -> None:
        """Give the node its cells."""
        for dim, (limit, warn, keep) in self.cells.items():
            kind = QuotaCell if isinstance(node.policy, Throttle) else Cell
            node.cells[dim] = kind(node, dim, limit, warn, keep)


NO_LIMITS = TaskLimits({}, None, None, has_warn=False)
"""Those of a task whose name must be a template."""


def parse_limits(
    limits: Mapping[str, Any], *, share: Decimal | None, keep: Mapping[str, Any] | None
) -> TaskLimits:
    """Check what `task_budget` was given, or raise `InvalidAmount`."""
    if not limits:
        raise ConfigurationError(
            "task_budget has no limit: name at least one, as in task_budget(tokens=50_000)"
        )
    if keep is not None and not isinstance(keep, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidAmount(f"keep={show(keep)}: give amounts by dimension, as {{'tokens': 2_000}}")
    kept = {} if keep is None else dict(keep)
    cells: dict[str, tuple[int, int | None, int]] = {}
    time_ns = warn_ns = None
    has_warn = share is not None
    for name, value in limits.items():
        is_plain = type(value) is int and name in _COUNTED and share is None and not kept
        if is_plain and 0 < value < ABOVE_MAX:
            cells[name] = (value, None, 0)
            continue
        if name in ("seconds", "millis"):
            if time_ns is not None:
                raise InvalidAmount("seconds and millis are the same limit: give one of them")
            time_ns, warn_ns = _parse_time(name, value, share)
            continue
        dim = declare(name)
        limit, warn = parse_limit(dim, value, share)
        has_warn = has_warn or warn is not None
        cells[dim] = (limit, warn, _parse_keep(dim, kept.pop(name), limit) if name in kept else 0)
    if kept:
        name = next(iter(kept))
        raise InvalidAmount(f"keep: {name!r} has no limit here; keep is a part of a limit")
    return TaskLimits(cells, time_ns, warn_ns, has_warn)


def parse_limit(dim: str, value: LimitValue, share: Decimal | None) -> tuple[int, int | None]:
    """Return a limit and its warn threshold in units; the threshold is below the limit."""
    if isinstance(value, Limit):
        limit, warn = value.units(dim)
    else:
        limit, warn = to_units(dim, value, round_up=False), None
    if limit == 0:
        least = "0.000001 dollars" if dim == "usd" else "1"
        raise InvalidAmount(
            f"{dim}={show(value)}: a limit is at least {least}; leave it out to allow any amount"
        )
    if warn is None and share is not None:
        warn = int(limit * share)
    return limit, warn


def top_up(task: TaskBudget, limits: Mapping[str, Any], request: str | None = None) -> None:
    """Raise limits of an open task; all of them, or none.

    Args:
        request: of a shared one: its limits are raised once for each; None: by this call.
    """
    node = task.node
    if not limits:
        raise InvalidAmount("top_up raises nothing: name a limit, as in top_up(tokens=1_000)")
    amounts, time_ns = _parse_more(limits)
    if task.plan.shared and amounts:
        _check_shared(task, amounts)
        top_up_shared(task, amounts, request or new_id())
        amounts = {}
    raised: list[Cell] = []
    try:
        acquire()
        is_open = node.latch is None and not node.ended
        if is_open:
            _check_more(node, amounts, time_ns)
            for dim, more in amounts.items():
                cell = node.cells[dim]
                raise_limit(cell, more, _warn_after(cell, more, task.plan.warn_share))
                raised.append(cell)
        if is_open and time_ns and node.deadline_ns is not None:
            node.deadline_ns += time_ns
            task.frame.look_at_deadlines()
    finally:
        release()
    if node.latch is not None:
        raise terminated(node)
    if not is_open:
        raise NoBudget(f"task {node.path!r} has ended: its limits cannot be raised any more")
    if waiting:
        serve_cells(raised, task.frame.now_ns())
    if time_ns:
        task.scope.extend(time_ns / _NS)


def _check_shared(task: TaskBudget, amounts: Mapping[str, int]) -> None:
    """Raise before the ledger is told."""
    node = task.node
    if node.latch is not None:
        raise terminated(node)
    if node.ended:
        raise NoBudget(f"task {node.path!r} has ended: its limits cannot be raised any more")
    _check_more(node, amounts, 0)


def _warn_after(cell: Cell, more: int, share: Decimal | None) -> int | None:
    """A threshold that is a share of the limit moves with it; one of its own stays."""
    limit = cell.limit or 0
    is_share = share is not None and cell.warn == int(limit * share)
    return int((limit + more) * share) if is_share and share is not None else cell.warn


def _parse_more(limits: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    time_ns = 0
    amounts: dict[str, int] = {}
    for name, value in limits.items():
        if name == "seconds":
            time_ns += int(parse_seconds(name, value) * _NS)
        elif name == "millis":
            time_ns += to_units(name, value) * 1_000_000
        else:
            amounts[known_dim(name)] = to_units(name, value, round_up=False)
    return amounts, time_ns


def _check_more(node: Node, amounts: Mapping[str, int], time_ns: int) -> None:
    """Locked."""
    if time_ns and node.deadline_ns is None:
        raise InvalidAmount(f"top_up: task {node.path!r} has no limit of seconds to raise")
    for dim, more in amounts.items():
        cell = node.cells.get(dim)
        if cell is None or cell.limit is None:
            raise InvalidAmount(f"top_up: task {node.path!r} has no limit of {dim} to raise")
        if cell.limit + more >= ABOVE_MAX:
            raise InvalidAmount(f"top_up: {dim} of task {node.path!r} would be above 2**53 - 1")
        lenders = node.lent.get(dim, ())
        short = shortages([(dim, lending(cell, more), (lenders, (), False))], frozenset())
        if short:
            raise exceeded(short[-1])


def _parse_time(name: str, value: Any, share: Decimal | None) -> tuple[int, int | None]:
    if name == "millis":
        limit, warn = parse_limit(name, value, share)
        return limit * 1_000_000, None if warn is None else warn * 1_000_000
    own: Any = None
    if isinstance(value, Limit):
        value, own = value.limit, value.warn
    time_ns = int(parse_seconds(name, value) * _NS)
    if own is not None:
        warn_ns = int(parse_seconds(f"{name} (warn)", own) * _NS)
        if warn_ns >= time_ns:
            raise InvalidAmount(f"{name}: warn {own} must be below limit {value}")
        return time_ns, warn_ns
    return time_ns, None if share is None else int(time_ns * share)


def parse_share(warn_at: object) -> Decimal | None:
    """Return the share of the limits at which to warn, exactly."""
    if warn_at is None:
        return None
    if isinstance(warn_at, int | float | Decimal) and not isinstance(warn_at, bool):
        share = Decimal(repr(warn_at) if isinstance(warn_at, float) else warn_at)
        if share.is_finite() and 0 < share < 1:
            return share
    raise InvalidAmount(f"warn_at={show(warn_at)}: give a share of the limits between 0 and 1")


def _parse_keep(dim: str, value: Any, limit: int) -> int:
    if dim == "memory" and value:
        raise InvalidAmount("keep: memory is a level, given back by each call; it cannot be kept")
    keep = to_units(dim, value)
    if keep >= limit:
        raise InvalidAmount(f"keep: {dim}={value!r} must be below the limit")
    return keep

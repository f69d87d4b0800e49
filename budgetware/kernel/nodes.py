"""Nodes of the tree, their cells, and who pays: tasks, tokens, principals and resources alike.

A cell is one dimension of one node. It stores what is free and what is spent; what is reserved
follows: base = spent + reserved + granted + free, with `base` the limit, or, of a rate, that and
all that was refilled. Not here: the moves that change them (`tree`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from .queue import Queue
from .refill import Refill

KINDS = ("task", "token", "principal", "resource")
"""What nodes stand for, in the order in which a call that must wait for several takes its turn."""
_numbers = count(1)

OPEN = 1 << 29
"""What stands in for a limit where there is none; raised when it runs low, and small, because
Python subtracts small ints faster."""
GUARDED = 1 << 100
"""A floor no grant can reach: every hold on the cell takes the path that looks closely."""


class Cell:
    """One dimension of one node, in units.

    A `level` comes back at the end of each hold: memory, or the slots of a concurrency.
    """

    __slots__ = (
        "assumed",
        "base",
        "dim",
        "floor",
        "free",
        "granted",
        "keep",
        "level",
        "limit",
        "node",
        "peak",
        "returned",
        "spent",
        "warn",
        "warned",
    )

    elsewhere: int = 0
    heir: Cell | None = None
    lease: Any = None
    queue: Queue | None = None
    refill: Refill | None = None
    rank: tuple[int, int, int] = (0, 0, 0)
    is_watched = False
    paused_ns = 0
    policy: Any = None
    spares_exempt = False
    wait_seconds: float | None = None

    def __init__(self, node: Node, dim: str, limit: int | None, warn: int | None, keep: int):
        self.node = node
        self.dim = dim
        self.limit = limit
        self.base = self.free = OPEN if limit is None else limit
        self.warn = warn
        self.keep = keep
        self.spent = self.granted = self.assumed = self.peak = self.returned = 0
        self.warned = False
        self.level = dim == "memory"
        self.floor = keep
        if self.level or warn is not None or node.guarded:
            refloor(self)

    @property
    def reserved(self) -> int:
        return self.base - self.spent - self.granted - self.free - self.returned

    @property
    def in_use(self) -> int:
        """Spent and reserved together: what a warn threshold is judged on."""
        return self.base - self.granted - self.free - self.returned + self.elsewhere


class QuotaCell(Cell):
    """A cell that calls may wait for, or that is refilled.

    `rank` orders the cells of all nodes: who waits for several takes its places in that order.
    `heir` has what is left once a quota token is over. `is_watched` sends every hold down the
    close path; so it is with one that grants nothing before `paused_ns`. `spares_exempt`: it
    refuses no exempt principal. `policy` is its own, where it has one apart from its node's, and
    `wait_seconds` the longest wait for it.

    Where other processes draw on it too, `lease` is what this one has of it, and `elsewhere` the
    units that others have used: then base is what it has ever got.
    """

    __slots__ = (
        "elsewhere",
        "heir",
        "is_watched",
        "lease",
        "paused_ns",
        "policy",
        "queue",
        "rank",
        "refill",
        "spares_exempt",
        "wait_seconds",
    )

    def __init__(
        self, node: Node, dim: str, limit: int | None, warn: int | None = None, keep: int = 0
    ) -> None:
        self.elsewhere = 0
        self.heir = None
        self.lease = None
        self.queue = None
        self.refill = None
        self.is_watched = False
        self.paused_ns = 0
        self.policy = None
        self.spares_exempt = False
        self.wait_seconds = None
        self.rank = (KINDS.index(node.kind), -len(node.chain), next(_numbers))
        super().__init__(node, dim, limit, warn, keep)


class Node:
    """A payer: a task, a quota token, a principal or a resource.

    `latch` is what ended it early, set once; `ended_text` what a refusal says once it has ended.
    `lent` maps each carved dimension to the cells of the ancestors that granted it. `refused`
    counts, on a task, the refusals in a row of payers that are no tasks; `waiters` counts the calls
    that wait and that it would have to pay for.
    """

    kind = "task"
    deadline_ns: int | None = None
    ended = False
    ended_text = ""
    finishes = 0
    latch: Any = None
    owner: Any = None
    refusals = 0
    refused: dict[Any, int] | None = None
    unpriced = "error"
    waiters = 0
    warn_ns: int | None = None

    def __init__(
        self, name: str, id: str, policy: Any, parent: Node | None = None, *, kind: str = "task"
    ) -> None:
        if kind != "task":
            self.kind = kind
        self.name = name
        self.id = id
        self.policy = policy
        self.chain: tuple[Node, ...] = (self,) if parent is None else (self, *parent.chain)
        self.cells: dict[str, Cell] = {}
        self.lent: dict[str, tuple[Cell, ...]] = {}

    def cell(self, dim: str) -> Cell:
        """The cell of a dimension; one without a limit is made when it is first asked for."""
        cell = self.cells.get(dim)
        if cell is None:
            kind = QuotaCell if self.kind == "principal" else Cell  # it may get a quota later
            cell = self.cells[dim] = kind(self, dim, None, None, 0)
        return cell

    @property
    def path(self) -> str:
        """The names from the root to here."""
        return "/".join([node.name for node in reversed(self.chain)])

    @property
    def guarded(self) -> bool:
        return self.ended or self.latch is not None or self.refusals > 0 or bool(self.refused)

    def guard(self) -> None:
        """Send every hold down the close path while this node is latched, ended or refusing."""
        for cell in self.cells.values():
            refloor(cell)


Payers = tuple[tuple[Cell, ...], tuple[tuple[Cell, Cell], ...], bool]
"""Those with room, the leaf first; (payer above a carve, the carved cell below it) …; and whether
any of them is above a carve or a level, so that booking what was held is no plain addition."""
Item = tuple[str, int, Payers]
"""(dimension, units, who pays)."""


def payers(chain: Sequence[Node], dim: str) -> Payers:
    """Who pays for `dim` on a path, the leaf first: those with room, and those above a carve.

    Above a carve the room was taken when it was made; there a hold moves units out of
    `granted` only.
    """
    cells: list[Cell] = []
    above: list[tuple[Cell, Cell]] = []
    via: Cell | None = None
    for node in chain:
        cell = node.cell(dim)
        if via is None:
            cells.append(cell)
        else:
            above.append((cell, via))
        if dim in node.lent:
            via = cell
    is_special = dim == "memory" or bool(above) or any(is_prompt(cell) for cell in cells)
    return tuple(cells), tuple(above), is_special


def joined(payers: Payers, others: Sequence[Cell]) -> Payers:
    """These payers, and others that are not of the tasks' tree; nobody pays twice for one draw."""
    cells, above, is_special = payers
    cells += tuple([cell for cell in others if cell not in cells])
    return cells, above, is_special or any(cell.level or is_prompt(cell) for cell in others)


def is_prompt(cell: Cell) -> bool:
    """Whether the end of each hold on a cell is reported."""
    return cell.lease is not None and cell.lease.is_prompt


def refloor(cell: Cell) -> None:
    """Set the level of `free` below which a hold must be looked at closely."""
    queue = cell.queue
    if (
        cell.dim == "memory"
        or cell.node.guarded
        or cell.is_watched
        or (queue is not None and queue.count)
    ):
        cell.floor = GUARDED
    elif cell.warn is None or cell.warned:
        cell.floor = cell.keep
    else:
        in_all = cell.base - cell.granted - cell.returned + cell.elsewhere
        cell.floor = max(cell.keep, in_all - cell.warn)
    if cell.lease is not None and cell.floor < cell.lease.floor:
        cell.floor = cell.lease.floor


def refresh(cell: Cell, now_ns: int) -> None:
    """Put into a rate what has come since; what does not fit is lost. End a lease in time."""
    lease = cell.lease
    if lease is not None and now_ns >= lease.deadline_ns:
        lease.lapse()
    refill = cell.refill
    if refill is None:
        return
    units = refill.due(now_ns)
    if cell.free + units >= refill.most:
        if lease is not None and cell.free > refill.most:  # given back late: the ledger's by now
            lease.over += cell.free - refill.most
        units = refill.most - cell.free
        refill.stop(now_ns)
    cell.free += units
    cell.base += units

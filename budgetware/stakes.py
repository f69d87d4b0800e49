"""The rights to draw on a resource: by a quota token, or by its name. Not here: drawing.

Everything here runs under the lock of accounts.
"""

from __future__ import annotations

from .ids import new_id
from .kernel.nodes import Cell, Node, QuotaCell, refloor
from .kernel.quota import inherit
from .policies import Throttle
from .resources import Pool

_FINE = 1 << 10
"""Weights are counted in such parts of a unit."""


class Family:
    """A token and all that was split from it: together they have one weight to share."""

    __slots__ = ("declared",)

    def __init__(self, declared: int) -> None:
        self.declared = declared


class Stake:
    """The right to draw on a pool: what a `QuotaToken` stands for.

    `cell` counts what was drawn by it, and limits that to its allowance, if it has one. One that
    has none of its own draws on that of what it `shares`, and that has `sharers`. `lender` is
    where its weight came from. `leavers` are parts that are over, with reservations still open.
    """

    __slots__ = (
        "allowed",
        "bequest",
        "cell",
        "expected_use",
        "family",
        "leavers",
        "lender",
        "node",
        "pool",
        "sharers",
        "shares",
    )

    def __init__(
        self, pool: Pool, expected_use: int, allowance: int | None, lender: Stake | None = None
    ) -> None:
        self.pool = pool
        self.expected_use = expected_use
        self.family: Family = Family(expected_use) if lender is None else lender.family
        self.lender = lender
        self.leavers: list[Stake] = []
        self.bequest: Cell | None = None
        self.node = Node(pool.name, new_id(), pool.definition.policy, kind="token")
        self.node.owner = self
        self.cell = QuotaCell(self.node, pool.definition.key, allowance)
        self.cell.level = pool.cell.level
        self.node.cells[self.cell.dim] = self.cell
        self.allowed: Stake | None = self
        self.shares: Stake | None = None
        self.sharers = 0
        if allowance is None:
            self.allowed = None if lender is None else lender.allowed
            if lender is not None and lender.allowed is not None:
                self.shares = lender
                lender.sharers += 1

    @property
    def allowance(self) -> QuotaCell | None:
        """The cell that limits it; None: only the pool does."""
        return None if self.allowed is None else self.allowed.cell

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Who pays for a draw by it, the leaf first."""
        cells: tuple[Cell, ...] = (self.cell,)
        shares = self.shares
        while shares is not None:
            cells += (shares.cell,)
            shares = shares.shares
        return cells + self.pool.cells

    def weight(self) -> int:
        """Its scheduling weight: what it expects to use, within what it ever could.

        A family that declares more than the resource has shares what the resource has, so that
        splitting a token gains nothing.
        """
        most, declared = self.pool.most_weight, self.family.declared
        weight = self.expected_use * _FINE
        if declared > most:
            weight = weight * most // declared
        allowance = self.allowance
        if allowance is not None and allowance.limit is not None:
            weight = min(weight, allowance.limit * _FINE)
        return max(1, weight)

    def give_weight(self, taker: Stake | None, units: int) -> None:
        """Move weight to another one; None: nobody is left to take it."""
        self.expected_use -= units
        self.family.declared -= units
        if taker is not None:
            taker.expected_use += units
            taker.family.declared += units

    def await_leavers(self, leavers: list[Stake], heir: Cell) -> None:
        """Note parts that are over, but have reservations open: they may leave debt, too."""
        for stake in leavers:
            stake.cell.heir = heir
        self.leavers += leavers
        self._watch()

    def collect(self) -> None:
        """Take over what parts that are over have left."""
        if self.leavers:
            self.leavers = [stake for stake in self.leavers if not inherit(stake.cell)]
            self._watch()

    def _watch(self) -> None:
        """Look closely at every hold as long as there are parts to collect from."""
        self.cell.is_watched = bool(self.leavers)
        refloor(self.cell)


class Draw:
    """A draw on a pool, by a stake or by its name; `key` is what it is counted as."""

    __slots__ = ("cells", "key", "pool", "stake")

    def __init__(self, pool: Pool, stake: Stake | None = None) -> None:
        self.pool = pool
        self.stake = stake
        self.key = pool.definition.key
        self.cells = pool.cells if stake is None else stake.cells

    @property
    def is_throttled(self) -> bool:
        """Whether a draw may have to wait for what others hold, and not only for time to pass."""
        pool = self.pool
        has_allowance = self.stake is not None and self.stake.allowance is not None
        if has_allowance and isinstance(pool.node.policy, Throttle):
            return True
        return any(
            isinstance(node.policy, Throttle) and node.owner.cell.refill is None
            for node in pool.node.chain
        )

    @property
    def is_dimension(self) -> bool:
        """Whether tasks and principals are charged, too."""
        return self.pool.definition.dim is not None

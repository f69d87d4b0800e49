"""A node and its leases as a ledger keeps them, and the lines of its journal: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from .terms import Grant, NodeState, Terms


@dataclass(slots=True)
class NodeRow:
    """A node.

    Attributes:
        declared: the text a manifest declared it by.
        used, out, stranded: as of `NodeState`; `out` is the sum of the leases.
        level_micro: of a rate, the millionths of a unit in the ledger's own bucket; less than 0
            while it owes.
        anchor_us: of a rate, when that was refilled last.
        shares, caps: of a rate, the sums of what holders have.
        recover_us: until then nothing is granted.
        touched_us: when it was last claimed of, or defined.
    """

    node: str
    terms: Terms
    definition: str
    revision: int
    declared: str | None = None
    used: int = 0
    out: int = 0
    stranded: int = 0
    level_micro: int = 0
    anchor_us: int = 0
    shares: int = 0
    caps: int = 0
    recover_us: int = 0
    touched_us: int = 0
    latch: str = ""
    is_deleted: bool = False

    def state(self, holders: int) -> NodeState:
        """What others may know of it."""
        return NodeState(
            self.node, self.terms, self.definition, self.revision,
            self.used, self.out, self.stranded, holders, self.latch,
        )  # fmt: skip


@dataclass(slots=True)
class LeaseRow:
    """What one holder has of one node.

    Attributes:
        epoch: of its last claim.
        counted: the use that is in the balance.
        units: what it holds; 0 for a rate.
        stranded: what was stranded when it expired.
        head, ticket_us: the units it waits for, in line since then; 0: none.
        expires_us: when the lease ends.
        ttl_us: how long it was to last.
        demand, share, cap: of a rate.
        answer: to its last claim.
        is_over: it has expired or ended; the row is kept to know what was counted.
    """

    holder: str
    epoch: int = 0
    counted: int = 0
    units: int = 0
    stranded: int = 0
    head: int = 0
    ticket_us: int = 0
    expires_us: int = 0
    ttl_us: int = 0
    demand: int = 0
    share: int = 0
    cap: int = 0
    answer: Grant | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A change of a node's balances; their sums are the balances."""

    node: str
    holder: str
    epoch: int
    used: int = 0
    out: int = 0
    stranded: int = 0


@dataclass(slots=True)
class Step:
    """What one claim came to: the answer, the rows it changed, the lines for the journal."""

    answer: Grant
    changed: list[LeaseRow] = field(default_factory=list[LeaseRow])
    journal: list[JournalLine] = field(default_factory=list[JournalLine])

"""What a ledger and the processes that hold leases of it tell each other: plain data.

All amounts are ints, in units; a `usd` unit is a micro-dollar. Not here: what is decided
(`rules`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["capacity", "rate", "concurrency"]
Outcome = Literal["ok", "recovering", "stale", "undefined"]

FINE = 1_024
"""Shares of a rate are counted in such parts of a unit per period."""
MICRO = 1_000_000
"""The level of a rate's bucket is counted in such parts of a unit."""
MOST = 2**53 - 1
"""The largest amount: every store and every language counts that far exactly."""
TOMBSTONE_SECONDS = 86_400
"""How long a ledger remembers a holder that is gone."""
KEEP_SECONDS = 30 * 86_400
"""How long usage events are kept, unless a service says otherwise."""
KEEP_SUMS_SECONDS = 400 * 86_400
"""How long their sums by the hour are kept."""
EVER = 0
"""Where the end of an hour stands: a sum of all time."""
MAX_REAPED = 16
"""So many expired leases are taken back in one step."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a node allows.

    Attributes:
        kind: a capacity is used up, a rate is refilled, the slots of a concurrency come back.
        value: units in all; per period; at once.
        period_us: the period of a rate, in microseconds.
        burst: the most a rate's bucket holds.
        stranded: of a capacity, what becomes of units whose holder died without a report:
            `"keep"` counts them as gone, `"free"` grants them again.
    """

    kind: Kind
    value: int
    period_us: int = 0
    burst: int = 0
    stranded: Literal["keep", "free"] = "keep"

    @property
    def most(self) -> int:
        """The most that one call could ever get: the burst of a rate, else the value."""
        return self.burst if self.kind == "rate" else self.value


@dataclass(frozen=True, slots=True)
class Claim:
    """One report and request of one holder about one node; the same one until it is answered.

    Attributes:
        node: its key, such as `r/openai-tokens`.
        holder: who claims: a process, with an id that is never used again.
        epoch: 1 for the first claim of this holder about this node, then one more each time.
        used: what it has used in all, ever; 0 for slots.
        held: what it keeps of its lease: reserved by open calls, and free. Of a rate: the free
            units of its bucket, less than 0 while it owes.
        want: units it would like on top, to have some in stock.
        need: units its callers wait for, on top of `held`.
        head: the units of the first of these callers, which only a grant of all of them serves.
        waits: whether that caller stays in line if there is not enough.
        demand: of a rate, the units per period it could use; 0: it gives its share up.
        share, cap: of a rate, the share it has: units/1024 per period, and its part of the burst.
        ttl_ms: how long the lease is to last, in milliseconds.
        revision: of the definition it knows; 0: none.
        is_last: it gives everything back but what open calls hold, and is gone.
    """

    node: str
    holder: str
    epoch: int
    used: int = 0
    held: int = 0
    want: int = 0
    need: int = 0
    head: int = 0
    waits: bool = False
    demand: int = 0
    share: int = 0
    cap: int = 0
    ttl_ms: int = 10_000
    revision: int = 0
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a claim.

    Attributes:
        node, epoch: of the claim.
        outcome: `"recovering"`: the store went back in time, so leases are declared again and
            nothing is granted for a while; `"stale"`: a later claim was answered already;
            `"undefined"`: there is no such node (any more).
        granted: units on top of what the claim holds. Of a rate, for its bucket; less than 0
            where its bucket has become smaller.
        share, cap: of a rate, the share it has from now on.
        used, out, stranded: of the whole node: used, in the hands of holders, lost with holders.
        retry_ms: when to ask again, where less was granted than needed, or where the shares of a
            rate are not balanced yet; None: no sooner than the lease must be renewed.
        is_wanted: others wait in line, so give back what is not needed.
        latch: why the node takes no more reservations; `""`: it does.
        revision: of the definition.
        terms, definition: set only where the claim knew another revision.
    """

    node: str
    epoch: int
    outcome: Outcome
    granted: int = 0
    share: int = 0
    cap: int = 0
    used: int = 0
    out: int = 0
    stranded: int = 0
    retry_ms: int | None = None
    is_wanted: bool = False
    latch: str = ""
    revision: int = 0
    terms: Terms | None = None
    definition: str = ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node as a ledger has it.

    Attributes:
        node: its key.
        terms, definition, revision: what it allows; `definition` is a text for its users.
        used, out, stranded: units used, in the hands of holders, lost with holders.
        holders: how many hold a lease now.
        latch: why it takes no more reservations; `""`: it does.
        spare: of a rate, whole units in the ledger's own bucket now; None: not said.
        lent: of a rate, how much the buckets of holders take.
    """

    node: str
    terms: Terms
    definition: str
    revision: int
    used: int = 0
    out: int = 0
    stranded: int = 0
    holders: int = 0
    latch: str = ""
    spare: int | None = None
    lent: int = 0

    @property
    def debt(self) -> int:
        """Units beyond the limit: what was used turned out to be more than was held."""
        if self.terms.kind == "rate":
            return 0
        return max(0, self.used + self.out + self.stranded - self.terms.value)


class UsageSum(NamedTuple):
    """What was used in an hour, of one group of events; a ledger adds such together.

    Attributes:
        ends: when the hour ends, in seconds since the epoch: what happened in that very instant
            belongs to it, and what happened when it began does not. Or `EVER`.
        group: what these events have in common: a text that a ledger only compares.
        units: how much of what, such as `("calls", 3)`.
    """

    ends: int
    group: str
    units: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A usage event on its way into a ledger; (holder, number) is what makes it unique.

    Attributes:
        timestamp: seconds since the epoch.
        text: the event as JSON.
        sums: what it adds; not there any more where it is read.
    """

    holder: str
    number: int
    timestamp: float
    text: str
    sums: tuple[UsageSum, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a ledger contradicts itself: a balance, and what its journal makes of it."""

    node: str
    what: str
    balance: int
    journal: int


def title(node: str) -> str:
    """What people call a node, by its key."""
    kind, _slash, rest = node.partition("/")
    name, _slash, dim = rest.partition("/")
    if kind == "r" and rest:
        return f"resource {rest!r}"
    if kind == "p" and name and not dim:
        return f"principal {name!r}"
    if kind == "p" and dim:
        return f"the quota of {dim} of principal {name!r}"
    if kind == "t" and dim:
        return f"the limit of {dim} of the shared task {name!r}"
    return repr(node)

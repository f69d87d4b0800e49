"""What this process has of a shared node: the holder's side of a lease.

The cell of a leased node holds what was leased, and calls are served from that alone. When it
runs low, or short, the ledger is asked for more; how long that takes, and whether it answers at
all, is nothing that anything here waits for. At every instant

    used since the last answer + reserved + free = what the ledger has given

Everything here runs under the lock of accounts. Not here: asking (`courier`), and who waits for
the answer (`admission`).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Literal

from ..errors import LedgerUnavailable
from ..kernel.nodes import GUARDED, QuotaCell, refloor, refresh
from ..kernel.refill import NEVER_NS, Refill
from .absences import recovering, undefined
from .desk import Bell, Desk
from .stocks import floor_of, refill_ns_of, retry_ns_of
from .terms import FINE, Claim, Grant, NodeState, Terms
from .turns import Turn

OnLedgerError = Literal["lease", "reject", "open"]
_LEAST_RETRY_NS = 20_000_000
_IDLE_NS = 1_000_000_000
"""How often it is looked whether what is in stock is used."""


class Lease:
    """What this process has of one node, and how it stands with the ledger.

    Attributes:
        node: its key in the ledger.
        cell: where calls are served from it.
        is_per_call: hold nothing in stock, and report the end of each call.
        most: the most units to lease at a time; None: what it uses in a second.
        on_error: what happens while the ledger is away.
        floor: below so much free the next hold is looked at closely, to ask for more in time.
        deadline_ns: when it ends, on this process's own clock.
        error: why the ledger cannot be asked now; None: it can.
        latch: why the node takes no more reservations; `""`: it does.
        before: units that its cell counted before it was leased.
        is_lowered: its value was lowered, or others were given what a pause here had cost it, so
            units that come back here may be too many.
        touched: how many holds have ended.
        beat_ns: the longest time between two claims, for who must hear of a latch.
    """

    def __init__(
        self,
        node: str,
        cell: QuotaCell,
        terms: Terms,
        desk: Desk,
        now_ns: int,
        *,
        holder: str | None = None,
        is_per_call: bool = False,
        most: int | None = None,
        on_error: OnLedgerError = "lease",
    ) -> None:
        self.node = node
        self.cell = cell
        self.terms = terms
        self.desk = desk
        self.revision = 0
        self._holder = holder or desk.holder
        self.is_per_call = is_per_call
        self.most = most
        self.on_error: OnLedgerError = on_error
        self.floor = 0
        self.deadline_ns = NEVER_NS
        self.due_ns: int | None = None
        self.asking: Claim | None = None
        self.asked_ns = 0
        self.error: LedgerUnavailable | None = None
        self.latch = ""
        self.beat_ns = NEVER_NS
        self.is_stirred = self.steps_back = self.is_lost = False
        self.is_closed = self.is_abandoned = self.is_lowered = False
        self.lent = self.lent_out = self.over = self.asked_over = self._owed = 0
        self.spare: int | None = None
        self.share = self.cap = 0
        self.on_latch: Callable[[str], object] | None = None
        self.on_end: Callable[[], object] | None = None
        self.is_ending = False
        self.on_news: Callable[[Grant], object] | None = None
        self.acked_ns = now_ns
        self._out = self._own = self.counted = self.epoch = self.largest = self.covered = 0
        self.extra = self.extra_most = 0
        self.before = self.offset = cell.spent
        self._refused_ns = self._renewals = 0
        self.turn = Turn(now_ns)
        self.recovery: LedgerUnavailable | None = None
        self.touched = self.claimed_touch = self._acked_touch = 0
        self.known: Grant | None = None
        self._listeners: list[Bell] = []
        self._put_on(cell, terms, now_ns)

    def _put_on(self, cell: QuotaCell, terms: Terms, now_ns: int) -> None:
        """Empty the cell: what it has is what it gets from now on."""
        self.give(cell.free)
        cell.level = terms.kind == "concurrency" or cell.dim == "memory"
        cell.lease = self
        cell.spares_exempt = terms.kind != "concurrency" and cell.node.kind != "task"
        if terms.kind == "rate":
            cell.refill = Refill(0, terms.period_us * 1_000 * FINE, 0, now_ns)
        self._set_terms(terms)

    def change(self, terms: Terms) -> None:
        """The definition was changed, here or elsewhere; what is leased stays."""
        self._set_terms(terms)
        self._refused_ns = 0

    def seen(self, state: NodeState) -> None:
        """Take what the ledger said of the node outside of a claim."""
        self.latch, self.revision = state.latch, state.revision
        mine = (0 if self.cell.level else self.counted) + self.offset - self.before
        self.cell.elsewhere = state.used - mine + state.stranded
        self._out, self.spare, self.lent_out = state.out, state.spare, state.lent

    def _set_terms(self, terms: Terms) -> None:
        self.terms = terms
        before, self.cell.limit = self.cell.limit, terms.most
        if terms.kind != "rate" and before is not None and self.cell.limit < before:
            self.is_lowered = True
            self._trim()
        self._set_floor(self.floor)

    def _set_floor(self, units: int) -> None:
        self.floor = GUARDED if self.latch or self.is_lowered else units
        refloor(self.cell)

    def _left(self) -> int:
        """What the node has left by all that is known, in stock here and there; below 0: debt."""
        cell = self.cell
        spent = cell.elsewhere if cell.level else cell.spent + cell.elsewhere - self.before
        return (cell.limit or 0) - spent - cell.reserved - cell.granted - self.out_elsewhere()

    def _trim(self) -> None:
        """There is debt, or was: keep no more in stock than there is."""
        self.give(max(0, min(self.cell.free, self.cell.free - self._left())))

    @property
    def is_prompt(self) -> bool:
        """Whether the end of each hold is of interest at once."""
        return self.is_per_call or self.terms.kind == "concurrency"

    @property
    def holder(self) -> str:
        """The name it has at the ledger."""
        return f"{self._holder}.{self._renewals}" if self._renewals else self._holder

    @property
    def next_holder(self) -> str:
        """The name it has when it begins anew."""
        return f"{self._holder}.{self._renewals + 1}"

    # What calls ask of it.

    def is_question(self, now_ns: int) -> bool:
        """Whether the ledger might have more: nobody knows until it answers."""
        if self.error is not None or self.latch or self.is_closed:
            return False
        is_asked = self.asking is not None and self.asking.need > 0
        return is_asked or now_ns >= self._refused_ns

    def retry_after(self, units: int, now_ns: int) -> float | None:
        """Seconds until asking again may help; None: only a top-up does, or a call's end here."""
        if self.terms.kind != "rate" and self.known is not None and self.error is None:
            elsewhere = self.out_elsewhere()
            if units > self._left() + (self.cell.reserved + elsewhere if elsewhere else 0):
                return None
        refill_ns = refill_ns_of(self.terms, units - self.cell.free)
        return max(_LEAST_RETRY_NS, self._refused_ns - now_ns, refill_ns) / 1e9

    def look(self, units: int) -> None:
        """A call of so many units comes: ask for more if that leaves little."""
        self.largest = max(self.largest, units)
        if self.is_lowered:
            self._trim()
        if not self.floor or self.cell.free - units >= self.floor or self.error is not None:
            return
        if self.asking is None:
            self.ask()
        else:
            self._set_floor(0)
        self.desk.is_owed_a_turn = True

    def ask(self) -> None:
        """Have the ledger asked, unless it is being asked already."""
        if self.error is not None or self.is_closed:
            return
        self._set_floor(max(0, self.cell.free) // 3)  # then to see whether it has answered
        if self.asking is None:
            self.desk.ring(self)

    def ask_again(self) -> None:
        """Somebody waits although it was refused just now: ask once that may help."""
        is_planned = self.is_stirred or (self.due_ns or NEVER_NS) <= self._refused_ns
        if self.asking is None and not is_planned and not self.is_closed:
            self.is_stirred = True
            self.desk.ring(self, later=True)

    def ask_for(self, units: int) -> Event:
        """Ask for all units of a caller that is not in line; the event tells of the answer."""
        self.extra += units
        self.extra_most = max(self.extra_most, units)
        event = Event()
        self.listen(event)
        self.ask()
        return event

    def listen(self, bell: Bell) -> None:
        """Have a bell rung at the next answer, or when none comes."""
        self._listeners.append(bell)

    def touch(self) -> None:
        """A hold has ended."""
        self.touched += 1
        has_turn = not self.turn.is_over or self.cell.queue is None or not self.cell.queue.count
        if self.is_closed or (self.is_stirred and has_turn):
            return
        if not has_turn:
            self.turn.is_over, self.is_stirred, self.steps_back = False, True, True
            self.give(max(0, self.cell.free))
            self.desk.ring(self)
        elif self.is_per_call:
            self.is_stirred = True
            self.desk.ring(self)
        elif self.terms.kind == "concurrency" or (self.due_ns is None and self.asking is None):
            self.is_stirred = True
            self.desk.ring(self, later=True)

    def has_acknowledged(self, touched: int) -> bool:
        """Whether the ledger knows of so many ended holds."""
        return self._acked_touch >= touched

    def end(self) -> None:
        """Nobody will draw on it any more: give back what is not in use, and later the rest."""
        self.is_ending = True
        self.beat_ns = NEVER_NS
        if self.is_known:
            self.desk.ring(self)
        elif self.on_end is not None:
            self.on_end()

    def lend(self, units: int) -> None:
        """Let a call through that the ledger was not asked for; it is booked later, as debt."""
        self.lent += units
        self.give(-units)

    def lapse(self) -> None:
        """Its time is over: what is free is no longer this process's."""
        cell = self.cell
        self.deadline_ns = 0 if self.is_abandoned else NEVER_NS
        self._refused_ns = 0
        self.share = self.cap = 0
        self._set_share(self.acked_ns)
        self.give(max(0, cell.free))
        refloor(cell)

    def give(self, units: int) -> None:
        self.cell.free -= units
        self.cell.base -= units

    def _set_share(self, now_ns: int) -> None:
        refill = self.cell.refill
        if refill is not None:
            refill.change(self.share, refill.period_ns, self.cap, now_ns)

    # What goes to the ledger, and comes back.

    def answered(self, grant: Grant, now_ns: int) -> None:
        """Take what the ledger has given."""
        claim = self.asking
        assert claim is not None and claim.epoch == grant.epoch
        self.asking = None
        self.error = None
        self.extra = self.extra_most = 0
        self._acked_touch = self.claimed_touch
        if grant.outcome in ("stale", "undefined"):
            self._lose(grant, now_ns)
        else:
            self._take(claim, grant, now_ns)
        self._tell()

    def _take(self, claim: Claim, grant: Grant, now_ns: int) -> None:
        cell = self.cell
        self.counted = claim.used if not cell.level else cell.spent - self.offset
        self.acked_ns = now_ns
        self.known, self.is_lost = grant, False
        self._out, self.spare = grant.out, None
        self._own = claim.held + grant.granted
        self.revision = grant.revision
        if grant.terms is not None:
            self._set_terms(grant.terms)
        mine = claim.used + self.offset - self.before
        cell.elsewhere = grant.used - mine + grant.stranded
        if self.terms.kind == "rate":
            self._take_share(grant, now_ns)
        else:
            self.give(-self.covered)
            self.covered = 0
        self.give(-grant.granted - self.asked_over)
        self.asked_over = 0
        ttl_ns = claim.ttl_ms * 1_000_000
        self.deadline_ns = NEVER_NS if claim.is_last else self.asked_ns + ttl_ns * 9 // 10
        self.latch = grant.latch
        is_slots = self.terms.kind == "concurrency"
        if is_slots:
            self.turn.heard(claim, grant, now_ns)
        is_short, retry_ns = grant.granted < claim.need, retry_ns_of(claim, grant)
        retry_ns = self.turn.retry_ns(retry_ns) if is_slots else retry_ns
        again_ns = now_ns + retry_ns
        self._refused_ns = again_ns if is_short else 0
        is_recovering = is_short and grant.outcome == "recovering"
        self.recovery = recovering(self.node, retry_ns) if is_recovering else None
        self._plan(now_ns, ttl_ns, again_ns)

    def _take_share(self, grant: Grant, now_ns: int) -> None:
        """Refill at another rate; what came at a higher one since it was asked is given back."""
        cell = self.cell
        refresh(cell, now_ns)
        if grant.share < self.share:
            passed_ns = now_ns - self.asked_ns
            period_ns = self.terms.period_us * 1_000 * FINE
            owed = self._owed + passed_ns * (self.share - grant.share)
            units, self._owed = divmod(owed, period_ns)
            self.give(units)
        self.share, self.cap = grant.share, grant.cap
        self._set_share(now_ns)
        if self._owed and self.share and cell.refill:  # a part of a unit: the next comes later
            cell.refill.anchor_ns += -(-self._owed // self.share)
            self._owed = 0

    def _plan(self, now_ns: int, ttl_ns: int, again_ns: int) -> None:
        """When to ask next, if nothing happens before."""
        cell = self.cell
        has_queue = cell.queue is not None and cell.queue.count > 0 and not cell.paused_ns
        is_told = cell.level or cell.spent - self.offset == self.counted
        is_empty = cell.base == cell.spent and cell.free == 0 and not self.share and is_told
        next_ns = NEVER_NS if is_empty and not has_queue else now_ns + ttl_ns // 3
        if cell.free > 0 or self.share:  # what lies idle goes back soon
            next_ns = min(next_ns, now_ns + _IDLE_NS)
        if has_queue or self.terms.kind == "rate" or cell.free > 0:  # too little to serve somebody
            next_ns = min(next_ns, again_ns)
        next_ns = min(next_ns, now_ns + self.beat_ns)
        self.due_ns = None if next_ns >= NEVER_NS else next_ns
        if self.is_ending and self.due_ns is None and self.on_end is not None:
            self.on_end()
        is_stocked = not self.is_prompt and not self._refused_ns
        if self.is_lowered or (self.terms.kind != "rate" and self._left() < 0):
            self._trim()
            self.is_lowered = self._left() < 0
        self._set_floor(floor_of(max(0, cell.free), self.most) if is_stocked else 0)

    def _lose(self, grant: Grant, now_ns: int) -> None:
        """The ledger knows nothing of it: nothing is granted until that is cleared up."""
        self.lapse()
        self.covered = self.over = self.asked_over = 0
        if grant.outcome == "stale":
            self.begin_anew()
            self.due_ns = now_ns
            return
        self.is_lost = True
        self.error = undefined(self.node)
        self.due_ns = now_ns + max(_LEAST_RETRY_NS, self.desk.ttl_ms * 1_000_000 // 20)

    def begin_anew(self) -> None:
        """Be another holder, which has used only what was not counted yet."""
        self._renewals += 1
        self.offset += self.counted
        self.epoch = self.counted = 0

    def failed(self, error: LedgerUnavailable) -> None:
        """The ledger does not answer; the claim stands, and is made again."""
        self.error, self.extra, self.extra_most = error, 0, 0
        if self.on_error == "reject":
            self.give(max(0, self.cell.free))
        self._tell()

    def _tell(self) -> None:
        for event in self._listeners:
            event.set()
        self._listeners.clear()

    @property
    def is_known(self) -> bool:
        """Whether the ledger knows of this holder, or there is something to tell it."""
        return self.epoch > 0 or self.cell.spent != self.offset

    def out_elsewhere(self) -> int:
        """Units that others hold, as far as is known."""
        return 0 if self.terms.kind == "rate" else max(0, self._out - self._own)

"""The thread between a service and its ledger: claims go out together, answers come back.

A cancellation never reaches it, nor a socket or file of the ledger. While the ledger is away it
makes the same claims again and again, ever more rarely. Not here: what is claimed (`leases`), and
who waits for it (`admission`).
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from random import random
from threading import Thread, get_ident
from typing import TYPE_CHECKING, TypeVar

from ..accounts import acquire, release
from ..clock import Clock
from ..errors import BudgetwareError, LedgerUnavailable
from . import forks
from .agenda import Agenda, Job
from .claims import make_claim
from .errands import Errand
from .leases import Lease
from .protocol import Ledger
from .terms import Claim, Grant
from .usage_queue import Entry, UsageQueue

if TYPE_CHECKING:
    from .outbox import Outbox

T = TypeVar("T")

_log = logging.getLogger("budgetware")
PATIENCE_SECONDS = 5.0
"""How long a call to the ledger may take that is no claim; more than any ledger's own timeout."""
_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.05, 1.0
_FLUSH_NS = 100_000_000
"""How often usage events are written, at most."""
_LONGEST_SLEEP_SECONDS = 3_600.0


def _nobody_waits(_leases: Sequence[Lease], _now_ns: int) -> None:
    """Stand in for what `admission` does about an answer."""


def _leaves(_lease: Lease) -> bool:
    """Stand in for what `admission` knows of the first in line."""
    return False


served: Callable[[Sequence[Lease], int], object] = _nobody_waits
"""Called with leases that were answered, or that failed. Without the lock."""
stays: Callable[[Lease], bool] = _leaves
"""Asked whether the first who waits for a lease stays in line if there is not enough. Locked."""


class Courier:
    """What takes the claims of one service to its ledger, in a thread of its own.

    Attributes:
        holder: the name of this process at the ledger, never used again.
        ttl_ms: how long leases last, in milliseconds.
        usage: the events that are not in the ledger yet.
        leases: returns all that there are.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, lease_seconds: float, outbox: Outbox | None = None
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.ttl_ms = max(1, int(lease_seconds * 1_000))
        self.holder = os.urandom(12).hex()
        self.is_owed_a_turn = False
        self.usage = UsageQueue(self.holder)
        self.leases: Callable[[], Sequence[Lease]] = tuple
        self._outbox = outbox
        self._agenda = Agenda()
        self._errands: deque[Errand] = deque()
        self._sent: list[tuple[Lease, Claim]] = []
        self._flush_ns = 0
        self._error: LedgerUnavailable | None = None
        self._pause_seconds = 0.0
        self._again_ns = 0
        self._thread: Thread | None = None
        self._is_closing = False
        self._is_abandoned = False
        forks.told.add(self)

    # From any thread.

    def ring(self, lease: Lease, *, later: bool = False) -> None:
        """Have a claim made for a lease, at once or after a moment. Never waits."""
        if later:
            self._agenda.put_later(lease)
        else:
            self._agenda.put(lease)

    def give_turn(self) -> None:
        """Let its thread run, if it is owed that, for as long as it takes to send or receive.

        Python hands the interpreter on every 5 ms only: a thread that computes would have used up
        what it has in stock long before the ledger is asked for more.
        """
        if self.is_owed_a_turn:
            self.is_owed_a_turn = False
            time.sleep(0)

    def wake(self) -> None:
        """Have it look at the clock."""
        self._agenda.put(None)

    def start(self) -> None:
        """Open the ledger, in the thread that is the only one to use it; waits for that.

        Raises:
            LedgerUnavailable, ConfigurationError: it could not be opened; nothing is left.
        """
        thread = Thread(target=self._run, name="budgetware-ledger", daemon=True)
        self._thread = thread
        thread.start()
        try:
            self.call(self._open)
        except BaseException:
            self._stop()
            raise

    def call(self, function: Callable[[Ledger], T]) -> T:
        """Have the ledger do something, and wait for it; raises what it raises.

        Blocks the thread for as long as the ledger takes, which is bounded by its timeouts.
        """
        if self._is_abandoned:
            raise LedgerUnavailable(forks.FORKED)
        thread = self._thread
        if thread is None or not thread.is_alive() or thread.ident == get_ident():
            raise LedgerUnavailable("the ledger is closed: connect() again")
        job = Job(function)
        self._agenda.put(job)
        if not job.wait(PATIENCE_SECONDS):
            raise LedgerUnavailable(
                f"the ledger {self.ledger.address} has not answered for {PATIENCE_SECONDS:g} "
                "seconds: see whether it runs, then try again"
            )
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def tell(self, errand: Errand) -> None:
        """Have the ledger told soon, again and again until it knows. Never waits."""
        self._errands.append(errand)
        self._agenda.put(None)

    def record(self, make: Callable[[], Entry]) -> None:
        """Have a usage event kept, which is made later. From any thread; never waits."""
        if self.usage.put(make):
            self._agenda.put(None)

    def flush(self, leases: Sequence[Lease]) -> None:
        """Report what was used by these, and write down usage events; waits for that."""
        self.call(lambda _ledger: self._report(leases, is_last=False))

    def return_stock(self, lease: Lease) -> None:
        """Give back what a lease has in stock; waits for that. It may be claimed for again."""
        self.call(lambda _ledger: self._report([lease], is_last=True))

    def close(self, leases: Sequence[Lease]) -> None:
        """Report what was used, return what was leased, and close the ledger; waits for that.

        Whatever cannot be said now is left in the outbox, or lost where there is none.
        """
        thread = self._thread
        if thread is None or not thread.is_alive():
            return

        def say_goodbye(_ledger: Ledger) -> None:
            try:
                acquire()
                for lease in leases:
                    lease.is_closed = True
            finally:
                release()
            try:
                self._report(leases, is_last=True)
            except BaseException:
                self._save()
                raise
            if self._outbox is not None:
                self._outbox.clear()

        try:
            self.call(say_goodbye)
        except BudgetwareError as error:
            _log.warning("a ledger was closed without a last report: %s", error)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._is_closing = True
        self._agenda.put(None)
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    def abandon(self) -> None:
        """Go on without it: the process was forked, and what it has is the parent's."""
        if self._thread is None or self._is_closing:  # opened here, if it is
            self.holder = os.urandom(12).hex()
            self.usage = UsageQueue(self.holder, self.usage.keep_seconds)
            return
        self._is_abandoned = True
        self._thread = self._outbox = None
        self._agenda = Agenda()
        self._errands = deque(maxlen=0)
        self._sent = []
        self.usage.shut()
        forks.abandon(self.leases())

    # In its own thread.

    def _open(self, ledger: Ledger) -> None:
        ledger.open()
        if self._outbox is not None:
            self._outbox.open(ledger.address, self.holder)
            self._outbox.adopt_first(ledger, self.ttl_ms, self.clock)

    def _run(self) -> None:
        while not self._is_closing:
            for job in self._agenda.take_jobs(self._seconds_left()):
                job.run(self.ledger)
            if not self._is_closing:
                self._work()
        try:
            self.ledger.close()
        except Exception:
            _log.exception("closing the ledger failed")
        if self._outbox is not None:
            self._outbox.close()

    def _seconds_left(self) -> float:
        now_ns = self.clock.now_ns()
        next_ns = self._agenda.next_ns()
        if len(self.usage):
            next_ns = min(next_ns, self._flush_ns)
        outbox = self._outbox
        is_owing = outbox is not None and (outbox.is_full or outbox.has_orphans)
        if self._sent or self._errands or is_owing:
            next_ns = self._again_ns
        next_ns = max(next_ns, self._again_ns)
        return min(_LONGEST_SLEEP_SECONDS, max(0, next_ns - now_ns) / 1e9)

    def _work(self) -> None:
        now_ns = self.clock.now_ns()
        self._agenda.settle_later(now_ns)
        if now_ns < self._again_ns:
            self._turn_away(now_ns)
            return
        self._make_claims(now_ns)
        try:
            self._run_errands()
            if self._sent:
                grants = self.ledger.sync([claim for _lease, claim in self._sent])
                self._deliver(grants)
            if now_ns >= self._flush_ns:
                self._write_usage()
            self._empty_outbox()
        except LedgerUnavailable as error:
            self._fail(error)
        except BudgetwareError as error:
            self._fail(LedgerUnavailable(str(error)))
        except Exception as error:
            _log.exception("the ledger %s failed", self.ledger.address)
            self._fail(LedgerUnavailable(f"the ledger failed: {error!r:.200}"))
        else:
            self._pause_seconds = 0.0
            self._again_ns = 0
            self._error = None

    def _turn_away(self, now_ns: int) -> None:
        """Nobody waits for a ledger that is known to be away; each is claimed for later."""
        new = [
            lease
            for lease in self._agenda.due(now_ns)
            if lease.error is None and lease.asking is None
        ]
        if new and self._error is not None:
            self._tell_failure(new, self._error, now_ns)

    def _make_claims(self, now_ns: int) -> None:
        due = self._agenda.due(now_ns)
        if not due:
            return
        try:
            acquire()
            for lease in due:
                if lease.asking is None and not lease.is_closed:
                    self._sent.append((lease, make_claim(lease, now_ns, waits=stays(lease))))
        finally:
            release()
        for lease in due:
            self._agenda.active.pop(lease, None)

    def _deliver(self, grants: Sequence[Grant]) -> None:
        sent, self._sent = self._sent, []
        now_ns = self.clock.now_ns()
        news: list[tuple[Callable[[Grant], object], Grant]] = []
        ended: list[tuple[Callable[[str], object], str]] = []
        try:
            acquire()
            for (lease, _claim), grant in zip(sent, grants, strict=True):
                had_latch = lease.latch
                lease.answered(grant, now_ns)
                if lease.due_ns is not None:
                    self._agenda.active[lease] = None
                if grant.terms is not None and lease.on_news is not None:
                    news.append((lease.on_news, grant))
                if lease.latch and not had_latch and lease.on_latch is not None:
                    ended.append((lease.on_latch, lease.latch))
        finally:
            release()
        for tell_news, grant in news:
            tell_news(grant)
        for tell_end, reason in ended:
            tell_end(reason)
        served([lease for lease, _claim in sent], now_ns)

    def _run_errands(self) -> None:
        while self._errands:
            self._errands[0].run(self.ledger)
            self._errands.popleft()

    def _empty_outbox(self) -> None:
        """Tell all that is kept there, and then what others had to tell."""
        outbox = self._outbox
        if outbox is None:
            return
        if outbox.is_full:
            self._report(self.leases(), is_last=False)
            outbox.clear()
        if outbox.has_orphans:
            outbox.adopt(self.ledger, self.ttl_ms, self.clock.time())

    def _save(self) -> None:
        if self._outbox is not None:
            asked = [lease for lease, _claim in self._sent]
            leases = list(dict.fromkeys([*self.leases(), *asked, *self._agenda.active]))
            self._outbox.save(leases, self._errands, self.usage, self.clock)

    def _write_usage(self) -> None:
        self.usage.write(self.ledger)
        self._flush_ns = self.clock.now_ns() + _FLUSH_NS

    def _fail(self, error: LedgerUnavailable) -> None:
        now_ns = self.clock.now_ns()
        self._pause_seconds = min(
            _MOST_PAUSE_SECONDS, max(_LEAST_PAUSE_SECONDS, 2 * self._pause_seconds)
        )
        pause_seconds = self._pause_seconds * (0.5 + random() / 2)  # noqa: S311
        self._again_ns = now_ns + int(pause_seconds * 1e9)
        self._error = error
        failed = {lease: None for lease, _claim in self._sent}
        for lease in self.leases():
            if lease.on_error == "reject" and lease.is_known and lease not in failed:
                lease.due_ns = 0
                self._agenda.active[lease] = failed[lease] = None
        self._tell_failure(list(failed), error, now_ns)
        self._save()

    def _tell_failure(self, leases: Sequence[Lease], error: LedgerUnavailable, now_ns: int) -> None:
        try:
            acquire()
            for lease in leases:
                lease.failed(error)
        finally:
            release()
        served(leases, now_ns)

    def _report(self, leases: Sequence[Lease], *, is_last: bool) -> None:
        """Have what was asked answered, then claim for these. In its own thread."""
        self._run_errands()
        if self._sent:
            self._deliver(self.ledger.sync([claim for _lease, claim in self._sent]))
        now_ns = self.clock.now_ns()
        try:
            acquire()
            for lease in leases:
                if lease.is_known:
                    claim = make_claim(
                        lease, now_ns, waits=not is_last and stays(lease), is_last=is_last
                    )
                    self._sent.append((lease, claim))
        finally:
            release()
        if self._sent:
            self._deliver(self.ledger.sync([claim for _lease, claim in self._sent]))
        self._write_usage()

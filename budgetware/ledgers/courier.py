"""The thread between a service and its ledger: claims go out together, answers come back.

A cancellation never reaches it, nor a socket or file of the ledger. While the ledger is away it
makes the same claims again and again, ever more rarely. Not here: what is claimed (`leases`), and
who waits for it (`admission`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from random import random
from threading import Event, Thread, get_ident
from typing import Any, TypeVar

from ..accounts import acquire, release
from ..clock import Clock
from ..errors import BudgetwareError, LedgerUnavailable
from ..ids import new_id
from ..kernel.refill import NEVER_NS
from .claims import make_claim
from .leases import Lease
from .protocol import Ledger
from .terms import Claim, Grant, UsageRow

T = TypeVar("T")

_log = logging.getLogger("budgetware")
PATIENCE_SECONDS = 5.0
"""How long a call to the ledger may take that is no claim; more than any ledger's own timeout."""
_LINGER_NS = 100_000_000
"""How long a slot that has come back is kept for the next call."""
_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.05, 1.0
MAX_ROWS = 100_000
"""So many usage events are kept while the ledger is away; then the oldest are dropped."""
_BATCH = 1_000
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


class Job:
    """Something the ledger is to do, and what came of it."""

    __slots__ = ("_done", "error", "function", "result")

    def __init__(self, function: Callable[[Ledger], Any]) -> None:
        self.function = function
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = Event()

    def run(self, ledger: Ledger) -> None:
        """Do it."""
        try:
            self.result = self.function(ledger)
        except BaseException as error:  # whoever waits for it is told
            self.error = error
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done; say whether it was."""
        return self._done.wait(seconds)


class Courier:
    """What takes the claims of one service to its ledger, in a thread of its own.

    Attributes:
        holder: the name of this process at the ledger, never used again.
        ttl_ms: how long leases last, in milliseconds.
        dropped: usage events that were lost because the ledger was away too long.
    """

    def __init__(self, ledger: Ledger, clock: Clock, lease_seconds: float) -> None:
        self.ledger = ledger
        self.clock = clock
        self.ttl_ms = max(1, int(lease_seconds * 1_000))
        self.holder = new_id()
        self.dropped = 0
        self._bell: SimpleQueue[Lease | Job | None] = SimpleQueue()
        self._later: deque[Lease] = deque()
        self._active: dict[Lease, None] = {}
        self._errands: deque[Callable[[Ledger], object]] = deque()
        self._sent: list[tuple[Lease, Claim]] = []
        self._events: deque[Callable[[], tuple[float, str]]] = deque()
        self._rows: list[UsageRow] = []
        self._numbers = 0
        self._flush_ns = 0
        self._pause_seconds = 0.0
        self._again_ns = 0
        self._thread: Thread | None = None
        self._is_closing = False

    # From any thread.

    def ring(self, lease: Lease, *, later: bool = False) -> None:
        """Have a claim made for a lease, at once or after a moment. Never waits."""
        if later:
            self._later.append(lease)
            self._bell.put(None)
        else:
            self._bell.put(lease)

    def wake(self) -> None:
        """Have it look at the clock."""
        self._bell.put(None)

    def start(self) -> None:
        """Open the ledger, in the thread that is the only one to use it; waits for that.

        Raises:
            LedgerUnavailable, ConfigurationError: it could not be opened; nothing is left.
        """
        thread = Thread(target=self._run, name="budgetware-ledger", daemon=True)
        self._thread = thread
        thread.start()
        try:
            self.call(lambda ledger: ledger.open())
        except BaseException:
            self._stop()
            raise

    def call(self, function: Callable[[Ledger], T]) -> T:
        """Have the ledger do something, and wait for it; raises what it raises.

        Blocks the thread for as long as the ledger takes, which is bounded by its timeouts.
        """
        thread = self._thread
        if thread is None or not thread.is_alive() or thread.ident == get_ident():
            raise LedgerUnavailable("the ledger is closed: connect() again")
        job = Job(function)
        self._bell.put(job)
        if not job.wait(PATIENCE_SECONDS):
            raise LedgerUnavailable(
                f"the ledger {self.ledger.address} has not answered for {PATIENCE_SECONDS:g} "
                "seconds: see whether it runs, then try again"
            )
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def tell(self, errand: Callable[[Ledger], object]) -> None:
        """Have the ledger do something soon, again and again until it has. Never waits."""
        self._errands.append(errand)
        self._bell.put(None)

    def record(self, make: Callable[[], tuple[float, str]]) -> None:
        """Have a usage event kept: its time and text, made later. From any thread; never waits."""
        events = self._events
        events.append(make)
        if len(events) == 1:
            self._bell.put(None)

    def flush(self, leases: Sequence[Lease]) -> None:
        """Report what was used by these, and write down usage events; waits for that."""

        def report(_ledger: Ledger) -> None:
            self._report(leases, is_last=False)

        self.call(report)

    def return_stock(self, lease: Lease) -> None:
        """Give back what a lease has in stock; waits for that. It may be claimed for again."""

        def give_back(_ledger: Ledger) -> None:
            self._report([lease], is_last=True)

        self.call(give_back)

    def close(self, leases: Sequence[Lease]) -> None:
        """Report what was used, return what was leased, and close the ledger; waits for that.

        Whatever cannot be said now is lost with this process: its leases expire.
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
            self._report(leases, is_last=True)

        try:
            self.call(say_goodbye)
        except LedgerUnavailable as error:
            _log.warning("a ledger was closed without a last report: %s", error)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._is_closing = True
        self._bell.put(None)
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)

    # In its own thread.

    def _run(self) -> None:
        while not self._is_closing:
            jobs = self._await_work()
            for job in jobs:
                job.run(self.ledger)
            if not self._is_closing:
                self._work()
        try:
            self.ledger.close()
        except Exception:
            _log.exception("closing the ledger failed")

    def _await_work(self) -> list[Job]:
        """Sleep until there is something to do; note who has to be claimed for."""
        jobs: list[Job] = []
        seconds = self._seconds_left()
        try:
            item = self._bell.get(timeout=seconds)
            while True:
                if isinstance(item, Job):
                    jobs.append(item)
                elif item is not None:
                    item.due_ns = 0
                    self._active[item] = None
                item = self._bell.get_nowait()
        except Empty:
            pass
        return jobs

    def _seconds_left(self) -> float:
        now_ns = self.clock.now_ns()
        next_ns = min((lease.due_ns or 0 for lease in self._active), default=NEVER_NS)
        if self._events or self._rows:
            next_ns = min(next_ns, self._flush_ns)
        if self._sent or self._errands:
            next_ns = self._again_ns
        next_ns = max(next_ns, self._again_ns)
        return min(_LONGEST_SLEEP_SECONDS, max(0, next_ns - now_ns) / 1e9)

    def _work(self) -> None:
        now_ns = self.clock.now_ns()
        while self._later:
            lease = self._later.popleft()
            due_ns = now_ns + _LINGER_NS
            lease.due_ns = due_ns if lease.due_ns is None else min(due_ns, lease.due_ns)
            self._active[lease] = None
        if now_ns < self._again_ns:
            return
        if not self._sent:
            self._make_claims(now_ns)
        try:
            self._run_errands()
            if self._sent:
                grants = self.ledger.sync([claim for _lease, claim in self._sent])
                self._deliver(grants)
            if now_ns >= self._flush_ns:
                self.write_rows()
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

    def _make_claims(self, now_ns: int) -> None:
        due = [
            lease for lease in self._active if lease.due_ns is not None and lease.due_ns <= now_ns
        ]
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
            self._active.pop(lease, None)

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
                    self._active[lease] = None
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
            self._errands[0](self.ledger)
            self._errands.popleft()

    def write_rows(self) -> None:
        """Write down the usage events that have come; in the courier's thread."""
        while self._events or self._rows:
            self._take_events()
            self.ledger.record(self._rows)
            self._rows = []
        self._flush_ns = self.clock.now_ns() + _FLUSH_NS

    def _take_events(self) -> None:
        """Make the next batch, unless one was not taken yet."""
        events = self._events
        while len(events) > MAX_ROWS:
            events.popleft()
            self.dropped += 1
        while events and len(self._rows) < _BATCH:
            try:
                timestamp, text = events.popleft()()
            except Exception:
                _log.exception("a usage event cannot be written down")
                continue
            self._numbers += 1
            self._rows.append(UsageRow(self.holder, self._numbers, timestamp, text))

    def _fail(self, error: LedgerUnavailable) -> None:
        now_ns = self.clock.now_ns()
        self._pause_seconds = min(
            _MOST_PAUSE_SECONDS, max(_LEAST_PAUSE_SECONDS, 2 * self._pause_seconds)
        )
        pause_seconds = self._pause_seconds * (0.5 + random() / 2)  # noqa: S311
        self._again_ns = now_ns + int(pause_seconds * 1e9)
        try:
            acquire()
            for lease, _claim in self._sent:
                lease.failed(error)
        finally:
            release()
        served([lease for lease, _claim in self._sent], now_ns)

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
        self.write_rows()

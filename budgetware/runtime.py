"""What one service's tasks share, and which service is the process-wide one.

Not here: where a call stands in it (`frames`).
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .accounts import acquire, drain, release
from .clock import Clock, SystemClock
from .events import Events
from .kernel.nodes import Node
from .ledgers.courier import Courier
from .ledgers.leases import OnLedgerError
from .ledgers.terms import KEEP_SECONDS
from .principals import Principals
from .resources import Resources
from .shared_nodes import SharedNodes
from .tallies import Tallies
from .telemetry.service import Telemetry

if TYPE_CHECKING:
    from .frames import Frame
    from .ledgers.outbox import Outbox
    from .ledgers.protocol import Ledger
    from .pricing import PriceBook
    from .recording import Records
    from .token_keys import TokenKeys

Result = TypeVar("Result")
_LEASE_SECONDS = 10.0


class Runtime:
    """What one service's tasks share: clock, prices, counts, subscribers, telemetry."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        strict: bool = False,
        prices: PriceBook | None = None,
        token_keys: TokenKeys | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.resources = Resources(self.clock)
        self.principals = Principals(self.clock)
        self.templates: Mapping[str, Any] = {}
        self.is_clock_watched = False
        self.strict = strict
        self._prices = prices
        self.token_keys = token_keys
        self._ledger: Ledger | None = None
        self.shared: SharedNodes | None = None
        self._sharing: SharedNodes | None = None
        self._opening = Lock()
        self.defining = RLock()
        self.keys: dict[str, Any] = {}
        self.events = Events()
        self.records: Records | None = None
        self.tallies = Tallies()
        self.nodes: set[Node] = set()
        self.telemetry = Telemetry(self, tracer_provider, meter_provider)
        self.expiring: dict[int, tuple[int, Callable[[], object]]] = {}
        self._expiry_ns = 0
        self.outside: Frame | None = None

    @property
    def prices(self) -> PriceBook:
        """Where prices come from; most programs have none to ask for."""
        if self._prices is None:
            from .pricing import PriceBook

            self._prices = PriceBook()
        return self._prices

    def call_ledger(self, function: Callable[[Ledger], Result]) -> Result:
        """Ask the ledger, and wait for its answer; without one, what is in memory."""
        if self.shared is not None:
            return self.shared.call(function)
        return function(self._in_memory())

    def _in_memory(self) -> Ledger:
        if self._ledger is None:
            from .ledgers.memory import MemoryLedger

            made = MemoryLedger(wall=self.clock.time)
            try:
                acquire()
                if self._ledger is None:
                    self._ledger = made
            finally:
                release()
        return self._ledger

    def sharing(self) -> SharedNodes:
        """What shared tasks live in: the ledger, or without one the memory of this process."""
        if self.shared is not None:
            return self.shared
        with self._opening:
            if self._sharing is None:
                made = self._nodes_in(self._in_memory(), _LEASE_SECONDS, "lease", None)
                made.open()
                atexit.register(made.close)
                self._sharing = made
            return self._sharing

    def stop_sharing(self) -> None:
        """The service closes: end what shared tasks lived in, if that was in memory."""
        with self._opening:
            made, self._sharing = self._sharing, None
        if made is not None:
            made.close()
            atexit.unregister(made.close)

    def share(
        self,
        ledger: Ledger,
        lease_seconds: float,
        on_error: OnLedgerError,
        outbox: Outbox | None = None,
    ) -> SharedNodes:
        """Have shared balances live in a ledger, which is not opened yet."""
        self.shared = self._nodes_in(ledger, lease_seconds, on_error, outbox)
        return self.shared

    def _nodes_in(
        self, ledger: Ledger, lease_seconds: float, on_error: OnLedgerError, outbox: Outbox | None
    ) -> SharedNodes:
        courier = Courier(ledger, self.clock, lease_seconds, outbox)
        shared = SharedNodes(courier, self.resources, on_error)
        watch = getattr(self.clock, "watch", None)
        if watch is not None:  # a test's clock tells when it jumps
            watch(courier.wake)
        return shared

    def record_usage(self, keep_seconds: float = KEEP_SECONDS) -> None:
        """Have usage events kept: in the ledger, or without one in memory."""
        if self.shared is None:
            from .memory_records import MemoryRecords

            self.records = MemoryRecords(self.clock, keep_seconds)
        else:
            from .recording import LedgerRecords

            courier = self.shared.courier
            courier.usage.keep_seconds = keep_seconds
            self.records = LedgerRecords(courier, self.clock, self.shared.call)
        self.events.add(self.records)

    def stop_recording(self) -> None:
        """Have them kept no more."""
        if self.records is not None:
            self.events.remove(self.records)
            self.records = None

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

    @property
    def next_expiry_ns(self) -> int | None:
        """When a reservation expires next, or did if nobody has looked since; None: none will."""
        return self._expiry_ns if self.expiring else None

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


make_default: Callable[[], Runtime] = Runtime
"""How the in-memory default is made; `service` knows about manifests."""
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
            _in_memory = make_default()
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

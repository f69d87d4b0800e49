"""Instruments, made once per meter provider and fed by every service that reports to it.

Counters are observed, so that a call pays nothing for them. A closed service leaves its gauges,
not its counters: a counter that fell would be read as a restart. Services are referred to
weakly; when one is gone, its counts live on as sums. Not here: how numbers become series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, ref

from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeter, Observation

from . import counts, names
from .counts import Sums
from .logs import tell_of_failure

if TYPE_CHECKING:
    from ..runtime import Runtime
    from ..tallies import Tallies

Count = Callable[["Tallies"], Sums]
Observe = Callable[[CallbackOptions], Iterator[Observation]]
COUNTERS: dict[str, tuple[Count, str, str]] = {
    names.USAGE: (counts.usage, "{unit}", "Charged, at the leaf; gross of corrections"),
    names.CORRECTIONS: (counts.corrections, "{unit}", "Given back by corrections"),
    names.OVERDRAFT: (counts.overdraft, "{unit}", "Charged beyond a limit"),
    names.ADMISSIONS: (
        counts.admissions,
        "{admission}",
        "Calls admitted, at once or after a wait, and refused",
    ),
}


class Source:
    """One service, as far as its numbers are reported."""

    __slots__ = ("is_open", "runtime", "tallies")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = ref(runtime)
        self.tallies = runtime.tallies
        self.is_open = True


class Instruments:
    """What one meter provider exports of all services that report to it."""

    def __init__(self, meter: Meter) -> None:
        self._lock = Lock()
        self._sources: list[Source] = []
        self._past: dict[str, Sums] = {name: Sums() for name in COUNTERS}
        for name, (_count, unit, text) in COUNTERS.items():
            meter.create_observable_counter(name, [self._counter(name)], unit, text)
        up_down = meter.create_observable_up_down_counter
        whose = "open tasks, resources and principals"
        limits, balances = self._gauge(counts.limits), self._gauge(counts.balances)
        up_down(names.QUOTA_LIMIT, [limits], "{unit}", f"What {whose} may use")
        up_down(names.QUOTA_USAGE, [balances], "{unit}", f"What {whose} have used, and hold")
        up_down(names.ACTIVE_TASKS, [self._active_tasks], "{task}", "Open tasks")
        self.waits = meter.create_histogram(
            names.WAIT_SECONDS,
            "s",
            "How long calls waited for admission, those that were refused then included",
            explicit_bucket_boundaries_advisory=names.WAIT_BOUNDARIES,
        )
        self.duration = meter.create_histogram(
            names.CALL_DURATION,
            "s",
            "How long calls took, their wait for admission apart",
            explicit_bucket_boundaries_advisory=names.CALL_DURATION_BOUNDARIES,
        )

    def add(self, runtime: Runtime) -> Source:
        """Report this service from now on, and all it has counted so far."""
        source = Source(runtime)
        with self._lock:
            self._keep_sums()
            self._sources.append(source)
        return source

    def _keep_sums(self) -> None:
        """Sum up services that are gone; nothing of theirs changes any more."""
        for source in [s for s in self._sources if s.runtime() is None]:
            for name, (count, _unit, _text) in COUNTERS.items():
                self._past[name].update(count(source.tallies))
            self._sources.remove(source)

    def _counter(self, name: str) -> Observe:
        count = COUNTERS[name][0]

        def sums() -> Sums:
            with self._lock:
                self._keep_sums()
                total = self._past[name].copy()
                sources = list(self._sources)
            for source in sources:
                total.update(count(source.tallies))
            return total

        return _observed(sums)

    def _gauge(self, show: Callable[[Runtime], Sums]) -> Observe:
        """What open services show of themselves."""

        def sums() -> Sums:
            total = Sums()
            for runtime in self._open():
                total.update(show(runtime))
            return total

        return _observed(sums)

    def _active_tasks(self, _options: CallbackOptions) -> Iterator[Observation]:
        return iter([Observation(sum(len(runtime.nodes) for runtime in self._open()))])

    def _open(self) -> list[Runtime]:
        with self._lock:
            sources = [source for source in self._sources if source.is_open]
        return [runtime for s in sources if (runtime := s.runtime()) is not None]


def _observed(sums: Callable[[], Sums]) -> Observe:
    """A callback for the exporter; it shows nothing where a clock raises, say."""

    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        try:
            found = counts.plain(sums())
        except Exception:
            tell_of_failure()
            found = []
        return (Observation(n, attributes) for attributes, n in found)

    return observe


_made: WeakKeyDictionary[Any, Instruments] = WeakKeyDictionary()
_making = Lock()


def instruments_of(provider: Any, version: str | None) -> Instruments | None:
    """The instruments of a provider; None where its meters do not record."""
    with _making:
        made = _made.get(provider)
        if made is None:
            meter = provider.get_meter(names.SCOPE, version)
            if isinstance(meter, NoOpMeter):
                return None
            made = _made[provider] = Instruments(meter)
        return made

"""What one service tells to whom: finds the SDK, if there is one, and hands out observers.

Not here: what is told; the modules for that are imported when there is somebody to tell.
"""

from __future__ import annotations

import logging
import math
import os
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry import metrics, trace
from opentelemetry.trace import NoOpTracer, ProxyTracerProvider, Tracer

from . import names

if TYPE_CHECKING:
    from ..admission.refusals import Refusal
    from ..admission.waiters import Waiter
    from ..runtime import Runtime
    from ..tasks import TaskBudget
    from .logs import Logs
    from .metrics import Instruments, Source
    from .observer import Observer

_logger = logging.getLogger(names.SCOPE)
_logger.addHandler(logging.NullHandler())
_UNKNOWN = object()
_metrics_api = getattr(metrics, "_internal", None)
_ON = frozenset({"on", "true", "1"})
_OFF = frozenset({"off", "false", "0"})
WAIT_SPAN_MS = 10.0
MAX_WAIT_SPAN_MS = 1e12
_complained: set[str] = set()


class Telemetry:
    """One service's spans, metrics and logs.

    Providers that were not given are the global ones, looked up for each new task, so that an
    SDK installed later is seen by the next one.
    """

    def __init__(self, runtime: Runtime, tracer_provider: Any, meter_provider: Any) -> None:
        self._runtime = ref(runtime)
        self._tracer_provider = None if _is_proxy(tracer_provider) else tracer_provider
        self._meter_provider = None if _is_proxy(meter_provider) else meter_provider
        self._has_spans = is_on(names.SPANS_SWITCH)
        self._genai_usage = is_on(names.GENAI_USAGE_SWITCH)
        self._wait_span_ns = int(wait_span_ms() * 1e6)
        self._found: tuple[Any, Any] | None = None
        self._seen: tuple[Any, Any] = (None, None)
        self._tracer: Tracer | None = None
        self._instruments: Instruments | None = None
        self._sources: list[Source] = []
        self._is_open = True
        self._lock = Lock()
        self._logs: Logs | None = None

    def observer(self) -> Observer | None:
        """What watches the calls of one more frame; None where nothing would record them."""
        try:
            self._look()
        except Exception:
            from .logs import tell_of_failure

            tell_of_failure()
        if self._tracer is None and self._instruments is None:
            return None
        from .observer import Observer

        return Observer(
            self._tracer,
            self._instruments,
            genai_usage=self._genai_usage,
            wait_span_ns=self._wait_span_ns,
        )

    def _look(self) -> None:
        found = _global_providers()
        if found is not None and found == self._found:
            return
        tracer_provider = self._tracer_provider or trace.get_tracer_provider()
        meter_provider = self._meter_provider or metrics.get_meter_provider()
        with self._lock:
            if (tracer_provider, meter_provider) != self._seen:
                self._tracer = _tracer_of(tracer_provider) if self._has_spans else None
                self._measure(meter_provider)
                self._seen = (tracer_provider, meter_provider)
            self._found = found

    def _measure(self, provider: Any) -> None:
        """Report to this provider, from now on and once."""
        found = None if _is_proxy(provider) else _instruments_of(provider)
        if found is self._instruments:
            return
        self._instruments = found
        runtime = self._runtime()
        if found is not None and runtime is not None and self._is_open:
            self._sources.append(found.add(runtime))

    def refused(self, refusal: Refusal) -> None:
        """A call did not run."""
        if refusal.frame.observer is not None:
            refusal.frame.observer.refused(refusal)
        self._log().refused(refusal)

    def throttled(self, waiter: Waiter) -> None:
        """A call has waited for its turn, and was admitted."""
        self._log().throttled(waiter)

    def terminated(self, task: TaskBudget, error: BaseException) -> None:
        """A task has ended because it was terminated."""
        self._log().terminated(task, error)

    def _log(self) -> Logs:
        if self._logs is None:
            from .logs import Logs

            self._logs = Logs()
        return self._logs

    def close(self) -> None:
        """Report no more gauges; counters keep what they counted."""
        with self._lock:
            self._is_open = False
            for source in self._sources:
                source.is_open = False


def _global_providers() -> tuple[Any, Any] | None:
    """The global providers as they are set, or None where this cannot be told.

    Asking the API looks at the environment each time; these two look-ups are quick enough for
    every task.
    """
    tracer_provider = getattr(trace, "_TRACER_PROVIDER", _UNKNOWN)
    meter_provider = getattr(_metrics_api, "_METER_PROVIDER", _UNKNOWN)
    if tracer_provider is _UNKNOWN or meter_provider is _UNKNOWN:
        return None
    return tracer_provider, meter_provider


def _is_proxy(provider: object) -> bool:
    """Whether it only stands in for a global provider that may be set later."""
    return isinstance(provider, ProxyTracerProvider) or (
        type(provider).__name__ == "_ProxyMeterProvider"
    )


def _tracer_of(provider: Any) -> Tracer | None:
    if _is_proxy(provider):
        return None
    tracer: Tracer = provider.get_tracer(names.SCOPE, _version())
    return None if isinstance(tracer, NoOpTracer) else tracer


def _instruments_of(provider: Any) -> Instruments | None:
    from .metrics import instruments_of

    return instruments_of(provider, _version())


def _version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("budgetware")
    except PackageNotFoundError:
        return None


def is_on(variable: str) -> bool:
    """Read a switch of the environment; on, unless it says off."""
    text = os.environ.get(variable, "").strip().lower()
    if text and text not in _ON | _OFF:
        _logger.warning("%s=%.40s is neither on nor off: taken for on", variable, text)
    return text not in _OFF


def wait_span_ms() -> float:
    """Read from the environment how long a wait must be to have a span."""
    text = os.environ.get(names.WAIT_SPAN_MS, "").strip()
    if not text:
        return WAIT_SPAN_MS
    try:
        millis = float(text)
    except ValueError:
        millis = math.nan
    if 0 <= millis <= MAX_WAIT_SPAN_MS:
        return millis
    if text not in _complained:
        _complained.add(text)
        shown = text if text.isprintable() else repr(text)
        _logger.warning(
            "%s=%.40s is no number of milliseconds: %g it is",
            names.WAIT_SPAN_MS,
            shown,
            WAIT_SPAN_MS,
        )
    return WAIT_SPAN_MS

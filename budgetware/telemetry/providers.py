"""`setup`: an SDK for programs that configure none. The one module here that imports it.

Not here: what is exported. Programs that configure OpenTelemetry themselves, or run under
`opentelemetry-instrument`, need nothing of this.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import metrics, trace

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

Exporters = Literal["console", "otlp"]


class Providers:
    """What `setup` installed, for the whole process; a context manager that shuts it down."""

    def __init__(self, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Export what waits, blocking; say whether all of it went out in time."""
        millis = int(timeout_seconds * 1000)
        spans = self.tracer_provider.force_flush(millis)
        return self.meter_provider.force_flush(millis) and spans

    def shutdown(self) -> None:
        """Export what waits and stop; nothing is recorded after that."""
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def __enter__(self) -> Providers:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def setup(exporter: Exporters = "console", *, endpoint: str | None = None) -> Providers:
    """Install an OpenTelemetry SDK that exports spans and metrics, and return its providers.

    The environment's `OTEL_*` variables count as usual (`OTEL_SERVICE_NAME` names the program).

    Args:
        exporter: `"console"` writes to standard error, `"otlp"` sends OTLP over HTTP.
        endpoint: of the collector, such as `"http://localhost:4318"`; by default what the
            environment says, else that one.

    Raises:
        ConfigurationError: an SDK is configured already, the exporter is not installed, or the
            arguments do not go together.
    """
    if exporter not in ("console", "otlp"):
        raise ConfigurationError(f"setup({exporter!r}): give 'console' or 'otlp'")
    if endpoint is not None and exporter == "console":
        raise ConfigurationError("setup('console') sends nothing: leave out endpoint")
    _refuse_second()
    spans, numbers = _console() if exporter == "console" else _otlp(endpoint)
    return _install(spans, numbers)


def _refuse_second() -> None:
    proxy = type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
    if not (proxy and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)):
        raise ConfigurationError(
            "OpenTelemetry is configured already: budgetware reports to it without setup()"
        )


def _console() -> tuple[SpanExporter, MetricExporter]:
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr), ConsoleMetricExporter(out=sys.stderr)


def _otlp(endpoint: str | None) -> tuple[SpanExporter, MetricExporter]:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigurationError(
            'the OTLP exporter is not installed: pip install "budgetware[otlp]"'
        ) from error
    if endpoint is None:
        return OTLPSpanExporter(), OTLPMetricExporter()
    base = endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces"),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics"),
    )


def _install(spans: SpanExporter, numbers: MetricExporter) -> Providers:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(spans))
    readers: list[Any] = [PeriodicExportingMetricReader(numbers)]
    meter_provider = MeterProvider(metric_readers=readers)
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    return Providers(tracer_provider, meter_provider)

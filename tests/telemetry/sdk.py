"""An SDK in memory for one test, and what it got to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

Series = frozenset[tuple[str, Any]]


class Sdk:
    def __init__(
        self, *, sampler: Sampler = ALWAYS_ON, exporter: SpanExporter | None = None
    ) -> None:
        self.memory = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler=sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter or self.memory))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider(metric_readers=[self.reader])

    @property
    def providers(self) -> dict[str, Any]:
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    @property
    def spans(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self.memory.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def metrics(self) -> dict[str, Any]:
        """The metrics of our scope by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name == "budgetware"
            for metric in scope.metrics
        }

    def series(self, name: str) -> dict[Series, int]:
        metric = self.metrics().get(name)
        points: list[Any] = [] if metric is None else list(metric.data.data_points)
        return {frozenset(point.attributes.items()): point.value for point in points}

    def sums(self, name: str, key: str, **where: str) -> dict[str, int]:
        """The values of a metric, summed by one attribute."""
        sums: dict[str, int] = {}
        for series, value in self.series(name).items():
            attributes = dict(series)
            if all(attributes.get(k.replace("__", ".")) == v for k, v in where.items()):
                sums[attributes[key]] = sums.get(attributes[key], 0) + value
        return sums

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(cast("Mapping[str, Any]", span.attributes))


def types(span: ReadableSpan) -> dict[str, type]:
    return {key: type(value) for key, value in attributes(span).items()}

"""Without an SDK, with one that comes later, and with one that fails."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider

from budgetware import QuotaService, budgeted, connect, reserve
from budgetware.telemetry import logs
from tests.telemetry.sdk import Sdk

ROOT = Path(__file__).parent.parent.parent


@budgeted(tokens=100, settle=lambda used: used)
async def work(used: int) -> int:
    return used


def run(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_and_use_load_no_sdk() -> None:
    program = """
import sys, anyio
from budgetware import budgeted, task_budget

@budgeted(calls=1)
async def search(): ...

async def main():
    async with task_budget("research", calls=2) as budget:
        await search()
        assert budget.frame.observer is None
        print(budget.spent("calls"), budget._span)

anyio.run(main)
print(sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk")))
"""
    assert run(program).split("\n") == ["1 None", "[]"]


def test_an_sdk_installed_later_is_seen_by_the_next_task() -> None:
    program = """
import anyio
from budgetware import budgeted, task_budget
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

@budgeted(calls=1)
async def search(): ...

async def main():
    async with task_budget("early", calls=2):
        await search()
    memory, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    for _ in range(3):
        async with task_budget("late", calls=2):
            await search()
    print([span.name for span in memory.get_finished_spans()][:2])
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
        if metric.name == "budgetware.usage":
            print(sorted(point.value for point in metric.data.data_points))

anyio.run(main)
"""
    assert run(program).split("\n") == ["['execute_tool search', 'budgetware.task']", "[1, 3]"]


def test_a_disabled_sdk_makes_no_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    sdk = Sdk()
    with connect(**sdk.providers) as service, service.task_budget("research", calls=1) as budget:
        assert budget.frame.observer is None
    sdk.close()


async def test_tracing_can_be_declined(sdk: Sdk) -> None:
    meters = sdk.meter_provider
    with connect(tracer_provider=NoOpTracerProvider(), meter_provider=meters) as service:
        async with service.task_budget("research", tokens=1_000):
            await work(60)
    assert sdk.spans == []
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"tokens": 60}


class Failing(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError("no route")


class Raising(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("broken processor")


class RaisingLate(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("broken processor")


async def spend(service: QuotaService) -> object:
    async with service.task_budget("research", tokens=1_000) as budget:
        assert await work(60) == 60
        async with reserve(tokens=10, kind="tool", name="x"):
            pass
        return budget.snapshot()["tokens"].to_dict()


async def test_an_exporter_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sdk = Sdk(exporter=Failing())
    with connect() as service:
        expected = await spend(service)
    with connect(**sdk.providers) as service:
        assert await spend(service) == expected
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"tokens": 70}
    sdk.close()


@pytest.mark.parametrize("processor", [Raising, RaisingLate])
async def test_a_processor_that_raises_changes_nothing_and_is_told_of_once(
    processor: type[SpanProcessor],
    sdk: Sdk,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_failures", set[str]())
    sdk.tracer_provider.add_span_processor(processor())
    with connect() as service:
        expected = await spend(service)
    with connect(**sdk.providers) as service, caplog.at_level(logging.ERROR):
        assert await spend(service) == expected
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"tokens": 70}
    assert [r.name for r in caplog.records] == ["budgetware"]


def test_a_switch_that_is_neither_is_taken_for_on(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BUDGETWARE_OTEL_SPANS", "perhaps")
    with connect(**sdk.providers) as service, service.task_budget("research", calls=1):
        pass
    assert len(sdk.spans) == 1
    assert "neither on nor off" in caplog.text

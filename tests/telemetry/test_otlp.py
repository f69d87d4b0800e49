"""`setup`, in a process of its own, for it configures the whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from budgetware.errors import ConfigurationError
from budgetware.telemetry import setup
from tests.telemetry.sink import Sink

ROOT = Path(__file__).parent.parent.parent
WORK = """
import sys, anyio
from budgetware import budgeted, task_budget
from budgetware.telemetry import setup

@budgeted(tokens=100, settle=lambda used: used, kind="llm", model="small")
async def think(): return 60

async def main():
    async with task_budget("research", tokens=1_000):
        await think()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WORK + program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_collector_gets_spans_and_metrics() -> None:
    with Sink() as sink:
        result = run(f"""
with setup("otlp", endpoint={sink.endpoint!r}) as providers:
    anyio.run(main)
    assert providers.flush()
""")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    spans = {
        span.name: {pair.key: pair.value for pair in span.attributes}
        for request in sink.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if scope.scope.name == "budgetware"
    }
    assert spans.keys() == {"chat small", "budgetware.task"}
    assert spans["chat small"]["budgetware.charged.tokens"].int_value == 60
    assert spans["chat small"]["budgetware.decision"].string_value == "admitted"
    assert spans["budgetware.task"]["budgetware.limit.tokens"].int_value == 1_000
    usage = {
        point.as_int
        for request in sink.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "budgetware.usage"
        for point in metric.sum.data_points
    }
    assert usage == {60}


def test_the_console_is_standard_error() -> None:
    result = run('with setup("console"): anyio.run(main)\n')
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert '"name": "chat small"' in result.stderr
    assert '"name": "budgetware.usage"' in result.stderr


def test_a_second_setup_is_refused() -> None:
    result = run('setup("console")\nsetup("console")\n')
    assert "OpenTelemetry is configured already" in result.stderr


def test_a_missing_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("metric_exporter", "trace_exporter"):
        monkeypatch.setitem(sys.modules, f"opentelemetry.exporter.otlp.proto.http.{module}", None)
    with pytest.raises(ConfigurationError, match=r'pip install "budgetware\[otlp\]"'):
        setup("otlp")


def test_the_console_takes_no_endpoint() -> None:
    with pytest.raises(ConfigurationError, match="leave out endpoint"):
        setup("console", endpoint="http://localhost:4318")


def test_an_unknown_exporter_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'console' or 'otlp'"):
        setup(cast("Any", "zipkin"))

"""The program that sends traces by OTLP sends what it says, to where the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.telemetry.sink import Sink

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "examples/13_traces_by_otlp.py"


def sent_to(sink: Sink) -> list[Any]:
    """All spans that arrived of a run that was told of a sink."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OTEL"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_SERVICE_NAME": "researcher"}
    environment.pop("BUDGETWARE_MANIFEST", None)
    command = [sys.executable, str(PROGRAM)]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    resources = [resource for request in sink.traces for resource in request.resource_spans]
    names = {pair.value.string_value for r in resources for pair in r.resource.attributes}
    assert "researcher" in names
    return [span for r in resources for scope in r.scope_spans for span in scope.spans]


def facts(span: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


def test_an_agent_arrives_as_one_trace() -> None:
    with Sink() as sink:
        spans = sent_to(sink)
    (task,) = [span for span in spans if not span.parent_span_id]
    assert task.name == "budgetware.task"
    assert {span.trace_id for span in spans} == {task.trace_id}
    calls = [span for span in spans if span.parent_span_id == task.span_id]
    assert [span.name for span in calls] == [
        "chat small",
        "execute_tool search",
        "execute_tool search",
    ]
    chat, _admitted, refused = map(facts, calls)
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (400, 120)
    assert (chat["gen_ai.response.model"], chat["budgetware.cost.amount"]) == (
        "small-2026-10",
        0.0088,
    )
    assert refused["error.type"] == "budgetware.rejected"
    assert sink.metrics == []

"""Traces of an agent, by OTLP over HTTP: to Phoenix, MLflow, a collector or any other backend.

`OTEL_EXPORTER_OTLP_ENDPOINT` says where to, such as `http://localhost:6006`, where `phoenix serve`
listens. `mlflow server` is at `http://localhost:5000` and wants to be told an experiment, too:
`OTEL_EXPORTER_OTLP_HEADERS=x-mlflow-experiment-id=0`. Each span is printed as well.

It prints:

    chat small: admitted, $0.008800
    execute_tool search: admitted
    execute_tool search: rejected
    budgetware.task: completed
"""

import os
import sys
from contextlib import suppress

import anyio
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, export

from budgetware import BudgetExceeded, Usage, budgeted, connect, task_budget


@budgeted(tokens=2_000, kind="llm", model="small", settle=lambda usage: usage)
async def think() -> Usage:
    return Usage(input_tokens=400, output_tokens=120, model="small-2026-10")


@budgeted(calls=1)
async def search(query: str) -> str:
    return f"a page about {query}"


def shown(span: ReadableSpan) -> str:
    facts = span.attributes or {}
    cost = facts.get("budgetware.cost.amount")
    said = facts.get("budgetware.decision") or facts.get("budgetware.outcome")
    return f"{span.name}: {said}" + ("" if cost is None else f", ${cost:.6f}") + "\n"


async def main() -> None:
    tracers = TracerProvider()  # OTEL_SERVICE_NAME names it
    printer = export.ConsoleSpanExporter(out=sys.stdout, formatter=shown)
    tracers.add_span_processor(export.SimpleSpanProcessor(printer))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        tracers.add_span_processor(export.BatchSpanProcessor(OTLPSpanExporter()))
    prices = {"small": {"input": "10", "output": "40"}}
    service = connect(prices=prices, tracer_provider=tracers)
    async with service, task_budget("research", tokens=8_000, calls=1, usd="0.10"):
        await think()
        with suppress(BudgetExceeded):
            await search("anyio")
            await search("trio")
    tracers.shutdown()


if __name__ == "__main__":
    anyio.run(main)

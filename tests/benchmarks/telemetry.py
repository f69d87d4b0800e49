"""What spans and metrics add to a call, as ratios to a bare span of as many attributes.

Run by hand: `python -m tests.benchmarks.telemetry`. Thread CPU time, the best of several rounds,
taken in turns; only the ratios of one run mean anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from time import monotonic_ns, thread_time_ns
from typing import Any

import anyio
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import SpanKind, set_span_in_context

from budgetware import QuotaService, budgeted, connect, reserve
from budgetware.errors import BudgetExceeded
from budgetware.telemetry import names
from tests.benchmarks.rows import Row, target_of

ROUNDS = 25
CALLS = 2_000
MEASURED: list[Row] = []
"""Every row of this run, for `figures.py`."""
BIG = 10**15
Case = Callable[[], Awaitable[object]]


@budgeted(calls=1)
async def flat() -> None:
    return None


@budgeted(tokens=100, calls=1, settle=lambda reply: {"tokens": reply})
async def deep() -> int:
    return 60


async def by_hand() -> None:
    async with reserve(tokens=100, kind="tool", name="by_hand") as reservation:
        reservation.commit(60)


async def refused() -> None:
    try:
        await flat()
    except BudgetExceeded:
        pass


class Last(SpanProcessor):
    """Keeps the last span, to see its attributes."""

    span: ReadableSpan | None = None

    def on_end(self, span: ReadableSpan) -> None:
        self.span = span


class Sdk:
    """An SDK of its own, with a service that reports to it."""

    def __init__(self, sampler: Any = ALWAYS_ON) -> None:
        self.last = Last()
        tracer_provider = TracerProvider(sampler=sampler)
        tracer_provider.add_span_processor(self.last)
        meter_provider = MeterProvider(metric_readers=[InMemoryMetricReader()])
        self.tracer = tracer_provider.get_tracer("bare")
        meter = meter_provider.get_meter("bare")
        self.histogram = meter.create_histogram("bare.duration", "s")
        self.service: QuotaService = connect(
            record_usage=False, tracer_provider=tracer_provider, meter_provider=meter_provider
        )

    def bare(self, attributes: Any, late: Any = None) -> Case:
        """A span with these attributes, attached, ended; and one record of a histogram."""
        tracer, histogram = self.tracer, self.histogram
        labels = {names.OPERATION: "execute_tool"}

        async def call() -> None:
            start = monotonic_ns()
            span = tracer.start_span("bare", kind=SpanKind.INTERNAL, attributes=attributes)
            token = attach(set_span_in_context(span))
            detach(token)
            if late:
                span.set_attributes(late)
            span.end()
            histogram.record((monotonic_ns() - start) / 1e9, labels)

        return call

    async def attributes_of(self, call: Case) -> dict[str, Any]:
        await call()
        assert self.last.span is not None
        return dict(self.last.span.attributes or {})


async def once_ns(call: Case) -> float:
    start = thread_time_ns()
    for _ in range(CALLS):
        await call()
    return (thread_time_ns() - start) / CALLS


async def compare(name: str, ours: Case, bare: Case, target: str = "") -> None:
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        best = [min(ns, await once_ns(c)) for ns, c in zip(best, (ours, bare), strict=True)]
    MEASURED.append(Row(name, best[0] / 1000, best[0] / best[1], target_of(target)))
    row = f"{best[0] / 1000:8.2f} {best[1] / 1000:8.2f} {best[0] / best[1]:7.2f} {target:>7}"
    print(f"{name:48} {row}")


async def open_tasks(stack: AsyncExitStack, service: QuotaService, depth: int) -> None:
    for level in range(depth):
        task = service.task_budget(f"level{level}", calls=BIG, tokens=BIG)
        await stack.enter_async_context(task)


async def flat_calls(sdk: Sdk, what: str, target: str) -> None:
    eight = {f"bare.attribute.{i}": "value" if i % 2 else i for i in range(8)}
    async with sdk.service, AsyncExitStack() as stack:
        await open_tasks(stack, sdk.service, 1)
        await compare(f"@budgeted(calls=1), {what}", flat, sdk.bare(eight), target)


async def deep_calls(sdk: Sdk) -> None:
    async with sdk.service, AsyncExitStack() as stack:
        await open_tasks(stack, sdk.service, 4)
        bare = await sdk.attributes_of(deep)
        late = {key: bare.pop(key) for key in list(bare) if key.startswith("budgetware.charged")}
        await compare("four deep, with settle", deep, sdk.bare(bare, late), "1.25")
        bare = await sdk.attributes_of(by_hand)
        late = {key: bare.pop(key) for key in list(bare) if key.startswith("budgetware.charged")}
        await compare("async with reserve(kind=...)", by_hand, sdk.bare(bare, late))


async def refusals(sdk: Sdk) -> None:
    async with sdk.service:
        task = sdk.service.task_budget("short", calls=1, policy="reject")
        async with task as short:
            short.charge(calls=1)
            short.node.policy = type(short.node.policy)(patience=None)
            bare = await sdk.attributes_of(refused)
            await compare("a refusal, its checkpoint included", refused, sdk.bare(bare))


async def unwatched(sdk: Sdk) -> None:
    eight = {f"bare.attribute.{i}": "value" if i % 2 else i for i in range(8)}
    async with connect(record_usage=False) as service, AsyncExitStack() as stack:
        await open_tasks(stack, service, 1)
        await compare("@budgeted(calls=1), no SDK", flat, sdk.bare(eight))


async def main() -> None:
    print(f"{'µs':48} {'ours':>8} {'bare':>8} {'ratio':>7} {'target':>7}")
    await flat_calls(Sdk(), "recording", "1.20")
    await deep_calls(Sdk())
    await refusals(Sdk())
    await flat_calls(Sdk(ALWAYS_OFF), "unsampled", "")
    await unwatched(Sdk())


if __name__ == "__main__":
    anyio.run(main)

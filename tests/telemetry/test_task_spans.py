"""Spans of tasks, and of generators, whose spans must not leak into their consumer."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from budgetware import QuotaService, budgeted, reserve, task_budget
from budgetware.frames import current
from tests.telemetry.sdk import Sdk, attributes
from tests.telemetry.virtual import VirtualClock


def current_id() -> int:
    return trace.get_current_span().get_span_context().span_id


async def test_a_task_shows_its_limits_and_what_it_used(sdk: Sdk) -> None:
    from budgetware import connect

    clock = VirtualClock()
    with connect(clock=clock, **sdk.providers) as service:
        budget = service.task_budget("research", tokens=100, usd="0.25", seconds=60)
        async with budget, reserve(tokens=10, memory=64):
            clock.advance(2.5)
    span = sdk.span("budgetware.task")
    shown = {k: v for k, v in attributes(span).items() if ".reserved." not in k}
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert shown == {
        "budgetware.budget.id": budget.id,
        "budgetware.budget.path": "research",
        "budgetware.policy": "reject",
        "budgetware.decision": "admitted",
        "budgetware.remaining.tokens": 90,
        "budgetware.limit.tokens": 100,
        "budgetware.limit.usd_micros": 250_000,
        "budgetware.limit.millis": 60_000,
        "budgetware.used.tokens": 10,
        "budgetware.used.usd_micros": 0,
        "budgetware.used.memory": 64,
        "budgetware.used.millis": 2_500,
        "budgetware.outcome": "completed",
    }


async def test_tasks_nest(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("outer", calls=5), task_budget("inner", calls=2):
        pass
    inner, outer = sdk.spans
    assert inner.parent == outer.context
    assert attributes(inner)["budgetware.budget.path"] == "outer/inner"


async def test_a_failed_task_is_an_error(service: QuotaService, sdk: Sdk) -> None:
    with pytest.raises(LookupError):
        async with service.task_budget("research", calls=5):
            raise LookupError
    span = sdk.span("budgetware.task")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["budgetware.outcome"] == "failed"
    assert attributes(span)["error.type"] == "LookupError"


async def test_a_cancelled_task_stays_unset(service: QuotaService, sdk: Sdk) -> None:
    with anyio.CancelScope() as scope:
        async with service.task_budget("research", calls=5):
            scope.cancel()
            await anyio.sleep_forever()
    span = sdk.span("budgetware.task")
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["budgetware.outcome"] == "cancelled"
    assert "error.type" not in attributes(span)


async def test_the_path_is_cut_at_256_characters(service: QuotaService, sdk: Sdk) -> None:
    outer = service.task_budget("a" * 128, calls=1)
    async with outer, task_budget("b" * 128, calls=1), task_budget("c", calls=1):
        pass
    path = attributes(sdk.spans[0])["budgetware.budget.path"]
    assert path == "a" * 128 + "/" + "b" * 127


async def test_a_call_in_another_context_leaves_it_alone(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5):
        before = current_id()
        await anyio.to_thread.run_sync(budgeted(calls=1, name="work")(lambda: None))
        assert current_id() == before
    assert sdk.span("execute_tool work").parent == sdk.span("budgetware.task").context


async def test_a_streams_span_is_current_in_its_steps_only(service: QuotaService, sdk: Sdk) -> None:
    inside: list[int] = []

    @budgeted(calls=1)
    async def words() -> AsyncGenerator[str, None]:
        for word in ("a", "b"):
            inside.append(current_id())
            yield word

    async with service.task_budget("research", calls=5):
        outside = current_id()
        between = [current_id() async for _word in words()]
    span = sdk.span("execute_tool words")
    assert span.context is not None
    assert inside == [span.context.span_id] * 2
    assert between == [outside] * 2


async def test_a_stream_closed_elsewhere_logs_no_failed_detach(
    service: QuotaService, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    @budgeted(calls=1)
    async def words() -> AsyncGenerator[str, None]:
        yield "a"
        yield "b"

    async def start(opened: list[AsyncGenerator[str, None]]) -> None:
        stream = words()
        opened.append(stream)
        await anext(stream)

    opened: list[AsyncGenerator[str, None]] = []
    async with service.task_budget("research", calls=5):
        async with anyio.create_task_group() as group:
            group.start_soon(start, opened)
        await opened[0].aclose()
    assert sdk.span("execute_tool words").status.status_code is StatusCode.UNSET
    assert caplog.records == []


async def test_a_decorated_generator_task_is_current_in_its_steps_only(
    service: QuotaService, sdk: Sdk
) -> None:
    inside: list[int] = []

    @service.task_budget("stream", calls=5)
    async def words() -> AsyncGenerator[str, None]:
        inside.append(current_id())
        yield "a"
        inside.append(current_id())

    outside = [current_id() async for _word in words()]
    span = sdk.span("budgetware.task")
    assert span.context is not None
    assert inside == [span.context.span_id] * 2
    assert outside == [0]


def test_a_block_left_in_another_context_logs_nothing(
    service: QuotaService, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    import contextvars

    manager = service.task_budget("research", calls=5)
    contextvars.copy_context().run(manager.__enter__)
    with caplog.at_level(logging.DEBUG):
        manager.__exit__(None, None, None)
    assert current.get(None) is None or not current.get().chain
    assert current_id() == 0
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_a_broken_sync_stream_is_an_error(service: QuotaService, sdk: Sdk) -> None:
    @budgeted(calls=1)
    def numbers() -> Generator[int, Any, None]:
        yield 1
        raise LookupError

    with service.task_budget("research", calls=5), pytest.raises(LookupError):
        list(numbers())
    span = sdk.span("execute_tool numbers")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"

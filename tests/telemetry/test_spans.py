"""Spans of calls: names, kinds, parents, status, and attributes to the key and type."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from budgetware import (
    BudgetExceeded,
    BudgetTerminated,
    QuotaService,
    Usage,
    budgeted,
    reserve,
    reserve_nowait,
)
from tests.telemetry.sdk import Sdk, attributes, types

PLACE = {
    "budgetware.budget.id": str,
    "budgetware.budget.path": str,
    "budgetware.decision": str,
    "budgetware.policy": str,
}
TOOL = {"gen_ai.operation.name": str, "gen_ai.tool.name": str, **PLACE}


@budgeted(calls=1)
async def search() -> trace.Span:
    return trace.get_current_span()


@budgeted(calls=1)
async def fail() -> None:
    raise LookupError("a secret prompt")


@budgeted(calls=1)
async def hang() -> None:
    await anyio.sleep_forever()


@budgeted(tokens=2_000, settle=lambda u: u, kind="llm", model="gpt-4o-mini", provider="openai")
async def think() -> Usage:
    return Usage(
        input_tokens=100,
        cache_read_tokens=20,
        output_tokens=50,
        reasoning_tokens=5,
        model="gpt-4o-mini-2024",
    )


async def test_an_admitted_call_is_a_span_below_its_task(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=10, principal="alice") as budget:
        inside = await search()
    span = sdk.span("execute_tool search")
    task = sdk.span("budgetware.task")
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent == task.context
    assert inside.get_span_context() == span.context
    assert list(span.events) == []
    assert attributes(span) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "budgetware.budget.id": budget.id,
        "budgetware.budget.path": "research",
        "budgetware.principal": "alice",
        "budgetware.policy": "reject",
        "budgetware.decision": "admitted",
        "budgetware.reserved.calls": 1,
        "budgetware.remaining.calls": 9,
    }


async def test_every_later_call_shows_what_is_left_then(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=10):
        for _ in range(3):
            await search()
    left = [attributes(span).get("budgetware.remaining.calls") for span in sdk.spans[:3]]
    assert left == [9, 8, 7]


async def test_a_model_call_shows_its_usage(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", tokens=5_000):
        await think()
    span = sdk.span("chat gpt-4o-mini")
    assert span.kind is SpanKind.CLIENT
    shown = attributes(span)
    for place in PLACE:
        del shown[place]
    assert shown == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024",
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 55,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "budgetware.reserved.tokens": 2_000,
        "budgetware.charged.tokens": 175,
        "budgetware.remaining.tokens": 3_000,
    }


async def test_usage_is_never_on_the_task(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", tokens=5_000):
        await think()
    keys = attributes(sdk.span("budgetware.task"))
    assert [key for key in keys if key.startswith("gen_ai")] == []


async def test_usage_may_be_left_to_another_instrumentation(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from budgetware import connect

    monkeypatch.setenv("BUDGETWARE_OTEL_GENAI_USAGE", "false")
    with connect(**sdk.providers) as service:
        async with service.task_budget("research", tokens=5_000):
            await think()
    keys = attributes(sdk.span("chat gpt-4o-mini"))
    assert [key for key in keys if key.startswith("gen_ai.usage")] == []


async def test_embeddings_have_no_output(service: QuotaService, sdk: Sdk) -> None:
    call = reserve(tokens=10, kind="embeddings", model="small")
    async with service.task_budget("research", tokens=100), call as reservation:
        reservation.commit(Usage(input_tokens=7))
    span = sdk.span("embeddings small")
    shown = attributes(span)
    assert span.kind is SpanKind.CLIENT
    assert shown["gen_ai.usage.input_tokens"] == 7
    assert "gen_ai.usage.output_tokens" not in shown


async def test_a_failure_names_its_type_and_never_its_text(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=10):
        with pytest.raises(LookupError):
            await fail()
    span = sdk.span("execute_tool fail")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert list(span.events) == []
    assert attributes(span)["error.type"] == "LookupError"
    assert "secret" not in str(attributes(span))


async def test_a_rejected_call_is_visible(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=1):
        await search()
        with pytest.raises(BudgetExceeded):
            await search()
    _first, refused, task = sdk.spans
    assert refused.name == "execute_tool search"
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.parent == task.context
    assert types(refused) == TOOL | {
        "budgetware.denied.budget": str,
        "budgetware.denied.dim": str,
        "budgetware.remaining.calls": int,
        "error.type": str,
    }
    shown = attributes(refused)
    assert shown["budgetware.decision"] == "rejected"
    assert shown["budgetware.denied.budget"] == "research"
    assert shown["budgetware.denied.dim"] == "calls"
    assert shown["error.type"] == "budgetware.rejected"


async def test_a_refused_call_names_the_budget_that_refused(
    service: QuotaService, sdk: Sdk
) -> None:
    outer = service.task_budget("outer", usd="0.000001")
    async with outer, service.task_budget("inner", calls=5):
        with pytest.raises(BudgetExceeded):
            await reserve(usd="0.01", kind="tool", name="pay")
    shown = attributes(sdk.span("execute_tool pay"))
    assert shown["budgetware.denied.budget"] == "outer"
    assert shown["budgetware.denied.dim"] == "usd_micros"
    assert shown["budgetware.budget.path"] == "outer/inner"


async def test_a_terminating_refusal_ends_call_and_task_as_errors(
    service: QuotaService, sdk: Sdk
) -> None:
    @service.task_budget("research", calls=1, policy="terminate")
    async def agent() -> None:
        await search()
        await search()

    with pytest.raises(BudgetTerminated):
        await agent()
    _first, refused, task = sdk.spans
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(refused)["error.type"] == "budgetware.terminated"
    assert attributes(refused)["budgetware.decision"] == "terminated"
    assert attributes(refused)["budgetware.policy"] == "terminate"
    assert task.status.status_code is StatusCode.ERROR
    assert attributes(task)["error.type"] == "budgetware.terminated"
    assert attributes(task)["budgetware.outcome"] == "terminated"


async def test_a_call_cut_by_termination_is_an_error(service: QuotaService, sdk: Sdk) -> None:
    async def agent() -> None:
        task = service.task_budget("research", calls=5)
        async with task, anyio.create_task_group() as group:
            group.start_soon(hang)
            await anyio.wait_all_tasks_blocked()
            task.terminate("enough")

    with pytest.raises(BudgetTerminated):
        await agent()
    span = sdk.span("execute_tool hang")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "budgetware.terminated"


async def test_a_cancelled_call_stays_unset(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5), anyio.create_task_group() as group:
        group.start_soon(hang)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    span = sdk.span("execute_tool hang")
    assert span.status.status_code is StatusCode.UNSET
    assert types(span) == TOOL | {
        "budgetware.reserved.calls": int,
        "budgetware.remaining.calls": int,
    }


async def test_a_reservation_with_a_kind_is_a_span(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", tokens=1_000):
        async with reserve(tokens=800, kind="tool", name="fetch") as reservation:
            current = trace.get_current_span()
            reservation.commit(430)
        assert trace.get_current_span() is not current
    span = sdk.span("execute_tool fetch")
    assert current.get_span_context() == span.context
    assert attributes(span)["budgetware.reserved.tokens"] == 800
    assert attributes(span)["budgetware.charged.tokens"] == 430


async def test_a_reservation_without_a_kind_writes_on_the_current_span(
    service: QuotaService, sdk: Sdk
) -> None:
    task = service.task_budget("research", tokens=1_000)
    async with task, reserve(tokens=800) as reservation:
        reservation.commit(430)
    (span,) = sdk.spans
    shown = attributes(span)
    assert shown["budgetware.decision"] == "admitted"
    assert shown["budgetware.reserved.tokens"] == 800
    assert shown["budgetware.charged.tokens"] == 430
    assert shown["budgetware.remaining.tokens"] == 200
    assert "gen_ai.operation.name" not in shown


async def test_a_refusal_without_a_kind_does_not_make_the_current_span_an_error(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", tokens=10):
        with pytest.raises(BudgetExceeded):
            reserve_nowait(tokens=800)
    (task,) = sdk.spans
    assert task.status.status_code is StatusCode.UNSET
    assert attributes(task)["budgetware.decision"] == "rejected"
    assert "error.type" not in attributes(task)


async def test_a_bare_reservation_is_never_the_current_span(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", tokens=1_000):
        reservation = await reserve(tokens=800, kind="llm", model="small")
        task = trace.get_current_span()
        reservation.release()
    span = sdk.span("chat small")
    assert task.get_span_context() == sdk.span("budgetware.task").context
    assert attributes(span)["budgetware.charged.tokens"] == 0


async def test_money_is_shown_in_millionths_and_as_a_cost(service: QuotaService, sdk: Sdk) -> None:
    call = reserve(usd="0.50", kind="tool", name="buy")
    async with service.task_budget("research", usd="1"), call as reservation:
        reservation.commit(usd="0.25")
    shown = attributes(sdk.span("execute_tool buy"))
    assert shown["budgetware.reserved.usd_micros"] == 500_000
    assert shown["budgetware.charged.usd_micros"] == 250_000
    assert shown["budgetware.remaining.usd_micros"] == 500_000
    assert shown["budgetware.cost.amount"] == 0.25
    assert shown["budgetware.cost.currency"] == "USD"
    assert shown["budgetware.cost.source"] == "provider"
    assert type(shown["budgetware.cost.amount"]) is float


async def test_a_price_of_the_table_is_a_local_cost(sdk: Sdk) -> None:
    from budgetware import connect

    prices = {"gpt-4o-mini": {"input": "1", "output": "2"}}
    with connect(prices=prices, **sdk.providers) as service:
        async with service.task_budget("research", usd="1", tokens=5_000):
            await think()
    shown = attributes(sdk.span("chat gpt-4o-mini"))
    assert shown["budgetware.cost.source"] == "local"
    assert shown["budgetware.cost.amount"] == 0.00023


async def test_a_call_outside_any_task_is_a_root_span(service: QuotaService, sdk: Sdk) -> None:
    await search()
    span = sdk.span("execute_tool search")
    assert span.parent is None
    assert types(span) == {
        "gen_ai.operation.name": str,
        "gen_ai.tool.name": str,
        "budgetware.decision": str,
        "budgetware.reserved.calls": int,
    }


def test_sync_calls_have_the_same_span(service: QuotaService, sdk: Sdk) -> None:
    @budgeted(calls=1)
    def add(a: int, b: int) -> tuple[int, trace.Span]:
        return a + b, trace.get_current_span()

    with service.task_budget("research", calls=10):
        total, inside = add(1, 2)
    span = sdk.span("execute_tool add")
    assert total == 3
    assert inside.get_span_context() == span.context
    assert span.parent == sdk.span("budgetware.task").context


async def test_spans_can_be_switched_off_and_metrics_stay(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from budgetware import connect

    monkeypatch.setenv("BUDGETWARE_OTEL_SPANS", "off")
    with connect(**sdk.providers) as service:
        async with service.task_budget("research", calls=10):
            await search()
    assert sdk.spans == []
    assert sdk.sums("budgetware.usage", "budgetware.dim") == {"calls": 1}
    (point,) = sdk.metrics()["budgetware.call.duration"].data.data_points
    assert point.count == 1

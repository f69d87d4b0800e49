"""Spans of waits, and of calls that have waited: names, parents, times, attributes, status."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from time import time_ns
from typing import Any

import anyio
import pytest
from anyio import to_thread
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from budgetware import (
    BudgetTerminated,
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Rate,
    Resource,
    budgeted,
    connect,
    principal,
    reserve,
    reserve_nowait,
)
from budgetware.telemetry import logs
from budgetware.telemetry import service as telemetry
from budgetware.testing import LoopClock, virtual_backend
from tests.telemetry.queueing import ask, behind, slot
from tests.telemetry.sdk import Sdk, attributes, types

WAIT = "budgetware.wait browsers"
CALL = "execute_tool use"
WAIT_KEYS = {
    "budgetware.budget.id": str,
    "budgetware.budget.path": str,
    "budgetware.policy": str,
    "budgetware.wait.duration": float,
    "budgetware.denied.budget": str,
    "budgetware.denied.dim": str,
}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


def opened(sdk: Sdk) -> QuotaService:
    made = connect(clock=LoopClock(), **sdk.providers)
    made.define(Resource("browsers", Concurrency(1)))
    return made


@pytest.fixture
def service(sdk: Sdk) -> Iterator[QuotaService]:
    with opened(sdk) as made:
        yield made


async def test_a_wait_is_a_sibling_before_the_call(service: QuotaService, sdk: Sdk) -> None:
    before_ns = time_ns()
    async with service.task_budget("research", calls=5, principal="alice") as budget:
        await behind("browsers", 2.0, slot())
    after_ns = time_ns()
    wait, call, task = sdk.span(WAIT), sdk.span(CALL), sdk.span("budgetware.task")
    assert wait.kind is SpanKind.INTERNAL
    assert wait.status.status_code is StatusCode.UNSET
    assert wait.parent == call.parent == task.context
    times = [wait.start_time, wait.end_time, call.start_time, call.end_time]
    shown_ns = [before_ns, *[ns for ns in times if ns is not None], after_ns]
    assert len(shown_ns) == 6
    assert shown_ns == sorted(shown_ns)
    assert attributes(wait) == {
        "budgetware.budget.id": budget.id,
        "budgetware.budget.path": "research",
        "budgetware.principal": "alice",
        "budgetware.policy": "throttle",
        "budgetware.wait.duration": 2.0,
        "budgetware.denied.budget": "browsers",
        "budgetware.denied.dim": "browsers",
    }
    assert types(wait) == WAIT_KEYS | {"budgetware.principal": str}


async def test_the_call_that_waited_says_so(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5) as budget:
        await behind("browsers", 2.0, slot())
    call = sdk.span(CALL)
    assert call.status.status_code is StatusCode.UNSET
    assert attributes(call) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "use",
        "budgetware.budget.id": budget.id,
        "budgetware.budget.path": "research",
        "budgetware.decision": "throttled",
        "budgetware.policy": "throttle",
        "budgetware.wait.duration": 2.0,
        "budgetware.reserved.browsers": 1,
        "budgetware.remaining.browsers": 0,
    }
    assert type(attributes(call)["budgetware.wait.duration"]) is float


async def test_a_call_that_had_not_to_wait_says_nothing(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5):
        await ask(slot())
    assert [span.name for span in sdk.spans] == [CALL, "budgetware.task"]
    shown = attributes(sdk.span(CALL))
    assert shown["budgetware.decision"] == "admitted"
    assert "budgetware.wait.duration" not in shown


async def test_a_decorated_call_and_a_throttled_task(service: QuotaService, sdk: Sdk) -> None:
    @budgeted(calls=1, tokens=lambda: 10)
    async def search() -> None:
        return None

    async with service.task_budget("research", calls=2, tokens=10, policy="throttle"):
        held = reserve_nowait(tokens=8)
        async with anyio.create_task_group() as group:
            group.start_soon(search)
            await anyio.sleep(1.5)
            held.release()
    wait, call = sdk.span("budgetware.wait research"), sdk.span("execute_tool search")
    assert wait.parent == call.parent
    assert attributes(wait)["budgetware.denied.dim"] == "tokens"
    assert attributes(call)["budgetware.wait.duration"] == 1.5


async def test_a_short_wait_has_no_span_of_its_own(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 0.009, slot("short"))
        await behind("browsers", 0.01, slot("long"))
    assert [span.name for span in sdk.spans if span.name.startswith("budgetware.wait")] == [WAIT]
    assert attributes(sdk.span("execute_tool short"))["budgetware.decision"] == "throttled"
    assert attributes(sdk.span("execute_tool short"))["budgetware.wait.duration"] == 0.009


@pytest.mark.parametrize(("millis", "spans"), [("0", 2), ("2.5", 1), ("5000", 0)])
async def test_how_long_is_a_matter_of_the_environment(
    millis: str, spans: int, sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETWARE_OTEL_WAIT_SPAN_MS", millis)
    with opened(sdk) as made:
        async with made.task_budget("research", calls=5):
            await behind("browsers", 0.002, slot())
            await behind("browsers", 0.003, slot())
    assert [span.name for span in sdk.spans].count(WAIT) == spans


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "1e99"])
async def test_what_is_no_number_there_is_told_of_once_and_ignored(
    text: str, sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telemetry, "_complained", set[str]())
    monkeypatch.setenv("BUDGETWARE_OTEL_WAIT_SPAN_MS", text)
    with opened(sdk), opened(sdk) as made:
        async with made.task_budget("research", calls=5):
            await behind("browsers", 0.009, slot())
            await behind("browsers", 0.01, slot())
    assert [span.name for span in sdk.spans].count(WAIT) == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert f"BUDGETWARE_OTEL_WAIT_SPAN_MS={text}" in caplog.text


async def test_a_wait_that_was_too_long_is_a_timeout(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 9.0, slot(max_wait=2))
    wait, call = sdk.span(WAIT), sdk.span(CALL)
    assert wait.status.status_code is call.status.status_code is StatusCode.ERROR
    assert types(wait) == WAIT_KEYS | {"error.type": str}
    assert attributes(wait)["error.type"] == "budgetware.timeout"
    assert attributes(wait)["budgetware.wait.duration"] == 2.0
    shown = attributes(call)
    assert shown["error.type"] == "budgetware.timeout"
    assert shown["budgetware.decision"] == "rejected"
    assert shown["budgetware.policy"] == "throttle"
    assert shown["budgetware.denied.budget"] == "browsers"
    assert shown["budgetware.denied.dim"] == "browsers"
    assert shown["budgetware.wait.duration"] == 2.0
    assert "budgetware.retry_after" not in shown
    assert wait.parent == call.parent
    assert (wait.end_time or math.inf) <= (call.start_time or 0)


async def test_no_wait_at_all_is_no_timeout(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 9.0, slot(max_wait=0))
    assert [span.name for span in sdk.spans].count(WAIT) == 0
    shown = attributes(sdk.span(CALL))
    assert shown["error.type"] == "budgetware.rejected"
    assert "budgetware.wait.duration" not in shown


async def test_a_wait_that_others_ended_is_a_rejection(service: QuotaService, sdk: Sdk) -> None:
    async with service.task_budget("research", calls=5), anyio.create_task_group() as group:
        group.start_soon(behind, "browsers", 9.0, slot(max_wait=8))
        await anyio.sleep(3)
        service.update("browsers", enforcement="reject")
    for span in (sdk.span(WAIT), sdk.span(CALL)):
        assert span.status.status_code is StatusCode.ERROR
        assert attributes(span)["error.type"] == "budgetware.rejected"
        assert attributes(span)["budgetware.wait.duration"] == 3.0
    assert attributes(sdk.span(CALL))["budgetware.policy"] == "reject"


async def test_a_wait_that_its_task_ended_is_a_termination(service: QuotaService, sdk: Sdk) -> None:
    async def agent() -> None:
        budget = service.task_budget("research", calls=5)
        async with budget, anyio.create_task_group() as group:
            group.start_soon(behind, "browsers", 9.0, slot())
            await anyio.sleep(1)
            budget.terminate("enough")

    with pytest.raises(BudgetTerminated):
        await agent()
    wait = sdk.span(WAIT)
    assert wait.status.status_code is StatusCode.ERROR
    assert attributes(wait)["error.type"] == "budgetware.terminated"
    assert attributes(wait)["budgetware.wait.duration"] == 1.0


async def test_a_wait_that_met_its_deadline_is_a_termination(
    service: QuotaService, sdk: Sdk
) -> None:
    with pytest.raises(BudgetTerminated):
        async with service.task_budget("research", calls=5, seconds=2):
            await behind("browsers", 9.0, slot())
    wait = sdk.span(WAIT)
    assert wait.status.status_code is StatusCode.ERROR
    assert attributes(wait)["error.type"] == "budgetware.terminated"


async def test_a_cancelled_wait_stays_unset_and_no_call_follows(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", calls=5):
        with anyio.move_on_after(0.5):
            await behind("browsers", 9.0, slot())
    wait = sdk.span(WAIT)
    assert wait.status.status_code is StatusCode.UNSET
    assert types(wait) == WAIT_KEYS
    assert attributes(wait)["budgetware.wait.duration"] == 0.5
    assert [span.name for span in sdk.spans].count(CALL) == 0


async def test_a_principal_that_was_waited_for_is_in_no_name(
    service: QuotaService, sdk: Sdk
) -> None:
    one = Resource("alice", Concurrency(1), "throttle", dim="calls")
    service.define_principal("alice", quotas={"calls": one})
    with principal("alice"):
        held = reserve_nowait(calls=1)
        async with anyio.create_task_group() as group:
            group.start_soon(ask, lambda: reserve(calls=1, kind="tool", name="use"))
            await anyio.sleep(1)
            held.release()
    wait = sdk.span("budgetware.wait principals")
    assert types(wait) == {
        "budgetware.principal": str,
        "budgetware.policy": str,
        "budgetware.wait.duration": float,
        "budgetware.denied.budget": str,
        "budgetware.denied.dim": str,
    }
    assert attributes(wait)["budgetware.denied.budget"] == "alice"
    assert attributes(wait)["budgetware.denied.dim"] == "calls"


async def test_a_reservation_without_a_kind_has_a_wait_and_writes_on_the_current_span(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 2.0, lambda: reserve("browsers"))
    wait, task = sdk.spans
    assert (wait.name, wait.parent) == (WAIT, task.context)
    assert attributes(task)["budgetware.decision"] == "throttled"
    assert attributes(task)["budgetware.wait.duration"] == 2.0


async def test_a_thread_waits_like_a_task(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    @budgeted(target="browsers", name="use")
    def use() -> None:
        return None

    monkeypatch.setenv("BUDGETWARE_OTEL_WAIT_SPAN_MS", "0")
    with opened(sdk) as made:
        held = reserve_nowait("browsers")
        async with made.task_budget("research", calls=5), anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, use)
            while not made.resource("browsers").waiting:
                await anyio.lowlevel.checkpoint()
            held.release()
    wait, call, task = sdk.span(WAIT), sdk.span(CALL), sdk.span("budgetware.task")
    assert wait.parent == call.parent == task.context
    assert attributes(call)["budgetware.decision"] == "throttled"


async def test_a_refusal_by_a_resource_names_it_and_when_to_come_again(
    service: QuotaService, sdk: Sdk
) -> None:
    service.define(Resource("search.api", Rate(60, "minute"), "reject", dim="calls"))
    async with service.task_budget("research", calls=500):
        reserve_nowait("search.api", 60).commit()
        with pytest.raises(QuotaExceeded):
            await reserve("search.api", 30, kind="tool", name="use")
    refused = sdk.span(CALL)
    assert refused.status.status_code is StatusCode.ERROR
    shown = attributes(refused)
    assert shown["error.type"] == "budgetware.rejected"
    assert shown["budgetware.denied.budget"] == "search.api"
    assert shown["budgetware.denied.dim"] == "calls"
    assert shown["budgetware.policy"] == "reject"
    assert shown["budgetware.retry_after"] == 30.0
    assert type(shown["budgetware.retry_after"]) is float
    assert shown["budgetware.remaining.calls"] == 440


async def test_a_call_may_be_stricter_than_who_lets_it_wait(
    service: QuotaService, sdk: Sdk
) -> None:
    async with service.task_budget("research", calls=5):
        await behind("browsers", 9.0, slot(policy="reject"))
    assert attributes(sdk.span(CALL))["budgetware.policy"] == "reject"


async def test_a_resource_that_ends_a_task_is_who_denied_it(
    service: QuotaService, sdk: Sdk
) -> None:
    service.define(Resource("gpus", Capacity(1), "terminate"))
    with pytest.raises(BudgetTerminated):
        async with service.task_budget("research", calls=5):
            await reserve("gpus", 2, kind="tool", name="use")
    shown = attributes(sdk.span(CALL))
    assert shown["budgetware.decision"] == "terminated"
    assert shown["error.type"] == "budgetware.terminated"
    assert shown["budgetware.denied.budget"] == "gpus"
    assert shown["budgetware.policy"] == "terminate"


async def test_a_name_with_dots_makes_one_key(service: QuotaService, sdk: Sdk) -> None:
    service.define(Resource("Search.api", Capacity(10)))
    async with service.task_budget("research", calls=5):
        await ask(lambda: reserve("Search.api", 3, kind="tool", name="use"))
    keys = [key for key in attributes(sdk.span(CALL)) if "search" in key]
    assert sorted(keys) == ["budgetware.remaining.search_api", "budgetware.reserved.search_api"]


class Raising(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise RuntimeError("broken processor")


async def test_a_processor_that_raises_changes_no_wait(
    service: QuotaService,
    sdk: Sdk,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_failures", set[str]())
    sdk.tracer_provider.add_span_processor(Raising())
    with caplog.at_level(logging.ERROR):
        async with service.task_budget("research", calls=5):
            await behind("browsers", 2.0, slot(), slot())
            with anyio.move_on_after(1):
                await behind("browsers", 2.0, slot())
    balance = service.resource("browsers").balance
    assert (balance.reserved, balance.remaining) == (0, 1)
    assert [r.name for r in caplog.records] == ["budgetware"]


async def test_without_spans_nothing_is_made_of_a_wait(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGETWARE_OTEL_SPANS", "off")
    with opened(sdk) as made:
        async with made.task_budget("research", calls=5):
            await behind("browsers", 2.0, slot())
    assert sdk.spans == []
    (point,) = sdk.metrics()["budgetware.admission.wait.duration"].data.data_points
    assert point.sum == 2.0

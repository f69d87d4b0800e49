"""Beside the official instrumentors: one span per model call, theirs or ours."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.context import get_value

from budgetware import QuotaService, Usage, budgeted
from tests.telemetry.sdk import Sdk, attributes

KEY = "opentelemetry.genai.client.inference.context"
MODULE = "opentelemetry.util.genai.invocation"


@dataclass
class InferenceData:
    """The part of the official class that is read."""

    provider_name: str | None = None
    response_model: str | None = None
    usage_input_tokens: int | None = None
    usage_output_tokens: int | None = None
    usage_cache_read_input_tokens: int | None = None
    usage_reasoning_output_tokens: int | None = None


@pytest.fixture
def instrumentor(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(MODULE)
    vars(module)["InferenceData"] = InferenceData
    monkeypatch.setitem(sys.modules, MODULE, module)


def call_provider() -> None:
    """What an instrumented client does: it finds somebody to report to, and reports."""
    data: Any = get_value(KEY)
    assert isinstance(data, InferenceData)
    data.provider_name = "openai"
    data.response_model = "gpt-4o-mini-2024\n"
    data.usage_input_tokens = 310
    data.usage_output_tokens = 120
    data.usage_cache_read_input_tokens = 30


@pytest.mark.usefixtures("instrumentor")
async def test_what_the_provider_reported_is_on_our_span(service: QuotaService, sdk: Sdk) -> None:
    @budgeted(tokens=2_000, kind="llm", model="gpt-4o-mini")
    async def think() -> None:
        call_provider()

    async with service.task_budget("research", tokens=5_000):
        await think()
        assert get_value(KEY) is None
    shown = attributes(sdk.span("chat gpt-4o-mini"))
    assert shown["gen_ai.provider.name"] == "openai"
    assert shown["gen_ai.response.model"] == "gpt-4o-mini-2024"
    assert shown["gen_ai.usage.input_tokens"] == 310
    assert shown["gen_ai.usage.output_tokens"] == 120
    assert shown["gen_ai.usage.cache_read.input_tokens"] == 30
    assert "gen_ai.usage.reasoning.output_tokens" not in shown


@pytest.mark.usefixtures("instrumentor")
async def test_what_was_settled_comes_before_what_was_reported(
    service: QuotaService, sdk: Sdk
) -> None:
    @budgeted(tokens=2_000, kind="llm", settle=lambda usage: usage)
    async def think() -> Usage:
        call_provider()
        return Usage(input_tokens=1, output_tokens=2)

    async with service.task_budget("research", tokens=5_000) as budget:
        await think()
        assert budget.spent("tokens") == 3
    assert attributes(sdk.span("chat"))["gen_ai.usage.input_tokens"] == 1


@pytest.mark.usefixtures("instrumentor")
async def test_nothing_is_offered_to_them_around_a_tool(service: QuotaService) -> None:
    @budgeted(calls=1)
    async def search() -> object:
        return get_value(KEY)

    async with service.task_budget("research", calls=5):
        assert await search() is None


async def test_without_them_nothing_is_offered(service: QuotaService) -> None:
    @budgeted(calls=1, kind="llm")
    async def think() -> object:
        return get_value(KEY)

    async with service.task_budget("research", calls=5):
        assert await think() is None


@pytest.mark.usefixtures("instrumentor")
async def test_a_call_that_somebody_else_observes_is_left_to_them(
    service: QuotaService, sdk: Sdk
) -> None:
    from opentelemetry.context import attach, detach, set_value

    @budgeted(calls=1, kind="llm")
    async def think() -> object:
        return get_value(KEY)

    theirs = InferenceData()
    async with service.task_budget("research", calls=5):
        token = attach(set_value(KEY, theirs))
        assert await think() is theirs
        detach(token)

"""The names are pinned: a change here is a breaking change."""

from __future__ import annotations

from opentelemetry import baggage

from budgetware import QuotaService, task_budget
from budgetware.kernel.dims import BUILT_IN
from budgetware.telemetry import names, set_baggage
from budgetware.telemetry.values import clean

ATTRIBUTES = """
budgetware.budget.id budgetware.budget.name budgetware.budget.path budgetware.cost.amount
budgetware.cost.currency budgetware.cost.source budgetware.decision budgetware.denied.budget
budgetware.denied.dim budgetware.dim budgetware.outcome budgetware.policy budgetware.principal
budgetware.quota.state budgetware.retry_after budgetware.wait.duration error.type
gen_ai.operation.name gen_ai.provider.name
gen_ai.request.model gen_ai.response.model gen_ai.tool.name
gen_ai.usage.cache_read.input_tokens gen_ai.usage.cache_write.input_tokens
gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.usage.reasoning.output_tokens
""".split()
METRICS = """
budgetware.active_tasks budgetware.admission.wait.duration budgetware.admissions
budgetware.call.duration budgetware.corrections budgetware.overdraft budgetware.quota.limit
budgetware.quota.usage budgetware.usage
""".split()
PER_DIM = [names.RESERVED, names.CHARGED, names.REMAINING, names.LIMIT, names.USED]
OTHERS = {
    "TASK_SPAN", "WAIT_SPAN", "LOG_THROTTLED", "LOG_REJECTED", "LOG_TERMINATED",
    "INFERENCE_CONTEXT",
}  # fmt: skip


def own_names() -> set[str]:
    texts = {key: value for key, value in vars(names).items() if isinstance(value, str)}
    return {v for k, v in texts.items() if k.isupper() and "." in v and k not in OTHERS}


def test_names_are_these() -> None:
    assert own_names() == {*ATTRIBUTES, *METRICS}


def test_no_key_is_a_prefix_of_another() -> None:
    keys = [*ATTRIBUTES, *(per[dim] for per in PER_DIM for dim in (*BUILT_IN, "a", "a.b", "a.b.c"))]
    assert [(a, b) for a in keys for b in keys if b.startswith(f"{a}.")] == []


def test_the_name_of_a_resource_is_part_of_a_key_without_its_dots() -> None:
    assert names.RESERVED["Search.api:v2@eu-1"] == "budgetware.reserved.search_api_v2_eu_1"


def test_money_is_named_for_its_unit() -> None:
    assert [per["usd"] for per in PER_DIM] == [
        "budgetware.reserved.usd_micros",
        "budgetware.charged.usd_micros",
        "budgetware.remaining.usd_micros",
        "budgetware.limit.usd_micros",
        "budgetware.used.usd_micros",
    ]


def test_text_is_cut_and_cleaned() -> None:
    assert clean("a\x00b\r\nc" + "d" * 300) == "abc" + "d" * 253


def test_baggage_is_a_choice(service: QuotaService) -> None:
    with service.task_budget("org", calls=1), task_budget("agent", calls=1) as budget:
        assert baggage.get_all() == {}
        assert baggage.get_all(set_baggage(budget)) == {
            "budgetware.budget.id": budget.id,
            "budgetware.budget.path": "org/agent",
        }

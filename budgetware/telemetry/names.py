"""Every name telemetry uses: spans, attributes, metrics, logs, environment.

`gen_ai.*` only where the standard defines the key with the same meaning. No key is a prefix of
another: some backends unflatten keys into a tree. A renaming is a breaking change. Not here:
what is written under them.
"""

from __future__ import annotations

import re

SCOPE = "budgetware"

# Spans.
TASK_SPAN = "budgetware.task"
WAIT_SPAN = "budgetware.wait"

# What the standard defines.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
TOOL_NAME = "gen_ai.tool.name"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"

# Calls and tasks; spans only, for ids are not bounded.
BUDGET_ID = "budgetware.budget.id"
BUDGET_PATH = "budgetware.budget.path"
PRINCIPAL = "budgetware.principal"
POLICY = "budgetware.policy"
DECISION = "budgetware.decision"
DENIED_BUDGET = "budgetware.denied.budget"
DENIED_DIM = "budgetware.denied.dim"
RETRY_AFTER = "budgetware.retry_after"
WAIT_DURATION = "budgetware.wait.duration"
COST_AMOUNT = "budgetware.cost.amount"
COST_CURRENCY = "budgetware.cost.currency"
COST_SOURCE = "budgetware.cost.source"
OUTCOME = "budgetware.outcome"

ADMITTED = "admitted"
THROTTLED = "throttled"
REJECTED = "rejected"
TERMINATED = "terminated"
TIMEOUT = "timeout"

# Metrics: every attribute is bounded.
BUDGET_NAME = "budgetware.budget.name"
DIM = "budgetware.dim"
QUOTA_STATE = "budgetware.quota.state"

USAGE = "budgetware.usage"
CORRECTIONS = "budgetware.corrections"
QUOTA_LIMIT = "budgetware.quota.limit"
QUOTA_USAGE = "budgetware.quota.usage"
OVERDRAFT = "budgetware.overdraft"
ADMISSIONS = "budgetware.admissions"
ACTIVE_TASKS = "budgetware.active_tasks"
CALL_DURATION = "budgetware.call.duration"
CALL_DURATION_BOUNDARIES = tuple(0.01 * 2**k for k in range(14))
WAIT_SECONDS = "budgetware.admission.wait.duration"
WAIT_BOUNDARIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)

# Logs, on the logger of the same name as the scope.
LOG_THROTTLED = "budgetware.throttled"
LOG_REJECTED = "budgetware.rejected"
LOG_TERMINATED = "budgetware.terminated"

# Environment.
SPANS_SWITCH = "BUDGETWARE_OTEL_SPANS"
GENAI_USAGE_SWITCH = "BUDGETWARE_OTEL_GENAI_USAGE"
WAIT_SPAN_MS = "BUDGETWARE_OTEL_WAIT_SPAN_MS"

# Where the official instrumentors look for a call that somebody else observes.
INFERENCE_CONTEXT = "opentelemetry.genai.client.inference.context"


def unit_dim(dim: str) -> str:
    """The name of a dimension where its units are shown: money is counted in millionths."""
    return "usd_micros" if dim == "usd" else dim


_STRANGE = re.compile(r"[^a-z0-9_]")


class PerDim(dict[str, str]):
    """Keys that end in a dimension, made when first asked for: `PerDim("budgetware.used")[dim]`.

    What counts in units of its own has the name of a resource there, without its dots: a key
    `….a.b` beside `….a` could not be unflattened.
    """

    __slots__ = ("_prefix",)

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, dim: str) -> str:
        key = self[dim] = f"{self._prefix}.{_STRANGE.sub('_', unit_dim(dim).lower())}"
        return key


RESERVED = PerDim("budgetware.reserved")
CHARGED = PerDim("budgetware.charged")
REMAINING = PerDim("budgetware.remaining")
LIMIT = PerDim("budgetware.limit")
USED = PerDim("budgetware.used")

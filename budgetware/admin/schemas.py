"""JSON schemas of what goes in and comes out. Not here: which operation has which (`table`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..kernel.dims import MAX_AMOUNT
from ..quotas import ON_LEDGER_ERROR, PERIOD_SECONDS, STRANDED
from .queries import MOST_NUMBER, NAME_PATTERN, NAME_SCHEMA

Schema = Mapping[str, Any]
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|[smhd]))+$"


def one_of_them(name: str) -> Schema:
    """A schema that has a name in the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def table(
    fields: Mapping[str, Any], needed: tuple[str, ...] | None = None, **more: Any
) -> dict[str, Any]:
    """An object with these fields, all of them unless it is said which; others may come later."""
    required = list(fields) if needed is None else list(needed)
    return {"type": "object", "properties": dict(fields), "required": required, **more}


def strict(fields: Mapping[str, Any], needed: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """An object of a request: it has no other fields."""
    return table(fields, needed, additionalProperties=False, **more)


def items(schema: Schema) -> Schema:
    """A list of them."""
    return {"type": "array", "items": schema}


def by_name(schema: Schema) -> Schema:
    """An object of them."""
    return {"type": "object", "additionalProperties": schema}


def or_null(schema: Schema) -> Schema:
    """It, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer"}
_NUMBER: Final[Schema] = {"type": "number"}
_MONEY: Final[Schema] = {"type": "string", "description": "dollars", "pattern": r"^-?\d+\.\d{1,6}$"}
_AMOUNT: Final[Schema] = {"anyOf": [_COUNT, _MONEY]}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_EPOCH: Final[Schema] = {
    "type": "number",
    "description": "seconds since the epoch, 1970-01-01T00:00:00Z; no RFC 3339 text",
}
_NAME: Final = one_of_them("Name")

# What is asked for.

_ABOVE_0: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_AMOUNT}
_DOLLARS_IN: Final[Schema] = {
    "type": "string",
    "description": "dollars, as '0.25'; of bytes and memory a size, as '64MiB'",
    "maxLength": 39,
}
_AMOUNT_IN: Final[Schema] = {"anyOf": [_ABOVE_0, _DOLLARS_IN, {"type": "number"}]}
_DURATION_IN: Final[Schema] = {
    "description": "seconds, or a text as '30s'",
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": DURATION_PATTERN, "maxLength": 40},
    ],
}
_WAIT_IN: Final[Schema] = {
    "description": "seconds, or a text as '30s'; 0 does not wait",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": f"{DURATION_PATTERN}|^0s?$", "maxLength": 40},
    ],
}
_PERIOD_IN: Final[Schema] = {"anyOf": [{"enum": list(PERIOD_SECONDS)}, _DURATION_IN]}
_WORD_IN: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 64}
_POLICY_IN: Final[Schema] = {
    "anyOf": [
        {"enum": ["throttle", "reject", "terminate"]},
        strict({"type": {"const": "throttle"}, "max_wait": _WAIT_IN}, ("type",)),
        strict({"type": {"const": "reject"}, "patience": _ABOVE_0}, ("type",)),
        strict({"type": {"const": "terminate"}, "settle_seconds": _WAIT_IN}, ("type",)),
    ]
}


def _limit_in(more: Mapping[str, Any]) -> Schema:
    rate = {"type": {"const": "rate"}, "value": _AMOUNT_IN, "period": _PERIOD_IN,
            "max": _AMOUNT_IN}  # fmt: skip
    others = {"type": {"enum": ["capacity", "concurrency"]}, "value": _AMOUNT_IN}
    return {
        "anyOf": [
            strict({**rate, **more}, ("type", "value", "period")),
            strict({**others, **more}, ("type", "value")),
        ]
    }


_CHANGING: Final[Schema] = {
    "limit": one_of_them("LimitIn"),
    "enforcement": one_of_them("PolicyIn"),
    "max_wait": or_null(_WAIT_IN),
    "unit": _WORD_IN,
    "units": _WORD_IN,
}
_FIXED: Final[Schema] = {"name": NAME_SCHEMA, "dim": or_null(TEXT), "parent": or_null(NAME_SCHEMA)}
_REVISION_IN: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MOST_NUMBER}
_NEW_RESOURCE: Final = strict(
    {
        **_FIXED,
        **_CHANGING,
        "per_call": _FLAG,
        "max_lease": or_null(_AMOUNT_IN),
        "stranded": {"enum": list(STRANDED)},
        "on_ledger_error": {"enum": [*ON_LEDGER_ERROR, None]},
    },
    ("name", "limit"),
)
_RESOURCE_CHANGE: Final = strict(
    {**_FIXED, **_CHANGING, "expected_revision": or_null(_REVISION_IN)},
    (),
    anyOf=[{"required": [name]} for name in _CHANGING],
)
_QUOTAS_CHANGE: Final = strict(
    {
        "principal": NAME_SCHEMA,
        "parent": or_null(NAME_SCHEMA),
        "exempt": {"type": ["boolean", "null"], "description": "null: as the parent"},
        "is_exempt": {"type": "boolean", "description": "only shown: what is enforced"},
        "quotas": by_name(
            _limit_in({"enforcement": one_of_them("PolicyIn"), "max_wait": _WAIT_IN})
        ),
    },
    (),
    anyOf=[{"required": ["quotas"]}, {"required": ["exempt"]}],
)
_TOP_UP: Final = strict(
    {
        "amounts": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": _AMOUNT_IN,
            "properties": {"seconds": _DURATION_IN},
        },
        "request_id": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    ("amounts", "request_id"),
)
_TERMINATION: Final = strict(
    {"reason": {"type": "string", "minLength": 1, "maxLength": 256}}, ("reason",)
)
_REVISION: Final = strict({"expected_revision": or_null(_REVISION_IN)}, ())

# What is answered.

_ERROR: Final = table(
    {"error": table({"type": TEXT, "message": TEXT, "field": TEXT}, ("type", "message"))}
)
_BALANCE: Final = table(
    {
        "limit": or_null(_AMOUNT),
        "warn": or_null(_AMOUNT),
        "spent": _AMOUNT,
        "reserved": _AMOUNT,
        "granted": _AMOUNT,
        "remaining": or_null(_AMOUNT),
        "overrun": _AMOUNT,
        "assumed": _AMOUNT,
    }
)
_BALANCES: Final = by_name(one_of_them("Balance"))
_LIMIT_FIELDS: Final[Schema] = {
    "type": {"enum": ["rate", "capacity", "concurrency"]},
    "value": {"anyOf": [_COUNT, TEXT]},
    "period": {"anyOf": [TEXT, _NUMBER]},
    "max": {"anyOf": [_COUNT, TEXT]},
}
_LIMIT: Final = table(_LIMIT_FIELDS, ("type", "value"))
_POLICY: Final[Schema] = {"enum": ["throttle", "reject", "terminate"]}
_RESOURCE: Final = table(
    {
        "name": _NAME,
        "revision": _COUNT,
        "limit": one_of_them("Limit"),
        "enforcement": _POLICY,
        "dim": or_null(TEXT),
        "parent": or_null(_NAME),
        "unit": TEXT,
        "units": TEXT,
        "max_wait": or_null({"anyOf": [TEXT, _NUMBER]}),
        "waiting": _COUNT,
        "paused_seconds": _NUMBER,
        "balance": one_of_them("Balance"),
    }
)
_QUOTA: Final = table({**_LIMIT_FIELDS, "enforcement": _POLICY}, ("type", "value"))
_QUOTAS: Final = table(
    {
        "principal": _NAME,
        "parent": or_null(_NAME),
        "exempt": or_null(_FLAG),
        "is_exempt": _FLAG,
        "quotas": by_name(
            table(
                {**_LIMIT_FIELDS, "enforcement": one_of_them("PolicyIn"), "max_wait": _WAIT_IN},
                ("type", "value", "enforcement"),
            )
        ),
    }
)
_PRINCIPAL: Final = table(
    {
        "name": _NAME,
        "parent": or_null(_NAME),
        "exempt": _FLAG,
        "quotas": by_name(_QUOTA),
        "dims": _BALANCES,
    }
)
_UNKNOWN: Final = or_null(_COUNT)
_RESOURCE_USAGE: Final = table(
    {
        "principal": _NAME,
        "cpu_fuel_consumed_total": _UNKNOWN,
        "cpu_fuel_per_sec_limit": _UNKNOWN,
        "exempt": _FLAG,
        "memory_bytes_limit_per_instance": _UNKNOWN,
        "memory_bytes_current_total": _UNKNOWN,
        "memory_bytes_peak_total": _UNKNOWN,
        "quotas": by_name(
            table(
                {
                    "type": {"enum": ["rate", "capacity", "concurrency"]},
                    "limit": _AMOUNT,
                    "used": _AMOUNT,
                    "reserved": _AMOUNT,
                    "remaining": _AMOUNT,
                    "window": {"anyOf": [TEXT, _NUMBER, {"type": "null"}]},
                }
            )
        ),
    }
)
_TASK: Final = table(
    {
        "id": TEXT,
        "parent": or_null(TEXT),
        "name": TEXT,
        "path": TEXT,
        "principal": or_null(_NAME),
        "policy": or_null(_POLICY),
        "started_at": or_null(_TIME),
        "is_shared": _FLAG,
        "latched": or_null(TEXT),
        "verdict": {"enum": ["continue", "warn", "exhausted"]},
        "dims": _BALANCES,
    }
)
_CHARGED: Final = by_name(_AMOUNT)
_EVENT: Final = table(
    {
        "id": _COUNT,
        "timestamp": _EPOCH,
        "request_id": TEXT,
        "principal": or_null(_NAME),
        "task": TEXT,
        "kind": or_null(TEXT),
        "name": or_null(TEXT),
        "model": or_null(TEXT),
        "provider": or_null(TEXT),
        "endpoint": or_null(TEXT),
        "usage": or_null({"type": "object"}),
        "reserved": _CHARGED,
        "charged": _CHARGED,
        "duration_ms": _NUMBER,
        "wait_ms": _NUMBER,
        "status": _COUNT,
        "outcome": TEXT,
        "error": or_null(TEXT),
    }
)
_TOTALS: Final = table(
    {"calls": _COUNT, "refused": _COUNT, "corrected": _COUNT, "duration_ms": _NUMBER,
     "wait_ms": _NUMBER, "charged": _CHARGED, "reported": by_name(_COUNT)}
)  # fmt: skip
_TALLY: Final[Schema] = {
    "sessions": table({"started": _COUNT, "completed": _COUNT, "failed": _COUNT}),
    "compute": table({"executed_slot_count": _COUNT, "session_duration_ms": _COUNT}),
    "usage": one_of_them("Totals"),
}
_BUCKETS: Final = items(table({"start": _TIME, "end": _TIME, **_TALLY}))
_REPORT: Final = table(
    {
        "api_key_name": or_null(_NAME),
        "since": _TIME,
        "until": _TIME,
        **_TALLY,
        "daily": _BUCKETS,
        "hourly": _BUCKETS,
        "groups": items(table({"usage": one_of_them("Totals")})),
    },
    ("api_key_name", "since", "until", *_TALLY),
    anyOf=[{"required": ["daily"]}, {"required": ["hourly"]}],
    description="sections besides these are named counters",
)
_ACTIVITY: Final = table(
    {
        "calls_per_second": _NUMBER,
        "refused_per_second": _NUMBER,
        "throttled": _COUNT,
        "by": items(
            table(
                {
                    "principal": or_null(_NAME),
                    "task": TEXT,
                    "name": or_null(TEXT),
                    "model": or_null(TEXT),
                    "calls": _COUNT,
                    "refused": _COUNT,
                    "wait_ms": _NUMBER,
                    "charged": _CHARGED,
                }
            )
        ),
    }
)
_OVERVIEW: Final = table(
    {
        "at": _TIME,
        "ledger": TEXT,
        "window_seconds": _NUMBER,
        "tasks": items(one_of_them("Task")),
        "resources": items(one_of_them("Resource")),
        "principals": items(one_of_them("Principal")),
        "activity": _ACTIVITY,
        "last_event": _COUNT,
    }
)

COMPONENTS: Final[Schema] = {
    "Name": {"type": "string", "pattern": NAME_PATTERN},
    "LimitIn": _limit_in({}),
    "PolicyIn": _POLICY_IN,
    "NewResource": _NEW_RESOURCE,
    "ResourceChange": _RESOURCE_CHANGE,
    "QuotasChange": _QUOTAS_CHANGE,
    "TopUp": _TOP_UP,
    "Termination": _TERMINATION,
    "Revision": _REVISION,
    "Error": _ERROR,
    "Balance": _BALANCE,
    "Limit": _LIMIT,
    "Resource": _RESOURCE,
    "Quotas": _QUOTAS,
    "Principal": _PRINCIPAL,
    "ResourceUsage": _RESOURCE_USAGE,
    "Task": _TASK,
    "Event": _EVENT,
    "Totals": _TOTALS,
    "Report": _REPORT,
    "Overview": _OVERVIEW,
}
NEW_RESOURCE: Final = one_of_them("NewResource")
RESOURCE_CHANGE: Final = one_of_them("ResourceChange")
QUOTAS_CHANGE: Final = one_of_them("QuotasChange")
TOP_UP: Final = one_of_them("TopUp")
TERMINATION: Final = one_of_them("Termination")
REVISION: Final = one_of_them("Revision")
ERROR: Final = one_of_them("Error")
RESOURCE: Final = one_of_them("Resource")
RESOURCES: Final = table({"resources": items(RESOURCE)})
QUOTAS: Final = one_of_them("Quotas")
PRINCIPAL: Final = one_of_them("Principal")
PRINCIPALS: Final = table({"principals": items(PRINCIPAL)})
RESOURCE_USAGE: Final = one_of_them("ResourceUsage")
TASK: Final = one_of_them("Task")
TASKS: Final = table({"tasks": items(TASK)})
EVENTS: Final = table({"events": items(one_of_them("Event")), "last_event": _COUNT})
REPORT: Final = one_of_them("Report")
OVERVIEW: Final = one_of_them("Overview")
HEALTH: Final = table({"status": {"const": "ok"}, "ledger": TEXT})

"""`task_budget` and `current_budget`: how programs make tasks and find the one they are in.

Not here: what a task is (`tasks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from .amounts import Price
from .errors import ConfigurationError
from .frames import current
from .kernel.dims import check_name
from .limits import NO_LIMITS, LimitValue, parse_limits, parse_share
from .plans import HasLimits, OnWarn, TaskPlan, Unpriced
from .policies import DEFAULT, PolicyLike, parse_policy
from .runtime import HasRuntime, Runtime
from .shared_tasks import check_shared
from .tasks import TaskBudget


def task_budget(
    name: str | None = None,
    /,
    *,
    policy: PolicyLike = None,
    principal: str | None = None,
    warn_at: float | None = None,
    on_warn: OnWarn | None = None,
    carve: bool = False,
    keep: Mapping[str, Price] | None = None,
    unpriced: Unpriced = "error",
    shared: bool = False,
    service: HasRuntime | None = None,
    **limits: LimitValue,
) -> TaskBudget:
    """Make a task: `async with`, `with`, or a decorator whose every call is a task of its own.

    Everything that runs inside pays from it and from the tasks around it. The block ends with
    `BudgetTerminated` when the task is terminated or its deadline cuts it, whatever its code
    catches.

    Args:
        name: for people and dashboards; a decorated function gives its own. Where it is a
            template of the manifest, that gives what is not given here; needed without limits.
        policy: `"reject"` (the default, `Reject(patience=100)`) or `"terminate"`, or an object.
        principal: on whose behalf; inner ones replace outer ones.
        warn_at: share of every limit, between 0 and 1, above which it is in `warn`.
        on_warn: called with the task and the verdict once per crossing, on the thread of the
            call that crossed; what it raises changes nothing.
        carve: take the limits out of the parent's room now, and return the rest at the end.
        keep: amounts held back from ordinary calls, for `finish()`.
        shared: keep its limits and what was spent in the ledger (in memory where there is none),
            by its name: every block of that name, in any process, pays from them, and a
            termination anywhere ends them all within a second. Its first block sets the limits;
            what is left stays for a day after its last one. `seconds` are each block's own.
        unpriced: `"allow"` lets a model without a price run where `usd` is limited.
        service: the service to belong to; by default the parent's, else the current one.
        **limits: the most it may use, by dimension: an int, a `Limit`, dollars for `usd`;
            `seconds` is a number or a text such as `"2m"`. A name that is no dimension yet
            becomes one.

    Raises:
        ConfigurationError, InvalidAmount: at once; nothing has changed.
        BudgetExceeded: on entering, where the parent has not enough for a carve.
        LedgerUnavailable: on entering a shared one, where the ledger does not answer.
        ConfigurationError: on entering, without limits, where no template has that name.
    """
    _check_options(unpriced, on_warn, carve, service)
    check_shared(shared, name, carve=carve, keep=keep)
    share = None if warn_at is None else parse_share(warn_at)
    lacks = None if name is None else _lacking(limits, keep)
    if lacks and limits:
        parse_limits(limits, share=share, keep=None)
    plan = TaskPlan(
        NO_LIMITS if lacks else parse_limits(limits, share=share, keep=keep),
        None if name is None else check_name("task", name),
        DEFAULT if policy is None else parse_policy(policy) or DEFAULT,
        None if principal is None else check_name("principal", principal),
        share,
        on_warn,
        carve,
        unpriced,
        None if service is None else service.runtime,
        shared=shared,
    )
    if name is not None:
        plan.override = _overridden
        plan.given = (policy, warn_at, keep, carve, unpriced, limits)
        plan.lacks = lacks
    return TaskBudget(plan)


def _check_options(unpriced: object, on_warn: object, carve: object, service: object) -> None:
    if unpriced not in ("error", "allow"):
        raise ConfigurationError(f"unpriced={unpriced!r}: give 'error' or 'allow'")
    if on_warn is not None and not callable(on_warn):
        raise ConfigurationError(f"on_warn={on_warn!r}: give a callable of (budget, verdict)")
    if type(carve) is not bool:
        raise ConfigurationError(f"carve={str(carve)[:40]!r}: give True or False")
    if service is not None and not isinstance(getattr(service, "runtime", None), Runtime):
        raise ConfigurationError(f"service={str(service)[:40]!r}: give what connect() returns")


def _lacking(limits: Mapping[str, LimitValue], keep: object) -> str | None:
    """What a template must have, or the task cannot be; None: nothing."""
    if not limits:
        return "has no limit"
    kept = cast("Mapping[str, Any]", keep) if isinstance(keep, Mapping) else ()
    return next((f"keeps {dim!r} without a limit of it" for dim in kept if dim not in limits), None)


def _overridden(plan: TaskPlan, template: HasLimits) -> TaskPlan:
    """The plan of a task whose name is a template: keywords override it key by key."""
    policy, warn_at, keep, carve, unpriced, limits = plan.given
    given = {"policy": policy, "warn_at": warn_at, "keep": keep, "carve": carve or None}
    given["unpriced"] = None if unpriced == "error" else unpriced
    options = dict(template.options) | {k: v for k, v in given.items() if v is not None}
    merged = dict(template.limits)
    if "seconds" in limits or "millis" in limits:
        merged.pop("seconds", None)
        merged.pop("millis", None)
    share = None if options.get("warn_at") is None else parse_share(options["warn_at"])
    return replace(
        plan,
        limits=parse_limits(merged | limits, share=share, keep=options.get("keep")),
        policy=parse_policy(options.get("policy")) or DEFAULT,
        warn_share=share,
        carve=options.get("carve", False),
        unpriced=options.get("unpriced", "error"),
        override=None,
    )


def current_budget() -> TaskBudget | None:
    """The innermost task of this context, or None."""
    frame = current.get(None)
    return None if frame is None else frame.task

"""`@budgeted`: one reservation around each call of a function. Not here: retries (`retry`).

Calls of fixed amounts take the quick lane (`quick`); the others hold and settle by a `Hold`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload

from .bindings import Target, check_target
from .calls import Call, OnError
from .confirming import confirm_async, confirm_sync
from .errors import ConfigurationError
from .generators import drive, drive_async
from .holding import enter_hold, leave_hold
from .holds import Hold
from .kernel.dims import NAME, check_name
from .measures import CpuMeter, Measure, Metered, check_measures
from .outcomes import tell_quick
from .policies import PolicyLike
from .quick import (
    book_held,
    hold_of,
    observe,
    observed_cut,
    observed_done,
    quick,
    settle_plainly,
)
from .requests import admit_async, admit_sync
from .retry import Retrying, retried
from .sites import AmountOf, Settle, Site
from .streams import CallStream

F = TypeVar("F")


def _async_function(site: Site) -> Callable[..., Any]:  # noqa: C901 - no call to spare
    fn, call, shape, plain, settle = site.fn, site.call, site.key, site.is_plain, site.settle

    @wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> Any:  # noqa: C901
        plan = quick(shape) if plain else None
        if plan is not None:
            if plan.observer is not None:
                held = observe(plan, call)
                try:
                    result = await fn(*args, **kwargs)
                except BaseException as error:
                    observed_cut(held, error)
                    raise
                observed_done(plan, site, held, result)
                return result
            started_ns = plan.frame.now_ns() if plan.events.listeners else None
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                hold_of(plan, call, started_ns).cut(error)
                raise
            if settle is None:
                book_held(plan)
                if started_ns is not None:
                    tell_quick(plan, call, started_ns)
            elif started_ns is not None:
                site.done(hold_of(plan, call, started_ns), result, None)
            else:
                settle_plainly(plan, site, result)
            return result
        hold = site.open(args, kwargs)
        if not isinstance(hold, Hold):
            hold = site.admitted(await admit_async(hold))
        if hold.span is not None or site.cpu or hold.frame.is_throttled or hold.frame.confirms:
            return await _watched_async(site, hold, args, kwargs)
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            hold.cut(error)
            raise
        site.done(hold, result, None)
        return result

    return run


async def _watched_async(
    site: Site, hold: Hold, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    meter = CpuMeter() if site.cpu else None
    span = hold.span
    holding = enter_hold(hold, is_call=True) if hold.frame.is_throttled else None
    try:
        if span is not None:
            span.attach()
        try:
            running = site.fn(*args, **kwargs)
            result = await (running if meter is None else Metered(running, meter))
        finally:
            if holding is not None:
                leave_hold(holding)
            if span is not None:
                span.detach()
    except BaseException as error:
        site.cut(hold, error, meter)
        raise
    site.done(hold, result, meter)
    if hold.frame.confirms:
        await confirm_async(hold)
    return result


def _function(site: Site) -> Callable[..., Any]:
    fn, call, shape, plain, settle = site.fn, site.call, site.key, site.is_plain, site.settle

    @wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        plan = quick(shape) if plain else None
        if plan is not None:
            if plan.observer is not None:
                held = observe(plan, call)
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    observed_cut(held, error)
                    raise
                observed_done(plan, site, held, result)
                return result
            started_ns = plan.frame.now_ns() if plan.events.listeners else None
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                hold_of(plan, call, started_ns).cut(error)
                raise
            if settle is None:
                book_held(plan)
                if started_ns is not None:
                    tell_quick(plan, call, started_ns)
            elif started_ns is not None:
                site.done(hold_of(plan, call, started_ns), result, None)
            else:
                settle_plainly(plan, site, result)
            return result
        hold = site.open(args, kwargs)
        if not isinstance(hold, Hold):
            hold = site.admitted(admit_sync(hold))
        return _watched(site, hold, args, kwargs)

    return run


def _watched(site: Site, hold: Hold, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    meter = CpuMeter() if site.cpu else None
    span = hold.span
    holding = enter_hold(hold, is_call=True) if hold.frame.is_throttled else None
    try:
        if span is not None:
            span.attach()
        if meter is not None:
            meter.start()
        try:
            result = site.fn(*args, **kwargs)
        finally:
            if meter is not None:
                meter.stop()
            if holding is not None:
                leave_hold(holding)
            if span is not None:
                span.detach()
    except BaseException as error:
        site.cut(hold, error, meter)
        raise
    site.done(hold, result, meter)
    if hold.frame.confirms:
        confirm_sync(hold)
    return result


def _decorate(site: Site, retry: Retrying | None) -> Callable[..., Any]:
    fn = site.fn
    is_stream = inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn)
    if is_stream and retry is not None:
        raise ConfigurationError(
            f"retry on the generator {site.call.name!r}: a stream that was read cannot be tried "
            "again; retry inside it, or around a function that reads it"
        )
    if inspect.isasyncgenfunction(fn):
        return drive_async(fn, lambda args, kwargs: CallStream(site, args, kwargs))
    if inspect.isgeneratorfunction(fn):
        return drive(fn, lambda args, kwargs: CallStream(site, args, kwargs))
    if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__):
        decorated = _async_function(site)
        return decorated if retry is None else retried(decorated, retry, is_async=True)
    decorated = _function(site)
    return decorated if retry is None else retried(decorated, retry, is_async=False)


@overload
def budgeted(fn: F, /) -> F: ...


@overload
def budgeted(
    *,
    settle: Settle | None = None,
    target: Target | None = None,
    kind: str | None = "tool",
    name: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    policy: PolicyLike = None,
    max_wait: float | str | None = None,
    on_error: OnError = "charge",
    retry: Retrying | None = None,
    measure: tuple[Measure, ...] = (),
    **amounts: AmountOf,
) -> Callable[[F], F]: ...


def budgeted(
    fn: Any = None,
    /,
    *,
    settle: Settle | None = None,
    target: Target | None = None,
    kind: str | None = "tool",
    name: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    policy: PolicyLike = None,
    max_wait: float | str | None = None,
    on_error: OnError = "charge",
    retry: Retrying | None = None,
    measure: tuple[Measure, ...] = (),
    **amounts: AmountOf,
) -> Any:
    """Reserve before each call of a function, settle after it.

    On coroutine functions, async generators, plain functions and generators, methods, static and
    class methods; signature and type stay. Granted, a call does not yield to the event loop;
    refused, an async one does. A generator holds from its first step to its last. Reservations
    do not nest: decorate leaves, and put `task_budget` around composites.

    Args:
        settle: from the result (of a generator: each item, cumulative, None to skip) to what was
            really used: an int where one dimension is held, a mapping, or anything `Usage.of`
            reads. If it raises, the call is charged in full and its error reaches the caller.
        target: a `QuotaToken`, or the name of a resource, to draw on: the amount given for its
            dimension, else 1 where it is a `Concurrency` or counts calls.
        kind: `"tool"`, `"llm"` or `"embeddings"`, for the span; None: no span.
        name: by default the function's.
        model, provider: a named model has its price held, where `usd` is limited.
        policy: may be stricter than the payers' own, never weaker.
        max_wait: the longest wait for a payer that throttles, in seconds or as a text; 0: none.
        on_error: `"release"`, or a callable of the exception that answers so: nothing was paid.
        retry: tenacity's `AsyncRetrying` or `Retrying`; each attempt is a reservation of its own.
        measure: `"cpu"` charges `cpu_micros`, what the call itself ran; `"time"` fills
            `duration_ms` of its event.
        **amounts: what a call holds: fixed, or a callable of the call's own arguments. Only what
            is given is charged; with nothing given, `calls=1`.

    Raises:
        ConfigurationError, InvalidAmount: at decoration, or at the call for computed amounts.
        BudgetExceeded, BudgetTerminated, NoBudget, UnknownPrice: at the call, before it starts.
    """

    def decorate(function: Any) -> Any:
        if type(function) in (staticmethod, classmethod):
            return type(function)(decorate(function.__func__))
        if not callable(function):
            raise ConfigurationError(f"@budgeted on a {type(function).__name__}: give a function")
        call = Call(
            kind=kind,
            name=name or _name_of(function),
            model=model,
            provider=provider,
            policy=policy,
            max_wait=max_wait,
            on_error=on_error,
        )
        measures = check_measures(measure)
        held = amounts or {"calls": 1}
        site = Site(function, call, held, settle, measures, check_target(target))
        decorated = _decorate(site, retry)
        decorated.__dict__["__budgeted__"] = True  # so that adapters do not hold for it again
        return decorated

    return decorate if fn is None else decorate(fn)


def _name_of(fn: Any) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return name if NAME.fullmatch(name) else check_name("call", name.strip("<>"))

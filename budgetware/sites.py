"""One decorated function: what its calls hold, and how they settle.

Not here: how calls run (`decorators`, `streams`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .amounts import Price, check_amounts_later
from .bindings import Target, aim
from .calls import Call
from .errors import ConfigurationError
from .frames import Amounts, Frame, Shape, current, current_frame
from .holds import Hold
from .kernel.dims import ABOVE_MAX, show, to_units
from .measures import CpuMeter, with_cpu
from .quick import NOTHING
from .requests import Answer, request, request_amounts
from .settlement import Report

AmountOf = Price | Callable[..., Price]
Settle = Callable[[Any], Any]


class Site:
    """One decorated function: what its calls hold, and how they settle. Never changed."""

    __slots__ = (
        "amounts",
        "call",
        "computed",
        "cpu",
        "fn",
        "implies_cpu",
        "settle",
        "shape",
        "target",
        "timed",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        call: Call,
        amounts: Mapping[str, AmountOf],
        settle: Settle | None,
        measure: frozenset[str],
        target: Target | None = None,
    ) -> None:
        if settle is not None and not callable(settle):
            raise ConfigurationError(f"settle={show(settle)}: give a callable of the result")
        self.fn = fn
        self.call = call
        self.settle = settle
        self.target = target
        self.cpu = "cpu" in measure
        self.timed = "time" in measure
        self.computed = [(dim, of) for dim, of in amounts.items() if callable(of)]
        fixed = {dim: n for dim, n in amounts.items() if not callable(n)}
        self.implies_cpu = self.cpu and "cpu_micros" not in amounts
        if self.implies_cpu:
            fixed["cpu_micros"] = 1  # enough to be refused while there is debt
        self.amounts = check_amounts_later(fixed, [dim for dim, _of in self.computed])
        self.shape = Shape.of(call.operation, self.amounts, call.model)

    @property
    def is_plain(self) -> bool:
        """Whether all its calls hold the same, and may take the quick lane."""
        return not (self.computed or self.cpu or self.timed)

    @property
    def key(self) -> object:
        """What its ready plan is found by."""
        return self.shape if self.target is None else self

    def _aim(self, frame: Frame, target: Target, amounts: Amounts) -> tuple[Frame, Amounts]:
        """Where a call that draws on a target stands; the next one may take the quick lane."""
        call = self.call
        has_model = call.model is not None
        aimed, amounts = aim(
            frame, target, None, amounts, has_model=has_model, defaults_to_one=True
        )
        if self.is_plain and frame.chain and not has_model and aimed.runtime is frame.runtime:
            frame.keep_plan(self, aimed, amounts, call.operation)
        return aimed, amounts

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        """Hold what this call needs, in the current frame, or say who refuses."""
        frame = current.get(None)
        if frame is None or not frame.chain:
            frame = current_frame()
        call = self.call
        if self.computed or self.target is not None:
            amounts = self.amounts
            for dim, of in self.computed:
                value = of(*args, **kwargs)
                if type(value) is not int or not 0 <= value < ABOVE_MAX or dim == "usd":
                    value = to_units(dim, value)
                amounts += ((dim, value),)
            if self.target is not None:
                frame, amounts = self._aim(frame, self.target, amounts)
            answer = request_amounts(frame, call, amounts)
        elif frame.limits_usd and call.model is not None:
            answer = request_amounts(frame, call, self.amounts)
        else:
            plan = frame.plan(self.shape)
            answer = request(frame, call, plan.items, plan.tally)
        return self.admitted(answer) if isinstance(answer, Hold) else answer

    def admitted(self, hold: Hold) -> Hold:
        """The call may start now."""
        if self.timed:
            hold.started_ns = hold.frame.now_ns()
        if self.implies_cpu:
            hold.implied = ("cpu_micros",)
        return hold

    def done(self, hold: Hold, result: Any, meter: CpuMeter | None) -> None:
        """Settle after a normal return."""
        report = None if self.settle is None else self.read(hold, result, meter)
        unsettled = report is None and self.settle is not None
        report = report if meter is None else with_cpu(hold, report, meter)
        hold.close("assumed" if unsettled else "committed", report)

    def read(self, hold: Hold, result: Any, meter: CpuMeter | None = None) -> Report | None:
        """Ask `settle`; None: it does not know. If it raises, the call is charged in full."""
        assert self.settle is not None
        try:
            used = self.settle(result)
            return None if used is None else hold.read(used, NOTHING)
        except BaseException as error:
            hold.close("assumed", with_cpu(hold, None, meter), "completed", error)
            raise

    def cut(self, hold: Hold, error: BaseException, meter: CpuMeter | None) -> None:
        """Settle after an error or a cancellation."""
        hold.record = with_cpu(hold, hold.record, meter)
        hold.cut(error)

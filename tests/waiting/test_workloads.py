"""Any mix of calls on three resources: all are served in the end, and the sums always hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    TaskBudget,
    connect,
    reserve,
    task_budget,
)
from budgetware.accounts import waiting
from budgetware.quotas import QuotaLimit
from budgetware.testing import LoopClock, run_virtual

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
LIMITS: dict[str, QuotaLimit] = {
    "slots": Concurrency(4),
    "tokens": Rate(4, "second"),
    "pages": Capacity(4),
}

End = Literal["commit", "release", "fail", "leave"]
amounts = st.dictionaries(st.sampled_from([*LIMITS]), st.integers(1, 4), min_size=1)
tenths = st.integers(0, 30).map(lambda number: number / 10)


@dataclass(frozen=True)
class Step:
    """One call: when it comes, what it needs, how long it stays, how it ends."""

    comes: float
    needs: dict[str, Any]
    stays: float
    end: End
    inside: Step | None = None
    gives_up: float | None = None
    is_cut_at: float | None = None


def steps(end: st.SearchStrategy[End], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, tenths, amounts, tenths, end, inner)


patient = steps(st.just("release"), st.none())
impatient = st.builds(
    Step,
    tenths,
    amounts,
    tenths,
    st.sampled_from(["commit", "release", "fail", "leave"]),
    st.none() | patient,
    st.none() | tenths,
    st.none() | tenths,
)


@dataclass
class Run:
    """A run of many steps, and what is seen on the way."""

    service: QuotaService
    served: int = 0
    wrong: list[str] = field(default_factory=list[str])
    inside: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))

    def look(self) -> None:
        """I1 and I2 on every resource; what is open is reserved, and what is granted just now."""
        for name in LIMITS:
            balance: Any = self.service.resource(name).balance
            parts = balance.spent + balance.reserved + balance.granted + balance.remaining
            is_open = name == "tokens" or balance.reserved >= self.inside[name]
            if parts - balance.overrun != balance.limit or balance.overrun or not is_open:
                self.wrong.append(f"{name}: {balance}, {self.inside}")

    async def call(self, step: Step) -> None:
        await anyio.sleep(step.comes)
        with anyio.CancelScope() as scope:
            if step.is_cut_at is not None:
                scope.deadline = anyio.current_time() + step.is_cut_at
            try:
                await self._reserve(step)
            except (QuotaExceeded, KeyError):
                pass
        self.look()

    async def _reserve(self, step: Step) -> None:
        async with reserve(**step.needs, max_wait=step.gives_up) as reservation:
            self._count(step, 1)
            try:
                self.served += 1
                self.look()
                if step.inside is not None:
                    await self._reserve(step.inside)
                await anyio.sleep(step.stays)
                if step.end == "fail":
                    raise KeyError
            finally:
                self._count(step, -1)
                if step.end == "release":
                    reservation.release()
                elif step.end != "leave":
                    reservation.commit(dict.fromkeys(step.needs, 1))
                else:
                    reservation.commit()

    def _count(self, step: Step, more: int) -> None:
        for name, units in step.needs.items():
            self.inside[name] += more * units


def run_all(backend: str, calls: list[Step]) -> Run:
    """Run them at once, each resource bound by a token."""
    with connect(clock=LoopClock()) as service, ExitStack() as stack:
        for name, limit in LIMITS.items():
            service.define(Resource(name, limit, dim=name))
            token = stack.enter_context(QuotaToken(name, 1))
            stack.callback(token.close)
        run = Run(service)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for step in calls:
                    group.start_soon(run.call, step)

        run_virtual(main, backend=backend)
        run.look()
        assert all(service.resource(name).balance.reserved == 0 for name in ("slots", "pages"))
    assert not waiting
    return run


@BACKENDS
@settings(max_examples=60, deadline=None)
@given(calls=st.lists(patient, max_size=12))
def test_every_call_that_could_ever_be_served_is(backend: str, calls: list[Step]) -> None:
    run = run_all(backend, calls)
    assert (run.served, run.wrong) == (len(calls), [])


@BACKENDS
@settings(max_examples=60, deadline=None)
@given(calls=st.lists(impatient, max_size=12))
def test_whatever_they_do_the_sums_hold_and_nobody_is_left(backend: str, calls: list[Step]) -> None:
    """Nested calls may block each other: their own longest wait or a cancellation ends that."""
    ended = [Step(s.comes, s.needs, s.stays, s.end, _bounded(s.inside), s.gives_up, s.is_cut_at)
             for s in calls]  # fmt: skip
    assert run_all(backend, ended).wrong == []


def _bounded(step: Step | None) -> Step | None:
    if step is None:
        return None
    return Step(step.comes, step.needs, step.stays, step.end, None, 2.0)


@BACKENDS
@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 10), tenths, tenths), max_size=12)
)
def test_a_throttled_task_is_never_overspent(
    backend: str, calls: list[tuple[int, int, float, float]]
) -> None:
    """Each holds some tokens and uses no more: as many are served as fit, the others are told."""
    seen: list[tuple[int, int]] = []
    told: list[object] = []

    async def call(budget: TaskBudget, held: int, used: int, comes: float, stays: float) -> None:
        await anyio.sleep(comes)
        try:
            async with reserve(tokens=held) as reservation:
                await anyio.sleep(stays)
                reservation.commit(min(held, used))
        except QuotaExceeded as error:
            told.append(error.retry_after)
        except RuntimeError as error:
            told.append(getattr(error, "retry_after", error))
        balance: Any = budget.snapshot()["tokens"]
        seen.append((balance.spent + balance.reserved + balance.remaining, balance.overrun))

    async def main() -> None:
        budget = task_budget("crawl", tokens=20, policy="throttle")
        async with budget, anyio.create_task_group() as group:
            for step in calls:
                group.start_soon(call, budget, *step)

    with connect(clock=LoopClock()):
        run_virtual(main, backend=backend)
    assert set(seen) <= {(20, 0)}
    assert set(told) <= {None}
    assert not waiting


def check(backend: str, look: Callable[[Run], None]) -> list[str]:
    """What the checks find in a run in which something is wrong."""
    step = Step(0.0, {"slots": 1}, 1.0, "leave")
    with connect(clock=LoopClock()) as service, ExitStack() as stack:
        for name, limit in LIMITS.items():
            service.define(Resource(name, limit, dim=name))
            token = stack.enter_context(QuotaToken(name, 1))
            stack.callback(token.close)
        run = Run(service)
        look(run)
        run_virtual(run.call, step, backend=backend)
    return run.wrong


@BACKENDS
def test_the_checks_find_a_reservation_that_nobody_has_open(backend: str) -> None:
    def miscount(run: Run) -> None:
        run.inside["slots"] = 1

    assert check(backend, lambda _run: None) == []
    assert len(check(backend, miscount)) > 0

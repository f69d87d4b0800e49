"""On whose behalf calls run: quotas, chains, exemption, live changes, the cap."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
from anyio import to_thread

import budgetware.principals
from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    budgeted,
    connect,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import (
    BudgetTerminated,
    ConfigurationError,
    InvalidAmount,
    NoBudget,
    UnknownPrice,
)
from budgetware.pricing import PriceTable
from budgetware.testing import VirtualClock
from tests.sharing.conftest import Keep

PRICES: PriceTable = {"m": {"input": "1000", "output": "1000"}}


def used(service: QuotaService, name: str, dim: str = "calls") -> Any:
    view = service.principal(name)
    assert view is not None
    return view.snapshot()[dim].spent


def call(amount: int = 1) -> None:
    reserve_nowait(calls=amount).commit()


# Who is charged.


def test_calls_are_counted_for_their_principal(service: QuotaService) -> None:
    with principal("alice"):
        call(3)
    call()
    assert used(service, "alice") == 3


async def test_a_principal_is_an_async_context_manager_too(service: QuotaService) -> None:
    async with principal("alice"), reserve(calls=2):
        pass
    assert used(service, "alice") == 2


def test_the_innermost_principal_replaces_outer_ones(service: QuotaService) -> None:
    with principal("alice"):
        with principal("bob"):
            call(2)
        call()
    assert (used(service, "alice"), used(service, "bob")) == (1, 2)


def test_a_task_may_name_its_principal(service: QuotaService) -> None:
    with task_budget(calls=9, principal="alice"):
        call()
        with task_budget(calls=5):
            call()
            with task_budget(calls=3, principal="bob"):
                call()
        with principal("carol"):
            call()
    assert [used(service, name) for name in ("alice", "bob", "carol")] == [2, 1, 1]


def test_a_decorated_task_has_its_principal(service: QuotaService) -> None:
    @task_budget(calls=9, principal="alice")
    def work() -> None:
        call()

    with principal("bob"):
        work()
    assert (used(service, "alice"), service.principal("bob")) != (0, None)
    assert used(service, "bob") == 0


def test_a_chain_is_charged_to_its_end(service: QuotaService) -> None:
    service.define_principal("org", quotas={"calls": Capacity(5)})
    service.define_principal("team", parent="org")
    service.define_principal("alice", parent="team", quotas={"calls": Capacity(3)})
    with principal("alice"):
        call(3)
        with pytest.raises(QuotaExceeded, match="principal 'alice'"):
            call()
    with principal("team"):
        call(2)
        with pytest.raises(QuotaExceeded, match="principal 'org'"):
            call()
    assert [used(service, name) for name in ("org", "team", "alice")] == [5, 5, 3]


@pytest.mark.parametrize("short", ["org", "alice", "task"])
def test_a_call_is_all_or_nothing(service: QuotaService, short: str) -> None:
    service.define_principal("org", quotas={"calls": Capacity(2 if short == "org" else 9)})
    limit = Capacity(2 if short == "alice" else 9)
    service.define_principal("alice", parent="org", quotas={"calls": limit})
    with task_budget(calls=2 if short == "task" else 9) as budget, principal("alice"):
        with pytest.raises(BudgetExceeded):
            call(3)
        assert budget.spent("calls") == 0
    assert (used(service, "org"), used(service, "alice")) == (0, 0)


async def test_a_principal_reaches_task_groups_and_worker_threads(service: QuotaService) -> None:
    async def agent() -> None:
        call()
        await to_thread.run_sync(call)

    async with principal("alice"), anyio.create_task_group() as group:
        group.start_soon(agent)
    assert used(service, "alice") == 2


def test_the_event_names_the_principal(service: QuotaService) -> None:
    events = service.subscribe()
    with task_budget(calls=9), principal("alice"):
        call()
    event = events.get_nowait()
    assert event is not None
    assert event.principal == "alice"


def test_the_principal_goes_along_into_another_service(service: QuotaService) -> None:
    with principal("alice"), connect() as second, task_budget(calls=5):
        call()
    assert used(second, "alice") == 1


# Quotas.


def test_a_rate_of_a_principal_refills(service: QuotaService, clock: VirtualClock) -> None:
    service.define_principal("alice", quotas={"calls": Rate(60, "minute", max=3)})
    with task_budget(calls=99), principal("alice"):
        call(3)
        with pytest.raises(QuotaExceeded) as refused:
            call(2)
        assert refused.value.retry_after == 2.0
        clock.advance(2)
        call(2)


def test_slots_of_a_principal_come_back(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"calls": Concurrency(2)})
    with task_budget(calls=99), principal("alice"):
        for _ in range(5):
            with reserve(calls=2), pytest.raises(QuotaExceeded):
                call()


def test_dollars_of_a_principal_hold_the_price_of_the_model(clock: VirtualClock) -> None:
    with connect(clock=clock, prices=PRICES) as service:
        service.define_principal("alice", quotas={"usd": Capacity("0.25")})

        @budgeted(tokens=100, model="m", kind="llm", settle=lambda reply: reply)
        def think(tokens: int) -> dict[str, int]:
            return {"tokens": tokens}

        with task_budget(tokens=10_000), principal("alice"):
            think(50)
            think(100)
            with pytest.raises(QuotaExceeded) as refused:
                reserve_nowait(tokens=101, model="m")
        assert (refused.value.requested, refused.value.available) == (
            Decimal("0.101"),
            Decimal("0.1"),
        )
        assert used(service, "alice", "usd") == Decimal("0.15")


def test_a_model_without_a_price_is_not_free_under_a_quota_of_dollars(
    service: QuotaService,
) -> None:
    service.define_principal("alice", quotas={"usd": Capacity("0.25")})
    with task_budget(tokens=99), principal("alice"), pytest.raises(UnknownPrice):
        reserve_nowait(tokens=9, model="no-such-model")
    with principal("alice"), pytest.raises(UnknownPrice):
        reserve_nowait(tokens=9, model="no-such-model")
    with task_budget(tokens=99, unpriced="allow"), principal("alice"):
        reserve_nowait(tokens=9, model="no-such-model").commit()
    assert used(service, "alice", "usd") == 0


def test_a_quota_may_have_another_enforcement(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"calls": Resource("a", Capacity(2), "terminate")})
    with pytest.raises(BudgetTerminated) as ended, task_budget(calls=9), principal("alice"):
        call(3)
    assert "principal 'alice'" in ended.value.reason


async def test_a_throttled_quota_lets_calls_wait(looped: QuotaService) -> None:
    quota = Resource("a", Rate(1, "second"), "throttle")
    looped.define_principal("alice", quotas={"calls": quota})
    async with task_budget(calls=9), principal("alice"):
        for _ in range(4):
            async with reserve(calls=1):
                pass
    assert anyio.current_time() == pytest.approx(3)


# Exemption.


@pytest.fixture
def ops(service: QuotaService) -> QuotaService:
    service.define(Resource("rate", Rate(1, "hour"), "reject", dim="tokens"))
    service.define(Resource("capacity", Capacity(1), "reject", dim="tokens"))
    service.define(Resource("slots", Concurrency(1), "reject"))
    service.define_principal("ops", quotas={"tokens": Capacity(1)}, exempt=True)
    return service


def test_an_exempt_principal_is_not_refused_but_counted(ops: QuotaService) -> None:
    with principal("ops"):
        reserve_nowait("rate", 5).commit()
        reserve_nowait("capacity", 5).commit()
        reserve_nowait(tokens=5).commit()
    assert used(ops, "ops", "tokens") == 15
    assert [ops.resource(name).balance.overrun for name in ("rate", "capacity")] == [4, 4]


def test_what_an_exempt_one_used_counts_for_the_others(ops: QuotaService) -> None:
    with principal("ops"):
        reserve_nowait("capacity", 1).commit()
    with principal("alice"), pytest.raises(QuotaExceeded):
        reserve_nowait("capacity", 1)


def test_an_exempt_principal_is_refused_by_tasks_and_slots(ops: QuotaService) -> None:
    with task_budget(tokens=3), principal("ops"):
        with pytest.raises(BudgetExceeded, match="budget"):
            reserve_nowait("rate", 5)
        with reserve("slots"), pytest.raises(QuotaExceeded):
            reserve_nowait("slots")


def test_an_exempt_principal_is_refused_by_allowances(ops: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("capacity", 1, allowance=2))
    with principal("ops"):
        token.reserve_nowait(2).commit()
        with pytest.raises(QuotaExceeded, match="allowance"):
            token.reserve_nowait(1)


def test_one_predicate_decides_and_reports(ops: QuotaService) -> None:
    ops.define_principal("worker", parent="ops", quotas={"tokens": Capacity(1)})
    ops.define_principal("intern", parent="ops", quotas={"tokens": Capacity(1)}, exempt=False)
    ops.define_principal("student", parent="intern")
    shown = {view.name: view.exempt for view in ops.principals()}
    assert shown == {"ops": True, "worker": True, "intern": False, "student": False}
    for name, is_exempt in shown.items():
        with principal(name):
            if is_exempt:
                reserve_nowait(tokens=5).commit()
            else:
                with pytest.raises(QuotaExceeded):
                    reserve_nowait(tokens=5)


def test_an_exemption_may_be_revoked_live(ops: QuotaService) -> None:
    with task_budget(tokens=99), principal("ops"):
        reserve_nowait(tokens=5).commit()
        ops.define_principal("ops", quotas={"tokens": Capacity(1)}, exempt=False)
        with pytest.raises(QuotaExceeded):
            reserve_nowait(tokens=1)
        ops.define_principal("ops", quotas={"tokens": Capacity(1)}, exempt=True)
        reserve_nowait(tokens=1).commit()


async def test_an_exempt_call_does_not_queue(looped: QuotaService) -> None:
    looped.define(Resource("rate", Rate(1, "hour"), "throttle"))
    looped.define_principal("ops", exempt=True)
    reserve_nowait("rate", 1).commit()

    async def wait() -> None:
        async with reserve("rate", 1):
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        assert looped.resource("rate").waiting == 1
        async with principal("ops"), reserve("rate", 1):
            assert anyio.current_time() == pytest.approx(1)
        group.cancel_scope.cancel()


# Live changes.


def test_a_quota_put_later_is_in_effect_at_once(service: QuotaService) -> None:
    with task_budget(calls=99) as budget, principal("alice"):
        call(3)
        service.define_principal("alice", quotas={"calls": Capacity(5)})
        call(2)
        with pytest.raises(QuotaExceeded, match="principal 'alice' has 0 of 5"):
            call()
        service.define_principal("alice", quotas={"calls": Capacity(6)})
        call()
        service.define_principal("alice")
        call(50)
        assert budget.spent("calls") == used(service, "alice") == 56


def test_a_quota_may_go_below_what_was_used(service: QuotaService) -> None:
    service.define_principal("alice", quotas={"calls": Capacity(9)})
    with principal("alice"):
        call(5)
        service.define_principal("alice", quotas={"calls": Capacity(3)})
        with pytest.raises(QuotaExceeded):
            call()
    view = service.principal("alice")
    assert view is not None
    assert view.snapshot()["calls"].overrun == 2


def test_slots_put_later_come_back(service: QuotaService) -> None:
    with task_budget(calls=99), principal("alice"):
        reserve_nowait(calls=1).release()
        service.define_principal("alice", quotas={"calls": Concurrency(2)})
        for _ in range(5):
            call(2)


def test_a_capacity_after_slots_is_a_capacity(service: QuotaService) -> None:
    with task_budget(calls=99), principal("alice"):
        service.define_principal("alice", quotas={"calls": Concurrency(2)})
        call(2)
        service.define_principal("alice")
        call(2)
        service.define_principal("alice", quotas={"calls": Capacity(3)})
        call()
        with pytest.raises(QuotaExceeded):
            call()


def test_dollars_put_later_price_decorated_calls_at_once(clock: VirtualClock) -> None:
    @budgeted(tokens=100, model="m", kind="llm")
    def think() -> None: ...

    outer, inner = task_budget(tokens=10_000), task_budget(tokens=5_000)
    with connect(clock=clock, prices=PRICES) as service, outer, principal("alice"), inner:
        think()
        service.define_principal("alice", quotas={"usd": Capacity("0.15")})
        think()
        with pytest.raises(QuotaExceeded, match=r"0\.050000 of 0\.150000 usd left"):
            think()


@pytest.mark.parametrize("new", [Rate(5, "minute"), Concurrency(5)])
def test_the_kind_of_a_quota_cannot_change(service: QuotaService, new: Any) -> None:
    service.define_principal("alice", quotas={"calls": Capacity(9)})
    with principal("alice"):
        call(5)
        with pytest.raises(ConfigurationError, match="kind of its quota of calls"):
            service.define_principal("alice", quotas={"calls": new})
        call(4)
        with pytest.raises(QuotaExceeded):
            call()


def test_a_parent_cannot_change(service: QuotaService) -> None:
    service.define_principal("team")
    service.define_principal("alice", parent="team")
    service.define_principal("other")
    with pytest.raises(ConfigurationError, match="parent cannot change"):
        service.define_principal("alice", parent="other")
    with principal("alice"):
        call(2)
    assert used(service, "team") == 2


def test_an_unknown_parent_changes_nothing(service: QuotaService) -> None:
    with pytest.raises(ConfigurationError, match="parent 'team' is not defined"):
        service.define_principal("alice", parent="team")
    assert service.principals() == []


@pytest.mark.parametrize(
    ("quotas", "named"),
    [
        ({"tokenz": Capacity(5)}, "tokens"),
        ({"millis": Capacity(5)}, "millis"),
        ({"calls": 5}, "give a Rate"),
        ({"calls": "5"}, "give a Rate"),
        ({"memory": Rate(5, "minute")}, "memory"),
        ({"usd": Concurrency(5)}, "dollars are no slots"),
        ({"calls": Capacity("1.5")}, "calls"),
    ],
)
def test_a_quota_that_cannot_be_changes_nothing(
    service: QuotaService, quotas: Any, named: str
) -> None:
    service.define_principal("alice", quotas={"calls": Capacity(5)})
    with pytest.raises((ConfigurationError, InvalidAmount), match=named):
        service.define_principal("alice", quotas=quotas, exempt=True)
    view = service.principal("alice")
    assert view is not None
    assert (view.quotas, view.exempt) == ({"calls": Capacity(5)}, False)


# Names and numbers of them.


@pytest.mark.parametrize(
    "name", ["", "a b", "a\nb", "a\x1b[31m", "a\x00", "ä", "x" * 129, 5, None, b"alice"]
)
def test_a_name_that_is_none_is_refused(service: QuotaService, name: Any) -> None:
    with pytest.raises(ConfigurationError, match="principal name") as refused:
        principal(name)
    assert str(refused.value).isprintable()
    with pytest.raises(ConfigurationError, match="principal name"):
        service.define_principal(name)
    if name is not None:
        with pytest.raises(ConfigurationError, match="principal name"):
            task_budget(calls=1, principal=name)
    assert service.principals() == []


def test_an_unknown_principal_is_no_row_of_zeros(service: QuotaService) -> None:
    assert service.principal("nobody") is None
    with principal("somebody"):
        call()
    assert service.principal("somebody") is not None


def test_there_is_a_cap_on_principals_that_nobody_has_defined(
    service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgetware.principals, "MAX_PRINCIPALS", 2)
    with principal("a"), principal("b"):
        late = task_budget(calls=5, principal="c")
        enters: list[Callable[[], object]] = [
            principal("c").__enter__,
            late.__enter__,
        ]
        for enter in enters:
            with pytest.raises(ConfigurationError, match="more than 2 principals"):
                enter()
        service.define_principal("defined")
        with principal("defined"):
            call()
        service.define_principal("b")
        with principal("c"):
            pass
        call()
        with principal("a"):
            call()
    assert [(view.name, used(service, view.name)) for view in service.principals()] == [
        ("a", 1),
        ("b", 1),
        ("c", 0),
        ("defined", 1),
    ]


def test_a_principal_is_entered_once(service: QuotaService) -> None:
    alice = principal("alice")
    with alice, pytest.raises(ConfigurationError, match="entered already"):
        alice.__enter__()


# Strict.


def test_a_principal_is_no_task(clock: VirtualClock, keep: Keep) -> None:
    with connect(clock=clock, strict=True) as service, principal("alice"):
        service.define(Resource("slots", Concurrency(5)))
        token = keep(QuotaToken("slots", 1))
        draws: list[Callable[[], object]] = [
            call,
            lambda: reserve_nowait("slots"),
            token.reserve_nowait,
        ]
        for draw in draws:
            with pytest.raises(NoBudget):
                draw()
        with task_budget(calls=5):
            reserve_nowait("slots").release()
        assert service.resource("slots").balance.remaining == 5

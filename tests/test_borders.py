"""Code behind a border stands in no task of whoever calls it."""

import pytest

from budgetware import (
    BudgetExceeded,
    Capacity,
    QuotaToken,
    Rate,
    Resource,
    connect,
    current_budget,
    principal,
    reserve,
    task_budget,
)
from budgetware.borders import outside_tasks


async def test_tasks_principals_and_tokens_end_at_a_border() -> None:
    async with connect() as service:
        service.define_principal("alice", quotas={"calls": Capacity(1)})
        service.define(Resource("shared", Rate(10, "hour"), dim="tokens"))
        token = QuotaToken("shared", 5, allowance=5, service=service)
        with principal("alice"), token:
            async with task_budget("outer", calls=1, tokens=5, service=service) as outer:
                with outside_tasks():
                    assert current_budget() is None
                    for _ in range(3):
                        async with reserve(calls=1, tokens=9):
                            pass
                assert current_budget() is outer
                assert outer.spent("calls") == outer.spent("tokens") == 0
        alice = service.principal("alice")
        assert alice is not None
        assert alice.snapshot()["calls"].spent == 0
        assert token.snapshot()["tokens"].spent == 0
        token.close()


async def test_a_task_behind_a_border_is_an_outermost_one() -> None:
    async with task_budget("outer", tokens=5):
        with outside_tasks():
            async with task_budget("inner", tokens=100) as inner, reserve(tokens=50):
                pass
        assert (inner.path, inner.spent("tokens")) == ("inner", 50)
        with pytest.raises(BudgetExceeded):
            async with reserve(tokens=6):
                raise AssertionError


async def test_the_service_that_is_current_stays_so_unless_another_is_named() -> None:
    async with connect() as first, connect() as second:
        with outside_tasks(), principal("alice"), reserve(calls=1):
            pass
        with outside_tasks(first), principal("bob"), reserve(calls=1):
            pass
        assert [known.name for known in second.principals()] == ["alice"]
        assert [known.name for known in first.principals()] == ["bob"]

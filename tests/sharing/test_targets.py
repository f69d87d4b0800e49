"""Draws on a resource by its name: they end with their task, and follow its definition."""

from __future__ import annotations

import pytest

from budgetware import (
    BudgetTerminated,
    Capacity,
    QuotaExceeded,
    QuotaService,
    Resource,
    budgeted,
    reserve_nowait,
)
from budgetware.errors import UnknownResource


@pytest.mark.parametrize("is_decorated", [False, True])
def test_a_terminated_task_draws_on_nothing_any_more(
    service: QuotaService, is_decorated: bool
) -> None:
    service.define(Resource("pages", Capacity(100), "reject"))

    @budgeted(target="pages")
    def fetch() -> None:
        pass

    draw = fetch if is_decorated else lambda: reserve_nowait("pages", 1).commit()
    job = service.task_budget("job", calls=5)

    def work() -> None:
        with job:
            draw()
            draw()
            job.terminate("because")
            draw()

    with pytest.raises(BudgetTerminated):
        work()
    assert service.resource("pages").balance.spent == 2


def test_decorated_draws_follow_a_resource_that_is_deleted_and_defined_again(
    service: QuotaService,
) -> None:
    service.define(Resource("pages", Capacity(2), "reject"))

    @budgeted(target="pages")
    def fetch() -> None:
        pass

    with service.task_budget("job", calls=5):
        fetch()
        fetch()
        service.delete("pages")
        with pytest.raises(UnknownResource):
            fetch()
        service.define(Resource("pages", Capacity(1), "reject"))
        fetch()
        with pytest.raises(QuotaExceeded):
            fetch()

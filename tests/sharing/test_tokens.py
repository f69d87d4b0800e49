"""Quota tokens: bound, split, merged, closed, collected; from tasks and threads."""

from __future__ import annotations

import copy
import gc
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from decimal import Decimal
from threading import Thread
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import (
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
    ConfigurationError,
    InvalidAmount,
    QuotaTokenError,
    ResourceMismatch,
    TokenConsumed,
)
from tests.sharing.conftest import Keep


@pytest.fixture(autouse=True)
def pools(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(1_000), "reject", dim="tokens"))
    service.define(Resource("other", Capacity(1_000), "reject", dim="tokens"))
    service.define(Resource("slots", Concurrency(10), "reject"))
    service.define(Resource("money", Capacity("5.00"), "reject", dim="usd"))


def drawn(token: QuotaToken) -> Any:
    return token.snapshot()[next(iter(token.snapshot().dims))].spent


def left(token: QuotaToken) -> Any:
    return token.snapshot()[next(iter(token.snapshot().dims))].remaining


def drop(tokens: list[QuotaToken]) -> None:
    tokens.clear()
    gc.collect()


def in_a_thread(work: Callable[[], object]) -> None:
    thread = Thread(target=work)
    thread.start()
    thread.join()


# Drawing.


def test_a_token_draws_on_its_resource(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with token.reserve(30) as reservation:
        reservation.commit(20)
    assert (drawn(token), service.resource("api").balance.spent) == (20, 20)


async def test_a_token_is_a_target_like_its_name(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    async with reserve(token, 30):
        pass
    async with token.reserve(tokens=5):
        pass
    held = await token.reserve(7)
    held.release()
    reserve_nowait(token, 1).commit()
    assert drawn(token) == 36


def test_an_allowance_is_a_hard_limit(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=30))
    token.reserve_nowait(20).commit()
    with pytest.raises(QuotaExceeded, match="allowance of a token of 'api' has 10 of 30"):
        token.reserve_nowait(11)
    assert service.resource("api").balance.reserved == 0
    token.reserve_nowait(10).commit()


def test_a_weight_is_no_limit(service: QuotaService, keep: Keep) -> None:
    keep(QuotaToken("api", 1)).reserve_nowait(1_000).commit()
    assert service.resource("api").balance.remaining == 0


def test_an_allowance_of_slots_is_how_many_at_once(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("slots", 1, allowance=2))
    with token.reserve(), token.reserve(), pytest.raises(QuotaExceeded):
        token.reserve_nowait()
    token.reserve_nowait(2).release()


def test_an_allowance_above_the_resource_gains_nothing(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 10**9, allowance=10**9))
    with pytest.raises(QuotaExceeded, match="resource 'api'"):
        token.reserve_nowait(1_001)


def test_debt_of_an_allowance_refuses_the_next_draw(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 10, allowance=10))
    token.reserve_nowait(5).commit(15)
    assert token.snapshot()["tokens"].overrun == 5
    with pytest.raises(QuotaExceeded):
        token.reserve_nowait(1)


def test_a_token_of_dollars_speaks_of_dollars(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("money", "0.50", allowance=2))
    assert (token.expected_use, token.allowance) == (Decimal("0.500000"), Decimal("2.000000"))
    with pytest.raises(QuotaTokenError, match=r"has a weight of 0\.500000"):
        token.split("0.75")
    with pytest.raises(QuotaTokenError, match=r"has 2\.000000 of its own left"):
        token.split("0.25", allowance="2.01")
    child = keep(token.split("0.20", allowance="0.75"))
    child.reserve_nowait("0.70").commit("0.10")
    assert (drawn(child), left(child)) == (Decimal("0.10"), Decimal("0.65"))
    assert repr(token) == "<QuotaToken of money weight 0.300000 allowance 1.250000>"


def test_a_token_of_another_service_draws_there(service: QuotaService, keep: Keep) -> None:
    with connect() as second:
        second.define(Resource("theirs", Capacity(10), "reject"))
        token = keep(QuotaToken("theirs", 1, service=second))
        assert service is not second
        token.reserve_nowait(4).commit()
        assert second.resource("theirs").balance.spent == 4
    with pytest.raises(ConfigurationError, match="closed"):
        token.reserve_nowait(4)


# Bound.


def test_a_bound_token_pays_for_its_dimension(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with task_budget(tokens=100, calls=9) as budget, token as entered:
        assert entered is token
        reserve_nowait(tokens=30, calls=1).commit()
        reserve_nowait(calls=1).commit()
    assert (drawn(token), budget.spent("tokens"), budget.spent("calls")) == (30, 30, 2)


async def test_a_decorated_call_draws_on_the_bound_token(service: QuotaService, keep: Keep) -> None:
    @budgeted(tokens=50, settle=lambda used: used)
    async def think() -> int:
        return 20

    token = keep(QuotaToken("api", 100, allowance=60))
    async with task_budget(tokens=1_000):
        await think()
        async with token:
            await think()
            with pytest.raises(QuotaExceeded, match="allowance"):
                await think()
        await think()
    assert drawn(token) == 20


def test_a_token_pays_only_inside_its_block(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with token:
        reserve_nowait(tokens=1).commit()
    reserve_nowait(tokens=1).commit()
    assert drawn(token) == 1


def test_leaving_the_block_does_not_close(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    for _ in range(3):
        with token:
            reserve_nowait(tokens=1).commit()
    assert drawn(token) == 3


def test_the_innermost_token_of_a_resource_pays(service: QuotaService, keep: Keep) -> None:
    outer, inner = keep(QuotaToken("api", 100)), keep(QuotaToken("api", 100))
    with outer:
        with inner:
            reserve_nowait(tokens=5).commit()
        reserve_nowait(tokens=1).commit()
    assert (drawn(outer), drawn(inner)) == (1, 5)
    assert service.resource("api").balance.spent == 6


def test_tokens_of_two_resources_both_pay(service: QuotaService, keep: Keep) -> None:
    first, second = keep(QuotaToken("api", 100)), keep(QuotaToken("other", 100, allowance=5))
    with first, second:
        reserve_nowait(tokens=5).commit()
        with pytest.raises(QuotaExceeded):
            reserve_nowait(tokens=1)
    assert (drawn(first), drawn(second)) == (5, 5)


def test_one_token_may_be_bound_twice(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with token:
        with token:
            reserve_nowait(tokens=5).commit()
        reserve_nowait(tokens=1).commit()
    reserve_nowait(tokens=1).commit()
    assert drawn(token) == 6


def test_bindings_left_in_another_order_end_all_the_same(service: QuotaService, keep: Keep) -> None:
    first, second = keep(QuotaToken("api", 100)), keep(QuotaToken("other", 100))

    def cross() -> None:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        reserve_nowait(tokens=5).commit()
        second.__exit__(None, None, None)
        reserve_nowait(tokens=5).commit()

    copy_context().run(cross)
    assert (drawn(first), drawn(second)) == (0, 5)


def test_a_draw_by_name_is_paid_by_the_bound_token(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=10))
    with token:
        reserve_nowait("api", 10).commit()
        with pytest.raises(QuotaExceeded, match="allowance"):
            reserve_nowait("api", 1)
    reserve_nowait("api", 1).commit()
    assert drawn(token) == 10


def test_a_draw_by_another_token_is_paid_by_that(service: QuotaService, keep: Keep) -> None:
    bound, named = keep(QuotaToken("api", 100)), keep(QuotaToken("api", 100))
    with bound:
        reserve_nowait(named, 10).commit()
        named.reserve_nowait(1).commit()
    assert (drawn(bound), drawn(named)) == (0, 11)


def test_a_binding_reaches_tasks_opened_in_it(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with token, task_budget(tokens=50) as outer, task_budget(tokens=40), principal("alice"):
        reserve_nowait(tokens=5).commit()
        assert outer.spent("tokens") == 5
    assert drawn(token) == 5


def test_a_token_of_slots_is_not_drawn_on_by_dimension(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("slots", 1))
    with task_budget(calls=5), token, reserve(calls=1):
        assert service.resource("slots").balance.reserved == 0
        with reserve("slots"):
            assert token.snapshot()["slots"].reserved == 1


async def test_two_tasks_bind_one_token_at_once(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))

    async def agent(amount: int) -> None:
        async with token:
            await anyio.sleep(amount)
            async with reserve(tokens=amount):
                await anyio.sleep(1)
        async with reserve(tokens=amount):
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(agent, 1)
        group.start_soon(agent, 2)
    assert drawn(token) == 3


async def test_a_binding_crosses_task_groups(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    began = anyio.Event()

    async def agent() -> None:
        await began.wait()
        reserve_nowait(tokens=5).commit()

    async with anyio.create_task_group() as group:
        async with token:
            group.start_soon(agent)
        began.set()
        reserve_nowait(tokens=1).commit()
    assert drawn(token) == 5


async def test_a_binding_crosses_into_worker_threads(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    async with task_budget(tokens=100), token:
        await to_thread.run_sync(lambda: reserve_nowait(tokens=5).commit())
    assert drawn(token) == 5


def test_a_binding_does_not_reach_other_threads(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with token:
        in_a_thread(lambda: reserve_nowait(tokens=5).commit())
    assert drawn(token) == 0


def test_a_wrapped_function_takes_the_binding_along(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    with task_budget(tokens=100) as budget, token:
        in_a_thread(budget.wrap(lambda: reserve_nowait(tokens=5).commit()))
    assert drawn(token) == 5


def test_a_bound_token_that_ended_refuses_its_dimension(service: QuotaService) -> None:
    token = QuotaToken("api", 100)
    with task_budget(tokens=100, calls=5), token:
        token.close()
        with pytest.raises(TokenConsumed):
            reserve_nowait(tokens=1)


# Split.


def test_the_weight_of_a_part_is_taken_and_given_back(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    first, second = token.split(30), token.split(20)
    assert (token.expected_use, first.expected_use, second.expected_use) == (50, 30, 20)
    token.merge(first)
    second.close()
    assert token.expected_use == 100


def test_all_of_the_weight_may_be_split_off(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    keep(token.split(100))
    assert token.expected_use == 0
    token.reserve_nowait(5).commit()
    with pytest.raises(QuotaTokenError):
        token.split(1)


def test_an_allowance_is_moved_not_copied(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = keep(token.split(10, allowance=30))
    assert (token.allowance, child.allowance, left(token)) == (20, 30, 20)
    with pytest.raises(QuotaExceeded):
        token.reserve_nowait(21)
    with pytest.raises(QuotaExceeded):
        child.reserve_nowait(31)


def test_what_was_drawn_cannot_be_given_on(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    token.reserve_nowait(15).commit()
    held = token.reserve_nowait(15)
    with pytest.raises(QuotaTokenError, match="has 20 of its own left"):
        token.split(10, allowance=21)
    assert (token.allowance, token.expected_use) == (50, 100)
    keep(token.split(10, allowance=20))
    held.release()
    assert left(token) == 15


def test_a_part_without_an_allowance_shares(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = keep(token.split(10))
    grandchild = keep(child.split(5))
    child.reserve_nowait(20).commit()
    grandchild.reserve_nowait(20).commit()
    assert (left(token), child.allowance, grandchild.allowance) == (10, 50, 50)
    for each in (token, child, grandchild):
        with pytest.raises(QuotaExceeded, match="allowance"):
            each.reserve_nowait(11)


def test_a_part_of_an_unbounded_token_may_have_an_allowance(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("api", 100))
    child = keep(token.split(10, allowance=30))
    with pytest.raises(QuotaExceeded):
        child.reserve_nowait(31)
    token.reserve_nowait(900).commit()
    assert token.allowance is None


@pytest.mark.parametrize("weight", [0, -1, 1.0, True, "5", None, 2**53])
def test_a_weight_that_is_none_changes_nothing(
    service: QuotaService, keep: Keep, weight: Any
) -> None:
    with pytest.raises(InvalidAmount, match="expected_use"):
        QuotaToken("api", weight)
    token = keep(QuotaToken("api", 100))
    with pytest.raises(InvalidAmount, match="expected_use"):
        token.split(weight)
    assert token.expected_use == 100


@pytest.mark.parametrize("allowance", [0, -1, 1.0, True, "5", 2**53])
def test_an_allowance_that_is_none_changes_nothing(
    service: QuotaService, keep: Keep, allowance: Any
) -> None:
    with pytest.raises(InvalidAmount, match="allowance"):
        QuotaToken("api", 1, allowance=allowance)
    token = keep(QuotaToken("api", 100, allowance=10))
    with pytest.raises(InvalidAmount, match="allowance"):
        token.split(1, allowance=allowance)
    assert (token.expected_use, token.allowance) == (100, 10)


@pytest.mark.parametrize("dim", ["tokens", "slots", "usd"])
def test_what_a_token_did_not_spend_returns(service: QuotaService, keep: Keep, dim: str) -> None:
    name = {"tokens": "api", "slots": "slots", "usd": "money"}[dim]
    token = keep(QuotaToken(name, 3, allowance=3))
    child = token.split(1, allowance=2)
    child.reserve_nowait(1).release()
    token.merge(child)
    assert (token.allowance, left(token)) == (3, 3)


async def test_giving_on_an_allowance_refuses_those_who_wait_for_it(
    looped: QuotaService, keep: Keep
) -> None:
    looped.define(Resource("patient", Capacity(100), "throttle"))
    token = keep(QuotaToken("patient", 10, allowance=5))
    held = token.reserve_nowait(2)
    refused: list[float] = []

    async def wait() -> None:
        with pytest.raises(QuotaExceeded):
            async with token.reserve(4):
                pytest.fail("must not run")
        refused.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        keep(token.split(1, allowance=3))
    held.release()
    assert refused == [1]


async def test_what_a_part_leaves_serves_those_who_wait(looped: QuotaService, keep: Keep) -> None:
    looped.define(Resource("patient", Capacity(100), "throttle"))
    token = keep(QuotaToken("patient", 10, allowance=5))
    child = token.split(2, allowance=2)
    held, theirs = token.reserve_nowait(3), child.reserve_nowait(2)
    served: list[float] = []

    async def wait() -> None:
        async with token.reserve(2):
            served.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        token.merge(child)
        await anyio.sleep(1)
        theirs.release()
    held.release()
    assert served == [2]


async def test_those_who_wait_by_a_token_that_ends_are_refused(
    looped: QuotaService, keep: Keep
) -> None:
    looped.define(Resource("patient", Concurrency(1), "throttle"))
    token = keep(QuotaToken("patient", 10))
    child = token.split(5)

    async def wait() -> None:
        with pytest.raises(TokenConsumed):
            async with child.reserve():
                pytest.fail("must not run")

    async with anyio.create_task_group() as group, token.reserve():
        group.start_soon(wait)
        await anyio.sleep(1)
        token.merge(child)
        await anyio.sleep(1)
        assert looped.resource("patient").waiting == 0


# Merge.


def test_a_merged_token_gives_what_it_did_not_spend(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(10, allowance=30)
    child.reserve_nowait(20).commit()
    token.merge(child)
    assert (token.allowance, drawn(token), left(token)) == (50, 20, 30)


def test_what_unbounded_tokens_drew_adds_up(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    child = token.split(10)
    token.reserve_nowait(5).commit()
    child.reserve_nowait(20).commit()
    held = child.reserve_nowait(30)
    token.merge(child)
    held.commit(10)
    assert drawn(token) == 35


def test_what_sharing_tokens_drew_is_counted_once(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=90))
    first, second = keep(token.split(10)), token.split(10)
    first.reserve_nowait(5).commit()
    second.reserve_nowait(20).commit()
    first.merge(second)
    assert (drawn(first), drawn(token)) == (25, 25)
    token.merge(first)
    assert (drawn(token), left(token)) == (25, 65)


def test_debt_is_merged_too(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(10, allowance=10)
    child.reserve_nowait(10).commit(25)
    token.merge(child)
    assert (token.allowance, drawn(token), left(token)) == (50, 25, 25)


def test_an_open_reservation_of_a_merged_token_goes_on(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(10, allowance=30)
    held = child.reserve_nowait(20)
    token.merge(child)
    assert left(token) == 30
    with pytest.raises(QuotaExceeded):
        token.reserve_nowait(31)
    held.commit(5)
    assert (token.allowance, drawn(token), left(token)) == (50, 5, 45)
    token.reserve_nowait(45).release()


def test_debt_of_an_open_reservation_reaches_who_took_over(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("api", 100, allowance=20))
    child = token.split(60, allowance=10)
    held = child.reserve_nowait(10)
    token.merge(child)
    held.commit(15)
    with pytest.raises(QuotaExceeded, match="has 5 of 20"):
        token.reserve_nowait(8)


def test_what_is_left_passes_through_several_merges(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(60, allowance=30)
    grandchild = child.split(10, allowance=20)
    held = grandchild.reserve_nowait(10)
    child.merge(grandchild)
    token.merge(child)
    assert (token.expected_use, left(token)) == (100, 40)
    held.commit(3)
    assert (token.allowance, drawn(token), left(token)) == (50, 3, 47)


def test_a_correction_after_a_merge_reaches_who_took_over(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(10, allowance=30)
    with child.reserve(20) as reservation:
        pass
    assert reservation.state == "assumed"
    token.merge(child)
    reservation.commit(5)
    assert (token.allowance, drawn(token), left(token)) == (50, 5, 45)


def test_a_part_may_take_over_the_whole(service: QuotaService, keep: Keep) -> None:
    token = QuotaToken("api", 100, allowance=50)
    child = token.split(40, allowance=20)
    sibling = token.split(20, allowance=10)
    child.merge(token)
    assert (child.expected_use, child.allowance) == (80, 40)
    sibling.close()
    assert (child.expected_use, child.allowance) == (100, 50)
    child.close()


def test_a_part_that_shares_cannot_take_over_the_whole(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = keep(token.split(40))
    with pytest.raises(QuotaTokenError, match="shares the allowance"):
        child.merge(token)
    token.reserve_nowait(1).release()
    child.reserve_nowait(1).release()
    assert (token.expected_use, child.expected_use) == (60, 40)


def test_weight_finds_its_way_past_a_merged_parent(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100))
    child = token.split(40)
    grandchild = child.split(10)
    token.merge(child)
    grandchild.close()
    assert token.expected_use == 100


def test_tokens_of_one_resource_merge_wherever_they_came_from(
    service: QuotaService, keep: Keep
) -> None:
    token, stranger = keep(QuotaToken("api", 60, allowance=10)), QuotaToken("api", 40, allowance=5)
    token.merge(stranger)
    assert (token.expected_use, token.allowance) == (100, 15)


@pytest.mark.parametrize("end", ["merge", "close"])
def test_a_token_that_is_over_refuses_everything(
    service: QuotaService, keep: Keep, end: str
) -> None:
    token = keep(QuotaToken("api", 100))
    child = token.split(10)
    if end == "merge":
        token.merge(child)
    else:
        child.close()
    uses: list[Callable[[], object]] = [
        lambda: child.reserve(1),
        lambda: child.reserve_nowait(1),
        lambda: reserve_nowait(child, 1),
        lambda: child.split(1),
        lambda: child.merge(token),
        lambda: token.merge(child),
        child.__enter__,
    ]
    for use in uses:
        with pytest.raises(TokenConsumed, match="over"):
            use()
    child.close()
    assert child.snapshot()["tokens"].reserved == 0
    assert " over" in repr(child)
    assert token.expected_use == 100


def test_merging_with_itself_changes_nothing(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=10))
    with pytest.raises(QuotaTokenError, match="itself"):
        token.merge(token)
    assert (token.expected_use, token.allowance) == (100, 10)
    token.reserve_nowait(10).commit()


def test_tokens_of_other_resources_or_services_do_not_merge(
    service: QuotaService, keep: Keep
) -> None:
    token, other = keep(QuotaToken("api", 100)), keep(QuotaToken("other", 100))
    with connect() as second:
        second.define(Resource("api", Capacity(10), "reject", dim="tokens"))
        foreign = keep(QuotaToken("api", 100, service=second))
        for strange in (other, foreign):
            with pytest.raises(ResourceMismatch):
                token.merge(strange)
            strange.reserve_nowait(1).commit()
        assert (token.expected_use, other.expected_use, foreign.expected_use) == (100, 100, 100)
    token.reserve_nowait(1).commit()


@pytest.mark.parametrize("strange", [None, "api", 5])
def test_only_tokens_merge(service: QuotaService, keep: Keep, strange: Any) -> None:
    with pytest.raises(QuotaTokenError, match="give a QuotaToken"):
        keep(QuotaToken("api", 100)).merge(strange)


# Close and collection.


def test_closing_returns_what_was_not_spent(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(10, allowance=30)
    held = child.reserve_nowait(20)
    child.close()
    child.close()
    assert left(token) == 30
    held.commit(5)
    assert (token.expected_use, token.allowance, drawn(token), left(token)) == (100, 50, 5, 45)


@pytest.mark.parametrize("end", ["close", "merge", "collect"])
def test_those_that_share_an_allowance_go_on_without_the_whole(
    service: QuotaService, keep: Keep, end: str
) -> None:
    root = keep(QuotaToken("api", 200, allowance=80))
    whole = [root.split(100, allowance=50)]
    sharing, own = keep(whole[0].split(10)), keep(whole[0].split(10, allowance=10))
    if end == "merge":
        root.merge(whole[0])
    elif end == "close":
        whole[0].close()
    else:
        with pytest.warns(ResourceWarning):
            drop(whole)
    own.reserve_nowait(10).commit()
    sharing.reserve_nowait(15).commit()
    with pytest.raises(QuotaExceeded):
        sharing.reserve_nowait(26)
    sharing.close()
    own.close()
    assert (root.expected_use, root.allowance, left(root)) == (200, 80, 55)


def test_a_token_that_takes_over_its_whole_gives_back_to_where_that_came_from(
    service: QuotaService, keep: Keep
) -> None:
    root = keep(QuotaToken("api", 100, allowance=100))
    whole = root.split(60, allowance=60)
    part = whole.split(30, allowance=30)
    part.merge(whole)
    part.close()
    assert (root.expected_use, root.allowance) == (100, 100)


def test_a_token_that_is_collected_gives_back_with_a_warning(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    child = token.split(60, allowance=50)
    child.reserve_nowait(20).commit()
    children = [child]
    del child
    with pytest.warns(ResourceWarning, match=r"collected without close\(\) or merge\(\)"):
        drop(children)
    assert (token.expected_use, token.allowance) == (100, 50)
    assert (drawn(token), left(token)) == (20, 30)


def test_a_token_that_is_no_part_is_collected_silently(service: QuotaService) -> None:
    tokens = [QuotaToken("api", 100, allowance=50)]
    with tokens[0]:
        held = reserve_nowait(tokens=5)
    drop(tokens)
    held.commit()
    assert service.resource("api").balance.spent == 5


def test_what_was_collected_can_be_split_off_again_at_once(
    service: QuotaService, keep: Keep
) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    children = [token.split(100, allowance=50)]
    with pytest.warns(ResourceWarning):
        drop(children)
    keep(token.split(100, allowance=50))


def test_a_reservation_outlives_its_collected_token(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=50))
    children = [token.split(10, allowance=30)]
    with children[0]:
        held = reserve_nowait(tokens=20)
    with pytest.warns(ResourceWarning):
        drop(children)
    held.commit(5)
    assert (drawn(token), left(token)) == (5, 45)


def test_a_token_that_was_never_made_is_collected_silently(service: QuotaService) -> None:
    with pytest.raises(InvalidAmount):
        QuotaToken("api", 0)
    gc.collect()


# Threads.


def test_threads_draw_exactly_what_there_is(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=400))

    def draw(_: int) -> int:
        granted = 0
        for _turn in range(100):
            try:
                token.reserve_nowait(1).commit()
            except QuotaExceeded:
                continue
            granted += 1
        return granted

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(draw, range(8))) == 400
    assert left(token) == 0


def test_threads_split_and_merge_without_loss(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 800, allowance=800))

    def agent(_: int) -> None:
        for _turn in range(50):
            child = token.split(10, allowance=50)
            with child, task_budget(tokens=1_000):
                reserve_nowait(tokens=5).commit(1)
            token.merge(child)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(agent, range(8)))
    balance = token.snapshot()["tokens"]
    assert (token.expected_use, balance.limit, balance.spent, balance.reserved) == (
        800,
        800,
        400,
        0,
    )


# What it is not.


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_token_is_neither_pickled_nor_copied(
    service: QuotaService, keep: Keep, take: Callable[[object], object]
) -> None:
    token = keep(QuotaToken("api", 100))
    with pytest.raises(TypeError, match="split it"):
        take(token)
    token.reserve_nowait(1).commit()


def test_its_repr_tells_what_it_is(service: QuotaService) -> None:
    token = QuotaToken("api", 100, allowance=10)
    child = token.split(40)
    assert repr(token) == "<QuotaToken of api weight 60 allowance 10>"
    assert repr(child) == "<QuotaToken of api weight 40 allowance 10>"
    child.close()
    token.close()
    assert re.fullmatch(r"<QuotaToken of api weight 0 allowance \d+ over>", repr(token))


@pytest.mark.parametrize("strange", ["service", 5, connect])
def test_a_service_that_is_none_is_refused(service: QuotaService, strange: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"connect\(\)"):
        QuotaToken("api", 1, service=strange)


@pytest.mark.parametrize("strange", [5, 1.5, b"api", ["api"], object()])
def test_a_target_that_is_none_is_refused(service: QuotaService, strange: Any) -> None:
    with pytest.raises(ConfigurationError, match="target"):
        reserve_nowait(strange, 1)
    with pytest.raises(ConfigurationError, match="target"):
        budgeted(target=strange)(lambda: None)


@pytest.mark.parametrize("amount", [-1, 1.5, True, "5", 2**53, float("nan"), None])
def test_an_amount_that_is_none_draws_nothing(
    service: QuotaService, keep: Keep, amount: Any
) -> None:
    token = keep(QuotaToken("api", 1))
    for target in ("api", token):
        with pytest.raises(InvalidAmount):
            reserve_nowait(target, amount)
        with pytest.raises(InvalidAmount), ExitStack() as stack:
            stack.enter_context(reserve(target, amount))
    assert service.resource("api").balance.remaining == 1_000


def test_a_rate_may_have_tokens_too(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("rate", Rate(10, "minute"), "reject"))
    token = keep(QuotaToken("rate", 5, allowance=25))
    token.reserve_nowait(10).commit()
    with pytest.raises(QuotaExceeded, match="resource 'rate'"):
        token.reserve_nowait(10)
    assert left(token) == 15

"""Shared resources: what draws on them, who else pays, and changing them live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest

from budgetware import (
    BudgetExceeded,
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Reject,
    Resource,
    Usage,
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
    TokenConsumed,
    UnknownPrice,
    UnknownResource,
)
from budgetware.policies import Terminate, Throttle
from budgetware.testing import VirtualClock
from tests.sharing.conftest import Keep


class Name(StrEnum):
    API = "api"


def left(service: QuotaService, name: str) -> Any:
    return service.resource(name).balance.remaining


def spent(service: QuotaService, name: str) -> Any:
    return service.resource(name).balance.spent


# Kinds.


def test_a_rate_allows_its_burst_and_then_what_has_come_since(
    service: QuotaService, clock: VirtualClock
) -> None:
    service.define(Resource("api", Rate(60, "minute", max=10), "reject"))
    reserve_nowait("api", 10).commit()
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("api", 3)
    assert (refused.value.retry_after, refused.value.available) == (3.0, 0)
    clock.advance(3)
    reserve_nowait("api", 3).commit()


def test_a_rate_never_holds_more_than_its_burst(service: QuotaService, clock: VirtualClock) -> None:
    service.define(Resource("api", Rate(60, "minute", max=10), "reject"))
    clock.advance("1d")
    assert left(service, "api") == 10


def test_a_capacity_never_comes_back(service: QuotaService, clock: VirtualClock) -> None:
    service.define(Resource("org", Capacity(10), "reject"))
    reserve_nowait("org", 10).commit()
    clock.advance("365d")
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("org", 1)
    assert refused.value.retry_after is None


@pytest.mark.parametrize("used", [0, 1, 3, 9])
def test_slots_come_back_whatever_was_committed(service: QuotaService, used: int) -> None:
    service.define(Resource("browsers", Concurrency(3), "reject"))
    reserve_nowait("browsers", 3).commit(used)
    assert left(service, "browsers") == 3


def test_released_units_come_back_at_once(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10), "reject"))
    reserve_nowait("org", 8).release()
    reserve_nowait("org", 10).release()


@pytest.mark.parametrize("limit", [Rate(10, "hour"), Capacity(10)])
def test_using_more_than_was_held_is_debt(
    service: QuotaService, limit: Rate | Capacity, keep: Keep
) -> None:
    service.define(Resource("api", limit, "reject"))
    reserve_nowait("api", 5).commit(12)
    assert service.resource("api").balance.overrun == 2
    with pytest.raises(QuotaExceeded):
        reserve_nowait("api", 1)


def test_an_amount_of_zero_is_granted_while_there_is_debt(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(1), "reject"))
    reserve_nowait("org", 1).commit(5)
    reserve_nowait("org", 0).release()


@pytest.mark.parametrize("enforcement", ["throttle", "reject"])
@pytest.mark.parametrize(
    "limit", [Rate(5, "minute"), Rate(50, "minute", max=5), Capacity(5), Concurrency(5)]
)
def test_more_than_could_ever_be_is_refused_at_once(
    service: QuotaService, limit: Any, enforcement: str
) -> None:
    service.define(Resource("r", limit, enforcement))
    with pytest.raises(QuotaExceeded) as refused, reserve("r", 6):
        pytest.fail("must not run")
    assert (refused.value.retry_after, refused.value.limit) == (None, 5)


def test_the_message_uses_the_words_of_the_resource(service: QuotaService) -> None:
    service.define(Resource("seats", Concurrency(2), "reject", unit="seat", units="seats"))
    with pytest.raises(QuotaExceeded, match=r"resource 'seats' has 2 of 2 seats left, 3 requested"):
        reserve_nowait("seats", 3)


# Who pays.


def test_a_draw_with_a_dimension_charges_the_task_and_the_principal(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    with task_budget(tokens=50) as outer, principal("alice"), task_budget(calls=5) as inner:
        reserve_nowait("openai", 30).commit(20)
        assert (outer.spent("tokens"), inner.spent("tokens")) == (20, 20)
    alice = service.principal("alice")
    assert alice is not None
    assert alice.snapshot()["tokens"].spent == 20
    assert spent(service, "openai") == 20


def test_a_task_without_room_refuses_a_draw_and_nothing_changes(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    with task_budget("small", tokens=5) as budget:
        with pytest.raises(BudgetExceeded, match="budget 'small' has 5"):
            reserve_nowait("openai", 30)
        assert budget.snapshot()["tokens"].reserved == 0
    assert left(service, "openai") == 100


def test_a_draw_without_a_dimension_charges_no_task(service: QuotaService) -> None:
    service.define(Resource("browsers", Concurrency(4), "reject"))
    with task_budget(calls=1) as budget, reserve("browsers") as reservation:
        assert reservation.amounts == {"browsers": 1}
        assert set(budget.snapshot().dims) <= {"calls", "millis"}


def test_a_dimension_alone_draws_on_no_resource(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    with task_budget(tokens=50):
        reserve_nowait(tokens=30).commit()
    assert left(service, "openai") == 100


def test_other_amounts_are_charged_along(service: QuotaService) -> None:
    service.define(Resource("browsers", Concurrency(4), "reject"))
    with task_budget(tokens=50) as budget:
        reserve_nowait("browsers", tokens=30).commit(tokens=20)
        assert budget.spent("tokens") == 20
    assert left(service, "browsers") == 4


def test_a_usage_settles_the_dimension_of_a_resource(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(1_000), "reject", dim="tokens"))
    reserve_nowait("openai", 500).commit(Usage(input_tokens=310, output_tokens=120))
    assert spent(service, "openai") == 430


def test_a_parent_is_charged_with_its_child(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(100), "reject", dim="tokens"))
    service.define(Resource("team", Rate(50, "day"), "reject", dim="tokens", parent="org"))
    service.define(Resource("agent", Capacity(40), "reject", dim="tokens", parent="team"))
    with reserve("agent", 30) as reservation:
        reservation.commit(20)
    assert [spent(service, name) for name in ("agent", "team", "org")] == [20, 20, 20]


@pytest.mark.parametrize("short", ["org", "team", "agent"])
def test_a_draw_is_all_or_nothing(service: QuotaService, short: str) -> None:
    limits = {"org": 10, "team": 10, "agent": 10} | {short: 4}
    service.define(Resource("org", Capacity(limits["org"]), "reject"))
    service.define(Resource("team", Capacity(limits["team"]), "reject", parent="org"))
    service.define(Resource("agent", Capacity(limits["agent"]), "reject", parent="team"))
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("agent", 5)
    assert (refused.value.resource, refused.value.available) == (short, 4)
    assert {name: left(service, name) for name in limits} == limits


def test_a_slot_under_a_rate_comes_back_and_the_rate_does_not(service: QuotaService) -> None:
    service.define(Resource("requests", Rate(10, "hour"), "reject"))
    service.define(Resource("sockets", Concurrency(4), "reject", parent="requests"))
    reserve_nowait("sockets", 3).commit()
    assert (left(service, "sockets"), left(service, "requests")) == (4, 7)


def test_one_draw_reaches_a_resource_once(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("org", Capacity(10), "reject", dim="tokens"))
    service.define(Resource("api", Capacity(100), "reject", dim="tokens", parent="org"))
    api, org = keep(QuotaToken("api", 1)), keep(QuotaToken("org", 1))
    with task_budget(tokens=100), api, org:
        reserve_nowait(tokens=8).commit()
        with pytest.raises(QuotaExceeded):
            reserve_nowait(tokens=3)
    assert (spent(service, "org"), left(service, "org")) == (8, 2)


def test_a_parent_of_two_pays_for_both_dimensions_of_a_call(
    service: QuotaService, keep: Keep
) -> None:
    service.define(Resource("points", Capacity(10), "reject"))
    service.define(Resource("words", Capacity(100), "reject", dim="tokens", parent="points"))
    service.define(Resource("asks", Capacity(100), "reject", dim="calls", parent="points"))
    words, asks = keep(QuotaToken("words", 1)), keep(QuotaToken("asks", 1))
    with words, asks:
        reserve_nowait(tokens=5, calls=1).commit()
        with pytest.raises(QuotaExceeded, match="points"):
            reserve_nowait(tokens=3, calls=2)
    assert [left(service, name) for name in ("points", "words", "asks")] == [4, 95, 99]


def test_what_a_refused_call_would_have_drawn_is_there_for_the_next(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10), "reject"))
    service.define(Resource("api", Capacity(5), "reject", parent="org"))
    for _ in range(3):
        with pytest.raises(QuotaExceeded):
            reserve_nowait("api", 6)
    reserve_nowait("api", 5).release()
    reserve_nowait("org", 10).release()


# Amounts.


@pytest.mark.parametrize("limit", [Rate(5, "minute"), Capacity(5)])
@pytest.mark.parametrize("dim", [None, "tokens"])
def test_only_slots_have_a_default_amount(
    service: QuotaService, limit: Rate | Capacity, dim: str | None
) -> None:
    service.define(Resource("r", limit, "reject", dim=dim))
    with pytest.raises(InvalidAmount, match="without an amount"):
        reserve_nowait("r")


def test_an_amount_may_be_given_by_dimension(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    reserve_nowait("openai", tokens=30).commit()
    assert spent(service, "openai") == 30


def test_an_amount_given_twice_is_refused(service: QuotaService) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    with pytest.raises(InvalidAmount, match="twice"):
        reserve_nowait("openai", 5, tokens=30)


def test_a_name_may_be_an_enum(service: QuotaService) -> None:
    service.define(Resource(Name.API, Capacity(5), "reject"))
    reserve_nowait(Name.API, 5).commit()
    assert spent(service, "api") == 5


def test_dollars_go_in_and_come_out_in_dollars(service: QuotaService) -> None:
    service.define(Resource("money", Capacity("5.00"), "reject", dim="usd"))
    reserve_nowait("money", "1.25").commit("0.50")
    balance = service.resource("money").balance
    assert (balance.spent, balance.remaining) == (Decimal("0.500000"), Decimal("4.500000"))
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("money", 4.75)
    assert (refused.value.available, refused.value.limit) == (Decimal("4.5"), Decimal(5))


# Decorators.


def test_a_decorated_function_draws_on_its_target(service: QuotaService) -> None:
    service.define(Resource("browsers", Concurrency(1), "reject"))

    @budgeted(target="browsers")
    def browse() -> int:
        with pytest.raises(QuotaExceeded):
            browse()
        return int(left(service, "browsers"))

    assert (browse(), left(service, "browsers")) == (0, 1)


async def test_a_decorated_coroutine_draws_by_its_token(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("openai", Capacity(100), "reject", dim="tokens"))
    token = keep(QuotaToken("openai", 10))

    @budgeted(target=token, tokens=len, settle=lambda reply: reply)
    async def think(text: str) -> int:
        return 3

    async with task_budget(tokens=1_000) as budget:
        await think("hello world")
        assert (budget.spent("tokens"), token.snapshot()["tokens"].spent) == (3, 3)
    assert spent(service, "openai") == 3


def test_a_decorated_generator_holds_its_slot_until_its_end(service: QuotaService) -> None:
    service.define(Resource("browsers", Concurrency(1), "reject"))

    @budgeted(target="browsers")
    def pages() -> Any:
        yield 1
        yield 2

    reader = pages()
    next(reader)
    assert left(service, "browsers") == 0
    assert list(reader) == [2]
    assert left(service, "browsers") == 1


def test_a_decorator_may_name_a_resource_before_it_is_defined(service: QuotaService) -> None:
    @budgeted(target="later")
    def call() -> str:
        return "ran"

    with pytest.raises(UnknownResource):
        call()
    service.define(Resource("later", Concurrency(1)))
    assert call() == "ran"


# Enforcement.


def test_terminate_ends_the_innermost_task(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "terminate"))
    with task_budget("outer", calls=9) as outer:
        with pytest.raises(BudgetTerminated) as ended, task_budget("inner", calls=9):
            reserve_nowait("org", 9)
        assert ended.value.budget == "inner"
        assert "resource 'org'" in ended.value.reason
        reserve_nowait(calls=1).commit()
        assert outer.verdict.is_continuing


async def test_terminate_ends_a_task_that_catches_everything(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "terminate"))
    turns = 0

    async def agent() -> None:
        nonlocal turns
        while True:
            turns += 1
            with suppress(Exception):
                async with reserve("org", 1):
                    pass

    with pytest.raises(BudgetTerminated):
        async with task_budget(calls=9_000):
            await agent()
    assert turns == 6


def test_terminate_without_a_task_is_an_ordinary_refusal(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), Terminate()))
    with pytest.raises(QuotaExceeded, match="org"):
        reserve_nowait("org", 9)


def test_patience_is_per_task(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), Reject(patience=3)))

    def refused_twice() -> None:
        for _ in range(2):
            with pytest.raises(QuotaExceeded):
                reserve_nowait("org", 6)

    def work() -> None:
        for _ in range(2):
            with task_budget("second", calls=9):
                refused_twice()
        refused_twice()
        reserve_nowait("org", 6)

    with pytest.raises(BudgetTerminated, match="after 3 refusals"), task_budget("first", calls=9):
        work()


def test_a_grant_renews_the_patience(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), Reject(patience=2)))
    with task_budget(calls=9):
        for _ in range(5):
            with pytest.raises(QuotaExceeded):
                reserve_nowait("org", 6)
            reserve_nowait("org", 1).release()


def test_without_a_task_patience_does_not_run_out(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), Reject(patience=2)))
    for _ in range(5):
        with pytest.raises(QuotaExceeded):
            reserve_nowait("org", 6)


def test_a_call_may_be_stricter_than_the_resource(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1), "throttle"))
    strict = reserve("slot", policy="reject")
    with task_budget(calls=5), reserve("slot"), pytest.raises(QuotaExceeded), strict:
        pytest.fail("must not run")
    with pytest.raises(BudgetTerminated), task_budget(calls=5), reserve("slot"):
        reserve_nowait("slot", policy="terminate")


def test_a_call_cannot_be_weaker_than_the_resource(service: QuotaService) -> None:
    service.define(Resource("slot", Concurrency(1), "terminate"))
    with pytest.raises(BudgetTerminated), task_budget(calls=5), reserve("slot"):
        reserve_nowait("slot", policy=Throttle())


# Live changes.


def test_a_definition_has_revisions(service: QuotaService) -> None:
    view = service.define(Resource("org", Capacity(5)))
    assert view.revision == 1
    changed = service.update("org", limit=Capacity(7), expected_revision=1)
    assert (changed.revision, changed.limit, view.limit) == (2, Capacity(7), Capacity(5))
    service.delete("org", expected_revision=2)
    assert service.define(Resource("org", Capacity(5))).revision == 3


def test_resources_are_shown_by_name(service: QuotaService) -> None:
    service.define(Resource("b", Capacity(5)))
    service.define(Resource("a", Concurrency(5), "reject"))
    assert [view.name for view in service.resources()] == ["a", "b"]
    assert service.resource("a").enforcement == "reject"


def test_an_update_is_in_effect_at_once_and_keeps_what_was_used(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    reserve_nowait("org", 5).commit()
    service.update("org", limit=Capacity(7))
    balance = service.resource("org").balance
    assert (balance.spent, balance.remaining) == (5, 2)
    reserve_nowait("org", 2).commit()


def test_an_update_may_go_below_what_is_used(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10), "reject"))
    held = reserve_nowait("org", 8)
    service.update("org", limit=Capacity(3))
    balance = service.resource("org").balance
    assert (balance.limit, balance.reserved, balance.overrun) == (3, 8, 5)
    with pytest.raises(QuotaExceeded):
        reserve_nowait("org", 1)
    held.commit(1)
    assert left(service, "org") == 2


def test_lowered_slots_are_refused_until_enough_came_back(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(4), "reject"))
    first, second = reserve_nowait("slots", 2), reserve_nowait("slots", 2)
    service.update("slots", limit=Concurrency(2))
    first.release()
    with pytest.raises(QuotaExceeded):
        reserve_nowait("slots")
    second.release()
    reserve_nowait("slots", 2).release()


def test_a_rate_goes_on_at_its_new_pace(service: QuotaService, clock: VirtualClock) -> None:
    service.define(Resource("api", Rate(60, "minute"), "reject"))
    reserve_nowait("api", 60).commit()
    clock.advance(10)
    service.update("api", limit=Rate(600, "minute", max=60))
    assert left(service, "api") == 10
    clock.advance(1)
    assert left(service, "api") == 20


def test_frames_in_use_see_a_change_of_enforcement(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))

    def work() -> None:
        with pytest.raises(QuotaExceeded):
            reserve_nowait("org", 6)
        service.update("org", enforcement="terminate")
        reserve_nowait("org", 6)

    with pytest.raises(BudgetTerminated), task_budget(calls=5):
        work()


async def test_a_call_does_not_wait_for_what_it_holds_since_waiting_was_turned_on(
    looped: QuotaService,
) -> None:
    looped.define(Resource("slot", Concurrency(1), "reject"))
    async with task_budget(calls=10):
        async with reserve("slot"):
            pass
        looped.update("slot", enforcement="throttle")
        async with reserve("slot"):
            with pytest.raises(QuotaExceeded):
                async with reserve("slot"):
                    pytest.fail("must not run")


def test_an_allowance_follows_the_enforcement_of_its_resource(
    service: QuotaService, keep: Keep
) -> None:
    service.define(Resource("org", Capacity(50), "throttle"))
    token = keep(QuotaToken("org", 5, allowance=5))
    held = token.reserve_nowait(5)
    service.update("org", enforcement="reject")
    with pytest.raises(QuotaExceeded, match="allowance"), token.reserve(5):
        pytest.fail("must not run")
    held.release()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limit": Rate(5, "minute")}, "Capacity and cannot become a Rate"),
        ({"limit": Concurrency(5)}, "Capacity and cannot become a Concurrency"),
        ({"limit": 5}, "give a Rate"),
        ({"dim": "calls"}, "'dim' of a resource cannot change"),
        ({"parent": "org"}, "'parent' of a resource cannot change"),
        ({"name": "other"}, "'name' of a resource cannot change"),
        ({"limits": Capacity(5)}, "'limits'"),
        ({"enforcement": "drop"}, "drop"),
        ({"units": ""}, "unit"),
        ({"max_wait": -1}, "max_wait"),
        ({"limit": Capacity(7), "expected_revision": 2}, "revision 1, not 2"),
        ({"limit": Capacity(7), "expected_revision": 0}, "revision 1, not 0"),
        ({"limit": Capacity(7), "expected_revision": True}, "revision 1, not True"),
        ({"limit": Capacity(7), "expected_revision": "1"}, "revision 1, not 1"),
        ({}, "changes nothing"),
    ],
)
def test_an_update_that_cannot_be_changes_nothing(
    service: QuotaService, changes: dict[str, Any], named: str
) -> None:
    service.define(Resource("org", Capacity(9), "reject"))
    service.define(Resource("r", Capacity(5), "reject", dim="tokens"))
    before = service.resource("r").to_dict()
    with pytest.raises(ConfigurationError, match=named):
        service.update("r", **changes)
    assert service.resource("r").to_dict() == before


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Resource("r", Rate(5, "minute"), dim="tokens"), "cannot become"),
        (Resource("r", Capacity(5), dim="calls"), "dim"),
        (Resource("r", Capacity(5)), "dim"),
        (Resource("r", Capacity(5), dim="tokens", parent="org"), "parent"),
        (Resource("x", Capacity(5)), "unknown resource"),
    ],
)
def test_a_whole_definition_that_cannot_be_changes_nothing(
    service: QuotaService, other: Resource, named: str
) -> None:
    service.define(Resource("org", Capacity(9), "reject"))
    service.define(Resource("r", Capacity(5), "reject", dim="tokens"))
    with pytest.raises(ConfigurationError, match=named):
        service.update(other)
    assert service.resource("r").revision == 1


def test_a_whole_definition_may_be_given(service: QuotaService) -> None:
    service.define(Resource("r", Capacity(5), "reject", dim="tokens"))
    new = Resource("r", Capacity(8), "terminate", dim="tokens", unit="token", units="tokens")
    assert service.update(new, expected_revision=1).definition == new


def test_a_resource_in_use_cannot_be_deleted(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    held = reserve_nowait("org", 1)
    with pytest.raises(ConfigurationError, match="reservations open"):
        service.delete("org")
    held.commit()
    service.delete("org")
    with pytest.raises(UnknownResource):
        service.resource("org")


def test_a_parent_cannot_be_deleted(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    service.define(Resource("team", Capacity(5), "reject", parent="org"))
    with pytest.raises(ConfigurationError, match="parent of 'team'"):
        service.delete("org")
    reserve_nowait("team", 1).commit()
    service.delete("team")
    service.delete("org")


def test_an_old_revision_deletes_nothing(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    service.update("org", limit=Capacity(6))
    with pytest.raises(ConfigurationError, match="revision 2, not 1"):
        service.delete("org", expected_revision=1)
    reserve_nowait("org", 6).release()


def test_draws_on_a_deleted_resource_are_refused(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("org", Capacity(5), "reject", dim="tokens"))
    token = keep(QuotaToken("org", 5))
    with task_budget(tokens=9) as budget, token:
        reserve_nowait(tokens=1).commit()
        service.delete("org")
        draws: list[Callable[[], object]] = [
            lambda: reserve_nowait("org", 1),
            lambda: reserve_nowait(tokens=1),
            lambda: token.reserve_nowait(1),
        ]
        for draw in draws:
            with pytest.raises(UnknownResource):
                draw()
        assert budget.spent("tokens") == 1


def test_a_resource_defined_again_starts_anew(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    token = keep(QuotaToken("org", 5))
    reserve_nowait("org", 5).commit()
    service.delete("org")
    service.define(Resource("org", Capacity(5), "reject"))
    reserve_nowait("org", 5).commit()
    with pytest.raises((UnknownResource, TokenConsumed)):
        token.reserve_nowait(1)


def test_a_resource_is_defined_once(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    with pytest.raises(ConfigurationError, match="defined already"):
        service.define(Resource("org", Capacity(6), "reject"))
    assert left(service, "org") == 5


def test_an_unknown_parent_is_refused(service: QuotaService) -> None:
    with pytest.raises(UnknownResource, match="parent 'org' is not defined"):
        service.define(Resource("team", Capacity(5), parent="org"))
    assert service.resources() == []


@pytest.mark.parametrize(
    ("parent", "child"), [("tokens", "calls"), ("usd", None), (None, "usd"), ("usd", "tokens")]
)
def test_a_parent_that_counts_something_else_is_refused(
    service: QuotaService, parent: str | None, child: str | None
) -> None:
    service.define(Resource("org", Capacity(5), dim=parent))
    with pytest.raises(ConfigurationError, match="org"):
        service.define(Resource("team", Capacity(5), dim=child, parent="org"))
    assert [view.name for view in service.resources()] == ["org"]


@pytest.mark.parametrize("name", ["usd", "memory", "millis"])
def test_a_resource_that_would_be_taken_for_a_dimension_is_refused(
    service: QuotaService, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=name):
        service.define(Resource(name, Capacity(5)))


def test_an_unknown_name_names_the_nearest(service: QuotaService) -> None:
    service.define(Resource("openai-tokens", Capacity(5)))
    looks: list[Callable[[], object]] = [
        lambda: reserve_nowait("openai-token", 1),
        lambda: QuotaToken("openai-token", 1),
        lambda: service.resource("openai-token"),
        lambda: service.update("openai-token", limit=Capacity(5)),
        lambda: service.delete("openai-token"),
    ]
    for look in looks:
        with pytest.raises(UnknownResource, match="did you mean 'openai-tokens'"):
            look()


def test_the_json_form_says_everything(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10), "reject"))
    service.define(
        Resource("api", Rate(5, "minute", 9), dim=None, parent="org", unit="call", units="calls")
    )
    reserve_nowait("api", 4).commit()
    assert service.resource("api").to_dict() == {
        "name": "api",
        "revision": 1,
        "limit": {"type": "rate", "value": 5, "period": "minute", "max": 9},
        "enforcement": "throttle",
        "dim": None,
        "parent": "org",
        "unit": "call",
        "units": "calls",
        "max_wait": None,
        "waiting": 0,
        "paused_seconds": 0.0,
        "balance": {
            "limit": 9,
            "warn": None,
            "spent": 4,
            "reserved": 0,
            "granted": 0,
            "remaining": 5,
            "overrun": 0,
            "assumed": 0,
        },
    }


# Dollars of a model.


@pytest.fixture
def priced(clock: VirtualClock) -> Iterator[QuotaService]:
    with connect(clock=clock, prices={"m": {"input": "1000", "output": "1000"}}) as connected:
        connected.define(Resource("money", Capacity("1.00"), "reject", dim="usd"))
        yield connected


def test_a_draw_on_dollars_holds_the_price_of_the_model(priced: QuotaService) -> None:
    with task_budget(usd=1) as budget, reserve("money", tokens=100, model="m") as reservation:
        assert reservation.amounts == {"tokens": 100, "usd": Decimal("0.1")}
        reservation.commit(Usage(input_tokens=50))
        assert budget.spent("usd") == Decimal("0.05")
    assert spent(priced, "money") == Decimal("0.05")


def test_a_decorated_draw_on_dollars_holds_the_price_too(priced: QuotaService) -> None:
    @budgeted(target="money", tokens=100, model="m", settle=lambda tokens: {"tokens": tokens})
    def think(tokens: int) -> int:
        assert left(priced, "money") == Decimal("0.9")
        return tokens

    think(50)
    assert spent(priced, "money") == Decimal("0.05")


def test_a_bound_token_of_dollars_pays_for_models(priced: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("money", "0.50", allowance="0.50"))
    with task_budget(tokens=9_999), token:
        reserve_nowait(tokens=400, model="m").commit()
        reserve_nowait(tokens=400).commit()
        with pytest.raises(QuotaExceeded, match="allowance"):
            reserve_nowait(tokens=101, model="m")
    assert token.snapshot()["usd"].spent == Decimal("0.4")


def test_a_model_without_a_price_is_not_free(priced: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("money", 1))
    with token, pytest.raises(UnknownPrice):
        reserve_nowait(tokens=1, model="no-such-model")
    with task_budget(tokens=9), token, pytest.raises(UnknownPrice):
        reserve_nowait(tokens=1, model="no-such-model")
    with task_budget(tokens=9, unpriced="allow"), token:
        reserve_nowait(tokens=1, model="no-such-model").commit()
    with task_budget(tokens=9), token:
        reserve_nowait(tokens=1, usd="0.1", model="no-such-model").commit()
    assert spent(priced, "money") == Decimal("0.1")


def test_a_draw_on_dollars_without_a_model_says_how_many(priced: QuotaService) -> None:
    with pytest.raises(InvalidAmount, match="without an amount"):
        reserve_nowait("money", tokens=1)


# Threads.


def test_live_changes_among_threads_lose_nothing(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(10**6), "reject", dim="calls"))
    service.define(Resource("slots", Concurrency(50), "reject"))

    def work(number: int) -> int:
        done = 0
        with task_budget(calls=10**6), principal(f"agent-{number % 2}"):
            for _ in range(300):
                with suppress(QuotaExceeded), reserve("slots"):
                    reserve_nowait("org", 2).commit(1)
                    done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, number) for number in range(4)]
        for turn in range(100):
            service.update("org", limit=Capacity(10**6 - turn))
            service.update("slots", limit=Concurrency(50 - turn % 40))
            service.define_principal("agent-0", quotas={"calls": Capacity(10**5 + turn)})
        done = sum(future.result() for future in running)
    assert spent(service, "org") == done
    assert service.resource("org").balance.reserved == 0
    assert service.resource("slots").balance.reserved == 0

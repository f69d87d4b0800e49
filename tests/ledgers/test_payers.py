# ruff: noqa: PT012 - what raises is a loop, or an owner's block
"""Functions, streams, tokens, chains and principals whose quotas are in a ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Resource,
    budgeted,
    charge,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, UnknownResource
from tests.ledgers.places import Place, inside

CHAIN = ("team", "org")


@budgeted(target="org", tokens=10, settle=len)
async def answer(text: str) -> str:
    return text


@budgeted(target="org", tokens=10, settle=len)
def answer_sync(text: str) -> str:
    return text


@budgeted(target="org", tokens=10, settle=len)
async def stream(*texts: str) -> AsyncGenerator[str, None]:
    for text in texts:
        yield text


def define_chain(service: QuotaService, *, team: int = 100, org: int = 100) -> None:
    service.define(Resource("org", Capacity(org), "reject", dim="tokens"))
    service.define(Resource("team", Capacity(team), "reject", dim="tokens", parent="org"))


# Functions.


async def test_functions_and_streams_are_settled(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject", dim="tokens"))
        assert await answer("123") == "123"
        assert answer_sync("12345") == "12345"
        assert [text async for text in stream("1", "1234567")] == ["1", "1234567"]
    place.assert_at_rest(org=15)


async def test_a_charge_on_a_bound_token_is_booked_whatever_is_left(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(10), "reject", dim="tokens"))
        async with QuotaToken("org", 1) as token:
            charge(tokens=6)
            async with inside(service):
                charge(tokens=7)
            with pytest.raises(QuotaExceeded):
                await reserve(tokens=1)
        token.close()
    place.assert_at_rest(org=13)
    assert place.state("r/org").debt == 3


# Chains.


@pytest.mark.parametrize(("team", "org"), [(5, 100), (100, 5)])
async def test_a_chain_is_held_all_or_nothing(place: Place, team: int, org: int) -> None:
    async with place.connect() as service:
        define_chain(service, team=team, org=org)
        with pytest.raises(QuotaExceeded):
            await reserve("team", tokens=6)
        assert [service.resource(name).balance.reserved for name in CHAIN] == [0, 0]
        (await reserve("team", tokens=5)).commit(4)
        assert [service.resource(name).balance.spent for name in CHAIN] == [4, 4]
    place.assert_at_rest(team=4, org=4)


def test_a_parent_stays_as_long_as_its_children(place: Place) -> None:
    with place.connect() as service:
        define_chain(service)
        with pytest.raises(ConfigurationError, match="parent of 'team'"):
            service.delete("org")
        reserve_nowait("team", tokens=1).commit()
        service.delete("team")
        service.delete("org")
        with pytest.raises(UnknownResource):
            service.delete("org")


# Tokens.


async def test_an_allowance_is_kept_although_the_resource_has_more(place: Place) -> None:
    async with place.connect() as service:
        service.define(Resource("org", Capacity(100), "reject"))
        token = QuotaToken("org", 10, allowance=20)
        part = token.split(4, allowance=5)
        with pytest.raises(QuotaExceeded):
            await part.reserve(6)
        (await part.reserve(5)).commit(2)
        token.merge(part)
        with pytest.raises(QuotaExceeded):
            await token.reserve(19)
        (await token.reserve(18)).commit()
        token.close()
    place.assert_at_rest(org=20)


# Principals.


def spend_all(service: QuotaService) -> int:
    """Take one token after the other, on behalf of alice, until there are none."""
    units = 0
    with service.task_budget("spender", principal="alice", calls=1), pytest.raises(QuotaExceeded):
        while True:
            reserve_nowait(tokens=1).commit()
            units += 1
    return units


def test_two_services_share_the_quota_of_a_principal(place: Place) -> None:
    with place.connect() as one, place.connect() as two:
        one.define_principal("alice", quotas={"tokens": Capacity(10)})
        two.define_principal("alice", quotas={"tokens": Capacity(10)})
        assert spend_all(one) + spend_all(two) == 10
    assert place.books("p/alice/tokens") == (10, 0, 0)


def test_an_exempt_principal_is_counted(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("org", Capacity(10), "reject", dim="tokens"))
        service.define_principal("ops", exempt=True)
        with principal("ops"):
            reserve_nowait("org", tokens=15).commit()
        with pytest.raises(QuotaExceeded):
            reserve_nowait("org", tokens=1)
    place.assert_at_rest(org=15)


def test_but_slots_refuse_it(place: Place) -> None:
    with place.connect() as service:
        service.define(Resource("slot", Concurrency(1), "reject"))
        service.define_principal("ops", exempt=True)
        with principal("ops"), reserve("slot"), pytest.raises(QuotaExceeded):
            reserve_nowait("slot")


def test_a_quota_that_is_changed_keeps_what_was_used(place: Place) -> None:
    with place.connect() as service:
        service.define_principal("alice", quotas={"tokens": Capacity(10)})
        with principal("alice"):
            reserve_nowait(tokens=6).commit()
        service.flush()
        changed = service.define_principal("alice", quotas={"tokens": Capacity(12)})
        balance = changed.snapshot()["tokens"]
        assert (balance.spent, balance.remaining) == (6, 6)
        with principal("alice"):
            reserve_nowait(tokens=6).commit()
    assert place.books("p/alice/tokens") == (12, 0, 0)


def test_a_quota_that_is_lifted_refuses_nothing_and_one_that_comes_back_goes_on(
    place: Place,
) -> None:
    with place.connect() as service, principal("alice"):
        service.define_principal("alice", quotas={"tokens": Capacity(10)})
        reserve_nowait(tokens=6).commit()
        service.define_principal("alice")
        reserve_nowait(tokens=50).commit()
        service.define_principal("alice", quotas={"tokens": Capacity(10)})
        with pytest.raises(QuotaExceeded, match="4 of 10"):
            reserve_nowait(tokens=5)
        reserve_nowait(tokens=4).commit()
    assert place.books("p/alice/tokens") == (10, 0, 0)


def test_tasks_around_are_charged_too(place: Place) -> None:
    with place.connect() as service, task_budget("agent", tokens=8) as budget:
        define_chain(service)
        reserve_nowait("team", tokens=5).commit()
        with pytest.raises(Exception, match="3 of 8 tokens left"):
            reserve_nowait("team", tokens=4)
        assert budget.spent("tokens") == 5
    place.assert_at_rest(team=5, org=5)

"""Services with resources: which one is meant, closing, reopening, clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    QuotaToken,
    Rate,
    Resource,
    connect,
    principal,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import ConfigurationError, ManifestError, UnknownResource
from budgetware.testing import LoopClock, VirtualClock
from tests.sharing.conftest import Keep

SLOTS = Resource("slots", Concurrency(1), "throttle")


def spent(service: QuotaService, name: str = "org") -> Any:
    return service.resource(name).balance.spent


def org(value: int = 10) -> Resource:
    return Resource("org", Capacity(value), "reject", dim="tokens")


# Which one.


def test_each_service_has_its_own_resources() -> None:
    with connect() as first, connect() as second:
        first.define(org())
        second.define(org())
        reserve_nowait("org", 4).commit()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: reserve_nowait("org", 3).commit()).result()
        assert (spent(first), spent(second)) == (3, 4)
        with task_budget(tokens=9, service=first):
            reserve_nowait("org", 2).commit()
        with first.task_budget(tokens=9):
            reserve_nowait("org", 2).commit()
        assert (spent(first), spent(second)) == (7, 4)


def test_a_token_names_its_service(keep: Keep) -> None:
    with connect() as first, connect() as second:
        first.define(org())
        second.define(org())
        named, current = keep(QuotaToken("org", 1, service=first)), keep(QuotaToken("org", 1))
        with named:
            reserve_nowait(tokens=2).commit()
        with current, task_budget(tokens=9):
            reserve_nowait(tokens=3).commit()
        named.reserve_nowait(1).commit()
        assert (spent(first), spent(second)) == (3, 3)


def test_a_task_here_and_a_token_from_there_both_pay(keep: Keep) -> None:
    with connect() as first, connect() as second:
        first.define(org())
        token = keep(QuotaToken("org", 1, service=first))
        with task_budget(tokens=9) as budget:
            token.reserve_nowait(2).commit()
            assert budget.spent("tokens") == 2
        assert spent(first) == 2
        assert second.resources() == []


def test_a_token_of_a_service_with_another_clock_is_refused(
    service: QuotaService, keep: Keep
) -> None:
    service.define(org())
    token = keep(QuotaToken("org", 1))
    uses: list[Callable[[], object]] = [lambda: token.reserve_nowait(2), token.__enter__]
    with connect(), task_budget(tokens=9):
        for use in uses:
            with pytest.raises(ConfigurationError, match="different clocks"):
                use()
        reserve_nowait(tokens=1).commit()
    assert spent(service) == 0


def test_connecting_inside_a_task_is_current_there() -> None:
    with task_budget(tokens=9) as budget:
        with connect() as service:
            service.define(org())
            reserve_nowait("org", 2).commit()
            assert spent(service) == 2
        with pytest.raises(UnknownResource):
            reserve_nowait("org", 2)
        assert budget.spent("tokens") == 2


def test_connecting_inside_finish_may_spend_what_is_kept() -> None:
    with task_budget(tokens=10, keep={"tokens": 4}) as budget, budget.finish(), connect():
        reserve_nowait(tokens=10).commit()


# From a manifest.


def test_a_manifest_is_given_by_position_or_by_name(tmp_path: Path) -> None:
    path = tmp_path / "budgetware.toml"
    path.write_text('[resources.org]\nlimit = { type = "capacity", value = 5 }\n')
    for service in (connect(path), connect(manifest=path), connect(manifest=str(path))):
        with service:
            assert service.resource("org").limit == Capacity(5)


def test_parents_may_stand_after_their_children(tmp_path: Path) -> None:
    path = tmp_path / "budgetware.toml"
    path.write_text(
        '[resources.team]\nlimit = { type = "capacity", value = 5 }\nparent = "org"\n'
        '[resources.org]\nlimit = { type = "capacity", value = 3 }\nenforcement = "reject"\n'
        '[principals.alice]\nparent = "staff"\n[principals.staff]\nexempt = true\n'
    )
    with connect(path) as service:
        with pytest.raises(QuotaExceeded, match="org"):
            reserve_nowait("team", 4)
        with principal("alice"):
            reserve_nowait("team", 4).commit()
        assert [view.exempt for view in service.principals()] == [True, True]


def test_what_is_given_comes_before_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "budgetware.toml"
    path.write_text(
        'ledger = "sqlite:///x.db"\nstrict = true\n[prices.m]\ninput = 1000\noutput = 1000\n'
    )
    with connect(path, ledger="memory://", strict=False), task_budget(usd=1):
        reserve_nowait(tokens=100, model="m").commit()
    prices: Any = {"m": {"input": "1"}}
    with connect(path, ledger="memory://", prices=prices), task_budget(usd="0.0001") as budget:
        reserve_nowait(tokens=100, model="m").commit()
        assert budget.spent("usd") > 0


def test_a_manifest_that_is_wrong_or_missing_connects_nothing(tmp_path: Path) -> None:
    path = tmp_path / "budgetware.toml"
    with pytest.raises(ManifestError):
        connect(path)
    path.write_text("[resources.org]\n")
    with pytest.raises(ManifestError, match="limit"):
        connect(path)


@pytest.mark.parametrize(
    "ledger",
    ["memory", "x", "sqlite://x.db", "sqlite:///", "http://localhost", "redis:/x", 5, b"x"],
)
def test_what_is_no_address_of_a_ledger_is_refused(ledger: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"ledger|SQLite"):
        connect(ledger=ledger)


@pytest.mark.parametrize("clock", [5, time.time, "clock", object()])
def test_a_clock_that_is_none_is_refused(clock: Any) -> None:
    with pytest.raises(ConfigurationError, match="clock="):
        connect(clock=clock)


# Time.


def test_a_service_goes_by_its_clock() -> None:
    clock = VirtualClock()
    with connect(clock=clock) as service:
        service.define(Resource("api", Rate(1, "day"), "reject"))
        reserve_nowait("api", 1).commit()
        clock.advance("23h")
        with pytest.raises(QuotaExceeded) as refused:
            reserve_nowait("api", 1)
        assert refused.value.retry_after == 3_600
        clock.advance("1h")
        reserve_nowait("api", 1).commit()


async def test_waits_go_by_its_clock() -> None:
    async with connect(clock=LoopClock()) as service:
        service.define(Resource("api", Rate(1, "day"), "throttle"))
        for _ in range(3):
            async with reserve("api", 1):
                pass
        assert anyio.current_time() == pytest.approx(2 * 86_400)


# The end of one.


async def test_closing_refuses_those_who_wait() -> None:
    errors: list[ConfigurationError] = []

    async def wait() -> None:
        try:
            async with reserve("slots"):
                pytest.fail("must not run")
        except ConfigurationError as error:
            errors.append(error)

    async with connect(clock=LoopClock()) as service:
        service.define(SLOTS)
        async with anyio.create_task_group() as group, reserve("slots"):
            for _ in range(3):
                group.start_soon(wait)
            await anyio.sleep(1)
            assert service.resource("slots").waiting == 3
            service.close()
            await anyio.sleep(1)
            assert [str(error) for error in errors] == [
                "the service was closed while the call waited: connect() again"
            ] * 3
            assert len({id(error) for error in errors}) == 3


def test_what_is_open_settles_after_the_end(keep: Keep) -> None:
    with connect() as service:
        service.define(org())
        token = keep(QuotaToken("org", 5, allowance=5))
        held = token.reserve_nowait(5)
    held.commit(2)
    assert (spent(service), token.snapshot()["tokens"].remaining) == (2, 3)


def test_a_closed_service_changes_nothing_any_more() -> None:
    with connect() as service:
        service.define(org())
    uses: list[Callable[[], object]] = [
        lambda: service.define(Resource("x", Capacity(1))),
        lambda: service.update("org", limit=Capacity(1)),
        lambda: service.delete("org"),
        lambda: service.define_principal("alice"),
        lambda: service.task_budget(calls=1),
        service.subscribe,
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match="closed"):
            use()
    assert service.resource("org").limit == Capacity(10)


def test_connecting_again_starts_anew() -> None:
    for _ in range(3):
        with connect() as service:
            service.define(org(5))
            reserve_nowait("org", 5).commit()
            assert spent(service) == 5
    with pytest.raises(UnknownResource):
        reserve_nowait("org", 1)


def test_after_the_default_closed_the_next_is_the_default() -> None:
    first, second = connect(), connect()
    with first, second:
        second.define(org())
        with ThreadPoolExecutor(1) as pool, pytest.raises(UnknownResource):
            pool.submit(lambda: reserve_nowait("org", 1)).result()
    with connect() as third:
        third.define(org())
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: reserve_nowait("org", 1).commit()).result()
        assert spent(third) == 1


async def test_many_services_at_once() -> None:
    async def tenant(value: int) -> None:
        async with connect(clock=LoopClock()) as service:
            service.define(Resource("org", Capacity(value), "reject", dim="tokens"))
            async with task_budget(tokens=1_000), anyio.create_task_group() as group:
                for _ in range(value):
                    group.start_soon(draw)
            assert spent(service) == value

    async def draw() -> None:
        await anyio.sleep(1)
        async with reserve("org", 1):
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for value in range(1, 6):
            group.start_soon(tenant, value)

"""The acceptance vectors of Golem's quota tokens (ANCHORS, section 1), at a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketStream

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
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import QuotaTokenError, ResourceMismatch, TokenConsumed
from budgetware.testing import VirtualClock
from tests.sharing.conftest import Keep


class CountingServer:
    """An HTTP server that counts the requests it has answered."""

    def __init__(self) -> None:
        self.calls = 0
        self.port = 0

    async def answer(self, stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            self.calls += 1
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def call(self) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return await stream.receive()


@asynccontextmanager
async def counting_server() -> AsyncGenerator[CountingServer]:
    server = CountingServer()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server.port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.answer)
        yield server
        group.cancel_scope.cancel()


class TestAtAServer:
    """Sockets work in real time."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def test_five_per_minute_with_reject_let_exactly_five_calls_through(self) -> None:
        async with connect() as service, counting_server() as server:
            service.define(Resource("api", Rate(5, "minute"), "reject"))
            refused = 0

            async def agent() -> None:
                nonlocal refused
                try:
                    async with reserve("api", 1):
                        assert (await server.call()).endswith(b"ok")
                except QuotaExceeded:
                    refused += 1

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(agent)
            assert (server.calls, refused) == (5, 15)

    async def test_four_per_hour_with_throttle_and_a_split_token_let_exactly_four_through(
        self,
    ) -> None:
        async with connect() as service, counting_server() as server:
            service.define(Resource("api", Rate(4, "hour"), "throttle", dim="calls"))

            @budgeted(calls=1)
            async def ask() -> bytes:
                return await server.call()

            async def agent(token: QuotaToken) -> None:
                async with token:
                    while True:
                        await ask()

            token = QuotaToken("api", 4)
            child = token.split(2)
            async with anyio.create_task_group() as group:
                group.start_soon(agent, token)
                group.start_soon(agent, child)
                while service.resource("api").waiting < 2:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert server.calls == 4
            assert service.resource("api").balance.remaining == 0
            token.merge(child)
            token.close()


async def test_four_per_hour_with_throttle_go_on_at_their_pace(looped: QuotaService) -> None:
    looped.define(Resource("api", Rate(4, "hour"), "throttle"))
    at: list[float] = []

    async def agent(token: QuotaToken) -> None:
        for _ in range(3):
            async with token.reserve(1):
                at.append(anyio.current_time())

    token = QuotaToken("api", 4)
    child = token.split(2)
    async with anyio.create_task_group() as group:
        group.start_soon(agent, token)
        group.start_soon(agent, child)
    assert at == pytest.approx([0, 0, 0, 0, 900, 1_800])
    token.merge(child)
    token.close()


def test_half_of_a_capacity_is_committed(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("units", Capacity(10_000), "reject"))
    token = keep(QuotaToken("units", 50))
    with token.reserve(50) as reservation:
        assert reservation.commit(50) == "committed"
    balance = service.resource("units").balance
    assert (balance.spent, balance.remaining) == (50, 9_950)


def test_what_was_not_used_is_granted_to_the_next(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    token = keep(QuotaToken("units", 100))
    token.reserve_nowait(100).commit(20)
    token.reserve_nowait(80).commit()
    with pytest.raises(QuotaExceeded):
        token.reserve_nowait(1)


async def test_of_two_agents_that_want_eight_of_ten_exactly_one_is_served(
    service: QuotaService,
) -> None:
    service.define(Resource("units", Capacity(10), "reject"))
    served: list[int] = []

    async def agent(number: int) -> None:
        token = QuotaToken("units", 8)
        try:
            async with token.reserve(8):
                served.append(number)
                await anyio.sleep(1)
        except QuotaExceeded:
            pass
        finally:
            token.close()

    async with anyio.create_task_group() as group:
        group.start_soon(agent, 1)
        group.start_soon(agent, 2)
    assert len(served) == 1


def test_forty_forty_and_twenty_of_a_hundred(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    first, second, third = [keep(QuotaToken("units", weight)) for weight in (40, 40, 20)]
    first.reserve_nowait(40).commit()
    second.reserve_nowait(40).commit()
    third.reserve_nowait(20).commit()
    with pytest.raises(QuotaExceeded):
        first.reserve_nowait(1)


async def test_a_waiter_is_served_by_the_commit_of_another(looped: QuotaService) -> None:
    looped.define(Resource("units", Capacity(60), "throttle"))
    events: list[str] = []

    async def waiter() -> None:
        async with reserve("units", 20):
            events.append("served")

    async with anyio.create_task_group() as group, reserve("units", 50) as held:
        group.start_soon(waiter)
        await anyio.sleep(1)
        assert looped.resource("units").waiting == 1
        held.commit(20)
        events.append("committed")
        await anyio.lowlevel.checkpoint()
    assert events == ["committed", "served"]
    assert anyio.current_time() == pytest.approx(1)


def test_sixty_and_forty_merge_and_twenty_are_reserved(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    first, second = keep(QuotaToken("units", 60)), QuotaToken("units", 40)
    first.merge(second)
    assert first.expected_use == 100
    first.reserve_nowait(20).commit()
    with pytest.raises(TokenConsumed):
        second.reserve_nowait(20)


def test_errors_leave_the_token_usable(service: QuotaService, keep: Keep) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    service.define(Resource("others", Capacity(100), "reject"))
    token, other = keep(QuotaToken("units", 60)), keep(QuotaToken("others", 60))
    with pytest.raises(QuotaTokenError, match="weight of 60"):
        token.split(61)
    with pytest.raises(ResourceMismatch):
        token.merge(other)
    with pytest.raises(QuotaTokenError, match="itself"):
        token.merge(token)
    assert (token.expected_use, other.expected_use) == (60, 60)
    token.reserve_nowait(10).commit()
    other.reserve_nowait(10).commit()
    keep(token.split(60))


@pytest.mark.parametrize("deficit", [1, 10, 100])
def test_the_estimate_of_a_wait_is_the_deficit_by_the_rate(
    service: QuotaService, deficit: int
) -> None:
    service.define(Resource("units", Rate(100, "second"), "reject"))
    reserve_nowait("units", 100).commit()
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("units", deficit)
    assert refused.value.retry_after == deficit / 100


@pytest.mark.parametrize("limit", [Capacity(10), Concurrency(10)])
def test_capacity_and_slots_have_no_estimate(
    service: QuotaService, limit: Capacity | Concurrency
) -> None:
    service.define(Resource("units", limit, "reject"))
    with reserve("units", 10), pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("units", 1)
    assert refused.value.retry_after is None


# The faults of the table.


def test_a_part_of_small_weight_cannot_spend_above_its_allowance(
    service: QuotaService, keep: Keep
) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    child = keep(keep(QuotaToken("units", 100)).split(2, allowance=2))
    with pytest.raises(QuotaExceeded):
        child.reserve_nowait(3)


def test_overuse_is_not_forgotten(service: QuotaService, clock: VirtualClock) -> None:
    service.define(Resource("units", Rate(60, "minute", max=10), "reject"))
    reserve_nowait("units", 10).commit(30)
    clock.advance(19)
    with pytest.raises(QuotaExceeded):
        reserve_nowait("units", 1)
    clock.advance(2)
    reserve_nowait("units", 1).commit()


def test_a_dropped_reservation_is_charged_in_full(service: QuotaService) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    held = reserve_nowait("units", 30)
    del held
    assert service.resource("units").balance.spent == 30


def test_a_capacity_does_not_come_back_after_minutes(
    service: QuotaService, clock: VirtualClock
) -> None:
    service.define(Resource("units", Capacity(100), "reject"))
    reserve_nowait("units", 100).commit()
    for _ in range(10):
        clock.advance("5m")
        with pytest.raises(QuotaExceeded):
            reserve_nowait("units", 1)


async def test_slots_do_not_leak_over_hours(looped: QuotaService) -> None:
    looped.define(Resource("slots", Concurrency(10), "reject"))
    async with reserve("slots", 4):
        for _ in range(20):
            await anyio.sleep(3_600)
            async with reserve("slots", 6):
                pass
    assert looped.resource("slots").balance.remaining == 10


async def test_a_waiter_is_not_starved_by_small_ones(looped: QuotaService) -> None:
    looped.define(Resource("units", Rate(1, "second", max=10), "throttle"))
    order: list[str] = []

    async def draw(name: str, amount: int) -> None:
        async with reserve("units", amount):
            order.append(name)

    async with task_budget(calls=1):
        await draw("first", 10)
        async with anyio.create_task_group() as group:
            group.start_soon(draw, "big", 8)
            await anyio.sleep(0.5)
            for _ in range(5):
                group.start_soon(draw, "small", 1)
    assert order == ["first", "big"] + ["small"] * 5


async def test_a_cancelled_waiter_loses_nothing(looped: QuotaService) -> None:
    looped.define(Resource("units", Rate(1, "second", max=4), "throttle"))
    async with reserve("units", 4):
        with anyio.move_on_after(2.5):
            async with reserve("units", 4):
                pytest.fail("must not run")
    await anyio.sleep(1.5)
    assert looped.resource("units").balance.remaining == 4

"""Tokens share a resource by their weights; nobody gains by declaring more than it could use."""

from collections import Counter

import anyio

from budgetware import Capacity, Concurrency, QuotaService, QuotaToken, Rate, Resource, reserve
from tests.waiting.desk import now, open_desk, turns


async def shares(tokens: dict[str, QuotaToken], units: dict[str, int]) -> Counter[str]:
    """Units that each token got in 80 seconds in which all of them always had callers in line."""
    got: Counter[str] = Counter()

    async def draw(name: str) -> None:
        while now() < 80:
            async with tokens[name].reserve(units[name]):
                if now() < 80:
                    got[name] += units[name]
                await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for name in tokens:
            for _ in range(40):
                group.start_soon(draw, name)
    for token in tokens.values():
        token.close()
    return got


def tokens_of(service: QuotaService, **weights: int) -> dict[str, QuotaToken]:
    service.define(Resource("shared", Concurrency(8)))
    return {name: QuotaToken("shared", weight) for name, weight in weights.items()}


def near(got: Counter[str], expected: dict[str, int]) -> bool:
    return all(
        abs(got[name] - units) <= 0.06 * sum(got.values()) for name, units in expected.items()
    )


async def test_slots_are_shared_by_weight(service: QuotaService) -> None:
    tokens = tokens_of(service, a=1, b=1, c=2, d=4)
    got = await shares(tokens, dict.fromkeys("abcd", 1))
    assert near(got, {"a": 80, "b": 80, "c": 160, "d": 320})


async def test_calls_of_different_sizes_are_weighed_by_their_units(service: QuotaService) -> None:
    tokens = tokens_of(service, a=1, b=1, c=2, d=4)
    got = await shares(tokens, {"a": 4, "b": 1, "c": 2, "d": 1})
    assert near(got, {"a": 80, "b": 80, "c": 160, "d": 320})


async def test_one_who_declares_more_than_it_could_use_gains_nothing(
    service: QuotaService,
) -> None:
    tokens = tokens_of(service, modest=800, greedy=10**12)  # a hundred times the slots
    got = await shares(tokens, {"modest": 1, "greedy": 1})
    assert near(got, {"modest": 320, "greedy": 320})


async def test_one_who_declares_more_than_its_allowance_gains_nothing(
    service: QuotaService,
) -> None:
    tokens = tokens_of(service, modest=2)
    tokens["greedy"] = QuotaToken("shared", 8, allowance=2)
    got = await shares(tokens, {"modest": 1, "greedy": 1})
    assert near(got, {"greedy": 160, "modest": 480})  # no more than 2 at once


async def test_a_rate_is_shared_by_weight(service: QuotaService) -> None:
    service.define(Resource("tokens", Rate(8, "second")))
    weights = {"a": 1, "b": 1, "c": 2, "d": 4}
    tokens = {name: QuotaToken("tokens", weight) for name, weight in weights.items()}
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 8, seconds=0)
        for number in range(40):
            for name, token in tokens.items():
                await desk.arrive(f"{name}{number}", token, 1, seconds=0)
        await anyio.sleep(10.05)
        got = Counter(name[0] for name in desk.entered[1:])
        assert sum(got.values()) == 80
        assert near(got, {"a": 10, "b": 10, "c": 20, "d": 40})
        service.update("tokens", limit=Rate(1_000, "second"))
        await anyio.sleep(1)
    for token in tokens.values():
        token.close()


async def test_one_who_declares_more_than_a_rate_gives_gains_nothing(
    service: QuotaService,
) -> None:
    service.define(Resource("tokens", Rate(8, "second", max=16)))
    modest, greedy = QuotaToken("tokens", 16), QuotaToken("tokens", 10**12)
    async with open_desk() as desk:
        await desk.arrive("all", "tokens", 16, seconds=0)
        for number in range(20):
            await desk.arrive(f"modest {number}", modest, 1, seconds=0)
            await desk.arrive(f"greedy {number}", greedy, 1, seconds=0)
    got = Counter(name.split()[0] for name in desk.entered[1:21])
    assert got == {"modest": 10, "greedy": 10}
    modest.close()
    greedy.close()


async def test_first_come_first_served_within_a_token(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    one, other = QuotaToken("slots", 1), QuotaToken("slots", 1)
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", seconds=1)
        for number in range(10):
            await desk.arrive(f"one {number}", one, seconds=1)
            await desk.arrive(f"other {number}", other, seconds=1)
    for name in ("one", "other"):
        mine = [entered for entered in desk.entered if entered.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(10)]
    one.close()
    other.close()


async def test_who_was_away_gets_no_credit_for_it(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    one, other = QuotaToken("slots", 1), QuotaToken("slots", 1)
    async with open_desk() as desk:
        for number in range(20):
            await desk.arrive(f"one {number}", one, seconds=1)
        await anyio.sleep(9.5)
        for number in range(10):
            await desk.arrive(f"other {number}", other, seconds=1)
        await anyio.sleep(6)
        late = [name.split()[0] for name in desk.entered[10:]]
        assert abs(late.count("one") - late.count("other")) <= 1
        desk.send_away()
    one.close()
    other.close()


async def test_a_token_alone_in_line_uses_it_all(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    small, big = QuotaToken("slots", 1), QuotaToken("slots", 1_000)
    async with open_desk() as desk:
        for number in range(5):
            await desk.arrive(str(number), small, seconds=1)
    assert now() == 5.0
    small.close()
    big.close()


async def test_calls_by_name_have_a_share_among_tokens(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    token = QuotaToken("slots", 1)
    async with open_desk() as desk:
        await desk.arrive("holder", "slots", seconds=1)
        for number in range(10):
            await desk.arrive(f"token {number}", token, seconds=1)
            await desk.arrive(f"name {number}", "slots", seconds=1)
        await anyio.sleep(11.5)
        first = [name.split()[0] for name in desk.entered[1:11]]
        assert 4 <= first.count("name") <= 6
    token.close()


async def test_a_split_token_takes_its_weight_along(service: QuotaService) -> None:
    tokens = tokens_of(service, a=8, b=4)
    part = tokens["a"].split(4)
    tokens["part"] = part
    got = await shares(tokens, dict.fromkeys(tokens, 1))
    assert near(got, {"a": 213, "b": 213, "part": 213})


async def test_four_an_hour_whoever_asks(service: QuotaService) -> None:
    """Two agents share a token of a rate of 4 an hour: in each hour exactly 4 calls are made."""
    service.define(Resource("searches", Rate(4, "hour")))
    token = QuotaToken("searches", 4)
    part = token.split(2)
    calls: list[float] = []

    async def loop(own: QuotaToken) -> None:
        while now() < 3 * 3_600:
            async with own.reserve(1):
                calls.append(now())

    async with anyio.create_task_group() as group:
        group.start_soon(loop, token)
        group.start_soon(loop, part)
    hours = Counter(int(at // 3_600) for at in calls if at < 3 * 3_600)
    assert hours == {0: 7, 1: 4, 2: 4}  # the burst, and then what refills
    token.merge(part)
    token.close()


async def test_waiters_of_a_capacity_are_served_as_it_is_given_back(
    service: QuotaService,
) -> None:
    service.define(Resource("pages", Capacity(100)))
    async with open_desk() as desk:
        await desk.arrive("first", "pages", 50)
        await desk.arrive("second", "pages", 50)
        await desk.arrive("waiter", "pages", 20)
        await desk.leave("first", used=20)
        assert desk.at("waiter") == 0.0
        await turns()


async def test_a_waiter_by_token_and_one_by_name_are_one_line(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1)))
    with QuotaToken("slots", 1) as token:
        async with open_desk() as desk:
            async with reserve("slots"):  # by the bound token
                await desk.arrive("waiter", "slots", seconds=0)
            await turns()
            assert desk.entered == ["waiter"]
        assert token.snapshot()["slots"].reserved == 0
        token.close()

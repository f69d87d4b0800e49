"""Exported tokens: moved out whole, taken in once, by whom they are for and while they last."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

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
)
from budgetware.errors import (
    ConfigurationError,
    InvalidAmount,
    LedgerUnavailable,
    QuotaTokenError,
    ResourceMismatch,
    TokenConsumed,
    TokenInvalid,
    UnknownResource,
)
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.protocol import Ledger
from budgetware.testing import LoopClock, VirtualClock
from tests.sharing.conftest import Keep

KEY = bytes(range(32))
KEYS = {"k1": KEY}


def define_all(service: QuotaService) -> None:
    service.define(Resource("api", Capacity(1_000), "reject", dim="tokens"))
    service.define(Resource("rate", Rate(1_000, "minute"), "reject", dim="tokens"))
    service.define(Resource("slots", Concurrency(10), "reject"))
    service.define(Resource("money", Capacity("5.00"), "reject", dim="usd"))


@pytest.fixture
def service(clock: VirtualClock) -> Iterator[QuotaService]:
    with connect(clock=clock, token_keys=KEYS) as connected:
        define_all(connected)
        yield connected


@pytest.fixture
def other(clock: VirtualClock) -> Iterator[QuotaService]:
    """A second service with the same keys and resources, and a ledger of its own."""
    with connect(clock=clock, token_keys=KEYS) as connected:
        define_all(connected)
        yield connected


def has(token: QuotaToken) -> tuple[Any, Any]:
    return token.expected_use, token.allowance


def open_part_is_held(token: QuotaToken) -> Callable[[], object]:
    held = token.reserve_nowait(1)
    return held.release


def merged_part_is_held(token: QuotaToken) -> Callable[[], object]:
    part = token.split(1, allowance=5)
    held = part.reserve_nowait(2)
    token.merge(part)
    return held.release


def part_shares(token: QuotaToken) -> Callable[[], object]:
    return token.split(1).close


def nothing_is_left(token: QuotaToken) -> Callable[[], object]:
    return token.split(1, allowance=token.allowance).close


def it_is_in_debt(token: QuotaToken) -> Callable[[], object]:
    token.reserve_nowait(1).commit(token.allowance + 1)
    return lambda: None


def no_weight_is_left(token: QuotaToken) -> Callable[[], object]:
    return token.split(token.expected_use, allowance=1).close


# Out and in.


def test_what_was_exported_comes_in_elsewhere(
    service: QuotaService, other: QuotaService, keep: Keep
) -> None:
    text = QuotaToken("api", 100, allowance=30, service=service).export(expires_in="10m")
    token = keep(other.import_token(text))
    assert (token.resource, *has(token)) == ("api", 100, 30)
    token.reserve_nowait(30).commit()
    assert other.resource("api").balance.spent == 30
    assert service.resource("api").balance.spent == 0
    with pytest.raises(QuotaExceeded, match="0 of 30"):
        token.reserve_nowait(1)


def test_a_token_without_an_allowance_has_none_elsewhere(service: QuotaService, keep: Keep) -> None:
    token = keep(service.import_token(QuotaToken("api", 7).export(expires_in=60)))
    assert has(token) == (7, None)
    token.reserve_nowait(1_000).commit()


def test_dollars_stay_dollars(service: QuotaService, keep: Keep) -> None:
    text = QuotaToken("money", "0.50", allowance="0.25").export(expires_in=60)
    assert has(keep(service.import_token(text))) == (Decimal("0.500000"), Decimal("0.250000"))


def test_slots_are_as_many_at_once(service: QuotaService, keep: Keep) -> None:
    token = QuotaToken("slots", 10, allowance=2)
    with token.reserve():
        pass
    again = keep(service.import_token(token.export(expires_in=60)))
    with again.reserve(), again.reserve(), pytest.raises(QuotaExceeded):
        again.reserve_nowait(1)


async def test_an_imported_token_is_bound_like_any_other(service: QuotaService, keep: Keep) -> None:
    @budgeted(tokens=20)
    async def call() -> None: ...

    text = QuotaToken("api", 100, allowance=30).export(expires_in=60)
    async with keep(service.import_token(text)) as token:
        await call()
    assert token.snapshot()["tokens"].spent == 20


def test_what_was_spent_stays_where_it_was_spent(service: QuotaService, keep: Keep) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50))
    part = parent.split(40, allowance=30)
    part.reserve_nowait(12).commit()
    again = keep(service.import_token(part.export(expires_in=60)))
    assert (has(parent), has(again)) == ((60, 32), (40, 18))
    balance = parent.snapshot()["tokens"]
    assert (balance.limit, balance.spent, balance.remaining) == (32, 12, 20)


def test_what_is_left_can_go_home(service: QuotaService, other: QuotaService, keep: Keep) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50, service=service))
    there = other.import_token(parent.split(40, allowance=30).export(expires_in=60))
    there.reserve_nowait(12).commit()
    parent.merge(service.import_token(there.export(expires_in=60)))
    assert has(parent) == (100, 38)


def test_a_text_that_nobody_took_can_be_taken_back(service: QuotaService, keep: Keep) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50))
    text = parent.split(40, allowance=30).export(expires_in=60, audience="searcher")
    parent.merge(service.import_token(text, audience="searcher"))
    assert has(parent) == (100, 50)


def test_two_texts_are_never_the_same(service: QuotaService) -> None:
    texts = {QuotaToken("api", 1, allowance=1).export(expires_in=60) for _ in range(100)}
    assert len(texts) == 100


# What is exported is over.


def test_an_exported_token_is_over(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 100, allowance=30))
    parent = keep(QuotaToken("api", 100))
    token.export(expires_in=60)
    uses: list[Callable[[], object]] = [
        lambda: token.reserve(1),
        lambda: token.reserve_nowait(1),
        lambda: token.split(1),
        lambda: token.merge(parent),
        lambda: parent.merge(token),
        lambda: token.export(expires_in=60),
        token.__enter__,
    ]
    for use in uses:
        with pytest.raises(TokenConsumed, match="over"):
            use()
    token.close()
    assert " over" in repr(token)


def test_an_exported_part_gives_nothing_back(service: QuotaService, keep: Keep) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50))
    parts = [parent.split(40, allowance=30)]
    parts[0].export(expires_in=60)
    parts.clear()
    gc.collect()
    assert has(parent) == (60, 20)


def test_parts_of_it_stay_and_give_back_to_where_it_came_from(
    service: QuotaService, keep: Keep
) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50))
    part = parent.split(40, allowance=30)
    below = part.split(10, allowance=10)
    again = keep(service.import_token(part.export(expires_in=60)))
    assert (has(again), has(below)) == ((30, 20), (10, 10))
    below.reserve_nowait(4).commit()
    below.close()
    assert has(parent) == (70, 30)
    assert parent.snapshot()["tokens"].remaining == 26


def test_a_later_correction_reaches_where_it_came_from(service: QuotaService, keep: Keep) -> None:
    parent = keep(QuotaToken("api", 100, allowance=50))
    part = parent.split(40, allowance=30)
    with part.reserve(10) as reservation:
        pass
    again = keep(service.import_token(part.export(expires_in=60)))
    reservation.commit(25)
    balance = parent.snapshot()["tokens"]
    assert (balance.spent, balance.remaining) == (25, 5)
    assert again.allowance == 20


async def test_those_who_wait_by_it_are_refused(keep: Keep) -> None:
    with connect(clock=LoopClock(), token_keys=KEYS) as looped:
        looped.define(Resource("patient", Concurrency(1), "throttle"))
        token, other = QuotaToken("patient", 10), keep(QuotaToken("patient", 10))

        async def wait() -> None:
            with pytest.raises(TokenConsumed):
                async with token.reserve():
                    pytest.fail("must not run")

        async with anyio.create_task_group() as group, other.reserve():
            group.start_soon(wait)
            await anyio.sleep(1)
            token.export(expires_in=60)
            await anyio.sleep(1)
            assert looped.resource("patient").waiting == 0


# Refusals to export change nothing.

BROKEN = [
    (open_part_is_held, "open reservations hold 1"),
    (merged_part_is_held, "open reservations hold 2"),
    (part_shares, "parts of it share its allowance"),
    (nothing_is_left, "nothing of its allowance is left"),
    (it_is_in_debt, "nothing of its allowance is left"),
    (no_weight_is_left, "all of its weight was split off"),
]


@pytest.mark.parametrize(("prepare", "message"), BROKEN)
def test_what_is_not_whole_is_not_exported(
    service: QuotaService,
    keep: Keep,
    prepare: Callable[[QuotaToken], Callable[[], object]],
    message: str,
) -> None:
    token = keep(QuotaToken("api", 10, allowance=30))
    undo = prepare(token)
    before = has(token), token.snapshot()
    with pytest.raises(QuotaTokenError, match=message):
        token.export(expires_in=60)
    assert (has(token), token.snapshot()) == before
    undo()


@pytest.mark.parametrize("prepare", [open_part_is_held, merged_part_is_held, part_shares])
def test_it_is_exported_once_it_is_whole_again(
    service: QuotaService, prepare: Callable[[QuotaToken], Callable[[], object]]
) -> None:
    token = QuotaToken("api", 10, allowance=30)
    prepare(token)()
    again = service.import_token(token.export(expires_in=60))
    assert has(again) == (10, 30)


def test_a_part_that_shares_is_exported_with_an_allowance_of_its_own(
    service: QuotaService, keep: Keep
) -> None:
    whole = keep(QuotaToken("api", 100, allowance=30))
    sharer = keep(whole.split(50))
    with pytest.raises(QuotaTokenError, match=r"shares the allowance of another; split"):
        sharer.export(expires_in=60)
    text = sharer.split(20, allowance=12).export(expires_in=60)
    assert has(keep(service.import_token(text))) == (20, 12)
    assert has(whole) == (50, 18)


def test_more_units_than_a_text_can_say_are_not_exported(service: QuotaService, keep: Keep) -> None:
    token = keep(QuotaToken("api", 1, allowance=2**53 - 1))
    token.merge(QuotaToken("api", 1, allowance=1))
    with pytest.raises(QuotaTokenError, match="split it first"):
        token.export(expires_in=60)
    assert has(token) == (2, 2**53)


@pytest.mark.parametrize("expires_in", [0, -1, True, None, "soon", float("nan"), "31d", 2_592_001])
def test_a_time_that_is_none_or_too_long_changes_nothing(
    service: QuotaService, keep: Keep, expires_in: Any
) -> None:
    token = keep(QuotaToken("api", 10, allowance=30))
    with pytest.raises(InvalidAmount, match="expires_in"):
        token.export(expires_in=expires_in)
    assert has(token) == (10, 30)


@pytest.mark.parametrize("audience", ["", "with space", "é", "a\n", "a" * 257, 7, b"a", ["a"]])
def test_an_audience_that_is_none_changes_nothing(
    service: QuotaService, keep: Keep, audience: Any
) -> None:
    token = keep(QuotaToken("api", 10, allowance=30))
    text = QuotaToken("api", 10).export(expires_in=60)
    with pytest.raises(ConfigurationError, match="audience"):
        token.export(expires_in=60, audience=audience)
    with pytest.raises(ConfigurationError, match="audience"):
        service.import_token(text, audience=audience)
    assert has(token) == (10, 30)
    assert keep(service.import_token(text)).expected_use == 10


def test_without_keys_nothing_goes_out_or_in(clock: VirtualClock, keep: Keep) -> None:
    with connect(clock=clock) as bare:
        define_all(bare)
        token = keep(QuotaToken("api", 10))
        with pytest.raises(ConfigurationError, match=r"token_keys=.*BUDGETWARE_TOKEN_KEYS"):
            token.export(expires_in=60)
        with pytest.raises(ConfigurationError, match=r"token_keys=.*BUDGETWARE_TOKEN_KEYS"):
            bare.import_token("bwt1.x.y")
        token.reserve_nowait(1).commit()


# Once.


def test_a_text_is_taken_once(service: QuotaService, keep: Keep) -> None:
    text = QuotaToken("api", 10, allowance=30).export(expires_in=60)
    keep(service.import_token(text))
    with pytest.raises(TokenConsumed, match="imported before"):
        service.import_token(text)


def test_of_eight_threads_one_takes_it(service: QuotaService, keep: Keep) -> None:
    barrier = Barrier(8)
    text = QuotaToken("api", 10, allowance=30).export(expires_in=60)

    def take(_number: int) -> QuotaToken | None:
        barrier.wait()
        try:
            return service.import_token(text)
        except TokenConsumed:
            return None

    with ThreadPoolExecutor(8) as pool:
        taken = [token for token in pool.map(take, range(8)) if token is not None]
    assert [has(keep(token)) for token in taken] == [(10, 30)]


def test_of_eight_threads_one_exports_it(service: QuotaService) -> None:
    barrier = Barrier(8)
    token = QuotaToken("api", 10, allowance=30)

    def move_out(_number: int) -> str | None:
        barrier.wait()
        try:
            return token.export(expires_in=60)
        except TokenConsumed:
            return None

    with ThreadPoolExecutor(8) as pool:
        texts = [text for text in pool.map(move_out, range(8)) if text is not None]
    assert len(texts) == 1


def test_it_is_remembered_longer_than_it_lasts(
    service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    class Noting(MemoryLedger):
        def spend(self, token: str, expires: float) -> bool:
            asked.append(expires)
            return True

    answer_by(service, Noting(), monkeypatch)
    service.import_token(QuotaToken("api", 10).export(expires_in=60))
    assert asked == [service.runtime.clock.time() + 60 + 86_400]


def answer_by(service: QuotaService, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def call_ledger(function: Callable[[Ledger], Any]) -> Any:
        return function(ledger)

    monkeypatch.setattr(service.runtime, "call_ledger", call_ledger)


class Broken(MemoryLedger):
    """One that nobody may ask."""

    def spend(self, token: str, expires: float) -> bool:
        raise LedgerUnavailable("it does not answer")


def test_what_the_ledger_cannot_tell_is_not_taken(
    service: QuotaService, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_by(service, Broken(), monkeypatch)
    with pytest.raises(LedgerUnavailable):
        service.import_token(QuotaToken("api", 10).export(expires_in=60))


# What is refused is not spent.


def test_it_ends_at_its_time(service: QuotaService, clock: VirtualClock, keep: Keep) -> None:
    text = QuotaToken("api", 10).export(expires_in="10m")
    in_time = QuotaToken("api", 10).export(expires_in=601)
    clock.advance(600)
    with pytest.raises(TokenInvalid, match="expired 0 s ago"):
        service.import_token(text)
    keep(service.import_token(in_time))


def test_a_part_of_a_second_is_given_in_full(service: QuotaService, clock: VirtualClock) -> None:
    clock.advance(0.9)
    text = QuotaToken("api", 10).export(expires_in=0.5)
    clock.advance(0.499)
    assert service.import_token(text).expected_use == 10


def test_one_that_would_last_for_years_is_refused(service: QuotaService) -> None:
    ahead = VirtualClock(epoch=service.runtime.clock.time() + 2 * 86_400)
    with connect(clock=ahead, token_keys=KEYS) as elsewhere:
        define_all(elsewhere)
        text = QuotaToken("api", 10, service=elsewhere).export(expires_in="30d")
    with pytest.raises(TokenInvalid, match="more than 30 days"):
        service.import_token(text)


@pytest.mark.parametrize("audience", [None, "planner", "Searcher"])
def test_one_for_somebody_else_is_refused_and_stays(
    service: QuotaService, keep: Keep, audience: str | None
) -> None:
    text = QuotaToken("api", 10).export(expires_in=60, audience="searcher")
    with pytest.raises(TokenInvalid, match="for a certain audience"):
        service.import_token(text, audience=audience)
    keep(service.import_token(text, audience="searcher"))


def test_one_for_anybody_is_for_everybody(service: QuotaService, keep: Keep) -> None:
    text = QuotaToken("api", 10).export(expires_in=60)
    assert keep(service.import_token(text, audience="searcher")).expected_use == 10


def test_one_of_an_unknown_resource_is_refused_and_stays(
    service: QuotaService, clock: VirtualClock, keep: Keep
) -> None:
    text = QuotaToken("api", 10, service=service).export(expires_in=60)
    with connect(clock=clock, token_keys=KEYS) as elsewhere:
        with pytest.raises(UnknownResource, match="api"):
            elsewhere.import_token(text)
        define_all(elsewhere)
        keep(elsewhere.import_token(text))


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (Resource("api", Rate(9, "hour"), dim="tokens"), "a rate of tokens here, and a capacity"),
        (Resource("api", Concurrency(9)), "a concurrency of units of its own here"),
        (Resource("api", Capacity(9)), "a capacity of units of its own here"),
        (Resource("api", Capacity(9), dim="usd"), "a capacity of usd here, and a capacity of tok"),
    ],
)
def test_one_that_counts_something_else_is_refused_and_stays(
    service: QuotaService, clock: VirtualClock, keep: Keep, resource: Resource, message: str
) -> None:
    text = QuotaToken("api", 10, service=service).export(expires_in=60)
    with connect(clock=clock, token_keys=KEYS) as elsewhere:
        elsewhere.define(resource)
        with pytest.raises(ResourceMismatch, match=message):
            elsewhere.import_token(text)
        elsewhere.delete("api")
        define_all(elsewhere)
        keep(elsewhere.import_token(text))


def test_the_ledger_is_asked_last(
    service: QuotaService, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = QuotaToken("api", 10).export(expires_in=60, audience="searcher")
    gone = QuotaToken("rate", 10).export(expires_in=60)
    service.delete("rate")
    answer_by(service, Broken(), monkeypatch)
    with pytest.raises(TokenInvalid):
        service.import_token(text)
    with pytest.raises(UnknownResource):
        service.import_token(gone)
    clock.advance(60)
    with pytest.raises(TokenInvalid):
        service.import_token(text, audience="searcher")


@pytest.mark.parametrize("strange", [None, 7, "", "text", b"bwt1.x.y", "bwt1." + "A" * 5_000])
def test_what_is_no_token_is_refused(service: QuotaService, strange: Any) -> None:
    with pytest.raises(TokenInvalid):
        service.import_token(strange)


def test_a_closed_service_takes_nothing(service: QuotaService) -> None:
    text = QuotaToken("api", 10).export(expires_in=60)
    service.close()
    with pytest.raises(ConfigurationError, match="closed"):
        service.import_token(text)


def test_keys_are_rotated_without_a_gap(clock: VirtualClock, keep: Keep) -> None:
    old, both, new = KEYS, {"k2": bytes(32), **KEYS}, {"k2": bytes(32)}
    texts: list[str] = []
    for keys in (old, both, new):
        with connect(clock=clock, token_keys=keys) as step:
            define_all(step)
            texts.append(QuotaToken("api", 10, service=step).export(expires_in=60))
    with connect(clock=clock, token_keys=both) as step:
        define_all(step)
        assert [keep(step.import_token(text)).expected_use for text in texts] == [10, 10, 10]
    with connect(clock=clock, token_keys=new) as step:
        define_all(step)
        with pytest.raises(TokenInvalid, match="none of this service's keys"):
            step.import_token(texts[0])


# Nothing secret is shown.


def test_neither_text_nor_key_is_shown(service: QuotaService, keep: Keep) -> None:
    token = QuotaToken("api", 10, allowance=30)
    text = token.export(expires_in=60)
    again = keep(service.import_token(text))
    shown = " ".join(
        repr(thing)
        for thing in (
            token,
            again,
            service,
            service.runtime,
            vars(service.runtime),
            again.snapshot(),
        )
    )
    assert repr(KEY) not in shown
    assert KEY.hex() not in shown
    assert not any(part in shown for part in text.split(".")[1:])


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
def test_keys_and_tokens_are_neither_pickled_nor_copied(
    service: QuotaService, keep: Keep, act: Callable[[object], object]
) -> None:
    token = keep(service.import_token(QuotaToken("api", 10).export(expires_in=60)))
    for secret in (token, service.runtime.token_keys):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            act(secret)


# Random journeys.

ALLOWANCE = 100
amounts = st.integers(min_value=1, max_value=60)


class Journeys(RuleBasedStateMachine):
    """Whatever is split, exported, imported and merged: never more is drawn than there was."""

    tokens = Bundle("tokens")
    texts = Bundle("texts")

    def __init__(self) -> None:
        super().__init__()
        clock = VirtualClock()
        self.services = [connect(clock=clock, token_keys=KEYS) for _ in range(2)]
        self.ledger = MemoryLedger(wall=clock.time)
        for service in self.services:
            service.__enter__()
            define_all(service)
            setattr(service.runtime, "call_ledger", self.call_ledger)  # noqa: B010 - typed otherwise
        first = QuotaToken("api", ALLOWANCE, allowance=ALLOWANCE, service=self.services[0])
        self.live = [first]
        self.out: dict[str, tuple[int, int]] = {}
        self.drawn = 0

    def call_ledger(self, function: Callable[[Ledger], Any]) -> Any:
        return function(self.ledger)

    def teardown(self) -> None:
        for service in reversed(self.services):
            service.close()
        for token in self.live:
            token.close()

    def pick(self, number: int) -> QuotaToken:
        return self.live[number % len(self.live)]

    def left(self, token: QuotaToken) -> int:
        balance = token.snapshot()["tokens"]
        return int(str(balance.remaining))

    @rule(number=amounts, weight=amounts, allowance=amounts)
    def split(self, number: int, weight: int, allowance: int) -> None:
        try:
            self.live.append(self.pick(number).split(weight, allowance=allowance))
        except QuotaTokenError:
            return

    @rule(target=texts, number=amounts)
    def export(self, number: int) -> str | None:
        if len(self.live) == 1:
            return None
        token = self.pick(number)
        before = token.expected_use, self.left(token)
        try:
            text = token.export(expires_in=60)
        except QuotaTokenError:
            assert (token.expected_use, self.left(token)) == before
            return None
        self.live.remove(token)
        self.out[text] = before
        return text

    @rule(text=consumes(texts), where=st.integers(0, 1))
    def take(self, text: str | None, where: int) -> None:
        if text is None:
            return
        token = self.services[where].import_token(text)
        assert (token.expected_use, token.allowance) == self.out.pop(text)
        self.live.append(token)
        with pytest.raises(TokenConsumed):
            self.services[1 - where].import_token(text)

    @rule(one=amounts, another=amounts)
    def merge(self, one: int, another: int) -> None:
        giver = self.pick(another)
        try:
            self.pick(one).merge(giver)
        except QuotaTokenError:
            return
        self.live.remove(giver)

    @rule(number=amounts, amount=amounts)
    def draw(self, number: int, amount: int) -> None:
        try:
            self.pick(number).reserve_nowait(amount).commit()
        except QuotaExceeded:
            return
        self.drawn += amount

    @invariant()
    def nothing_is_lost_or_made(self) -> None:
        weights = sum(token.expected_use for token in self.live)
        units = sum(self.left(token) for token in self.live)
        for weight, allowance in self.out.values():
            weights += weight
            units += allowance
        assert (weights, units + self.drawn) == (ALLOWANCE, ALLOWANCE)

    @invariant()
    def the_resources_count_it_all(self) -> None:
        spent = [service.resource("api").balance.spent for service in self.services]
        assert sum(spent) == self.drawn


Journeys.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestJourneys = Journeys.TestCase

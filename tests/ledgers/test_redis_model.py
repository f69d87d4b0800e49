"""The Redis ledger decides as the memory ledger does: claim for claim, on the same clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budgetware.errors import ConfigurationError
from budgetware.ledgers.memory import MemoryLedger
from budgetware.ledgers.redis import RedisLedger
from budgetware.ledgers.terms import MOST, Claim, Grant, NodeState, Terms
from tests.ledgers.valkey import KINDS, Server, running

NODES = ["r/a", "r/ü"]
HOLDERS = ["h1", "h2", "h3", "h10", "H"]
EXACT_RATE = 2**41
"""Rates up to here are counted to the millionth."""

small = st.integers(0, 40)
amounts = st.one_of(small, small, st.integers(0, 5_000), st.sampled_from([MOST - 100, 2**52 + 1]))
counted = st.one_of(small, small, st.integers(0, 5_000), st.integers(0, 2**48))
periods = st.sampled_from(
    [1, 7, 64_000, 999_983, 10**6, 6 * 10**7, 36 * 10**8, 2_592 * 10**9, 31_536 * 10**9, 2**40 + 1]
)
rates = st.builds(
    Terms,
    st.just("rate"),
    st.one_of(st.integers(1, 200), st.integers(1, EXACT_RATE)),
    periods,
    st.one_of(st.integers(0, 200), amounts),
)
capacities = st.builds(
    Terms, st.just("capacity"), amounts, stranded=st.sampled_from(["keep", "free"])
)
slots = st.builds(Terms, st.just("concurrency"), small)
terms = st.one_of(capacities, slots, rates, rates)
jumps_us = st.one_of(
    st.sampled_from([0, 1, 999, 20_000, 700_000]),
    st.integers(0, 3_000_000),
    st.sampled_from([-1_000_000, 12_000_000, 10**9, 86_400 * 10**6 + 1, 4 * 10**13]),
)
steps = st.one_of(
    st.tuples(
        st.just("claim"),
        st.sampled_from(NODES),
        st.sampled_from(HOLDERS),
        st.tuples(counted, counted, amounts, amounts, amounts, st.booleans(), amounts),
        st.sampled_from([0, 0, 0, 0, 0, -1, 1, 3]),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([500, 10_000]),
    ),
    st.tuples(st.just("pass"), jumps_us),
    st.tuples(
        st.just("define"),
        st.sampled_from(NODES),
        terms,
        st.sampled_from(["", "d", "größe"]),
        st.sampled_from([None, None, "d1", "d2"]),
        st.sampled_from([None, None, None, 1, 2]),
        st.sampled_from([None, None, None, 5.0]),
    ),
    st.tuples(st.just("add"), st.sampled_from(NODES), small, st.sampled_from(["x", "y"])),
    st.tuples(st.just("delete"), st.sampled_from(NODES), st.sampled_from([None, None, 1])),
    st.tuples(st.just("latch"), st.sampled_from(NODES), st.sampled_from(["why", "other"])),
)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("model")
    with running(request.param, folder, "--appendfsync", "no") as server:
        yield server


numbers = count()


@dataclass
class Pair:
    """Both ledgers, the time, and what holders know."""

    redis: RedisLedger
    memory: MemoryLedger
    now_us: list[int]
    epochs: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    last: dict[tuple[str, str], Grant] = field(default_factory=dict[tuple[str, str], Grant])
    refused: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    used: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def claim(self, step: tuple[Any, ...]) -> None:
        claim = self.made(*step[1:])
        [grant] = self.redis.sync([claim])
        [expected] = self.memory.sync([claim])
        assert grant == expected
        if grant.outcome in {"ok", "recovering"}:
            self.last[claim.node, claim.holder] = grant

    def made(
        self,
        node: str,
        holder: str,
        parts: tuple[int, int, int, int, int, bool, int],
        epoch: int,
        is_faithful: bool,
        is_last: bool,
        ttl_ms: int,
    ) -> Claim:
        key = node, holder
        used, held, want, need, head, waits, demand = parts
        grant = self.last.get(key)
        self.epochs[key] = max(1, self.epochs.get(key, 0) + 1 + epoch)
        self.used[key] = self.used.get(key, 0) + used
        claim = Claim(
            node, holder, self.epochs[key], self.used[key], held, want, need, head, waits,
            demand, ttl_ms=ttl_ms, is_last=is_last,
        )  # fmt: skip
        if grant is None:
            return claim
        if is_faithful:
            claim = replace(claim, share=grant.share, cap=grant.cap, held=min(held, grant.cap))
        return replace(claim, revision=grant.revision)

    def define(self, step: tuple[Any, ...]) -> None:
        _, node, what, text, declared, revision, idle = step
        options = {"declared": declared, "expected_revision": revision, "idle_seconds": idle}
        self.outcome("define", node, what, text, **options)

    def add(self, step: tuple[Any, ...]) -> None:
        """Whether a request that was refused is refused again is not compared."""
        _, node, units, request = step
        if (node, request) not in self.refused and not self.outcome(
            "add", node, units, request=request
        ):
            self.refused.add((node, request))

    def outcome(self, name: str, *arguments: object, **options: object) -> bool:
        """Call both; compare what they return, or why they refuse; False if they do."""
        found: list[object] = []
        for ledger in (self.redis, self.memory):
            try:
                found.append(getattr(ledger, name)(*arguments, **options))
            except ConfigurationError as refusal:
                found.append(str(refusal))
        assert found[0] == found[1]
        return not isinstance(found[0], str)

    def run(self, step: tuple[Any, ...]) -> None:
        match step[0]:
            case "claim":
                self.claim(step)
            case "define":
                self.define(step)
            case "add":
                self.add(step)
            case "pass":
                self.now_us[0] += step[1]
            case _:
                self.outcome(str(step[0]), *step[1:-1], **last_of(step))
        states: list[NodeState] = self.redis.read()
        assert states == self.memory.read()


def last_of(step: tuple[Any, ...]) -> dict[str, object]:
    names = {"delete": "expected_revision", "latch": "reason"}
    return {names[str(step[0])]: step[-1]}


def pair(server: Server) -> Pair:
    now_us = [1_800_000_000_000_000]
    ledger = RedisLedger(
        server.url(f"model-{next(numbers)}"),
        durability="none",
        timeout_seconds=10,
        now_us=lambda: now_us[0],
    )
    memory = MemoryLedger()
    memory._now_us = lambda: now_us[0]  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]
    return Pair(ledger, memory, now_us)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@given(first=terms, second=terms, todo=st.lists(steps, max_size=40))
def test_same_answers(
    server: Server, first: Terms, second: Terms, todo: list[tuple[Any, ...]]
) -> None:
    both = pair(server)
    both.redis.open()
    try:
        for node, what in zip(NODES, (first, second), strict=True):
            both.outcome("define", node, what, "d")
        for step in todo:
            both.run(step)
        assert both.redis.verify() == both.memory.verify() == []
    finally:
        both.redis.close()


def test_giant_rate_never_lets_through_more_but_for_rounding(server: Server) -> None:
    both = pair(server)
    both.redis.open()
    what = Terms("rate", MOST, 10**6, MOST)
    both.outcome("define", "r/a", what, "")
    got, allowed = 0, 0
    for epoch in range(1, 30):
        for ledger in (both.redis, both.memory):
            claim = Claim("r/a", "h", epoch, need=MOST, head=MOST, demand=MOST)
            [grant] = ledger.sync([claim])
            if ledger is both.redis:
                got += grant.granted
            else:
                allowed += grant.granted
        both.now_us[0] += 333_333
    both.redis.close()
    assert abs(got - allowed) <= allowed * 1e-12

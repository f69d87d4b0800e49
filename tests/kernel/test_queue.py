"""Whose turn it is, against a model that sorts a list anew at each question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from weakref import WeakSet

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from budgetware.kernel.queue import MAX_FLOWS, Entry, Queue

FLOWS = st.sampled_from("abcd")
WEIGHTS = st.sampled_from([None, 1, 2, 3, 7])
UNITS = st.integers(1, 20)
SCALE = 1 << 80


@dataclass(eq=False)
class Spot:
    """A waiter of the model."""

    ticket: int
    units: int
    flow: str
    favoured: bool
    entry: Entry


class Line:
    """The reference model: who waits, and for each flow where it starts in virtual time."""

    def __init__(self) -> None:
        self.spots: list[Spot] = []
        self.starts: dict[str, int] = {}
        self.weights: dict[str, int | None] = {}
        self.now = 0

    def waits(self, flow: str) -> bool:
        return any(s.flow == flow and not s.favoured for s in self.spots)

    def join(self, spot: Spot, weight: int | None) -> None:
        if not spot.favoured:
            if not self.waits(spot.flow):
                self.starts[spot.flow] = max(self.starts.get(spot.flow, 0), self.now)
            self.weights[spot.flow] = weight
        self.spots.append(spot)

    def first(self) -> Spot | None:
        order = {True: (-1, 0)}
        return min(
            self.spots,
            key=lambda s: (order.get(s.favoured, (0, self.starts.get(s.flow, 0))), s.ticket),
            default=None,
        )

    def serve(self, spot: Spot) -> None:
        if not spot.favoured:
            start = self.starts[spot.flow]
            self.now = max(self.now, start)
            weight = self.weights[spot.flow] or self.mean()
            self.starts[spot.flow] = start + (spot.units * SCALE // weight if weight else 0)
        self.spots.remove(spot)

    def mean(self) -> int:
        own = [w for flow, w in self.weights.items() if w is not None and self.waits(flow)]
        return sum(own) // len(own) if own else 0


class Turns(RuleBasedStateMachine):
    """Random joins, departures, returns and grants."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.line = Line()
        self.gone: list[Spot] = []
        self.tickets = 0

    def add(self, spot: Spot, weight: int | None) -> None:
        self.queue.join(spot.entry, spot.flow, weight, favoured=spot.favoured)
        self.line.join(spot, weight)

    @rule(flow=FLOWS, weight=WEIGHTS, units=UNITS, favoured=st.integers(0, 9))
    def join(self, flow: str, weight: int | None, units: int, favoured: int) -> None:
        self.tickets += 1
        entry = Entry(self.tickets, self.tickets, units)
        self.add(Spot(self.tickets, units, flow, favoured == 0, entry), weight)

    @precondition(lambda self: self.line.spots)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        spot = data.draw(st.sampled_from(self.line.spots))
        self.queue.leave(spot.entry)
        self.line.spots.remove(spot)
        self.gone.append(spot)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), weight=WEIGHTS)
    def rejoin(self, data: st.DataObject, weight: int | None) -> None:
        old = data.draw(st.sampled_from(self.gone))
        self.gone.remove(old)
        entry = Entry(old.ticket, old.ticket, old.units)
        self.add(Spot(old.ticket, old.units, old.flow, old.favoured, entry), weight)

    @rule()
    def look(self) -> None:
        spot = self.line.first()
        assert self.queue.first() is (None if spot is None else spot.entry)

    @precondition(lambda self: self.line.spots)
    @rule()
    def serve(self) -> None:
        spot = self.line.first()
        entry = self.queue.first()
        assert spot is not None
        assert entry is not None
        assert entry is spot.entry
        self.queue.serve(entry)
        self.line.serve(spot)

    @invariant()
    def counts_and_units_are_exact(self) -> None:
        assert self.queue.count == len(self.line.spots)
        assert self.queue.units == sum(s.units for s in self.line.spots)

    def teardown(self) -> None:
        while self.line.spots:
            self.serve()
        assert self.queue.first() is None
        assert (self.queue.count, self.queue.units) == (0, 0)


Turns.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTurns = Turns.TestCase


class Tickets:
    """A queue, and tickets in the order of arrival."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.last = 0

    def join(
        self, flow: Hashable, weight: int | None = None, units: int = 1, *, favoured: bool = False
    ) -> Entry:
        self.last += 1
        entry = Entry(flow, self.last, units)
        self.queue.join(entry, flow, weight, favoured=favoured)
        return entry

    def rejoin(self, old: Entry, weight: int | None = None) -> Entry:
        entry = Entry(old.waiter, old.ticket, old.units)
        self.queue.join(entry, old.waiter, weight)
        return entry

    def serve(self) -> Entry:
        entry = self.queue.first()
        assert entry is not None
        self.queue.serve(entry)
        return entry

    def served(self, times: int) -> list[object]:
        return [self.serve().waiter for _ in range(times)]


def test_an_empty_queue_has_nobody_first() -> None:
    assert Queue().first() is None


def test_a_flow_is_served_first_come_first_served() -> None:
    line = Tickets()
    entries = [line.join("a", 3, 1 + i % 7) for i in range(5_000)]
    assert [line.serve() for _ in entries] == entries


def test_flows_that_ask_for_the_same_take_turns() -> None:
    line = Tickets()
    for flow in "aaabbb":
        line.join(flow, 5)
    assert line.served(6) == list("ababab")


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(
        st.lists(st.integers(1, 1_000), min_size=25, max_size=25), min_size=4, max_size=4
    )
)
def test_backlogged_flows_are_served_by_weight_whatever_they_ask_for(
    sizes: list[list[int]],
) -> None:
    """Goyal, Vin and Cheng, theorem 1: no two differ by more than one request of each."""
    weights = dict(zip("abcd", (1, 1, 2, 4), strict=True))
    line = Tickets()
    for flow, asked in zip("abcd", sizes, strict=True):
        for units in asked:
            line.join(flow, weights[flow], units)
    waiting = Counter(dict.fromkeys("abcd", 25))
    served: Counter[str] = Counter()
    while min(waiting.values()):
        entry = line.serve()
        waiting[entry.waiter] -= 1
        served[entry.waiter] += entry.units
        shares = {f: served[f] / w for f, w in weights.items()}
        most = {f: max(asked) / weights[f] for f, asked in zip("abcd", sizes, strict=True)}
        for f in weights:
            for g in weights:
                assert abs(shares[f] - shares[g]) <= most[f] + most[g] + 1e-6


def test_weights_of_1_1_2_4_share_800_units_exactly() -> None:
    line = Tickets()
    for _ in range(800):
        for flow, weight in zip("abcd", (1, 1, 2, 4), strict=True):
            line.join(flow, weight)
    assert Counter(line.served(800)) == {"a": 100, "b": 100, "c": 200, "d": 400}


def test_a_big_request_waits_for_one_of_each_other_flow_at_most() -> None:
    line = Tickets()
    for _ in range(100):
        for flow in "abc":
            line.join(flow, 1_000)
    line.served(30)
    line.join("big", 1, 1_000_000)
    for _ in range(100):
        line.join("late", 1_000)
    assert "big" in line.served(5)


def test_a_flow_that_was_away_gains_nothing() -> None:
    line = Tickets()
    line.join("away", 1)
    for _ in range(200):
        line.join("here", 1)
    line.served(101)
    for _ in range(50):
        line.join("away", 1)
    assert Counter(line.served(20)) == {"away": 10, "here": 10}


def test_a_flow_that_was_alone_owes_no_more_than_its_last_request() -> None:
    line = Tickets()
    for _ in range(100):
        line.join("alone", 1, 10)
    line.served(50)
    for _ in range(50):
        line.join("new", 1, 10)
    assert Counter(line.served(21)) == {"new": 11, "alone": 10}


def test_joining_and_leaving_costs_nothing_and_gains_nothing() -> None:
    line = Tickets()
    for _ in range(10):
        line.join("a", 1)
        line.queue.leave(line.join("b", 1))
    for _ in range(10):
        line.join("b", 1)
    assert line.served(6) == list("ababab")


def test_favoured_ones_go_before_all_others_and_pay_nothing() -> None:
    line = Tickets()
    line.join("a", 1)
    line.join("a", 1)
    line.join("b", 1)
    line.join("a", 1, 1_000, favoured=True)
    line.queue.leave(line.join("c", 1, favoured=True))
    line.join("c", 1, favoured=True)
    assert line.served(5) == list("acaba")


def test_one_who_rejoins_by_its_ticket_goes_to_the_front_of_its_flow() -> None:
    line = Tickets()
    early, middle, late = (line.join("a", 1) for _ in range(3))
    line.queue.leave(early)
    line.queue.leave(middle)
    again = line.rejoin(middle, 1)
    first = line.rejoin(early, 1)
    assert [line.serve() for _ in range(3)] == [first, again, late]


def test_one_who_rejoins_goes_before_later_tickets_of_other_flows() -> None:
    line = Tickets()
    early, _other, late = line.join("a", 1), line.join("b", 1), line.join("a", 1)
    line.queue.leave(early)
    assert line.queue.first() is _other
    line.queue.leave(_other)
    assert line.queue.first() is late
    between = line.rejoin(_other, 1)
    first = line.rejoin(early, 1)
    assert [line.serve() for _ in range(3)] == [first, between, late]


def test_leaving_twice_or_before_joining_changes_nothing() -> None:
    line = Tickets()
    line.join("a", 1, 5)
    gone = line.join("a", 1, 7)
    line.queue.leave(gone)
    line.queue.leave(gone)
    line.queue.leave(Entry("a", 9, 11))
    assert (line.queue.count, line.queue.units) == (1, 5)


def test_a_flow_without_a_weight_has_the_mean_of_those_that_wait() -> None:
    line = Tickets()
    for _ in range(200):
        line.join("a", 10)
        line.join("b", 30)
        line.join(None)
    assert Counter(line.served(60)) == {"a": 10, "b": 30, None: 20}


def test_a_flow_without_a_weight_that_was_alone_is_not_starved_by_a_heavy_one() -> None:
    line = Tickets()
    line.join(None, None, 2_000)
    line.join(None, None, 2_000)
    line.serve()
    for _ in range(10):
        line.join("heavy", 50_000, 2_000)
    assert None in line.served(2)


def test_flows_without_a_weight_among_themselves_are_served_in_the_order_of_arrival() -> None:
    line = Tickets()
    for flow in "aabab":
        line.join(flow)
    assert line.served(5) == list("aabab")


def test_a_weight_counts_from_when_it_is_given() -> None:
    line = Tickets()
    for _ in range(100):
        line.join("a", 1)
        line.join("b", 1)
    line.join("a", 3)
    assert Counter(line.served(40)) == {"a": 30, "b": 10}


class Thing:
    """Something whose end can be seen: a flow, or a waiter."""


def a_thing(alive: WeakSet[Thing]) -> Thing:
    thing = Thing()
    alive.add(thing)
    return thing


def test_idle_flows_are_forgotten_beyond_a_bound() -> None:
    line = Tickets()
    alive: WeakSet[Thing] = WeakSet()
    for _ in range(5 * MAX_FLOWS):
        line.join(a_thing(alive), 1)
        line.serve()
    assert len(alive) <= MAX_FLOWS + 1


def test_flows_that_owe_are_forgotten_last() -> None:
    line = Tickets()
    line.join("owes", 1, 10)
    line.join("here", 1, 1)
    line.serve()
    for flow in range(MAX_FLOWS - 1):
        line.queue.leave(line.join(flow, 1))
    line.join("new", 1, 1)
    line.join("owes", 1, 1)
    assert line.served(3) == ["here", "new", "owes"]


def test_flows_that_owe_are_forgotten_where_there_are_too_many() -> None:
    line = Tickets()
    alive: WeakSet[Thing] = WeakSet()
    for _ in range(3 * MAX_FLOWS):
        line.join(a_thing(alive), 1, 1_000_000)
    for _ in range(3 * MAX_FLOWS):
        line.serve()
    for name in range(3):
        line.queue.leave(line.join(name, 1))
    assert len(alive) == 0


def test_who_gives_up_behind_one_that_waits_long_is_not_kept() -> None:
    line = Tickets()
    head = line.join("head", 1)
    flows: WeakSet[Thing] = WeakSet()
    waiters: WeakSet[Thing] = WeakSet()
    for ticket in range(2, 3_000):
        gives_up(line.queue, ticket, a_thing(waiters), "head")
        gives_up(line.queue, ticket, a_thing(waiters), a_thing(flows))
        gives_up(line.queue, ticket, a_thing(waiters), None, favoured=True)
    assert line.queue.first() is head
    assert len(waiters) < 50
    assert len(flows) <= MAX_FLOWS


def test_who_gives_up_behind_a_favoured_one_is_not_kept() -> None:
    line = Tickets()
    head = line.join(None, favoured=True)
    waiters: WeakSet[Thing] = WeakSet()
    for ticket in range(2, 3_000):
        gives_up(line.queue, ticket, a_thing(waiters), None, favoured=True)
    assert line.queue.first() is head
    assert len(waiters) < 50


def gives_up(
    queue: Queue, ticket: int, waiter: Thing, flow: Hashable, *, favoured: bool = False
) -> None:
    entry = Entry(waiter, ticket, 1)
    queue.join(entry, flow, 1, favoured=favoured)
    queue.leave(entry)


def test_a_crowd_of_flows_is_served_in_the_order_of_arrival() -> None:
    line = Tickets()
    entries = [line.join(flow, 1) for flow in range(20_000)]
    assert [line.serve() for _ in entries] == entries

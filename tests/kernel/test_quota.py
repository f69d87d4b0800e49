"""Shared limits put, changed and lifted with reservations open; allowances that are passed on."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from budgetware.kernel.balances import Snapshot, balance
from budgetware.kernel.nodes import GUARDED, OPEN, Cell, Item, Node, QuotaCell, payers, refresh
from budgetware.kernel.queue import Entry, Queue
from budgetware.kernel.quota import (
    inherit,
    lift,
    pass_on,
    put_capacity,
    put_rate,
    put_slots,
    take_allowance,
)
from budgetware.kernel.tree import correct, hold, room_of, settle, shortages, try_hold
from budgetware.kernel.verdict import CONTINUE

Kind = Literal["capacity", "slots", "rate"]
KINDS: tuple[Kind, ...] = ("capacity", "slots", "rate")
NOBODY: frozenset[Node] = frozenset()


def a_cell(limit: int | None = None, *, kind: str = "resource", dim: str = "r") -> QuotaCell:
    node = Node(kind, kind, None, kind=kind)
    cell = QuotaCell(node, dim, limit)
    node.cells[dim] = cell
    return cell


def items_of(units: int, *cells: Cell) -> tuple[Item, ...]:
    is_special = any(cell.level for cell in cells)
    return ((cells[0].dim, units, (cells, (), is_special)),)


def put(cell: QuotaCell, kind: Kind, units: int, now_ns: int = 0) -> None:
    if kind == "rate":
        put_rate(cell, 1, 10, units, now_ns)
    elif kind == "capacity":
        put_capacity(cell, units)
    else:
        put_slots(cell, units)


def parts(cell: Cell) -> int:
    b: Any = balance(cell)
    total: int = b.spent + b.reserved + b.granted + b.remaining - b.overrun
    return total


@dataclass
class Hold:
    """A reservation of the model: what it holds or booked, on a cell of its kind."""

    items: tuple[Item, ...]
    held: int
    booked: int | None = None
    assumed: bool = False


class OneQuota(RuleBasedStateMachine):
    """One cell whose limit comes, changes and goes while reservations are open."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = a_cell(kind="principal")
        self.kind: Kind | None = None
        self.limit = 0
        self.now = 0
        self.holds: list[Hold] = []
        self.spent = 0

    @property
    def open(self) -> list[Hold]:
        return [hold for hold in self.holds if hold.booked is None]

    @property
    def reserved(self) -> int:
        return sum(hold.held for hold in self.open)

    @rule(units=st.integers(1, 40))
    def change(self, units: int) -> None:
        if self.kind is not None:
            put(self.cell, self.kind, units, self.now)
            self.limit = units

    @precondition(lambda self: self.kind is None)
    @rule(kind=st.sampled_from(KINDS), units=st.integers(1, 40))
    def introduce(self, kind: Kind, units: int) -> None:
        if kind != "capacity" and self.spent + self.reserved > 0:
            return  # as `principals` sees to, for slots; a bucket is full at its start
        put(self.cell, kind, units, self.now)
        self.kind, self.limit = kind, units

    @rule()
    def take_away(self) -> None:
        if self.kind is None or (self.kind == "slots" and self.open):
            return
        lift(self.cell)
        self.kind = None

    @rule(passed=st.integers(0, 100))
    def wait(self, passed: int) -> None:
        self.now += passed

    @rule(units=st.integers(1, 20), insists=st.booleans())
    def reserve(self, units: int, insists: bool) -> None:
        refresh(self.cell, self.now)
        items = items_of(units, self.cell)
        room = self.cell.free
        if not try_hold(items):
            if shortages(items, NOBODY) and not insists:
                assert self.kind is not None
                assert units > room
                return
            hold(items)
        self.holds.append(Hold(items, units))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), used=st.integers(0, 30), assumed=st.booleans())
    def end(self, data: st.DataObject, used: int, assumed: bool) -> None:
        ended = data.draw(st.sampled_from(self.open))
        ended.booked = ended.held if assumed else used
        ended.assumed = assumed
        settle(ended.items, [ended.booked], assumed=assumed)
        self.book(ended.booked)

    @precondition(lambda self: any(hold.assumed for hold in self.holds))
    @rule(data=st.data(), used=st.integers(0, 30))
    def put_right(self, data: st.DataObject, used: int) -> None:
        ended = data.draw(st.sampled_from([hold for hold in self.holds if hold.assumed]))
        assert ended.booked is not None
        correct(ended.items, [ended.booked], [used])
        self.book(used - ended.booked)
        ended.booked, ended.assumed = used, False

    def book(self, units: int) -> None:
        if self.kind != "slots":
            self.spent += units

    @invariant()
    def what_is_reserved_is_what_is_open(self) -> None:
        assert self.cell.reserved == self.reserved

    @invariant()
    def what_is_spent_is_what_was_booked(self) -> None:
        assert self.cell.spent == self.spent

    @invariant()
    def the_limit_is_the_sum_of_its_parts(self) -> None:
        refresh(self.cell, self.now)
        assert self.cell.limit == (None if self.kind is None else self.limit)
        assert self.kind is None or parts(self.cell) == self.limit

    @invariant()
    def free_is_what_is_not_used(self) -> None:
        used = {"capacity": self.spent + self.reserved, "slots": self.reserved}
        if self.kind in used:
            assert self.cell.free == self.limit - used[self.kind]

    @invariant()
    def a_bucket_never_has_more_than_its_burst(self) -> None:
        refresh(self.cell, self.now)
        assert self.kind != "rate" or self.cell.free <= self.limit


OneQuota.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestOneQuota = OneQuota.TestCase


@dataclass(eq=False)
class Right:
    """A quota token of the model; `cell` has its allowance."""

    cell: QuotaCell
    parent: Right | None
    leaves: bool = False
    ended: bool = False


@dataclass(eq=False)
class Drawn(Hold):
    """A draw by a right."""

    right: Right = field(default_factory=lambda: Right(a_cell(1, kind="token"), None))


class Allowances(RuleBasedStateMachine):
    """Rights that are split, drawn on and ended in any order: nothing is made, nothing is lost."""

    ALLOWED = 100

    def __init__(self) -> None:
        super().__init__()
        self.pool = a_cell(10_000)
        self.root = Right(a_cell(self.ALLOWED, kind="token"), None)
        self.rights = [self.root]
        self.draws: list[Drawn] = []

    @property
    def living(self) -> list[Right]:
        return [right for right in self.rights if not right.ended]

    def living_above(self, right: Right) -> Right:
        above = right.parent or self.root
        return self.living_above(above) if above.ended else above

    @rule(data=st.data(), part=st.integers(1, 60))
    def split(self, data: st.DataObject, part: int) -> None:
        giver = data.draw(st.sampled_from(self.living))
        if part > giver.cell.free or len(self.rights) > 7:
            return
        take_allowance(giver.cell, part)
        child = Right(a_cell(part, kind="token"), giver)
        child.cell.heir = giver.cell
        self.rights.append(child)

    @rule(data=st.data(), units=st.integers(1, 40))
    def draw(self, data: st.DataObject, units: int) -> None:
        right = data.draw(st.sampled_from(self.living))
        room = right.cell.free
        items = items_of(units, right.cell, self.pool)
        granted = try_hold(items)
        assert granted == (units <= room)
        if granted:
            self.draws.append(Drawn(items, units, right=right))

    @precondition(lambda self: any(d.booked is None for d in self.draws))
    @rule(data=st.data(), used=st.integers(0, 60), assumed=st.booleans())
    def settle(self, data: st.DataObject, used: int, assumed: bool) -> None:
        draw = data.draw(st.sampled_from([d for d in self.draws if d.booked is None]))
        draw.booked = draw.held if assumed else used
        draw.assumed = assumed
        settle(draw.items, [draw.booked], assumed=assumed)

    @precondition(lambda self: any(d.assumed for d in self.draws))
    @rule(data=st.data(), used=st.integers(0, 60))
    def put_right(self, data: st.DataObject, used: int) -> None:
        draw = data.draw(st.sampled_from([d for d in self.draws if d.assumed]))
        assert draw.booked is not None
        correct(draw.items, [draw.booked], [used])
        draw.booked, draw.assumed = used, False

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        right = data.draw(st.sampled_from(self.living[1:]))
        right.ended = right.cell.node.ended = True
        right.cell.node.guard()
        right.cell.heir = self.living_above(right).cell
        has_nothing = inherit(right.cell)
        assert has_nothing == (self.open_on(right) == 0)

    @rule()
    def collect(self) -> None:
        for right in reversed(self.rights):
            pass_on(right.cell)

    def open_on(self, right: Right) -> int:
        return sum(d.held for d in self.draws if d.right is right and d.booked is None)

    @property
    def booked(self) -> int:
        return sum(d.booked or 0 for d in self.draws)

    @invariant()
    def limits_add_up_to_what_was_allowed(self) -> None:
        assert sum(right.cell.limit or 0 for right in self.rights) == self.ALLOWED

    @invariant()
    def what_is_spent_adds_up_to_what_was_booked(self) -> None:
        assert sum(right.cell.spent for right in self.rights) == self.booked
        assert self.pool.spent == self.booked

    @invariant()
    def each_has_reserved_what_is_open_on_it(self) -> None:
        assert [r.cell.reserved for r in self.rights] == [self.open_on(r) for r in self.rights]
        assert self.pool.reserved == sum(self.open_on(r) for r in self.rights)

    @invariant()
    def what_is_assumed_adds_up(self) -> None:
        assumed = sum(d.booked or 0 for d in self.draws if d.assumed)
        assert sum(right.cell.assumed for right in self.rights) == assumed
        assert self.pool.assumed == assumed

    @invariant()
    def each_limit_is_the_sum_of_its_parts(self) -> None:
        assert all(parts(right.cell) == right.cell.limit for right in self.rights)

    def teardown(self) -> None:
        for draw in self.draws:
            if draw.booked is None:
                draw.booked = 0
                settle(draw.items, [0])
        self.collect()
        over = [right.cell for right in self.rights if right.ended]
        assert all((c.limit, c.spent, c.free, c.reserved) == (0, 0, 0, 0) for c in over)
        used = sum(right.cell.spent for right in self.living)
        assert sum(right.cell.free for right in self.living) == self.ALLOWED - used


Allowances.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestAllowances = Allowances.TestCase


def a_used_cell(*, spent: int, reserved: int) -> tuple[QuotaCell, tuple[Item, ...]]:
    cell = a_cell(kind="principal")
    used, still_open = items_of(spent, cell), items_of(reserved, cell)
    hold(used)
    hold(still_open)
    settle(used, [spent])
    return cell, still_open


def shown(cell: Cell) -> tuple[Any, ...]:
    b = balance(cell)
    return b.limit, b.spent, b.reserved, b.remaining, b.overrun


def test_a_capacity_counts_what_was_used_before_it_was_set() -> None:
    cell, still_open = a_used_cell(spent=30, reserved=20)
    put_capacity(cell, 100)
    assert shown(cell) == (100, 30, 20, 50, 0)
    settle(still_open, [5])
    assert shown(cell) == (100, 35, 0, 65, 0)


def test_slots_count_what_is_open_when_they_are_set() -> None:
    cell, still_open = a_used_cell(spent=0, reserved=3)
    put_slots(cell, 4)
    assert shown(cell) == (4, 0, 3, 1, 0)
    settle(items_of(3, cell), [3])
    assert still_open
    assert shown(cell) == (4, 0, 0, 4, 0)


def test_a_rate_is_full_at_the_start_whatever_was_used_before() -> None:
    cell, _still_open = a_used_cell(spent=30, reserved=0)
    put_rate(cell, 1, 10, 8, 0)
    assert shown(cell) == (8, 0, 0, 8, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_lowering_below_what_is_used_gives_debt_and_refuses(kind: Kind) -> None:
    cell = a_cell()
    put(cell, kind, 10)
    assert try_hold(items_of(8, cell))
    put(cell, kind, 5)
    assert shown(cell) == (5, 0, 5 if kind == "rate" else 8, 0, 3) or kind == "rate"
    assert balance(cell).overrun == 3
    assert not try_hold(items_of(1, cell))
    assert [s.available for s in shortages(items_of(1, cell), NOBODY)] == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_raising_gives_room_at_once_and_keeps_what_was_used(kind: Kind) -> None:
    cell = a_cell()
    put(cell, kind, 5)
    assert try_hold(items_of(5, cell))
    put(cell, kind, 8)
    assert balance(cell).remaining == 3
    assert try_hold(items_of(3, cell))
    assert not try_hold(items_of(1, cell))


def test_debt_of_a_lowered_rate_refills() -> None:
    cell = a_cell()
    put_rate(cell, 1, 10, 10, 0)
    assert try_hold(items_of(10, cell))
    put_rate(cell, 1, 10, 4, 0)
    assert cell.free == -6
    refresh(cell, 70)
    assert cell.free == 1
    refresh(cell, 1_000)
    assert cell.free == 4


def test_what_came_until_a_change_came_at_the_old_rate() -> None:
    cell = a_cell()
    put_rate(cell, 1, 10, 100, 0)
    assert try_hold(items_of(100, cell))
    put_rate(cell, 5, 10, 100, 200)
    assert cell.free == 20
    refresh(cell, 210)
    assert cell.free == 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_lifted_limit_refuses_nothing_and_counting_goes_on(kind: Kind) -> None:
    cell = a_cell()
    put(cell, kind, 1)
    lift(cell)
    items = items_of(OPEN + 1, cell)
    assert not shortages(items, NOBODY)
    hold(items)
    assert balance(cell).reserved == OPEN + 1
    settle(items, [7])
    assert (balance(cell).limit, balance(cell).spent, balance(cell).remaining) == (None, 7, None)


def test_a_capacity_that_follows_lifted_slots_does_not_come_back() -> None:
    cell = a_cell(kind="principal")
    put_slots(cell, 1)
    lift(cell)
    put_capacity(cell, 2)
    items = items_of(2, cell)
    hold(items)
    settle(items, [2])
    assert shown(cell) == (2, 2, 0, 0, 0)


def test_lifted_memory_is_still_a_level() -> None:
    cell = a_cell(kind="principal", dim="memory")
    put_capacity(cell, 10)
    lift(cell)
    assert cell.level


def test_exempt_principals_are_spared_by_rates_and_capacities_and_not_by_slots() -> None:
    cells = [a_cell(), a_cell(), a_cell()]
    for cell, kind in zip(cells, KINDS, strict=True):
        put(cell, kind, 1)
    items = items_of(2, *cells)
    assert [s.cell for s in shortages(items, NOBODY)] == cells
    assert [s.cell for s in shortages(items, NOBODY, exempt=True)] == [cells[1]]
    lift(cells[0])
    assert not cells[0].spares_exempt


def test_a_queue_sends_every_hold_down_the_close_path_while_somebody_waits() -> None:
    cell = a_cell(10)
    queue = cell.queue = Queue()
    entry = Entry(None, 1, 5)
    queue.join(entry, None, None)
    put_capacity(cell, 20)
    assert cell.floor == GUARDED
    assert not try_hold(items_of(1, cell))
    queue.leave(entry)
    put_capacity(cell, 20)
    assert try_hold(items_of(1, cell))


def test_allowance_goes_to_the_heir_with_its_debt() -> None:
    heir, cell = a_cell(100, kind="token"), a_cell(10, kind="token")
    cell.heir = heir
    items = items_of(10, cell)
    assert try_hold(items)
    settle(items, [25])
    assert inherit(cell)
    assert shown(heir) == (110, 25, 0, 85, 0)


def test_what_is_reserved_is_inherited_once_it_has_ended() -> None:
    heir, cell = a_cell(100, kind="token"), a_cell(10, kind="token")
    cell.heir = heir
    items = items_of(6, cell)
    assert try_hold(items)
    assert not inherit(cell)
    assert shown(heir) == (104, 0, 0, 104, 0)
    settle(items, [2])
    assert inherit(cell)
    assert shown(heir) == (110, 2, 0, 108, 0)


def test_without_an_heir_nothing_moves() -> None:
    cell = a_cell(10, kind="token")
    assert inherit(cell)
    assert shown(cell) == (10, 0, 0, 10, 0)


@pytest.mark.parametrize("limit", [None, 50])
def test_an_heir_without_a_limit_takes_over_the_count_alone(limit: int | None) -> None:
    cell, heir = a_cell(limit, kind="token"), a_cell(kind="token")
    cell.heir = heir
    ended, still_open = items_of(10, cell), items_of(5, cell)
    hold(ended)
    hold(still_open)
    settle(ended, [10], assumed=True)
    assert not inherit(cell)
    assert shown(heir) == (None, 10, 0, None, 0)
    settle(still_open, [4])
    assert inherit(cell)
    assert shown(heir) == (None, 14, 0, None, 0)
    assert (balance(heir).assumed, balance(cell).spent, balance(cell).reserved) == (10, 0, 0)


def test_a_plain_cell_inherits_too() -> None:
    cell = a_cell(10, kind="token")
    heir = cell.heir = Cell(Node("n", "n", None), "r", 5, None, 0)
    assert inherit(cell)
    assert shown(heir) == (15, 0, 0, 15, 0)


def test_a_correction_after_the_end_reaches_the_heir_of_the_heir() -> None:
    last, middle, cell = (a_cell(units, kind="token") for units in (100, 20, 10))
    cell.heir, middle.heir = middle, last
    items = items_of(10, cell)
    assert try_hold(items)
    settle(items, [10], assumed=True)
    for over in (cell, middle):
        over.node.ended = True
        inherit(over)
    assert shown(last) == (130, 10, 0, 120, 0)
    correct(items, [10], [4])
    assert shown(last) == (130, 4, 0, 126, 0)
    assert balance(last).assumed == 0
    assert (shown(middle), shown(cell)) == ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))


@settings(max_examples=100, deadline=None)
@given(allowances=st.lists(st.integers(1, 50), min_size=1, max_size=6), spent=st.integers(0, 60))
def test_splitting_and_merging_back_changes_nothing(allowances: list[int], spent: int) -> None:
    root = a_cell(300, kind="token")
    booked = items_of(spent, root)
    hold(booked)
    settle(booked, [spent])
    before = shown(root)
    children = [a_cell(units, kind="token") for units in allowances]
    for child in children:
        take_allowance(root, child.limit or 0)
        child.heir = root
    assert [*accumulate(allowances)][-1] + (root.limit or 0) == 300
    assert all(inherit(child) for child in children)
    assert shown(root) == before


def test_several_quotas_rank_by_kind_then_depth_then_age() -> None:
    top = Node("top", "top", None, kind="resource")
    below = Node("below", "below", None, top, kind="resource")
    first, second = QuotaCell(top, "r", 1), QuotaCell(top, "s", 1)
    inner, token = QuotaCell(below, "r", 1), a_cell(1, kind="token")
    assert sorted([second, inner, first, token], key=lambda c: c.rank) == [
        token,
        inner,
        first,
        second,
    ]
    assert below.path == "top/below"


def test_the_room_of_a_cell_is_less_what_it_keeps() -> None:
    node = Node("n", "n", None)
    cell = QuotaCell(node, "tokens", 10, None, 4)
    assert (room_of(cell, NOBODY), room_of(cell, frozenset({node}))) == (6, 10)


def test_a_principals_cells_can_be_given_a_quota_later() -> None:
    node = Node("alice", "a", None, kind="principal")
    cell = node.cell("tokens")
    assert isinstance(cell, QuotaCell)
    assert node.cell("tokens") is cell
    cell.is_watched = True
    put_capacity(cell, 10)
    assert not try_hold(items_of(1, cell))
    assert not shortages(items_of(1, cell), NOBODY)


@pytest.mark.parametrize("kind", KINDS)
def test_one_draw_of_two_amounts_on_a_common_payer_asks_for_the_sum(kind: Kind) -> None:
    """Two resources of one parent: it pays for both, all or nothing."""
    parent, one, other = a_cell(), a_cell(100), a_cell(100)
    put(parent, kind, 10)
    items = (*items_of(6, one, parent), *items_of(6, other, parent))
    before = [shown(cell) for cell in (parent, one, other)]
    assert not try_hold(items)
    assert [shown(cell) for cell in (parent, one, other)] == before
    assert [(s.cell, s.requested, s.available) for s in shortages(items, NOBODY)] == [
        (parent, 12, 10)
    ]


def test_a_snapshot_shows_the_balances_and_survives_json_and_pickle() -> None:
    node = Node("r", "id", None, kind="resource")
    node.cells["usd"] = cell = QuotaCell(node, "usd", None)
    put_capacity(cell, 2_500_000)
    snapshot = Snapshot("r", "id", node.path, CONTINUE, {"usd": balance(cell)})
    again = pickle.loads(pickle.dumps(snapshot))
    assert again == snapshot
    assert again["usd"].remaining == Decimal("2.500000")
    assert again["tokens"].limit is None
    assert json.loads(json.dumps(snapshot.to_dict()))["dims"]["usd"]["limit"] == "2.500000"
    assert snapshot.to_dict()["verdict"] == {"name": "continue", "dim": None}


def test_payers_of_a_path_without_nodes_are_nobody() -> None:
    assert payers((), "tokens") == ((), (), False)

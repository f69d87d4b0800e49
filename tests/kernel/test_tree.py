"""The tree of budgets against a reference model: who may hold, what each balance says, I1 to I6."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from budgetware.kernel.balances import Balance, balance, verdict, worst_of
from budgetware.kernel.carving import lending, open_carve, raise_limit
from budgetware.kernel.nodes import OPEN, Cell, Item, Node, payers
from budgetware.kernel.tree import (
    correct,
    give_back,
    hold,
    settle,
    settle_held,
    shortages,
    try_hold,
)
from budgetware.kernel.verdict import Verdict

DIMS = ("tokens", "calls")
Held = dict[str, int]

NOTHING: MultipleResults[Any] = multiple()
"""What a rule gives that made nothing."""
LIMITS = st.dictionaries(st.sampled_from(DIMS), st.integers(1, 60))
HELD = st.dictionaries(st.sampled_from(DIMS), st.integers(0, 25), min_size=1)
USED = st.tuples(st.integers(0, 40), st.integers(0, 40))


@dataclass(eq=False)
class Place:
    """A node of the model: only what was asked for, no balance."""

    name: str
    parent: Place | None
    limit: Held
    carved: bool
    keep: Held = field(default_factory=dict[str, int])
    warn: Held = field(default_factory=dict[str, int])
    ended: bool = False

    @property
    def chain(self) -> tuple[Place, ...]:
        return (self,) if self.parent is None else (self, *self.parent.chain)

    def lends(self, dim: str) -> bool:
        return self.carved and self.parent is not None and dim in self.limit


@dataclass(eq=False)
class Entry:
    """A reservation of the model: what it holds, then what it booked."""

    place: Place
    held: Held
    booked: Held | None = None
    assumed: bool = False


class Books:
    """The reference model: every balance is folded anew from the journal at each question."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.journal: list[Entry] = []

    def booked(self, x: Place, d: str) -> int:
        return sum((e.booked or {}).get(d, 0) for e in self.journal if x in e.place.chain)

    def open(self, x: Place, d: str) -> int:
        entries = [e for e in self.journal if x in e.place.chain and e.booked is None]
        return sum(e.held.get(d, 0) for e in entries)

    def payers(self, x: Place, d: str) -> list[Place]:
        """Those whose room counts: up to the first who carved its limit out of its parents'."""
        lent = [i for i, y in enumerate(x.chain) if y.lends(d)]
        return list(x.chain[: lent[0] + 1] if lent else x.chain)

    def aside(self, x: Place, d: str) -> int:
        carves = [c for c in self.places if c.lends(d) and c.parent is not None]
        return sum(self.due(c, d) for c in carves if c.parent and x in self.payers(c.parent, d))

    def due(self, c: Place, d: str) -> int:
        return self.aside(c, d) + (0 if c.ended else max(0, self.room(c, d)))

    def room(self, x: Place, d: str) -> int:
        return x.limit[d] - self.booked(x, d) - self.open(x, d) - self.aside(x, d)

    def grants(self, x: Place, amounts: Held, finishing: Place | None = None) -> bool:
        return all(
            n == 0 or n <= self.room(y, d) - (0 if y is finishing else y.keep.get(d, 0))
            for d, n in amounts.items()
            for y in self.payers(x, d)
            if d in y.limit
        )

    def above_warn(self) -> set[tuple[str, str]]:
        return {
            (x.name, d)
            for x in self.places
            for d, warn in x.warn.items()
            if self.booked(x, d) + self.open(x, d) > warn
        }

    def balance(self, x: Place, d: str) -> Balance:
        room = self.room(x, d)
        kept = min(x.keep.get(d, 0), max(0, room))
        unsure = [e for e in self.journal if x in e.place.chain and e.assumed and e.booked]
        return Balance(
            limit=x.limit[d],
            warn=x.warn.get(d),
            spent=self.booked(x, d),
            reserved=self.open(x, d),
            granted=self.aside(x, d) + kept,
            remaining=max(0, room - kept),
            overrun=max(0, -room),
            assumed=sum((e.booked or {}).get(d, 0) for e in unsure),
        )


@dataclass(eq=False)
class Task:
    """A node of the code, and the place in the model that it must agree with."""

    node: Node
    place: Place


@dataclass(eq=False)
class Ticket:
    """A reservation of the code, and its entry in the model."""

    items: tuple[Item, ...]
    entry: Entry

    def used(self, numbers: tuple[int, int]) -> Held:
        return {d: n for d, n in zip(DIMS, numbers, strict=True) if d in self.entry.held}


def tickets_of(task: Task, amounts: Held) -> tuple[Item, ...]:
    return tuple((d, n, payers(task.node.chain, d)) for d, n in amounts.items())


def named(cells: list[Cell]) -> set[tuple[str, str]]:
    return {(cell.node.name, cell.dim) for cell in cells}


class Tree(RuleBasedStateMachine):
    """Random trees with and without carves; every node is compared after every move."""

    tasks: Bundle[Task] = Bundle("tasks")
    held: Bundle[Ticket] = Bundle("held")
    unsure: Bundle[Ticket] = Bundle("unsure")

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.all: list[Task] = []

    @initialize(target=tasks, limits=LIMITS, keep=st.booleans())
    def root(self, limits: Held, keep: bool) -> Task:
        return self.added(None, limits, carve=False, keep=keep, warn=False)

    def added(
        self, parent: Task | None, limits: Held, *, carve: bool, keep: bool, warn: bool
    ) -> Task:
        place = Place(f"n{len(self.all)}", parent.place if parent else None, limits, carve)
        place.keep = {d: n // 3 for d, n in limits.items()} if keep else {}
        place.warn = {d: n // 2 for d, n in limits.items()} if warn else {}
        node = Node(place.name, place.name, None, parent.node if parent else None)
        for d, n in limits.items():
            node.cells[d] = Cell(node, d, n, place.warn.get(d), place.keep.get(d, 0))
        if carve and parent is not None:
            open_carve(node, tickets_of(parent, limits))
        self.books.places.append(place)
        self.all.append(Task(node, place))
        return self.all[-1]

    @rule(
        target=tasks,
        parent=tasks,
        limits=LIMITS,
        carve=st.booleans(),
        keep=st.booleans(),
        warn=st.booleans(),
    )
    def nest(self, parent: Task, limits: Held, carve: bool, keep: bool, warn: bool) -> Any:
        if len(self.all) > 7 or any(x.ended for x in parent.place.chain):
            return NOTHING
        if carve:
            short = shortages(tickets_of(parent, limits), frozenset())
            assert (not short) == self.books.grants(parent.place, limits)
            if short:
                return NOTHING
        return self.added(parent, limits, carve=carve, keep=keep, warn=warn)

    @rule(target=held, task=tasks, amounts=HELD, finishing=st.booleans())
    def reserve(self, task: Task, amounts: Held, finishing: bool) -> Any:
        if any(x.ended for x in task.place.chain):
            return NOTHING
        items = tickets_of(task, amounts)
        before = self.books.above_warn()
        entry = Entry(task.place, amounts)
        granted = self.books.grants(task.place, amounts, task.place if finishing else None)
        crossed: set[tuple[str, str]] = set()
        if not try_hold(items):
            allowed = frozenset({task.node}) if finishing else frozenset[Node]()
            if shortages(items, allowed):
                assert not granted
                return NOTHING
            crossed = named(hold(items))
        assert granted
        self.books.journal.append(entry)
        assert crossed == self.books.above_warn() - before
        return Ticket(items, entry)

    @rule(ticket=consumes(held), numbers=USED)
    def commit(self, ticket: Ticket, numbers: tuple[int, int]) -> None:
        used = ticket.used(numbers)
        before = self.books.above_warn()
        crossed = settle(ticket.items, list(used_in_order(ticket, used)))
        ticket.entry.booked = used
        assert named(crossed) == self.books.above_warn() - before

    @rule(ticket=consumes(held))
    def commit_what_was_held(self, ticket: Ticket) -> None:
        settle_held(ticket.items)
        ticket.entry.booked = dict(ticket.entry.held)

    @rule(target=unsure, ticket=consumes(held))
    def assume(self, ticket: Ticket) -> Ticket:
        settle(ticket.items, [n for _d, n, _p in ticket.items], assumed=True)
        ticket.entry.booked = dict(ticket.entry.held)
        ticket.entry.assumed = True
        return ticket

    @rule(ticket=consumes(unsure), numbers=USED)
    def put_right(self, ticket: Ticket, numbers: tuple[int, int]) -> None:
        used = ticket.used(numbers)
        old = [n for _d, n, _p in ticket.items]
        correct(ticket.items, old, list(used_in_order(ticket, used)))
        ticket.entry.booked = used
        ticket.entry.assumed = False

    @rule(task=tasks, amounts=HELD)
    def charge(self, task: Task, amounts: Held) -> None:
        """Book what has happened, room or not."""
        before = self.books.above_warn()
        items = tickets_of(task, dict.fromkeys(amounts, 0))
        crossed = settle(items, list(amounts.values()))
        self.books.journal.append(Entry(task.place, amounts, amounts))
        assert named(crossed) == self.books.above_warn() - before

    @rule(task=tasks, dim=st.sampled_from(DIMS), more=st.integers(1, 30))
    def top_up(self, task: Task, dim: str, more: int) -> None:
        if dim not in task.place.limit or any(x.ended for x in task.place.chain):
            return
        cell = task.node.cells[dim]
        taken = max(0, self.books.room(task.place, dim) + more)
        taken -= max(0, self.books.room(task.place, dim))
        if task.place.lends(dim) and task.place.parent is not None:
            assert lending(cell, more) == taken
            if not self.books.grants(task.place.parent, {dim: taken}):
                return
        raise_limit(cell, more, cell.warn)
        task.place.limit = {**task.place.limit, dim: task.place.limit[dim] + more}

    @rule(task=tasks)
    def end(self, task: Task) -> None:
        if task.place.ended:
            return
        task.node.ended = True
        for cell in task.node.cells.values():
            give_back(cell)
        task.node.guard()
        task.place.ended = True

    @invariant()
    def every_balance_is_the_models(self) -> None:
        for task in self.all:
            shown = {d: balance(task.node.cells[d]) for d in task.place.limit}
            assert shown == {d: self.books.balance(task.place, d) for d in task.place.limit}

    @invariant()
    def every_unlimited_dimension_is_counted(self) -> None:
        for task in self.all:
            for d in set(task.node.cells) - set(task.place.limit):
                shown = balance(task.node.cells[d])
                assert (shown.limit, shown.remaining, shown.overrun) == (None, None, 0)
                assert shown.spent == self.books.booked(task.place, d)
                assert shown.reserved == self.books.open(task.place, d)

    @invariant()
    def limit_is_the_sum_of_its_parts(self) -> None:
        for task in self.all:
            for d in task.place.limit:
                b: Any = balance(task.node.cells[d])
                parts = b.spent + b.reserved + b.granted + b.remaining
                assert b.limit == parts - b.overrun
                assert b.assumed <= b.spent


def used_in_order(ticket: Ticket, used: Held) -> list[int]:
    return [used[d] for d, _n, _p in ticket.items]


Tree.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestTree = Tree.TestCase


def a_node(parent: Node | None = None, /, **limits: int) -> Node:
    node = Node("n", "n", None, parent)
    for dim, limit in limits.items():
        node.cells[dim] = Cell(node, dim, limit, None, 0)
    return node


def items_of(node: Node, **amounts: int) -> tuple[Item, ...]:
    return tuple((dim, n, payers(node.chain, dim)) for dim, n in amounts.items())


def carved(parent: Node, /, **limits: int) -> Node:
    child = a_node(parent, **limits)
    open_carve(child, items_of(parent, **limits))
    return child


def test_a_refused_hold_changes_nothing_on_any_payer() -> None:
    root = a_node(tokens=100, calls=1)
    leaf = a_node(root, tokens=100)
    before = [balance(cell) for node in leaf.chain for cell in node.cells.values()]
    assert not try_hold(items_of(leaf, tokens=50, calls=2))
    cells = [leaf.cells["tokens"], root.cells["tokens"], root.cells["calls"]]
    assert [balance(cell) for cell in cells] == before
    assert balance(leaf.cells["calls"]).reserved == 0


def test_each_short_payer_is_named_with_what_it_has() -> None:
    root = a_node(tokens=10)
    leaf = a_node(root, tokens=20)
    found = shortages(items_of(leaf, tokens=30), frozenset())
    assert [(s.cell.node, s.requested, s.available) for s in found] == [
        (leaf, 30, 20),
        (root, 30, 10),
    ]


def test_exactly_what_is_kept_is_no_shortage_while_finishing() -> None:
    node = a_node(tokens=10)
    node.cells["tokens"].keep = 4
    finishing = frozenset({node})
    assert not shortages(items_of(node, tokens=10), finishing)
    assert shortages(items_of(node, tokens=11), finishing)
    assert not shortages(items_of(node, tokens=6), frozenset())
    assert shortages(items_of(node, tokens=7), frozenset())


def test_debt_refuses_everything_above_zero() -> None:
    node = a_node(tokens=10)
    items = items_of(node, tokens=10)
    assert try_hold(items)
    settle(items, [12])
    assert balance(node.cells["tokens"]).overrun == 2
    assert shortages(items_of(node, tokens=1), frozenset())
    assert not shortages(items_of(node, tokens=0), frozenset())


def test_debt_of_a_carve_is_taken_from_the_parents_room() -> None:
    root = a_node(tokens=100)
    leaf = carved(root, tokens=10)
    items = items_of(leaf, tokens=10)
    assert try_hold(items)
    settle(items, [15])
    shown = balance(root.cells["tokens"])
    assert (shown.spent, shown.granted, shown.remaining) == (15, 0, 85)


def test_raising_a_carve_in_debt_takes_from_the_parent_only_what_is_new_room() -> None:
    root = a_node(tokens=100)
    leaf = carved(root, tokens=10)
    items = items_of(leaf, tokens=10)
    assert try_hold(items)
    settle(items, [15])
    raise_limit(leaf.cells["tokens"], 8, None)
    shown = balance(root.cells["tokens"])
    assert (shown.spent, shown.granted, shown.remaining) == (15, 3, 82)


def test_a_correction_after_the_end_of_a_carve_reaches_the_parents_room() -> None:
    root = a_node(tokens=100)
    leaf = carved(root, tokens=40)
    items = items_of(leaf, tokens=40)
    assert try_hold(items)
    leaf.ended = True
    give_back(leaf.cells["tokens"])
    settle(items, [40], assumed=True)
    correct(items, [40], [5])
    shown = balance(root.cells["tokens"])
    assert (shown.spent, shown.granted, shown.remaining) == (5, 0, 95)


def test_a_carve_in_a_carve_returns_through_both() -> None:
    root = a_node(tokens=100)
    middle = carved(root, tokens=60)
    leaf = carved(middle, tokens=50)
    middle.ended = True
    give_back(middle.cells["tokens"])
    assert balance(root.cells["tokens"]).remaining == 50
    leaf.ended = True
    give_back(leaf.cells["tokens"])
    assert balance(root.cells["tokens"]).remaining == 100


def test_memory_is_given_back_and_its_peak_is_shown() -> None:
    node = a_node(memory=100)
    first, second = items_of(node, memory=60), items_of(node, memory=30)
    hold(first)
    hold(second)
    settle(first, [60])
    settle(second, [30])
    shown = balance(node.cells["memory"])
    assert (shown.spent, shown.reserved, shown.remaining) == (90, 0, 100)


def test_memory_that_took_more_than_it_held_shows_in_the_peak() -> None:
    node = a_node(memory=100)
    items = items_of(node, memory=60)
    hold(items)
    settle(items, [80])
    assert balance(node.cells["memory"]).spent == 80


def test_a_dimension_without_a_limit_never_runs_out() -> None:
    node = a_node()
    items = items_of(node, tokens=OPEN - 1)
    for _ in range(3):
        assert not shortages(items, frozenset())
        hold(items)
        settle_held(items)
    assert balance(node.cells["tokens"]).spent == 3 * (OPEN - 1)


def test_a_cell_without_a_limit_cannot_be_raised() -> None:
    node = a_node()
    with pytest.raises(ValueError, match="without a limit"):
        raise_limit(node.cell("tokens"), 1, None)


def test_verdicts_name_the_worst_dimension() -> None:
    node = a_node(tokens=10, calls=10)
    items = items_of(node, tokens=5, calls=5)
    hold(items)
    assert verdict(node) == Verdict("continue", None)
    settle(items, [5, 12])
    assert verdict(node) == Verdict("exhausted", "calls")
    assert worst_of(items_of(node, tokens=1)) == Verdict("continue", None)

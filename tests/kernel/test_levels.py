"""What comes back at the end of each hold: slots and memory, alone, beside tasks, above carves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgetware.kernel.balances import balance, verdict, worst_of
from budgetware.kernel.carving import open_carve
from budgetware.kernel.nodes import Cell, Item, Node, QuotaCell, joined, payers
from budgetware.kernel.quota import put_capacity, put_slots
from budgetware.kernel.tree import (
    AS_HELD,
    correct,
    give_back,
    hold,
    settle,
    settle_held,
    shortages,
    try_hold,
)
from budgetware.kernel.verdict import Verdict

NOBODY: frozenset[Node] = frozenset()


def a_task(parent: Node | None = None, /, **limits: int) -> Node:
    node = Node("t", "t", None, parent)
    for dim, limit in limits.items():
        node.cells[dim] = Cell(node, dim, limit, None, 0)
    return node


def carved(parent: Node, /, **limits: int) -> Node:
    child = a_task(parent, **limits)
    for dim, limit in limits.items():
        open_carve(child, [(dim, limit, payers(parent.chain, dim))])
    return child


def slots(count: int, dim: str = "calls", *, kind: str = "resource") -> QuotaCell:
    node = Node("slots", "slots", None, kind=kind)
    cell = QuotaCell(node, dim, None)
    node.cells[dim] = cell
    put_slots(cell, count)
    return cell


def item(task: Node, dim: str, units: int, *others: Cell) -> Item:
    return dim, units, joined(payers(task.chain, dim), others)


def shown(cell: Cell) -> tuple[Any, ...]:
    """(spent, reserved, granted, remaining, overrun)"""
    b = balance(cell)
    return b.spent, b.reserved, b.granted, b.remaining, b.overrun


def held(*items: Item) -> Sequence[Item]:
    assert try_hold(items)
    return items


@pytest.mark.parametrize("used", [0, 1, 2, 3, 50, AS_HELD])
def test_slots_come_back_whatever_is_committed(used: int) -> None:
    cell = slots(3)
    items = held(("calls", 2, joined(payers((), "calls"), [cell])))
    assert shown(cell) == (0, 2, 0, 1, 0)
    settle(items, [used])
    assert shown(cell) == (0, 0, 0, 3, 0)


@pytest.mark.parametrize("assumed", [False, True])
def test_slots_come_back_when_what_was_held_is_booked(assumed: bool) -> None:
    cell = slots(3)
    items = held(("calls", 2, joined(payers((), "calls"), [cell])))
    if assumed:
        settle(items, [2], assumed=True)
    else:
        settle_held(items)
    assert shown(cell) == (0, 0, 0, 3, 0)
    assert balance(cell).assumed == 0


@settings(max_examples=100, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.booleans()), max_size=40),
    stay=st.integers(0, 4),
)
def test_no_slot_is_lost_or_made_over_many_calls(
    calls: list[tuple[int, int, bool]], stay: int
) -> None:
    cell = slots(6)
    still: list[tuple[Sequence[Item], int, bool]] = []
    for units, used, assumed in calls:
        items = [("calls", units, joined(payers((), "calls"), [cell]))]
        granted = try_hold(items)
        assert granted == (units <= 6 - sum(i[0][1] for i, _u, _a in still))
        still += [(items, used, assumed)] if granted else []
        for ended, booked, unsure in still[stay:]:
            settle(ended, [booked], assumed=unsure)
        del still[stay:]
    assert cell.free == 6 - sum(i[0][1] for i, _u, _a in still)


def test_charging_slots_that_were_not_held_takes_none() -> None:
    cell = slots(2)
    settle([("calls", 0, joined(payers((), "calls"), [cell]))], [5])
    assert shown(cell) == (0, 0, 0, 2, 0)


def test_slots_below_a_parent_come_back_to_both() -> None:
    cell, above = slots(2), slots(3)
    items = held(("calls", 2, joined(payers((), "calls"), [cell, above])))
    assert (cell.free, above.free) == (0, 1)
    settle(items, [7])
    assert (cell.free, above.free) == (2, 3)


def test_a_capacity_above_slots_is_spent_and_the_slots_come_back() -> None:
    cell = slots(2)
    above = QuotaCell(Node("r", "r", None, kind="resource"), "calls", None)
    put_capacity(above, 10)
    items = held(("calls", 2, joined(payers((), "calls"), [cell, above])))
    settle(items, [1])
    assert shown(cell) == (0, 0, 0, 2, 0)
    assert shown(above) == (1, 0, 0, 9, 0)


def test_of_task_and_slots_in_one_item_the_task_spends_and_the_slots_come_back() -> None:
    task, cell = a_task(calls=10), slots(3)
    items = held(item(task, "calls", 2, cell))
    assert shown(task.cells["calls"]) == (0, 2, 0, 8, 0)
    settle_held(items)
    assert shown(task.cells["calls"]) == (2, 0, 0, 8, 0)
    assert shown(cell) == (0, 0, 0, 3, 0)


def test_overuse_is_debt_of_the_task_and_none_of_the_slots() -> None:
    task, cell = a_task(calls=3), slots(3)
    items = held(item(task, "calls", 2, cell))
    settle(items, [5])
    assert shown(task.cells["calls"]) == (5, 0, 0, 0, 2)
    assert shown(cell) == (0, 0, 0, 3, 0)
    assert verdict(task) == Verdict("exhausted", "calls")
    assert worst_of(items) == Verdict("exhausted", "calls")
    assert verdict(cell.node) == Verdict("continue", None)


def test_a_refusal_by_the_slots_changes_nothing_on_the_task() -> None:
    task, cell = a_task(calls=10, tokens=100), slots(1)
    items = [item(task, "tokens", 50), item(task, "calls", 2, cell)]
    assert not try_hold(items)
    assert [s.cell for s in shortages(items, NOBODY)] == [cell]
    assert shown(task.cells["tokens"]) == (0, 0, 0, 100, 0)
    assert shown(task.cells["calls"]) == (0, 0, 0, 10, 0)
    assert shown(cell) == (0, 0, 0, 1, 0)


@pytest.mark.parametrize("used", [0, 1, 2, 5])
def test_a_correction_of_what_was_assumed_reaches_the_task_and_takes_no_slot(used: int) -> None:
    task, cell = a_task(calls=10), slots(3)
    items = held(item(task, "calls", 2, cell))
    settle(items, [2], assumed=True)
    assert balance(task.cells["calls"]).assumed == 2
    assert shown(cell) == (0, 0, 0, 3, 0)
    correct(items, [2], [used])
    assert shown(task.cells["calls"]) == (used, 0, 0, 10 - used, 0)
    assert balance(task.cells["calls"]).assumed == 0
    assert (shown(cell), balance(cell).assumed) == ((0, 0, 0, 3, 0), 0)


def test_a_carve_and_slots_in_one_item() -> None:
    root, cell = a_task(calls=10), slots(3)
    leaf = carved(root, calls=4)
    items = held(item(leaf, "calls", 2, cell))
    assert shown(root.cells["calls"]) == (0, 2, 2, 6, 0)
    settle(items, [1])
    assert shown(leaf.cells["calls"]) == (1, 0, 0, 3, 0)
    assert shown(root.cells["calls"]) == (1, 0, 3, 6, 0)
    assert shown(cell) == (0, 0, 0, 3, 0)


def test_debt_of_a_carve_beside_slots_is_taken_from_the_parents_room_alone() -> None:
    root, cell = a_task(calls=10), slots(3)
    leaf = carved(root, calls=2)
    items = held(item(leaf, "calls", 2, cell))
    settle(items, [5])
    assert shown(leaf.cells["calls"]) == (5, 0, 0, 0, 3)
    assert shown(root.cells["calls"]) == (5, 0, 0, 5, 0)
    assert shown(cell) == (0, 0, 0, 3, 0)


def test_a_correction_after_the_end_of_a_carve_beside_slots_reaches_the_parent() -> None:
    root, cell = a_task(calls=10), slots(3)
    leaf = carved(root, calls=4)
    items = held(item(leaf, "calls", 3, cell))
    settle(items, [3], assumed=True)
    leaf.ended = True
    give_back(leaf.cells["calls"])
    correct(items, [3], [1])
    assert shown(root.cells["calls"]) == (1, 0, 0, 9, 0)
    assert shown(cell) == (0, 0, 0, 3, 0)


def test_a_hold_above_a_carve_is_undone_whole_where_a_later_item_is_refused() -> None:
    root, cell = a_task(calls=10, tokens=10), slots(1)
    leaf = carved(root, calls=4)
    items = [item(leaf, "calls", 2), item(leaf, "tokens", 3, cell), item(leaf, "usd", 1)]
    assert try_hold(items[:1])
    settle(items[:1], [0])
    before = shown(root.cells["calls"]), shown(leaf.cells["calls"])
    assert not try_hold(items)
    assert (shown(root.cells["calls"]), shown(leaf.cells["calls"])) == before
    assert shown(root.cells["tokens"]) == (0, 0, 0, 10, 0)
    assert leaf.cell("usd").reserved == 0


def test_a_guarded_payer_above_a_carve_undoes_the_hold() -> None:
    root = a_task(calls=10)
    middle = carved(root, calls=6)
    leaf = carved(middle, calls=4)
    root.latch = "over"
    root.guard()
    assert not try_hold([item(leaf, "calls", 2)])
    assert [shown(node.cells["calls"])[1] for node in (leaf, middle, root)] == [0, 0, 0]
    assert [node.cells["calls"].granted for node in (leaf, middle, root)] == [0, 4, 6]


def test_memory_above_a_carve_comes_back_and_both_show_the_peak() -> None:
    root = a_task(memory=100)
    leaf = carved(root, memory=60)
    items = [item(leaf, "memory", 50)]
    assert not shortages(items, NOBODY)
    hold(items)
    assert root.cells["memory"].granted == 10
    settle(items, [70])
    assert (leaf.cells["memory"].free, root.cells["memory"].free) == (60, 40)
    assert root.cells["memory"].granted == 60
    assert balance(leaf.cells["memory"]).spent == 70
    assert balance(root.cells["memory"]).spent == 70


def test_a_correction_changes_nothing_of_memory() -> None:
    task = a_task(memory=100)
    items = [item(task, "memory", 50)]
    hold(items)
    settle(items, [50], assumed=True)
    correct(items, [50], [10])
    assert shown(task.cells["memory"]) == (50, 0, 0, 100, 0)


def test_the_peak_of_slots_is_what_was_held_at_once() -> None:
    cell = slots(5)
    first, second, third = ([("calls", n, joined(((), (), False), [cell]))] for n in (1, 3, 2))
    hold(first)
    hold(second)
    settle_held(second)
    hold(third)
    settle_held(first)
    settle_held(third)
    assert cell.peak == 4


def test_slots_beside_a_warn_threshold_tell_of_each_crossing_once() -> None:
    task, cell = a_task(calls=10), slots(9)
    watched = Cell(task, "calls", 10, 4, 0)
    task.cells["calls"] = watched
    first, second = item(task, "calls", 3, cell), item(task, "calls", 3, cell)
    assert hold([first]) == []
    assert hold([second]) == [watched]
    assert worst_of([first]) == Verdict("warn", "calls")
    assert settle([first], [0]) == []
    assert settle([second], [5]) == [watched]
    assert cell.free == 9


def test_payers_without_a_limit_have_no_say_in_the_verdict() -> None:
    task = a_task(calls=10)
    asked = held(item(task, "calls", 1), item(task, "tokens", 10**6))
    settle(asked, [11, 10**6])
    assert verdict(task) == Verdict("exhausted", "calls")
    assert worst_of(asked[1:]) == Verdict("continue", None)


@pytest.mark.parametrize("with_slots", [False, True])
def test_using_more_than_was_held_may_cross_a_warn_threshold(with_slots: bool) -> None:
    task = a_task()
    watched = task.cells["calls"] = Cell(task, "calls", 10, 4, 0)
    asked = item(task, "calls", 2, *([slots(2)] if with_slots else []))
    assert hold([asked]) == []
    assert settle([asked], [6]) == [watched]


def test_an_end_deep_below_two_carves_pays_the_debt_above_first() -> None:
    root = a_task(calls=10)
    middle = carved(root, calls=6)
    leaf = carved(middle, calls=4)
    overdrawn = held(item(middle, "calls", 2))
    settle(overdrawn, [5])
    assert shown(middle.cells["calls"]) == (5, 0, 4, 0, 3)
    assert shown(root.cells["calls"]) == (5, 0, 4, 1, 0)
    leaf.ended = True
    give_back(leaf.cells["calls"])
    assert shown(middle.cells["calls"]) == (5, 0, 0, 1, 0)
    assert shown(root.cells["calls"]) == (5, 0, 1, 4, 0)


def test_a_payer_of_two_draws_in_one_item_pays_once() -> None:
    first, second, parent = slots(5), slots(5), slots(5)
    both = joined(joined(((), (), False), [first, parent]), [second, parent])
    items = held(("calls", 2, both))
    assert [cell.free for cell in (first, second, parent)] == [3, 3, 3]
    settle_held(items)
    assert [cell.free for cell in (first, second, parent)] == [5, 5, 5]


def test_slots_of_a_common_parent_come_back_from_both_items() -> None:
    first, second, parent = slots(5), slots(5), slots(5)
    both = [("a", 2, joined(((), (), False), [cell, parent])) for cell in (first, second)]
    assert try_hold(both)
    assert parent.free == 1
    settle(both, [0, 9])
    assert [cell.free for cell in (first, second, parent)] == [5, 5, 5]

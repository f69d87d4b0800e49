"""The close look at a call for which there was no room at first sight.

Not here: the first sight (`requests`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..accounts import acquire, release, waiting
from ..calls import Call
from ..frames import Frame
from ..kernel.nodes import Item, Node
from ..ledgers.courier import PATIENCE_SECONDS
from ..tallies import Tally
from .decisions import Carve, Delay, Question, decide, decide_carve, warn
from .parking import tell_stirred, watch_clock
from .refusals import Refusal
from .waiters import MAX_WAITERS, Waiter, line_up, stirred

_MOST_QUESTIONS = 5
"""What a ledger has given may be taken by somebody else before the call that asked."""


def look_closely(
    frame: Frame,
    items: Sequence[Item],
    call: Call,
    tally: Tally,
    *,
    priced: bool = False,
    may_wait: bool = True,
) -> Refusal | Waiter | None:
    """Book what was left behind, then decide; tells of warnings. None: the units are held.

    A `Waiter` stands in line already: have it wait, and it is granted or refused. Where it may
    not wait, but a ledger has to be asked, this blocks until that answers.
    """
    may_wait = may_wait and len(waiting) < MAX_WAITERS
    tries = 0
    while True:
        answer = _look(
            frame, items, call, tally,
            priced=priced, may_wait=may_wait, may_ask=tries < _MOST_QUESTIONS,
        )  # fmt: skip
        if not isinstance(answer, Question):
            return answer
        tries += 1
        _hear(answer)


def _look(
    frame: Frame,
    items: Sequence[Item],
    call: Call,
    tally: Tally,
    *,
    priced: bool,
    may_wait: bool,
    may_ask: bool,
) -> Refusal | Waiter | Question | None:
    frame.runtime.sweep()
    now_ns = frame.now_ns()
    waiter: Waiter | None = None
    try:
        acquire()
        decision = decide(frame, items, call, now_ns, may_wait=may_wait, may_ask=may_ask)
        if isinstance(decision, Delay):
            waiter = Waiter(frame, items, call, tally, now_ns, holds=decision.holds, priced=priced)
            line_up(waiter, now_ns)
        elif isinstance(decision, list):
            tally.admitted += 1
    finally:
        release()
    if frame.runtime.shared is not None:
        frame.runtime.shared.courier.give_turn()
    if stirred:
        tell_stirred()
    if waiter is not None:
        watch_clock(frame.runtime)
        return waiter
    if not isinstance(decision, list):
        assert not isinstance(decision, Delay)
        return decision
    if decision:
        warn(decision)
    return None


def _hear(question: Question) -> None:
    """Wait for the answers of a ledger."""
    for event in question.events:
        event.wait(PATIENCE_SECONDS)


def look_at_carve(node: Node, limits: Carve, parent: Frame) -> Refusal | None:
    """Take a child's limits out of its parents' room: all of them, or say who refuses.

    Where a ledger has to be asked, this blocks until that answers.
    """
    tries = 0
    while True:
        parent.runtime.sweep()
        try:
            acquire()
            now_ns = parent.now_ns()
            answer = decide_carve(node, limits, parent, now_ns, may_ask=tries < _MOST_QUESTIONS)
        finally:
            release()
        if not isinstance(answer, Question):
            return answer
        tries += 1
        _hear(answer)

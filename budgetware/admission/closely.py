"""The close look at a call for which there was no room at first sight.

Not here: the first sight (`requests`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..accounts import acquire, release, waiting
from ..calls import Call
from ..frames import Frame
from ..kernel.nodes import Item
from ..tallies import Tally
from .decisions import Delay, decide, warn
from .parking import tell_stirred, watch_clock
from .refusals import Refusal
from .waiters import MAX_WAITERS, Waiter, line_up, stirred


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

    A `Waiter` stands in line already: have it wait, and it is granted or refused.
    """
    frame.runtime.sweep()
    now_ns = frame.now_ns()
    may_wait = may_wait and len(waiting) < MAX_WAITERS
    waiter: Waiter | None = None
    try:
        acquire()
        decision = decide(frame, items, call, now_ns, may_wait=may_wait)
        if isinstance(decision, Delay):
            waiter = Waiter(frame, items, call, tally, now_ns, holds=decision.holds, priced=priced)
            line_up(waiter, now_ns)
        elif not isinstance(decision, Refusal):
            tally.admitted += 1
    finally:
        release()
    if stirred:
        tell_stirred()
    if waiter is not None:
        watch_clock(frame.runtime)
        return waiter
    if isinstance(decision, Refusal):
        return decision
    if decision:
        warn(decision)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return None

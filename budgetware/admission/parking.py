"""Sleeping until it is one's turn: in a task of any event loop, or in a thread.

A waiter is woken by whoever serves it. Only the first of a queue sets a timer for a refill, so
there is one per resource; each has its own for the longest wait. Not here: whose turn it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any
from weakref import ref

from anyio import from_thread

from ..accounts import acquire, book_later, drain, release, rousers, waiting
from ..errors import BlockingInEventLoop
from ..kernel.nodes import Cell, Item, Node
from ..ledgers import courier
from ..ledgers.leases import Lease
from ..loops import alarm, current_loop, post, post_soon
from ..outcomes import tell_cut_wait, tell_wait, wait_began
from ..runtime import Runtime
from . import changes, waiters
from .decisions import look_at_deadlines
from .lending import first_stays
from .refusals import Refusal
from .waiters import Waiter, stirred

_LEAST_SECONDS = 0.0005
_CANCEL_POLL_SECONDS = 0.05
_POLL_SECONDS = 1.0
"""How often whoever waits behind another loop looks whether that one is still there."""
_ROUSED = 4


class TaskParking:
    """Where a task sleeps."""

    __slots__ = ("_waiter", "alarm", "loop")

    def __init__(self, waiter: Waiter, loop: Any) -> None:
        self._waiter = waiter
        self.loop = loop
        self.alarm = alarm()

    @property
    def is_gone(self) -> bool:
        """Whether nobody will ever wake here: its event loop was closed over it."""
        is_closed = getattr(self.loop, "is_closed", None)
        return is_closed is not None and is_closed()

    def stir(self) -> None:
        """Wake it, or set its alarm anew; from any thread, without the lock."""
        post(self.loop, self._stir)

    def _stir(self) -> None:
        if self._waiter.state == "waiting":
            self.alarm.move(seconds_left(self._waiter))
        else:
            self.alarm.wake()

    def rouse(self) -> None:
        """Have it look again soon, from where a finalizer may run."""
        post_soon(self.loop, self._hurry)

    def _hurry(self) -> None:
        if self._waiter.state == "waiting":
            self.alarm.move(0)


class ThreadParking:
    """Where a thread sleeps."""

    __slots__ = ("_bell", "_waiter")
    is_gone = False
    loop = None

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self._bell: SimpleQueue[None] = SimpleQueue()  # a finalizer may ring it at any time

    def stir(self) -> None:
        """Wake it, to look at its state or its alarm; from any thread."""
        self._bell.put(None)

    rouse = stir

    def sleep(self) -> None:
        """Sleep until woken, or until the alarm.

        On a worker thread of anyio the cancellation of its host is looked for meanwhile.
        """
        left = seconds_left(self._waiter)
        try:
            from_thread.check_cancelled()
            left = min(left, _CANCEL_POLL_SECONDS)
        except RuntimeError:  # not such a thread
            pass
        try:
            self._bell.get(timeout=None if left == float("inf") else left)
        except Empty:  # the alarm
            pass


def seconds_left(waiter: Waiter) -> float:
    """Until the alarm of a waiter, by its service's clock."""
    next_ns = waiter.next_ns()
    longest = _POLL_SECONDS if waiter.polls else float("inf")
    if next_ns is None:
        return longest
    return min(longest, max(_LEAST_SECONDS, (next_ns - waiter.frame.now_ns()) / 1e9))


async def wait_async(waiter: Waiter) -> Refusal | None:
    """Wait for the turn of a waiter; None: its units are held.

    Whatever is raised in between, a cancellation say, leaves nothing held.
    """
    loop = current_loop()
    if loop is None:  # a coroutine may be driven by hand
        return wait_sync(waiter)
    parking = TaskParking(waiter, loop)
    began_ns = wait_began(waiter)
    try:
        _park(waiter, parking)
        while waiter.state == "waiting":
            await parking.alarm.sleep(seconds_left(waiter))
            if waiter.state == "waiting":
                look_again(waiter)
        tell_wait(waiter, began_ns)
    except BaseException as error:
        _cut(waiter, began_ns, error)
        raise
    return waiter.refusal


def wait_sync(waiter: Waiter) -> Refusal | None:
    """The same for sync code, which blocks its thread."""
    has_loop = current_loop() is not None
    _refuse_on_loop(waiter, has_loop=has_loop)
    parking = ThreadParking(waiter)
    began_ns = wait_began(waiter)
    try:
        _park(waiter, parking)
        while waiter.state == "waiting":
            _refuse_on_loop(waiter, has_loop=has_loop)
            parking.sleep()
            if waiter.state == "waiting":
                look_again(waiter)
        tell_wait(waiter, began_ns)
    except BaseException as error:
        _cut(waiter, began_ns, error)
        raise
    return waiter.refusal


def _refuse_on_loop(waiter: Waiter, *, has_loop: bool) -> None:
    """Nobody blocks an event loop, but for the answer of a ledger."""
    if not has_loop or waiter.state != "waiting" or waiters.asks(waiter, waiter.frame.now_ns()):
        return
    _withdraw(waiter)
    waited_for = waiter.waited_for
    name = "its turn" if waited_for is None else f"{waited_for.kind} {waited_for.name!r}"
    raise BlockingInEventLoop(
        f"the call has to wait for {name}, and this thread runs an event loop: use `async with` "
        "or an async function, run it in a worker thread, or refuse with policy='reject'"
    )


def _park(waiter: Waiter, parking: Any) -> None:
    try:
        acquire()
        waiter.parking = parking
        waiter.polls = waiters.is_behind_another(waiter)
    finally:
        release()
    drain()


def look_again(waiter: Waiter) -> None:
    """The alarm of a waiter went off."""
    frame = waiter.frame
    frame.runtime.sweep()
    now_ns = frame.now_ns()
    if frame.deadline_ns and now_ns >= frame.deadline_ns:
        look_at_deadlines(frame)
        dismiss(now_ns, *frame.chain)
    try:
        acquire()
        waiters.look_again(waiter, now_ns)
    finally:
        release()
    tell_stirred()


def _cut(waiter: Waiter, began_ns: int, error: BaseException) -> None:
    """The call is over, whatever it was granted."""
    if isinstance(error, GeneratorExit):  # raised where a finalizer may run
        book_later(lambda: _withdraw(waiter))
    else:
        _withdraw(waiter)
    tell_cut_wait(waiter, began_ns, error)


def _withdraw(waiter: Waiter) -> None:
    now_ns = waiter.frame.now_ns()
    try:
        acquire()
        waiter.parking = None
        changes.withdraw(waiter, now_ns)
    finally:
        release()
    tell_stirred()
    if waiter.refusal is not None:  # nobody is told of it, but it may have ended a task
        waiter.refusal.end_task()


def watch_clock(runtime: Runtime) -> None:
    """Look at all who wait whenever a clock jumps that tells of it, as a test's does."""
    if runtime.is_clock_watched:
        return
    runtime.is_clock_watched = True
    watch = getattr(runtime.clock, "watch", None)
    if watch is not None:
        seen = ref(runtime)
        watch(lambda: _clock_jumped(seen()))


def _clock_jumped(runtime: Runtime | None) -> None:
    try:
        acquire()
        due = [waiter for waiter in waiting if waiter.frame.runtime is runtime]
    finally:
        release()
    for waiter in due:
        if waiter.parking is not None:
            look_again(waiter)


def tell_stirred() -> None:
    """Wake those who were served or refused. Without the lock."""
    while stirred:
        try:
            waiter = stirred.popleft()
        except IndexError:
            return
        parking = waiter.parking
        if parking is not None:
            parking.stir()


def _rouse() -> None:
    """Have those who have waited longest book what was left behind.

    A finalizer may call this in the middle of anything: it takes no lock and changes nothing.
    """
    for waiter in list(islice(waiting, _ROUSED)):
        parking = waiter.parking
        if parking is not None:
            parking.rouse()


rousers.append(_rouse)


def _served(leases: Sequence[Lease], now_ns: int) -> None:
    """A ledger has answered these, or does not. Without the lock."""
    try:
        acquire()
        changes.served(leases, now_ns)
    finally:
        release()
    tell_stirred()


courier.served = _served
courier.stays = first_stays


def serve_cells(cells: Iterable[Cell], now_ns: int) -> None:
    """The same for payers whose room has grown otherwise. Without the lock."""
    try:
        acquire()
        waiters.pump(cells, now_ns)
    finally:
        release()
    tell_stirred()


def serve(items: Iterable[Item], now_ns: int) -> None:
    """Room came back to these payers: serve who waits for it. Without the lock."""
    try:
        acquire()
        changes.pump_items(items, now_ns)
    finally:
        release()
    tell_stirred()


def dismiss(now_ns: int, *nodes: Node) -> None:
    """These take no more reservations: refuse all who wait below them. Without the lock."""
    if not waiting:
        return
    try:
        acquire()
        for node in nodes:
            if node.waiters and (node.ended or node.latch is not None):
                changes.dismiss(node, now_ns)
    finally:
        release()
    tell_stirred()

"""`reserve`: hold an amount before a call, settle it exactly once. Not here: how (`holds`)."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from decimal import Decimal
from types import TracebackType
from typing import Any
from weakref import ref

from . import holds
from .accounts import book_later
from .admission import Refusal, refuse_async, refuse_sync
from .calls import PLAIN, Call, OnError
from .clock import parse_seconds
from .errors import InvalidAmount
from .frames import current_frame
from .holds import Hold, Price, State
from .kernel.verdict import Verdict
from .settlement import Used

EXPIRES_SECONDS = 600.0
"""How long a bare reservation stays open unless told otherwise."""


class Reservation:
    """An amount held before a call; it ends exactly once.

    As a context manager it ends with its block, as `reserve` does.
    """

    __slots__ = ("__weakref__", "_hold")

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    @property
    def id(self) -> str:
        """Unique in this process and, by a random prefix, beyond it."""
        return self._hold.id

    @property
    def amounts(self) -> dict[str, int | Decimal]:
        """What was held, by dimension; `usd` in dollars."""
        return self._hold.amounts()

    @property
    def state(self) -> State:
        """`held`, then `committed`, `released` or `assumed` (charged, but nobody said so)."""
        self._hold.frame.runtime.sweep()
        return self._hold.state

    @property
    def verdict(self) -> Verdict:
        """How its payers stood when it was granted: `continue` or `warn`."""
        return self._hold.verdict

    def __repr__(self) -> str:
        return f"<Reservation {self.id} {self._hold.state} {self.amounts}>"

    def commit(self, used: Used = None, /, **amounts: Any) -> State:
        """Book what the call really used; less returns to every payer, more is debt.

        Args:
            used: an int where one dimension is held, a `Usage` or anything `Usage.of` reads, or
                a mapping; nothing: what was recorded, else what is held.
            **amounts: the same by dimension. A dimension that is not named stays as held.

        Returns:
            The state it ended in, the first time.

        Raises:
            InvalidAmount: a number, or a dimension that is not held; nothing has changed.
            AlreadySettled: it was settled before with other numbers; those stand.
        """
        hold = self._hold
        if used is None and not amounts:
            return hold.settle("committed", hold.record)
        return hold.settle("committed", hold.read(used, amounts))

    def release(self) -> State:
        """Give back all of it: the call did not happen, or was not paid for.

        Returns and raises as `commit` does.
        """
        return self._hold.settle("released", self._hold.nothing())

    def record(self, used: Used = None, /, **amounts: Any) -> None:
        """Note the usage so far, given as to `commit`: cumulative, the highest counts.

        A block that is then cut short books this instead of what is held.
        """
        self._hold.note(used, amounts)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        _leave(self._hold, error)

    async def __aenter__(self) -> Reservation:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        _leave(self._hold, error)


class BareReservation(Reservation):
    """One that no block ends: it expires, and is assumed when it is collected."""

    __slots__ = ()

    def __del__(self) -> None:
        if self._hold.state == "held":
            book_later(self._hold.expire)


class reserve:  # noqa: N801 - it reads as the verb it is
    """Hold amounts before a call: `async with`, `with`, or `await` it for a bare reservation.

    The current task and its ancestors pay, all or none; outside any task nobody does. Granted,
    it does not yield to the event loop; refused, it does (with `with` it cannot). A bare
    reservation is ended by `commit` or `release`; it is charged when it expires or is collected.

    Args:
        policy: may be stricter than the payers' own, never weaker.
        on_error: `"release"`, or a callable of the exception that answers so: an error of the
            block means that nothing was paid for.
        kind: `"tool"`, `"llm"` or `"embeddings"`: makes a span.
        name, model, provider: of what is called. A model has its price held, where `usd` is
            limited.
        expires_in: seconds, or a text such as `"2m"`, after which it is assumed; by default
            never in a block, and 10 minutes for a bare one.
        **amounts: what to hold, by dimension; `usd` in dollars.

    Raises:
        InvalidAmount: at once; nothing has changed.
        BudgetExceeded, BudgetTerminated, NoBudget, UnknownPrice: on entering; nothing is held.
    """

    __slots__ = ("_amounts", "_call", "_expires_seconds", "_hold", "_unused")

    def __init__(
        self,
        *,
        policy: object = None,
        on_error: OnError = "charge",
        kind: str | None = None,
        name: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        expires_in: float | str | None = None,
        **amounts: Price,
    ) -> None:
        self._unused = False
        self._amounts = holds.check_amounts(amounts)
        if not amounts:
            raise InvalidAmount(
                "reserve() holds nothing: name an amount, as in reserve(tokens=800)"
            )
        self._expires_seconds = (
            None if expires_in is None else parse_seconds("expires_in", expires_in)
        )
        if kind is name is model is provider is policy is None and on_error == "charge":
            self._call = PLAIN
        else:
            self._call = Call(
                kind=kind, name=name, model=model, provider=provider, policy=policy,
                on_error=on_error,
            )  # fmt: skip
        self._unused = True

    def request(self) -> Hold | Refusal:
        """Hold, or say who refuses; for `reserve_nowait`."""
        self._unused = False
        return holds.hold(current_frame(), self._call, self._amounts)

    def _open(self, hold: Hold) -> Reservation:
        hold.told_late = True
        self._hold = hold
        if hold.span is not None:
            hold.span.attach()
        if self._expires_seconds is not None:
            _expire_in(hold, self._expires_seconds)
        return Reservation(hold)

    def _close(self, error: BaseException | None) -> None:
        hold = self._hold
        if hold.span is not None:
            hold.span.detach()
        if isinstance(error, GeneratorExit) and hold.state == "held":
            hold.told_late = False  # it may be booked later, and is told of then
            _leave(hold, error)
            return
        _leave(hold, error)
        hold.tell(error)

    async def __aenter__(self) -> Reservation:
        answer = self.request()
        if isinstance(answer, Refusal):
            await refuse_async(answer)
        return self._open(answer)

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._close(error)

    def __enter__(self) -> Reservation:
        answer = self.request()
        if isinstance(answer, Refusal):
            refuse_sync(answer)
        return self._open(answer)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._close(error)

    def __await__(self) -> Generator[Any, Any, Reservation]:
        return self._wait().__await__()

    async def _wait(self) -> Reservation:
        answer = self.request()
        if isinstance(answer, Refusal):
            await refuse_async(answer)
        return self.bare(answer)

    def bare(self, hold: Hold) -> Reservation:
        """Hand out a reservation that no block ends."""
        reservation = BareReservation(hold)
        _expire_in(hold, EXPIRES_SECONDS if self._expires_seconds is None else self._expires_seconds)
        return reservation

    def __del__(self) -> None:
        if self._unused:
            warnings.warn(
                f"reserve({dict(self._amounts)}) was never entered or awaited: nothing was held",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def reserve_nowait(
    *,
    policy: object = None,
    on_error: OnError = "charge",
    kind: str | None = None,
    name: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    expires_in: float | str | None = None,
    **amounts: Price,
) -> Reservation:
    """Hold amounts now or raise at once; the twin of `await reserve(...)` that never waits.

    Arguments and errors as `reserve`. The reservation is itself a context manager.
    """
    wanted = reserve(
        policy=policy, on_error=on_error, kind=kind, name=name, model=model, provider=provider,
        expires_in=expires_in, **amounts,
    )  # fmt: skip
    answer = wanted.request()
    if isinstance(answer, Refusal):
        refuse_sync(answer)
    return wanted.bare(answer)


def charge(**amounts: Price) -> Verdict:
    """Book what has already happened, on the current task and its ancestors.

    Never refused, so it may leave debt, which refuses the next reservation. One event.

    Returns:
        The verdict of the worst payer: `exhausted` where this left debt.

    Raises:
        InvalidAmount: nothing has changed.
        NoBudget: outside any task in strict mode.
    """
    return holds.charge(current_frame(), amounts)


def _leave(hold: Hold, error: BaseException | None) -> None:
    if error is None:
        hold.leave()
    else:
        hold.cut(error)


def _expire_in(hold: Hold, seconds: float) -> None:
    """Assume it after this time, unless it is settled before."""
    runtime = hold.frame.runtime
    held = ref(hold)

    def expire() -> None:
        open_hold = held()
        if open_hold is not None:
            open_hold.expire()

    runtime.expiring[hold.numbered()] = (runtime.clock.now_ns() + int(seconds * 1e9), expire)

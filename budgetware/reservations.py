"""`reserve`: hold an amount before a call, settle it exactly once. Not here: how (`holds`)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from decimal import Decimal
from types import TracebackType
from typing import Any

from .accounts import book_later, left_behind
from .amounts import Price, check_amounts
from .bindings import Target, aim, check_target
from .calls import PLAIN, Call, OnError
from .clock import parse_seconds
from .confirming import confirm_async, confirm_sync
from .errors import InvalidAmount, ReservationError
from .expiries import EXPIRES_SECONDS, expire_in
from .frames import Amounts, Frame, current, current_frame
from .holding import Holding, enter_hold, leave_hold
from .holds import Hold, State
from .idempotency import KeyClaim, check_key
from .kernel.dims import show
from .kernel.verdict import Verdict
from .pauses import pause_drawn
from .policies import PolicyLike
from .requests import Answer, admit_async, admit_sync, request, request_amounts
from .settlement import Used


class Reservation:
    """An amount held before a call; it ends exactly once. `reserve(...)` makes one.

    Enter it (`async with`, `with`) or await it: then the current task and its ancestors pay, the
    principal and bound tokens too, all or none; with none of these nobody does. Granted, it does
    not yield to the event loop; refused, it does (with `with` it cannot). Where a payer
    throttles, it waits its turn. A block ends it; an awaited one is ended by `commit` or
    `release`, and is charged when it expires or is collected.

    Args:
        target: a `QuotaToken`, or the name of a resource, to draw on.
        amount: how much to draw on it, in its units; 1 where it is a `Concurrency`.
        policy: may be stricter than the payers' own, never weaker.
        max_wait: the longest wait in seconds, or a text such as `"30s"`; 0: none.
        on_error: `"release"`, or a callable of the exception that answers so: an error of the
            block means that nothing was paid for.
        kind: `"tool"`, `"llm"` or `"embeddings"`: makes a span.
        name, model, provider: of what is called. A model has its price held, where `usd` is
            limited.
        expires_in: seconds, or a text such as `"2m"`, after which it is assumed; by default
            never in a block, and 10 minutes for an awaited one.
        idempotency_key: for a day the same key and amounts give the same reservation, in all
            processes of a ledger; leaving a repeated one ends nothing. It expires as if awaited.
        **amounts: what to hold, by dimension; `usd` in dollars.

    Raises:
        InvalidAmount: at once; nothing has changed.
        IdempotencyConflict: on entering; other amounts, or another process holds the key now.
        BudgetExceeded, BudgetTerminated, NoBudget, UnknownPrice, UnknownResource, TokenConsumed,
        BlockingInEventLoop, LedgerUnavailable: on entering; nothing is held.
    """

    _amount: object = None
    _holding: Holding | None = None
    _target: Target | None = None
    _amounts: Amounts = ()
    _call = PLAIN
    _expires_seconds: float | None = None
    _asked = True
    _is_bare = False
    _is_replay = False
    _hold: Hold | None = None
    _key: str | None = None
    _place: tuple[Frame, Amounts] | None = None

    def __init__(
        self,
        target: Target | None = None,
        amount: Price | None = None,
        /,
        *,
        policy: PolicyLike = None,
        max_wait: float | str | None = None,
        on_error: OnError = "charge",
        kind: str | None = None,
        name: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        expires_in: float | str | None = None,
        idempotency_key: str | None = None,
        **amounts: Price,
    ) -> None:
        self._amounts = check_amounts(amounts)
        if idempotency_key is not None:
            self._key = check_key(idempotency_key)
        if target is not None or amount is not None:
            self._aim(target, amount)
        elif not amounts:
            raise InvalidAmount(
                "reserve() holds nothing: name an amount, as in reserve(tokens=800)"
            )
        if expires_in is not None:
            self._expires_seconds = parse_seconds("expires_in", expires_in)
        if not (
            kind is name is model is provider is policy is max_wait is None and on_error == "charge"
        ):
            self._call = Call(
                kind=kind, name=name, model=model, provider=provider, policy=policy,
                max_wait=max_wait, on_error=on_error,
            )  # fmt: skip
        self._asked = False

    def _aim(self, target: object, amount: object) -> None:
        if target is None:
            raise InvalidAmount(
                "reserve(): an amount without a target; name what it is of, as in tokens=800"
            )
        self._target = check_target(target)
        if amount is not None and (isinstance(amount, bool) or amount != amount):  # noqa: PLR0124
            raise InvalidAmount(f"amount={show(amount)}: give an int of 0 or more")
        self._amount = amount

    @property
    def id(self) -> str:
        """Unique in this process and, by a random prefix, beyond it."""
        return self._held().id

    @property
    def amounts(self) -> dict[str, int | Decimal]:
        """What was held, by dimension; `usd` in dollars."""
        return self._held().amounts()

    @property
    def state(self) -> State:
        """`held`, then `committed`, `released` or `assumed` (charged, but nobody said so)."""
        hold = self._held()
        hold.frame.runtime.sweep()
        return hold.state

    @property
    def verdict(self) -> Verdict:
        """How its payers stood when it was granted: `continue` or `warn`."""
        return self._held().verdict

    def __repr__(self) -> str:
        hold = self._hold
        if hold is None:
            return f"<Reservation not entered {dict(self._amounts)}>"
        return f"<Reservation {hold.id} {hold.state} {hold.amounts()}>"

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
        hold = self._hold or self._held()
        if used is None and not amounts:
            return hold.settle("committed", hold.record)
        return hold.settle("committed", hold.read(used, amounts))

    def release(self) -> State:
        """Give back all of it: the call did not happen, or was not paid for.

        Returns and raises as `commit` does.
        """
        hold = self._held()
        return hold.settle("released", hold.nothing())

    def record(self, used: Used = None, /, **amounts: Any) -> None:
        """Note the usage so far, given as to `commit`: cumulative, the highest counts.

        A block that is then cut short books this instead of what is held.
        """
        self._held().note(used, amounts)

    def cut(self, error: BaseException, *, broken: bool = False) -> None:
        """End it as a block does that `error` leaves: `on_error` decides, else it is assumed.

        For what outlives a block, such as a stream. Does nothing where it has ended already.

        Args:
            error: a `GeneratorExit` where the consumer stopped early; that is booked later, so a
                finalizer may call this.
            broken: the provider failed after its first item.
        """
        hold = self._held()
        if hold.state == "held":
            hold.cut(error, "broken" if broken else None)

    def pause(self, seconds: float | str) -> None:
        """Have every resource that it draws on grant nothing for so long, in this process.

        For a provider that asks for less, whatever the state. Its target and bound tokens count,
        not their parents; without any it does nothing. See `QuotaService.pause`.

        Raises:
            InvalidAmount: `seconds` are not between 0 and 86,400.
        """
        pause_drawn(self._held(), seconds)

    def _held(self) -> Hold:
        if self._hold is None:
            raise ReservationError(
                "the reservation was not granted yet: enter it with `async with`, or await it"
            )
        return self._hold

    def _request(self, *, may_wait: bool = True) -> Answer:
        if self._asked:
            raise ReservationError("a reservation is entered once: call reserve() again")
        self._asked = True
        call = self._call
        frame, amounts = self._placed() if self._place is None else self._place
        if call.model is not None or left_behind:
            return request_amounts(frame, call, amounts, may_wait=may_wait)
        items = frame.items_of(amounts)
        return request(frame, call, items, frame.tally(call.operation), may_wait=may_wait)

    def _placed(self) -> tuple[Frame, Amounts]:
        """Where it stands, and what it is of."""
        frame = current.get(None)
        if frame is None or not frame.chain:
            frame = current_frame()
        if self._target is None:
            return frame, self._amounts
        has_model = self._call.model is not None
        return aim(frame, self._target, self._amount, self._amounts, has_model=has_model)

    def _claim(self) -> KeyClaim:
        """Its key, to be taken where it stands."""
        self._place = frame, amounts = self._placed()
        if self._expires_seconds is None:
            self._expires_seconds = EXPIRES_SECONDS
        assert self._key is not None
        return KeyClaim(frame, self._key, amounts, self._expires_seconds)

    def _replay(self, hold: Hold) -> Reservation:
        self._asked = self._is_replay = True
        self._hold = hold
        return self

    async def _enter_by_key(self, opened: Callable[[Hold], Reservation]) -> Reservation:
        claim = self._claim()
        known = await claim.take_async()
        if known is not None:
            return self._replay(known)
        with claim:
            answer = self._request()
            hold = answer if isinstance(answer, Hold) else await admit_async(answer)
            claim.held(hold)
        return opened(hold)

    def _enter_by_key_sync(
        self, opened: Callable[[Hold], Reservation], *, may_wait: bool = True
    ) -> Reservation:
        claim = self._claim()
        known = claim.take()
        if known is not None:
            return self._replay(known)
        with claim:
            answer = self._request(may_wait=may_wait)
            hold = answer if isinstance(answer, Hold) else admit_sync(answer)
            claim.held(hold)
        return opened(hold)

    def _open(self, hold: Hold) -> Reservation:
        hold.told_late = True
        self._hold = hold
        if hold.frame.is_throttled:
            self._holding = enter_hold(hold)
        if hold.span is not None:
            hold.span.attach()
        if self._expires_seconds is not None:
            expire_in(hold, self._expires_seconds)
        return self

    def _open_bare(self, hold: Hold) -> Reservation:
        self._hold = hold
        self._is_bare = True
        if hold.frame.is_throttled:
            enter_hold(hold)
        expire_in(hold, self._expires_seconds or EXPIRES_SECONDS)
        return self

    def _close(self, error: BaseException | None) -> None:
        hold = self._held()
        if self._is_replay:
            return
        if hold.span is not None and hold.told_late:
            hold.span.detach()
        if self._holding is not None:
            leave_hold(self._holding)
        if error is not None:
            hold.cut_block(error)
            return
        if hold.state == "held":
            hold.leave()
        if hold.told_late and hold.is_watched():
            hold.tell(None)

    async def __aenter__(self) -> Reservation:
        if self._is_bare:
            return self
        if self._key is not None:
            return await self._enter_by_key(self._open)
        answer = self._request()
        if not isinstance(answer, Hold):
            answer = await admit_async(answer)
        return self._open(answer)

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._close(error)
        if self._held().frame.confirms:
            await confirm_async(self._held())

    def __enter__(self) -> Reservation:
        if self._is_bare:
            return self
        if self._key is not None:
            return self._enter_by_key_sync(self._open)
        answer = self._request()
        if not isinstance(answer, Hold):
            answer = admit_sync(answer)
        return self._open(answer)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._close(error)
        if self._held().frame.confirms:
            confirm_sync(self._held())

    def __await__(self) -> Generator[Any, Any, Reservation]:
        return self._wait().__await__()

    async def _wait(self) -> Reservation:
        if self._key is not None:
            return await self._enter_by_key(self._open_bare)
        answer = self._request()
        if not isinstance(answer, Hold):
            answer = await admit_async(answer)
        return self._open_bare(answer)

    def wait(self) -> Reservation:
        """Hold, as `await` does, in sync code: where a payer throttles, this blocks the thread.

        Returns itself: a bare reservation, which `commit`, `release` or `cut` ends.

        Raises:
            BlockingInEventLoop: it would wait on a thread that runs an event loop.
        """
        if self._key is not None:
            return self._enter_by_key_sync(self._open_bare)
        answer = self._request()
        return self._open_bare(answer if isinstance(answer, Hold) else admit_sync(answer))

    def now(self) -> Reservation:
        """Hold at once or raise; what `reserve_nowait` does."""
        if self._key is not None:
            return self._enter_by_key_sync(self._open_bare, may_wait=False)
        answer = self._request(may_wait=False)
        if not isinstance(answer, Hold):
            answer = admit_sync(answer)
        return self._open_bare(answer)

    def __del__(self) -> None:
        hold = self._hold
        if hold is not None:
            if hold.state == "held" and not self._is_replay:  # nobody can end it any more
                hold.told_late = False
                book_later(hold.expire)
        elif not self._asked and self._place is None:
            warnings.warn(
                f"reserve({dict(self._amounts)}) was never entered or awaited: nothing was held",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


reserve = Reservation
"""Hold amounts before a call: `async with reserve(tokens=800) as reservation: …`."""
